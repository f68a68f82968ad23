//! Whatever rows are written, a file reads as the same rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::basic::{Encoding, LogicalType};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use proptest::prelude::*;

use super::file::FileWriter;
use super::{Encoder, WriterSettings, encoding};

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// Texts in every position: at the top, required, in structs, in structs that are NULL, in lists,
/// and beside other types. Wide numbers at the top, and required in a struct.
fn schema() -> SchemaRef {
    let deep = Fields::from(vec![
        text("required", false),
        Field::new("number", DataType::Int64, true),
        Field::new("wide", DataType::Decimal128(38, 6), false),
    ]);
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
        Field::new("wide", DataType::Decimal128(38, 0), true),
    ]))
}

/// For each row the number of its value, or none.
type Rows = Vec<Option<u16>>;

fn words(rows: &Rows) -> Vec<Option<String>> {
    // Lengths from 0 to far more than the hash table holds.
    let word = |number: &u16| match number % 5 {
        0 => String::new(),
        1 => number.to_string(),
        2 => format!("campaign-{number}"),
        3 => format!("{number} is longer than what is compared as two words"),
        _ => format!("ü{number:x}"),
    };
    rows.iter().map(|number| number.as_ref().map(word)).collect()
}

/// The rows of a field. Each field has values and NULLs of its own. Where a struct is NULL, its
/// fields may still have values.
fn column(field: &Field, rows: &Rows, seed: &mut u64) -> ArrayRef {
    let mut own: Rows = rows.clone();
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (every, first) = (2 + (*seed >> 33) as usize % 6, (*seed >> 40) as usize % 8);
    for (row, value) in own.iter_mut().enumerate() {
        // About half of the fields take the values and NULLs of `rows` unchanged.
        let turned = (row + first) % every == 0 && first >= 4;
        *value = if turned {
            value.is_none().then_some(row as u16 % 9)
        } else {
            value.map(|value| value.wrapping_add(first as u16))
        };
    }
    let rows = &own;
    let words = words(rows);
    match field.data_type() {
        DataType::Utf8 if field.is_nullable() => Arc::new(StringArray::from(words)),
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(words.into_iter().map(Option::unwrap_or_default))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(words)),
        DataType::Int32 => Arc::new(rows.iter().map(|number| number.map(i32::from)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(rows.iter().map(|number| number.map(i64::from)).collect::<Int64Array>()),
        DataType::Decimal128(precision, scale) => {
            // Of both signs, and of all lengths.
            let wide = |number: u16| (i128::from(number) - 3) * 10_i128.pow(u32::from(number % 33));
            let numbers = rows.iter().map(|number| match number {
                None if !field.is_nullable() => Some(0),
                number => number.map(wide),
            });
            let numbers: Decimal128Array = numbers.collect();
            Arc::new(numbers.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::List(element) => {
            let length = |number: &Option<u16>| number.map_or(0, |number| usize::from(number % 3));
            let offsets = OffsetBuffer::from_lengths(rows.iter().map(length));
            let numbers = rows.iter().flat_map(|number| [*number, None].into_iter().take(length(number)));
            let elements = column(element, &numbers.collect(), seed);
            let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
            Arc::new(ListArray::new(element.clone(), offsets, elements, Some(nulls)))
        }
        DataType::Struct(fields) => {
            let all: Rows = rows.iter().enumerate().map(|(row, number)| number.or(Some(row as u16 % 7))).collect();
            let nulls = field.is_nullable().then(|| NullBuffer::from_iter(rows.iter().map(Option::is_some)));
            let columns =
                fields.iter().map(|field| column(field, if first % 2 == 0 { rows } else { &all }, seed)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, nulls))
        }
        other => panic!("{other}"),
    }
}

fn batch(rows: &Rows, mut seed: u64) -> RecordBatch {
    let schema = schema();
    let columns = schema.fields().iter().map(|field| column(field, rows, &mut seed)).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// A file of the fast encoder.
fn write(batches: &[RecordBatch], row_group_rows: usize) -> (Bytes, ParquetMetaData) {
    write_with(Encoder::Fast, batches, row_group_rows)
}

fn write_with(encoder: Encoder, batches: &[RecordBatch], row_group_rows: usize) -> (Bytes, ParquetMetaData) {
    let settings = WriterSettings { row_group_rows, encoder, ..WriterSettings::default() };
    let mut writer = FileWriter::new(&batches[0].schema(), &[], &settings).unwrap();
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
        seed in any::<u64>(),
    ) {
        let batches: Vec<RecordBatch> = batches.iter().map(|rows| batch(rows, seed)).collect();
        let expected = concat_batches(&schema(), &batches).unwrap();
        let skipped = skipped.min(expected.num_rows() - 1);
        let selection = vec![RowSelector::skip(skipped), RowSelector::select(expected.num_rows() - skipped)];
        let rest = expected.slice(skipped, expected.num_rows() - skipped);
        for encoder in [Encoder::Library, Encoder::Fast] {
            let (file, metadata) = write_with(encoder, &batches, row_group_rows);
            assert_same(&expected, &read(&file, None));
            let groups = metadata.row_groups().iter().map(|group| group.num_rows() as usize).collect::<Vec<_>>();
            prop_assert_eq!(groups.len(), expected.num_rows().div_ceil(row_group_rows));
            assert_same(&rest, &read(&file, Some(selection.clone().into())));
        }
    }
}

/// The encodings of a column's data pages, each with its number of pages.
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
    let expected = batch(&rows, 3);
    let (file, metadata) = write(&[expected.slice(0, 30_000), expected.slice(30_000, 20_000)], 1 << 20);
    assert_eq!(pages(&metadata, "text"), [(Encoding::RLE_DICTIONARY, 3)]);
    assert_eq!(pages(&metadata, "inner.deep.required"), [(Encoding::RLE_DICTIONARY, 3)]);
    assert_same(&expected, &read(&file, None));
    // Only the last row: its page is found by the offset index.
    let last = RowSelection::from(vec![RowSelector::skip(49_999), RowSelector::select(1)]);
    assert_same(&expected.slice(49_999, 1), &read(&file, Some(last)));
}

#[test]
fn a_full_dictionary_is_followed_by_texts_as_they_are() {
    // The codes run out at 65,536 texts, in the middle of a page and of a batch. Two megabytes of
    // texts follow.
    let numbers = |rows: std::ops::Range<u32>| {
        let numbers: Vec<_> = rows.map(|row| (row % 3 > 0).then(|| format!("{row:>012}"))).collect();
        texts(numbers.iter().map(Option::as_deref))
    };
    let batches = [numbers(0..90_000), numbers(0..100), numbers(90_000..250_000)];
    let (file, metadata) = write(&batches, 1 << 20);
    let found = pages(&metadata, "text");
    assert!(matches!(found[..], [(Encoding::RLE_DICTIONARY, 5), (Encoding::PLAIN, 8..)]), "{found:?}");
    assert_same(&concat_batches(&batches[0].schema(), &batches).unwrap(), &read(&file, None));
}

#[test]
fn a_full_dictionary_is_followed_by_wide_numbers_as_they_are() {
    let wide = |row: i128| (row % 3 > 0).then(|| (row - 40_000) * 10_i128.pow(30));
    let numbers: Decimal128Array = (0..150_000).map(wide).collect();
    let numbers: ArrayRef = Arc::new(numbers.with_precision_and_scale(38, 0).unwrap());
    let expected = RecordBatch::try_from_iter([("wide", numbers)]).unwrap();
    let (file, metadata) = write(std::slice::from_ref(&expected), 1 << 20);
    let found = pages(&metadata, "wide");
    assert!(matches!(found[..], [(Encoding::RLE_DICTIONARY, 5), (Encoding::PLAIN, 1..)]), "{found:?}");
    assert_same(&expected, &read(&file, None));
    let selected = RowSelection::from(vec![RowSelector::skip(149_000), RowSelector::select(1_000)]);
    assert_same(&expected.slice(149_000, 1_000), &read(&file, Some(selected)));
}

#[test]
fn a_text_longer_than_a_dictionary_or_a_page_is_kept() {
    let long = "long ".repeat(1 << 20);
    let expected = texts([Some("a"), Some(&long), None, Some("b"), Some(&long), Some("a")]);
    let (file, metadata) = write(std::slice::from_ref(&expected), 1 << 20);
    let found = pages(&metadata, "text");
    assert_eq!(found, [(Encoding::RLE_DICTIONARY, 1), (Encoding::PLAIN, 3)]);
    assert_same(&expected, &read(&file, None));
    // Here the dictionary is full before it has a text.
    let (file, metadata) = write(&[expected.slice(1, 5)], 1 << 20);
    let chunk = metadata.row_group(0).column(0);
    assert_eq!((chunk.dictionary_page_offset(), chunk.data_page_offset()), (None, 4));
    assert_same(&expected.slice(1, 5), &read(&file, None));
}

/// A batch of one column.
fn texts<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![text("text", true)]));
    RecordBatch::try_new(schema, vec![Arc::new(StringArray::from_iter(texts))]).unwrap()
}

