//! Arbitrary texts as rows of a table. The lake's writer writes them, and the Parquet library must
//! read the same rows.
//!
//! The table is `raw/dead_letters`. It has texts at the top and in a struct, which the lake encodes
//! itself, beside bytes and times, which the library encodes.
#![no_main]

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_domain::schema::{dead_letters_schema, source_fields};
use adlake_lake::{Appender, Encoder, Lake, StorageSettings, WriterSettings};
use arrow::array::{ArrayRef, BinaryArray, Date32Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use libfuzzer_sys::fuzz_target;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::runtime::Runtime;

/// The column that files do not store: it is in their path.
const PARTITION_COLUMN: &str = "ingest_date";
/// The most rows of one input.
const ROWS_MAX: usize = 20_000;

struct Table {
    runtime: Runtime,
    folder: tempfile::TempDir,
    appender: Appender,
}

impl Table {
    fn new() -> Table {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let uri = folder.path().to_string_lossy().into_owned();
        let settings = StorageSettings { uri, ..StorageSettings::default() };
        let appender = runtime.block_on(async {
            let lake = Lake::open(&settings).await.expect("a lake");
            lake.appender(DEAD_LETTERS).await.expect("a table")
        });
        Table { runtime, folder, appender }
    }

    /// Writes batches into one file and reads it.
    fn round_trip(&self, batches: &[RecordBatch], row_group_rows: usize) -> Vec<RecordBatch> {
        let settings = WriterSettings { row_group_rows, encoder: Encoder::Fast, ..WriterSettings::default() };
        let mut writer = self.appender.writer(&settings);
        for batch in batches {
            writer.write(batch).expect("rows are written");
        }
        let files = self.runtime.block_on(writer.finish()).expect("files are written");
        let mut found = Vec::new();
        for file in &files {
            let path: PathBuf = self.folder.path().join(DEAD_LETTERS).join(file.path());
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("a file"));
            let reader = reader.expect("a Parquet file").build().expect("a reader");
            found.extend(reader.map(|batch| batch.expect("rows are read")));
            fs::remove_file(&path).expect("a file");
        }
        found
    }
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::new());
}

/// Takes values from the input. When it is used up, everything is zero or empty.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte)
            }
            None => 0,
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.byte().min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

type Texts = Vec<Option<String>>;

/// The texts of one batch: some new, some seen before, some NULL, and runs of many that differ.
fn texts(input: &mut Input<'_>, seen: &mut Vec<String>) -> Texts {
    let mut texts = Texts::new();
    let steps = input.byte();
    for _ in 0..steps {
        if input.is_empty() || texts.len() >= ROWS_MAX / 4 {
            break;
        }
        match input.byte() {
            0..64 => texts.push(None),
            step @ 64..128 => texts.push(seen.get(step - 64).cloned()),
            128..240 => {
                let text = String::from_utf8_lossy(input.bytes()).into_owned();
                if seen.len() < 64 {
                    seen.push(text.clone());
                }
                texts.push(Some(text));
            }
            _ => {
                let (count, stem) = (input.byte() * 16, String::from_utf8_lossy(input.bytes()).into_owned());
                texts.extend((0..count).map(|number| Some(format!("{stem}{number}"))));
            }
        }
    }
    texts
}

/// A batch of the table. Every text column has the same texts, moved by a few rows.
fn batch(schema: &SchemaRef, texts: &Texts, shift: usize) -> RecordBatch {
    let rows = texts.len();
    let moved = |by: usize| (0..rows).map(move |row| texts[(row + by * shift) % rows].as_deref());
    let nulls = NullBuffer::from((0..rows).map(|row| (row + shift) % 7 > 0).collect::<Vec<_>>());
    let columns = schema.fields().iter().enumerate().map(|(place, field)| match field.data_type() {
        DataType::Utf8 => Arc::new(StringArray::from_iter(moved(place))) as ArrayRef,
        DataType::Binary => Arc::new(BinaryArray::from_iter(moved(place).map(|text| text.map(str::as_bytes)))),
        DataType::Date32 => Arc::new(Date32Array::from(vec![20_000; rows])),
        DataType::Struct(_) => {
            let fields = source_fields();
            let inner = fields.iter().map(|field| match field.data_type() {
                DataType::Utf8 => Arc::new(StringArray::from_iter(moved(place))) as ArrayRef,
                other => new_null_array(other, rows),
            });
            Arc::new(StructArray::new(fields.clone(), inner.collect(), Some(nulls.clone())))
        }
        other => new_null_array(other, rows),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("a batch of the table")
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let row_group_rows = 1 + input.byte() * (1 + input.byte());
    let (schema, mut seen, mut batches, mut rows) = (dead_letters_schema(), Vec::new(), Vec::new(), 0);
    while !input.is_empty() && rows < ROWS_MAX {
        let shift = input.byte();
        let texts = texts(&mut input, &mut seen);
        if !texts.is_empty() {
            rows += texts.len();
            batches.push(batch(&schema, &texts, shift));
        }
    }
    if batches.is_empty() {
        return;
    }
    // A file has at most a thousand row groups or so.
    let row_group_rows = row_group_rows.max(rows / 1000);
    let found = TABLE.with_borrow(|table| table.round_trip(&batches, row_group_rows));
    let expected = concat_batches(&schema, &batches).expect("one batch");
    let found = concat_batches(&found[0].schema(), &found).expect("one batch");
    assert_eq!(found.num_rows(), rows);
    for field in schema.fields().iter().filter(|field| field.name() != PARTITION_COLUMN) {
        let written = expected.column_by_name(field.name()).expect("a column");
        let read = cast(found.column_by_name(field.name()).expect("a column"), field.data_type()).expect("its type");
        assert_eq!(&read, written, "{}", field.name());
    }
});
