//! Whatever rows a file is given, it reads as those rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use proptest::prelude::*;

use super::file::FileWriter;
use super::{WriterSettings, encoding};

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// Texts wherever they can be: alone, required, in structs that are there and in structs that are not, in lists, beside others.
fn schema() -> SchemaRef {
    let deep = Fields::from(vec![text("required", false), Field::new("number", DataType::Int64, true)]);
    let inner = Fields::from(vec![
        text("text", true),
        Field::new("number", DataType::Int32, true),
        Field::new("deep", DataType::Struct(deep), true),
        Field::new("texts", DataType::List(Arc::new(text("element", true))), true),
    ]);
    Arc::new(Schema::new(vec![
        text("text", true),
        text("required", false),
        Field::new("inner", DataType::Struct(inner.clone()), true),
        Field::new("bytes", DataType::Binary, true),
        Field::new("always", DataType::Struct(inner), false),
        Field::new("number", DataType::Int64, true),
    ]))
}

/// A value for each row: none, or the number of one.
type Rows = Vec<Option<u16>>;

fn words(rows: &Rows) -> Vec<Option<String>> {
    // Lengths from none to far over what the table holds.
    let word = |number: &u16| match number % 5 {
        0 => String::new(),
        1 => number.to_string(),
        2 => format!("campaign-{number}"),
        3 => format!("{number} is longer than what is compared as two words"),
        _ => format!("ü{number:x}"),
    };
    rows.iter().map(|number| number.as_ref().map(word)).collect()
}