#[test]
fn a_text_may_be_null_in_a_struct_that_is_there() {
    let structs = |present: [bool; 4], all: bool| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter([Some("a"), None, Some("b"), None]));
        let fields = Fields::from(vec![text("text", true)]);
        let nulls = (!all).then(|| NullBuffer::from_iter(present));
        let inner: ArrayRef = Arc::new(StructArray::new(fields.clone(), vec![texts], nulls));
        let schema = Schema::new(vec![Field::new("inner", DataType::Struct(fields), true)]);
        RecordBatch::try_new(Arc::new(schema), vec![inner]).unwrap()
    };
    for expected in [structs([true; 4], true), structs([true; 4], false), structs([true, true, false, false], false)] {
        let (file, metadata) = write(std::slice::from_ref(&expected), 1 << 20);
        assert_eq!(pages(&metadata, "inner.text"), [(Encoding::RLE_DICTIONARY, 1)]);
        assert_same(&expected, &read(&file, None));
    }
}

#[test]
fn a_page_goes_on_from_batch_to_batch() {
    let some = |rows: usize| texts((0..rows).map(|row| Some(["a", "b", "c"][row % 3])));
    let none = |rows: usize| texts((0..rows).map(|row| (row % 7 > 0).then_some("d")));
    let batches = [some(100), none(333), none(65), some(200), texts([None; 130]), some(64), none(1)];
    let expected = concat_batches(&batches[0].schema(), &batches).unwrap();
    let (file, metadata) = write(&batches, 1 << 20);
    assert_eq!(pages(&metadata, "text"), [(Encoding::RLE_DICTIONARY, 1)]);
    assert_same(&expected, &read(&file, None));
}

