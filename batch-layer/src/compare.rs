//! Compares the rows of a batch table with recomputed rows. Both come as streams in the table's
//! order. At most one batch of each is in memory.

use adlake_lake::views::Plans;
use adlake_lake::views::plans::BatchTable;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::BoxStream;

/// The most rows that are shown of those that differ.
const EXAMPLES_MAX: usize = 3;
/// The most columns that are shown of a row with other values.
const COLUMNS_MAX: usize = 6;

/// The rows of a table, in its order.
pub(crate) type RowStream<'a> = BoxStream<'a, Result<RecordBatch>>;

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// The recomputed rows.
    pub rows: u64,
    /// The recomputed rows that were not published.
    pub missing: u64,
    /// The published rows that were not recomputed.
    pub unexpected: u64,
    /// The rows that were published with other values.
    pub changed: u64,
    /// The first rows that differ.
    pub examples: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing + self.unexpected + self.changed == 0
    }

    /// Describes them.
    pub fn text(&self) -> String {
        let counts = [(self.changed, "with other values"), (self.missing, "missing"), (self.unexpected, "too many")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        format!("published rows differ from the recomputed ones ({}): {}", counts.join(", "), self.examples.join("; "))
    }

    fn show(&mut self, example: impl FnOnce() -> Result<String, ArrowError>) -> Result<()> {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example()?);
        }
        Ok(())
    }
}

/// Compares two streams of rows of a table.
pub(crate) async fn compare(
    table: BatchTable,
    recomputed: RowStream<'_>,
    published: RowStream<'_>,
) -> Result<Differences> {
    let shape = Shape::new(table)?;
    let (mut recomputed, mut published) = (Side::new(recomputed), Side::new(published));
    let mut found = Differences::default();
    loop {
        let (left, right) = (recomputed.row(&shape).await?, published.row(&shape).await?);
        let order = match (&left, &right) {
            (None, None) => return Ok(found),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.key().cmp(&right.key()),
        };
        if order.is_le() {
            found.rows += 1;
        }
        match (left, right) {
            (Some(left), Some(right)) if order.is_eq() && left.values() == right.values() => {}
            (Some(left), Some(right)) if order.is_eq() => {
                found.changed += 1;
                found.show(|| shape.changed(&left, &right))?;
            }
            (Some(left), _) if order.is_lt() => {
                found.missing += 1;
                found.show(|| Ok(format!("row {} is missing", shape.key_of(&left)?)))?;
            }
            (_, Some(right)) => {
                found.unexpected += 1;
                found.show(|| Ok(format!("row {} should not be there", shape.key_of(&right)?)))?;
            }
            _ => {}
        }
        recomputed.place += usize::from(order.is_le());
        published.place += usize::from(order.is_ge());
    }
}

/// How the rows of a table are compared.
struct Shape {
    /// The places of the columns that identify a row, in their order.
    keys: Vec<usize>,
    key: RowConverter,
    value: RowConverter,
}

impl Shape {
    fn new(table: BatchTable) -> Result<Shape> {
        let schema = Plans::schema_of(table);
        let keys = table.order_columns().into_iter().map(|name| schema.index_of(name));
        let keys = keys.collect::<Result<Vec<usize>, ArrowError>>()?;
        // NULL first, as in the table's order.
        let field = |place: usize| SortField::new(schema.field(place).data_type().clone());
        let key = RowConverter::new(keys.iter().copied().map(field).collect())?;
        let value = RowConverter::new((0..schema.fields().len()).map(field).collect())?;
        Ok(Shape { keys, key, value })
    }

    fn load(&self, batch: RecordBatch) -> Result<Loaded> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|place| batch.column(*place).clone()).collect();
        let keys = self.key.convert_columns(&keys)?;
        let values = self.value.convert_columns(batch.columns())?;
        Ok(Loaded { batch, keys, values })
    }

    /// The columns that identify a row, as text.
    fn key_of(&self, row: &Row<'_>) -> Result<String, ArrowError> {
        let columns = self
            .keys
            .iter()
            .map(|place| Ok(format!("{}={}", row.loaded.batch.schema_ref().field(*place).name(), row.cell(*place)?)));
        Ok(format!("({})", columns.collect::<Result<Vec<_>, ArrowError>>()?.join(", ")))
    }

    /// What differs between two rows with the same key.
    fn changed(&self, recomputed: &Row<'_>, published: &Row<'_>) -> Result<String, ArrowError> {
        let schema = recomputed.loaded.batch.schema();
        let mut columns = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let (expected, found) = (recomputed.cell(place)?, published.cell(place)?);
            if expected != found {
                columns.push(format!("{} is {found} instead of {expected}", field.name()));
            }
        }
        let more = columns.len().saturating_sub(COLUMNS_MAX);
        columns.truncate(COLUMNS_MAX);
        let more = if more > 0 { format!(", and {more} more columns") } else { String::new() };
        Ok(format!("row {}: {}{more}", self.key_of(recomputed)?, columns.join(", ")))
    }
}

