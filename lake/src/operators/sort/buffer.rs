//! Rows in memory, and how they are gathered in another order.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::Rows;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;

/// Rows in memory, with their keys.
pub(super) struct Buffer {
    pub batches: Vec<RecordBatch>,
    pub keys: Vec<Rows>,
    pub memory: MemoryReservation,
}

/// A batch, and a row in it.
pub(super) type Place = (u32, u32);

/// A row that is sorted: the first bytes in which its key may differ from other keys, and its
/// place.
type Sortable = ([u64; 2], Place);

/// What a row takes while it is sorted, beside itself and its key.
pub(super) const SORTABLE_BYTES: usize = size_of::<Sortable>() + size_of::<Place>();

impl Buffer {
    pub fn new(memory: MemoryReservation) -> Buffer {
        Buffer { batches: Vec::new(), keys: Vec::new(), memory }
    }

    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The places of all rows.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let batches = self.keys.iter().enumerate();
        batches.flat_map(|(batch, keys)| (0..keys.num_rows()).map(move |row| (batch as u32, row as u32)))
    }

    pub fn key(&self, place: Place) -> &[u8] {
        self.keys[place.0 as usize].row(place.1 as usize).data()
    }

    /// The places of all rows in the order of their keys. Rows with equal keys keep their order.
    pub fn sorted_places(&self) -> Vec<Place> {
        let begin = self.common_bytes();
        let mut rows: Vec<Sortable> = self.places().map(|place| (prefix(self.key(place), begin), place)).collect();
        rows.sort_unstable_by(|(a, at_a), (b, at_b)| {
            let keys = a.cmp(b).then_with(|| self.key(*at_a).cmp(self.key(*at_b)));
            keys.then_with(|| at_a.cmp(at_b))
        });
        rows.into_iter().map(|(_, place)| place).collect()
    }

    /// With how many equal bytes all keys begin. Rows of one day begin with the same date.
    fn common_bytes(&self) -> usize {
        let mut places = self.places();
        let Some(first) = places.next().map(|place| self.key(place)) else { return 0 };
        places.fold(first.len(), |common, place| {
            let key = self.key(place);
            if key.starts_with(&first[..common]) {
                return common;
            }
            first.iter().zip(key).take_while(|(a, b)| a == b).count()
        })
    }

    /// Takes the rows out. The keys stay.
    pub fn take_rows(&mut self, schema: &SchemaRef) -> Result<Gather> {
        Gather::new(std::mem::take(&mut self.batches), schema)
    }
}

/// Sixteen bytes of a key. Missing ones count as zeros.
fn prefix(key: &[u8], begin: usize) -> [u64; 2] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key.iter().skip(begin)) {
        *to = *from;
    }
    let number = u128::from_be_bytes(bytes);
    [(number >> 64) as u64, number as u64]
}

/// Gathers rows of several batches.
pub(super) struct Gather {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The number of the first row of each batch.
    begins: Vec<u32>,
}

/// The values of a column.
enum Column {
    /// One array for each batch.
    Parts(Vec<ArrayRef>),
    /// All values in one array. Gathering lists from many arrays makes an array of each list, so
    /// these are joined first.
    Whole(ArrayRef),
}

impl Gather {
    fn new(batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<Gather> {
        let mut begins = Vec::with_capacity(batches.len());
        let mut next = 0;
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(batches.len()); schema.fields().len()];
        for batch in batches {
            begins.push(next);
            next += batch.num_rows() as u32;
            let (_, columns, _) = batch.into_parts();
            parts.iter_mut().zip(columns).for_each(|(parts, column)| parts.push(column));
        }
        let mut columns = Vec::with_capacity(parts.len());
        // One column after the other, so that only one of them is in memory twice.
        for (parts, field) in parts.into_iter().zip(schema.fields()) {
            columns.push(match is_flat(field.data_type()) || parts.is_empty() {
                true => Column::Parts(parts),
                false => {
                    let arrays: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                    Column::Whole(concat(&arrays)?)
                }
            });
        }
        Ok(Gather { schema: schema.clone(), columns, begins })
    }

    /// The rows at these places, in this order.
    pub fn rows(&self, places: &[Place]) -> Result<RecordBatch> {
        let pairs: Vec<(usize, usize)> = places.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
        let numbers: UInt32Array = places.iter().map(|(batch, row)| self.begins[*batch as usize] + row).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match column {
                Column::Parts(parts) => {
                    let arrays: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                    interleave(&arrays, &pairs)?
                }
                Column::Whole(values) => take(values, &numbers, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// Whether values are gathered from many arrays as fast as from one.
fn is_flat(values: &DataType) -> bool {
    match values {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => true,
        DataType::Struct(fields) => fields.iter().all(|field| is_flat(field.data_type())),
        values => values.is_primitive(),
    }
}