#[test]
fn every_row_group_has_a_dictionary_of_its_own() {
    let many: Vec<String> = (0..70_000).map(|row| format!("{row}")).collect();
    let few = texts([Some("x"), None, Some("y")]);
    let (file, metadata) = write(&[texts(many.iter().map(|text| Some(text.as_str()))), few.clone()], 70_000);
    let [first, second] = metadata.row_groups() else { panic!("{} row groups", metadata.num_row_groups()) };
    let encodings = |group: &RowGroupMetaData| group.column(0).page_encoding_stats().map(|stats| stats.len());
    assert_eq!((encodings(first), encodings(second)), (Some(3), Some(2)));
    assert!(second.column(0).compressed_size() < 100, "{} bytes", second.column(0).compressed_size());
    assert_same(&few, &read(&file, None).slice(70_000, 3));
}

#[test]
fn the_metadata_is_as_the_librarys() {
    let rows: Rows = (0..45_000u32).map(|row| (row % 11 > 0).then_some((row * row % 251) as u16)).collect();
    let expected = batch(&rows, 5);
    let (file, _) = write(&[expected.slice(0, 17_000), expected.slice(17_000, 28_000)], 30_000);
    let settings = WriterSettings { row_group_rows: 30_000, ..WriterSettings::default() };
    let properties = encoding::properties(&expected.schema(), &[], &settings).unwrap();
    let mut library = ArrowWriter::try_new(Vec::new(), expected.schema(), Some(properties)).unwrap();
    // Page by page, because the library checks whether a page is full only after some rows.
    for group in [expected.slice(0, 30_000), expected.slice(30_000, 15_000)] {
        for part in (0..group.num_rows()).step_by(20_000) {
            library.write(&group.slice(part, 20_000.min(group.num_rows() - part))).unwrap();
        }
    }
    let [ours, theirs] = [file, Bytes::from(library.into_inner().unwrap())].map(|file| {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap().metadata().clone()
    });
    assert_eq!(ours.num_row_groups(), theirs.num_row_groups());
    let mut texts = 0;
    for (group, (our_group, their_group)) in ours.row_groups().iter().zip(theirs.row_groups()).enumerate() {
        for (at, (our, their)) in our_group.columns().iter().zip(their_group.columns()).enumerate() {
            let (path, descriptor) = (our.column_path().string(), our.column_descr());
            if descriptor.max_rep_level() > 0 || descriptor.logical_type_ref() != Some(&LogicalType::String) {
                // The library encodes this column in both files, from batches of other lengths.
                continue;
            }
            assert_eq!(our.num_values(), their.num_values(), "{path}");
            assert_eq!(our.encodings_mask(), their.encodings_mask(), "{path}");
            assert_eq!(our.page_encoding_stats(), their.page_encoding_stats(), "{path}");
            assert_eq!(our.compression(), their.compression(), "{path}");
            assert_eq!(our.statistics(), their.statistics(), "{path}");
            assert_eq!(our.unencoded_byte_array_data_bytes(), their.unencoded_byte_array_data_bytes(), "{path}");
            // Our runs end elsewhere than the library's. The lengths differ only by that.
            let (our_bytes, their_bytes) = (our.uncompressed_size(), their.uncompressed_size());
            assert!(
                (our_bytes - their_bytes).abs() * 10 < their_bytes + 5_000,
                "{path}: {our_bytes} and {their_bytes} bytes"
            );
            let [our_pages, their_pages] =
                [&ours, &theirs].map(|metadata| &metadata.offset_index().unwrap()[group][at]);
            let rows = |index: &OffsetIndexMetaData| -> Vec<i64> {
                index.page_locations().iter().map(|page| page.first_row_index).collect()
            };
            assert_eq!(rows(our_pages), rows(their_pages), "{path}");
            let bytes = OffsetIndexMetaData::unencoded_byte_array_data_bytes;
            assert_eq!(bytes(our_pages), bytes(their_pages), "{path}");
            // Pages follow one another without gaps, from the end of the dictionary to the end of
            // the chunk.
            let mut next = our.data_page_offset();
            for page in our_pages.page_locations() {
                assert_eq!(page.offset, next, "{path}");
                next += i64::from(page.compressed_page_size);
            }
            let (first, length) = our.byte_range();
            assert_eq!(next as u64, first + length, "{path}");
            texts += 1;
        }
    }
    assert_eq!(texts, 2 * 6, "columns of two row groups");
}