fn column(field: &Field, rows: &Rows) -> ArrayRef {
    let required = || words(rows).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    match field.data_type() {
        DataType::Utf8 if field.is_nullable() => Arc::new(StringArray::from(words(rows))),
        DataType::Utf8 => Arc::new(StringArray::from(required())),
        DataType::Binary => Arc::new(BinaryArray::from_iter(words(rows))),
        DataType::Int32 => Arc::new(rows.iter().map(|number| number.map(i32::from)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(rows.iter().map(|number| number.map(i64::from)).collect::<Int64Array>()),
        DataType::List(element) => {
            let lengths = rows.iter().map(|number| number.map_or(0, |number| usize::from(number % 3)));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let numbers = rows
                .iter()
                .flatten()
                .flat_map(|number| vec![Some(*number), None].into_iter().take((number % 3).into()));
            let elements = column(element, &numbers.collect());
            let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
            Arc::new(ListArray::new(element.clone(), offsets, elements, Some(nulls)))
        }
        DataType::Struct(fields) => {
            // What a struct that is not there holds is there all the same, beneath.
            let below: Rows =
                rows.iter().enumerate().map(|(row, number)| number.or((row % 2 == 0).then_some(7))).collect();
            let nulls = field.is_nullable().then(|| NullBuffer::from_iter(rows.iter().map(Option::is_some)));
            Arc::new(StructArray::new(
                fields.clone(),
                fields.iter().map(|field| column(field, &below)).collect(),
                nulls,
            ))
        }
        other => panic!("{other}"),
    }
}

fn batch(rows: &Rows) -> RecordBatch {
    let schema = schema();
    let columns = schema.fields().iter().map(|field| column(field, rows)).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn write(batches: &[RecordBatch], row_group_rows: usize) -> (Bytes, ParquetMetaData) {
    let settings = WriterSettings { row_group_rows, ..WriterSettings::default() };
    let schema = batches[0].schema();
    let properties = encoding::properties(&schema, &[], &settings).unwrap();
    let mut writer = FileWriter::new(schema, properties, settings.compression_level).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        assert!(writer.memory_bytes() >= writer.encoded_bytes() / 2);
    }
    let (pieces, metadata) = writer.finish().unwrap();
    (pieces.concat().into(), metadata)
}

fn read(file: &Bytes, selected: Option<RowSelection>) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
    let schema = builder.schema().clone();
    let builder = match selected {
        Some(selected) => builder.with_row_selection(selected),
        None => builder,
    };
    let batches: Vec<_> = builder.build().unwrap().collect::<Result<_, _>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

fn assert_same(expected: &RecordBatch, found: &RecordBatch) {
    assert_eq!(expected.num_rows(), found.num_rows());
    for ((field, expected), found) in expected.schema().fields().iter().zip(expected.columns()).zip(found.columns()) {
        assert_eq!(expected, found, "{}", field.name());
    }
}

fn rows(numbers: impl Strategy<Value = u16>) -> impl Strategy<Value = Rows> {
    let runs = (prop::option::weighted(0.8, numbers), prop_oneof![9 => 1usize..4, 1 => 10usize..100]);
    let runs = prop::collection::vec(runs, 1..60);
    runs.prop_map(|runs| runs.into_iter().flat_map(|(number, times)| std::iter::repeat_n(number, times)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_file_reads_as_the_rows_that_were_written(
        batches in prop::collection::vec(prop_oneof![rows(0..6u16), rows(any::<u16>())], 1..5),
        row_group_rows in prop_oneof![1usize..200, Just(1 << 20)],
        skipped in 0usize..300,
    ) {
        let batches: Vec<RecordBatch> = batches.iter().map(batch).collect();
        let expected = concat_batches(&schema(), &batches).unwrap();
        let (file, metadata) = write(&batches, row_group_rows);
        assert_same(&expected, &read(&file, None));
        let groups = metadata.row_groups().iter().map(|group| group.num_rows() as usize).collect::<Vec<_>>();
        prop_assert_eq!(groups.len(), expected.num_rows().div_ceil(row_group_rows));
        let skipped = skipped.min(expected.num_rows() - 1);
        let selection = vec![RowSelector::skip(skipped), RowSelector::select(expected.num_rows() - skipped)];
        let rest = expected.slice(skipped, expected.num_rows() - skipped);
        assert_same(&rest, &read(&file, Some(selection.into())));
    }
}

/// The encodings of a column's data pages, and of how many pages.
fn pages(metadata: &ParquetMetaData, column: &str) -> Vec<(Encoding, i32)> {
    let mut pages = Vec::new();
    for group in metadata.row_groups() {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column).unwrap();
        assert!(chunk.dictionary_page_offset().is_some_and(|at| at > 0 && at < chunk.data_page_offset()), "{column}");
        let (first, length) = chunk.byte_range();
        assert_eq!(first, chunk.dictionary_page_offset().unwrap() as u64, "{column}");
        assert!(length > 0 && chunk.statistics().is_none(), "{column}");
        let stats = chunk.page_encoding_stats().unwrap();
        pages.extend(stats.iter().skip(1).map(|stats| (stats.encoding, stats.count)));
    }
    pages
}

#[test]
fn many_rows_of_few_texts_are_codes_in_pages() {
    let rows: Rows = (0..50_000u32).map(|row| Some((row * row % 97) as u16)).collect();
    let expected = batch(&rows);
    let (file, metadata) = write(&[expected.slice(0, 30_000), expected.slice(30_000, 20_000)], 1 << 20);
    assert_eq!(pages(&metadata, "text"), [(Encoding::RLE_DICTIONARY, 3)]);
    assert_eq!(pages(&metadata, "inner.deep.required"), [(Encoding::RLE_DICTIONARY, 3)]);
    assert_same(&expected, &read(&file, None));
    // The last row alone: its page is found by the offset index.
    let last = RowSelection::from(vec![RowSelector::skip(49_999), RowSelector::select(1)]);
    assert_same(&expected.slice(49_999, 1), &read(&file, Some(last)));
}

#[test]
fn a_full_dictionary_is_followed_by_texts_as_they_are() {
    // Codes end at 65,536 texts, in the middle of a page and of a batch; then there are two megabytes of texts more.
    let texts = |rows: std::ops::Range<u32>| {
        let texts = rows.map(|row| (row % 3 > 0).then(|| format!("{row:>012}")));
        let schema = Arc::new(Schema::new(vec![text("text", true)]));
        RecordBatch::try_new(schema, vec![Arc::new(texts.collect::<StringArray>())]).unwrap()
    };
    let batches = [texts(0..90_000), texts(0..100), texts(90_000..250_000)];
    let (file, metadata) = write(&batches, 1 << 20);
    let found = pages(&metadata, "text");
    assert!(matches!(found[..], [(Encoding::RLE_DICTIONARY, 5), (Encoding::PLAIN, 8..)]), "{found:?}");
    assert_same(&concat_batches(&batches[0].schema(), &batches).unwrap(), &read(&file, None));
}

#[test]
fn a_text_longer_than_a_dictionary_or_a_page_is_kept() {
    let long = "long ".repeat(1 << 20);
    let texts = [Some("a"), Some(&long), None, Some("b"), Some(&long), Some("a")];
    let schema = Arc::new(Schema::new(vec![text("text", true)]));
    let expected = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from_iter(texts))]).unwrap();
    let (file, metadata) = write(std::slice::from_ref(&expected), 1 << 20);
    let found = pages(&metadata, "text");
    assert_eq!(found, [(Encoding::RLE_DICTIONARY, 1), (Encoding::PLAIN, 3)]);
    assert_same(&expected, &read(&file, None));
}
