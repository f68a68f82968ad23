//! Counts the dead letters of a batch.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, Int32Array, RecordBatch, StringArray};

use crate::error::SpeedError;

/// The streams that have dead letters, by source and partition, and the number of dead letters by
/// reason.
type DeadLetterCounts = (BTreeSet<(String, i32)>, BTreeMap<String, u64>);

/// Counts dead letters.
pub fn count_dead_letters(batches: &[RecordBatch]) -> Result<DeadLetterCounts, SpeedError> {
    let (mut places, mut reasons) = (BTreeSet::new(), BTreeMap::new());
    for batch in batches {
        let columns = Places::of(batch)?;
        let reason = batch.column_by_name("reason").and_then(|c| c.as_string_opt::<i32>()).ok_or_else(lacks_column)?;
        for row in 0..batch.num_rows() {
            *reasons.entry(reason.value(row).to_owned()).or_default() += 1;
            let (topic, partition) = (columns.topic.value(row), columns.partition.value(row));
            if !places.iter().any(|(other, number)| other == topic && *number == partition) {
                places.insert((topic.to_owned(), partition));
            }
        }
    }
    Ok((places, reasons))
}

/// The origin of each row of a batch.
struct Places<'a> {
    topic: &'a StringArray,
    partition: &'a Int32Array,
}

impl Places<'_> {
    fn of(batch: &RecordBatch) -> Result<Places<'_>, SpeedError> {
        let source =
            batch.column_by_name("source").and_then(|column| column.as_struct_opt()).ok_or_else(lacks_column)?;
        let column = |name: &str| source.column_by_name(name).ok_or_else(lacks_column);
        Ok(Places {
            topic: column("topic")?.as_string_opt().ok_or_else(lacks_column)?,
            partition: column("partition")?.as_primitive_opt().ok_or_else(lacks_column)?,
        })
    }
}

fn lacks_column() -> arrow::error::ArrowError {
    arrow::error::ArrowError::SchemaError("dead letters lack a column".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use adlake_decode::dead_letters::DeadLetters;
    use adlake_decode::record::RecordRef;
    use adlake_domain::event::EventKind;

    use super::*;

    /// Dead letters of a topic at these offsets, in two partitions.
    pub(in crate::write) fn letters(topic: &str, offsets: impl IntoIterator<Item = i64>) -> RecordBatch {
        let mut letters = DeadLetters::new(EventKind::Impression);
        for offset in offsets {
            let payload = format!("payload {offset}");
            let partition = (offset % 2) as i32;
            let record = RecordRef { payload: payload.as_bytes(), key: None, partition, offset, time: None };
            letters.push(record, if offset < 3 { "early" } else { "late" }, "", 0);
        }
        letters.finish(topic).unwrap().0
    }

    #[test]
    fn counts_dead_letters_by_stream_and_reason() {
        let (places, reasons) = count_dead_letters(&[letters("a", [0, 2, 4]), letters("b", [1, 2, 3, 5])]).unwrap();
        let place = |topic: &str, partition: i32| (topic.to_owned(), partition);
        assert_eq!(places, [place("a", 0), place("b", 0), place("b", 1)].into());
        assert_eq!(reasons, [("early".to_owned(), 4), ("late".to_owned(), 3)].into());
    }
}