#[test]
fn texts_in_arrows_other_ways_are_written_too() {
    let words = StringArray::from_iter([Some("a"), None, Some("longer than what a view holds"), Some("a")]);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for data_type in [DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        let schema = Arc::new(Schema::new(vec![Field::new("text", data_type.clone(), true)]));
        let expected = RecordBatch::try_new(schema, vec![cast(&words, &data_type).unwrap()]).unwrap();
        let (file, _) = write(std::slice::from_ref(&expected), 1 << 20);
        let found = cast(read(&file, None).column(0), &DataType::Utf8).unwrap();
        assert_eq!(found.as_string::<i32>(), &words, "{data_type}");
    }
}

#[test]
fn a_file_that_has_refused_rows_is_of_no_use() {
    // Arrow itself refuses such columns if the schema says what they must be.
    let numbers = Schema::new(vec![Field::new("text", DataType::Int64, false)]);
    let numbers = RecordBatch::try_new(Arc::new(numbers), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    for (encoder, refused) in [(Encoder::Library, numbers), (Encoder::Fast, texts([Some("a"), None]))] {
        let settings = WriterSettings { encoder, ..WriterSettings::default() };
        let schema = Arc::new(Schema::new(vec![text("text", false)]));
        let mut writer = FileWriter::new(&schema, &[], &settings).unwrap();
        let error = writer.write(&refused).unwrap_err().to_string();
        assert!(error.contains("text"), "{encoder:?}: {error}");
        let good = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["a"]))]).unwrap();
        assert!(writer.write(&good).is_err() && writer.finish().is_err(), "{encoder:?}");
    }
}
