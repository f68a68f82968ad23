//! Knows dead letters that are stored already.

use std::collections::HashSet;

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_lake::{Lake, LakeError};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::prelude::{SessionContext, cast, col, lit};
use xxhash_rust::xxh3::xxh3_128;

use crate::record::Stream;
use crate::source::KEPT_BYTES;

/// Dead letters that are stored: their positions and a hash of their bytes.
///
/// The hash tells them from those of a topic of the same name on another cluster, which have the
/// same table, topic and offsets. A long dead letter also has a hash of its first [`KEPT_BYTES`].
/// With another `ingest.record_bytes_max` the same record is stored either whole or as these first
/// bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownDead(HashSet<(i64, u128)>);

impl KnownDead {
    /// Whether the record at a position is among them.
    pub fn contains(&self, position: i64, payload: &[u8]) -> bool {
        hashes(payload).any(|hash| self.0.contains(&(position, hash)))
    }
}

impl<P: AsRef<[u8]>> FromIterator<(i64, P)> for KnownDead {
    fn from_iter<I: IntoIterator<Item = (i64, P)>>(letters: I) -> KnownDead {
        let mut known = HashSet::new();
        for (position, payload) in letters {
            known.extend(hashes(payload.as_ref()).map(|hash| (position, hash)));
        }
        KnownDead(known)
    }
}

/// The hash of all bytes, and of the bytes that are stored of a record that is too long.
fn hashes(payload: &[u8]) -> impl Iterator<Item = u128> + '_ {
    std::iter::once(payload).chain(payload.get(..KEPT_BYTES).filter(|kept| kept.len() < payload.len())).map(xxh3_128)
}

/// The dead letters of a stream from a position on, in a version of their table. Dead letters of
/// another kind do not count: a file that was read as the wrong kind of event is read again as the
/// right one.
pub(super) async fn known_dead(
    lake: &Lake,
    version: u64,
    stream: &Stream,
    from: Option<i64>,
) -> Result<KnownDead, LakeError> {
    let provider = lake.provider(DEAD_LETTERS, version).await?;
    let source = |field: &str| col("source").field(field);
    let letters = SessionContext::new()
        .read_table(provider)?
        .filter(
            col("kind")
                .eq(lit(stream.kind.table()))
                .and(source("topic").eq(lit(stream.source.as_str())))
                .and(source("partition").eq(lit(stream.partition)))
                .and(source("offset").gt_eq(lit(from.unwrap_or(i64::MIN)))),
        )?
        .select(vec![source("offset").alias("offset"), cast(col("payload"), DataType::Binary).alias("payload")])?
        .collect()
        .await?;
    let mut known = Vec::new();
    for batch in &letters {
        let offset = batch.column(0).as_primitive_opt::<Int64Type>();
        let payload = batch.column(1).as_binary_opt::<i32>();
        let (Some(offset), Some(payload)) = (offset, payload) else {
            return Err(LakeError::Corrupt(format!("{DEAD_LETTERS} has other columns than adlake writes")));
        };
        known.extend(offset.values().iter().copied().zip(payload.iter().map(Option::unwrap_or_default)));
    }
    Ok(known.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_record_is_known_whole_and_by_what_is_kept_of_it() {
        let long = vec![b'x'; KEPT_BYTES + 1];
        let kept = &long[..KEPT_BYTES];
        for letter in [&long[..], kept] {
            let known: KnownDead = [(7, letter)].into_iter().collect();
            assert!(known.contains(7, &long) && known.contains(7, kept), "{} bytes", letter.len());
            assert!(!known.contains(8, &long) && !known.contains(7, &kept[1..]));
        }
    }
}