/// A batch, with its rows in a form that can be compared.
struct Loaded {
    batch: RecordBatch,
    keys: Rows,
    values: Rows,
}

/// A row of a batch.
struct Row<'a> {
    loaded: &'a Loaded,
    place: usize,
}

impl Row<'_> {
    fn key(&self) -> arrow::row::Row<'_> {
        self.loaded.keys.row(self.place)
    }

    fn values(&self) -> arrow::row::Row<'_> {
        self.loaded.values.row(self.place)
    }

    fn cell(&self, column: usize) -> Result<String, ArrowError> {
        let options = FormatOptions::new().with_null("NULL");
        Ok(ArrayFormatter::try_new(self.loaded.batch.column(column), &options)?.value(self.place).to_string())
    }
}

/// One of the two streams, with its current row.
struct Side<'a> {
    stream: RowStream<'a>,
    loaded: Option<Loaded>,
    place: usize,
}

impl<'a> Side<'a> {
    fn new(stream: RowStream<'a>) -> Side<'a> {
        Side { stream, loaded: None, place: 0 }
    }

    /// The current row. `None`: the stream is at its end.
    async fn row(&mut self, shape: &Shape) -> Result<Option<Row<'_>>, DataFusionError> {
        while self.loaded.as_ref().is_none_or(|loaded| self.place >= loaded.batch.num_rows()) {
            // Free the batch before the next one comes.
            (self.loaded, self.place) = (None, 0);
            match self.stream.next().await.transpose()? {
                Some(batch) => self.loaded = Some(shape.load(batch)?),
                None => return Ok(None),
            }
        }
        Ok(self.loaded.as_ref().map(|loaded| Row { loaded, place: self.place }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Date32Array, StringArray, TimestampMicrosecondArray};
    use futures::stream;

    use super::*;

    /// Rows of `campaign_reach`: a campaign and a sketch each.
    fn batch(rows: &[(Option<&str>, &[u8])]) -> RecordBatch {
        let count = rows.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![0; count]).with_timezone("UTC")),
            Arc::new(rows.iter().map(|(campaign, _)| *campaign).collect::<StringArray>()),
            Arc::new(rows.iter().map(|(_, sketch)| Some(*sketch)).collect::<BinaryArray>()),
            Arc::new(Date32Array::from(vec![0; count])),
        ];
        RecordBatch::try_new(Plans::schema_of(BatchTable::Reach), columns).unwrap()
    }

    async fn compared(recomputed: &[(Option<&str>, &[u8])], published: &[(Option<&str>, &[u8])]) -> Differences {
        // In batches of different sizes, with an empty one.
        let parts = |rows: &[(Option<&str>, &[u8])], size: usize| -> RowStream<'static> {
            let batches = rows.chunks(size).flat_map(|rows| [batch(&[]), batch(rows)]).map(Ok);
            stream::iter(batches.collect::<Vec<_>>()).boxed()
        };
        let compared = compare(BatchTable::Reach, parts(recomputed, 1), parts(published, 2));
        compared.await.unwrap()
    }

    #[tokio::test]
    async fn equal_rows_have_no_differences() {
        let rows: Vec<(Option<&str>, &[u8])> = vec![(None, b"0"), (Some("a"), b"1"), (Some("b"), b"")];
        let found = compared(&rows, &rows).await;
        assert!(found.is_empty() && found.rows == 3, "{found:?}");
        assert!(compared(&[], &[]).await.is_empty());
    }

    #[tokio::test]
    async fn missing_unexpected_and_changed_rows_are_told_apart() {
        let expected: Vec<(Option<&str>, &[u8])> = vec![(None, b"0"), (Some("a"), b"1"), (Some("c"), b"3")];
        let check = async |published: &[(Option<&str>, &[u8])], counts: (u64, u64, u64), example: &str| {
            let found = compared(&expected, published).await;
            assert_eq!((found.missing, found.unexpected, found.changed), counts, "{found:?}");
            assert_eq!(found.rows, 3);
            assert!(found.examples[0].contains(example), "{example}: {found:?}");
        };
        let missing = "campaign_id=NULL, day=1970-01-01T00:00:00Z) is missing";
        check(&[(Some("a"), b"1"), (Some("c"), b"3")], (1, 0, 0), missing).await;
        check(&[(None, b"0"), (Some("a"), b"1")], (1, 0, 0), "campaign_id=c").await;
        let more: Vec<(Option<&str>, &[u8])> = expected.iter().copied().chain([(Some("d"), &b"4"[..])]).collect();
        check(&more, (0, 1, 0), "campaign_id=d").await;
        let changed = "reach_sketch is 39 instead of 31";
        check(&[(None, b"0"), (Some("a"), b"9"), (Some("c"), b"3")], (0, 0, 1), changed).await;
        let twice = "campaign_id=a, day=1970-01-01T00:00:00Z) should not be there";
        check(&[(None, b"0"), (Some("a"), b"1"), (Some("a"), b"1"), (Some("c"), b"3")], (0, 1, 0), twice).await;
        check(&[], (3, 0, 0), "campaign_id=NULL").await;
    }
}
