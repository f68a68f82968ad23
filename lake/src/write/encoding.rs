//! From what the catalogue says of a column's values to Parquet's encodings, and which columns have
//! statistics. Encodings and statistics that cost time and gain nothing are left out.
//!
//! A dictionary of values that nearly all differ stores the column twice. Bounds that exclude no
//! file cost a comparison with every value all the same. docs/decisions/0008 says which readers
//! read these encodings.

use adlake_domain::catalogue::{self, Table, Values};
use arrow::datatypes::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnDescriptor;

use super::WriterSettings;

/// The text columns of a table whose bounds exclude files: those that order the rows, and those by
/// which rows are searched.
pub(super) fn bounded(table: &Table) -> Vec<&'static str> {
    table.clustered_by.iter().chain(table.searched_by).copied().collect()
}

/// The writer properties of files with the columns of `schema`. `bounded` are the text columns that
/// [`bounded`] names.
pub(super) fn properties(
    schema: &Schema,
    bounded: &[&str],
    settings: &WriterSettings,
) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(zstd_level(settings)))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(settings.row_group_rows))
        .set_created_by(concat!("adlake ", env!("CARGO_PKG_VERSION")).to_string());
    for column in ArrowSchemaConverter::new().convert(schema)?.columns() {
        properties = encode(properties, bounded, column);
    }
    Ok(properties.build())
}

/// The level of zstd. An unknown level becomes the default.
pub(super) fn zstd_level(settings: &WriterSettings) -> ZstdLevel {
    ZstdLevel::try_new(settings.compression_level).unwrap_or_default()
}

fn encode(properties: WriterPropertiesBuilder, bounded: &[&str], column: &ColumnDescriptor) -> WriterPropertiesBuilder {
    let path = column.path().clone();
    let is_integer = matches!(column.physical_type(), Type::INT32 | Type::INT64);
    let is_bytes = column.physical_type() == Type::BYTE_ARRAY;
    // Others may add columns of other types under the names of ours, and lists of them.
    let values = match column.max_rep_level() {
        0 => catalogue::column_values(column.name()),
        _ => Values::Repeated,
    };
    let properties = match values {
        Values::Random if is_bytes => properties
            .set_column_dictionary_enabled(path.clone(), false)
            // The lengths are stored apart from the bytes. Mostly they are all the same.
            .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED),
        Values::DistinctTexts if is_bytes => properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY),
        Values::DistinctIntegers if is_integer => properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
        Values::ConstantIntegers if is_integer => properties.set_column_dictionary_enabled(path.clone(), false),
        _ => properties,
    };
    if is_bounded(bounded, column) {
        properties
    } else {
        properties.set_column_statistics_enabled(path, EnabledStatistics::None)
    }
}

/// Whether the bounds of a column are useful: those of integers and times, and of the texts that
/// are named. Other texts come in no order, and bound nothing. Lists, decimals and floats have no
/// bounds in Delta's log.
fn is_bounded(bounded: &[&str], column: &ColumnDescriptor) -> bool {
    let is_root = |name: &&str| column.path().parts() == [(*name).to_owned()];
    match column.physical_type() {
        _ if column.max_rep_level() > 0 => false,
        Type::INT32 | Type::INT64 => column.type_scale() <= 0,
        Type::BYTE_ARRAY => bounded.iter().any(is_root),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, TimeUnit};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::schema::types::ColumnPath;

    use super::*;

    fn check(table: &str, column: &str, dictionary: bool, encoding: Option<Encoding>, is_bounded: bool) {
        let table = catalogue::table(table).unwrap();
        let settings = WriterSettings { compression_level: 7, ..WriterSettings::default() };
        let properties = properties(&table.schema, &bounded(&table), &settings).unwrap();
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        assert_eq!(properties.dictionary_enabled(&path), dictionary, "{} {column}", table.name);
        assert_eq!(properties.encoding(&path), encoding, "{} {column}", table.name);
        // Only random bytes are not compressed.
        let is_random = column.ends_with("content_hash") || column.ends_with("_key") || column == "reach_sketch";
        let zstd = Compression::ZSTD(ZstdLevel::try_new(7).unwrap());
        let compression = if is_random { Compression::UNCOMPRESSED } else { zstd };
        assert_eq!(properties.compression(&path), compression, "{} {column}", table.name);
        let statistics = if is_bounded { EnabledStatistics::Chunk } else { EnabledStatistics::None };
        assert_eq!(properties.statistics_enabled(&path), statistics, "{} {column}", table.name);
    }

    #[test]
    fn columns_are_written_for_what_they_hold() {
        let (lengths, deltas) = (Some(Encoding::DELTA_LENGTH_BYTE_ARRAY), Some(Encoding::DELTA_BINARY_PACKED));
        check("raw/interactions", "event_id", false, lengths, false);
        check("raw/interactions", "content_hash", false, lengths, false);
        check("raw/interactions", "campaign_id", true, None, false);
        check("raw/interactions", "event_time", false, deltas, true);
        check("raw/interactions", "source.topic", true, None, false);
        check("raw/interactions", "source.offset", false, deltas, true);
        check("raw/interactions", "source.partition", false, None, true);
        check("raw/interactions", "value", true, None, false);
        check("raw/bid_requests", "imp.list.element.id", true, None, false);
        check("raw/bid_requests", "device.geo.lat", true, None, false);
        check("raw/bid_requests", "tmax", true, None, true);
        check("batch/impressions", "campaign_id", true, None, true);
        check("batch/impressions", "user_id", false, lengths, false);
        check("batch/impressions", "event_key", false, lengths, false);
        check("batch/attributions", "touchpoint_key", false, lengths, false);
        check("batch/campaign_reach", "reach_sketch", false, lengths, false);
        check("raw/dead_letters", "replay_id", true, None, true);
        check("raw/dead_letters", "reason", true, None, false);
    }

    #[test]
    fn columns_of_others_are_written_whatever_they_are_called() {
        // The configuration may add columns with names that other tables use for hashes.
        let tables = catalogue::tables();
        let fields = tables.iter().flat_map(|table| table.schema.flattened_fields().into_iter().cloned());
        let names: BTreeSet<String> = fields.map(|field| field.name().clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(names.contains(&"offset") && names.contains(&"content_hash"));
        for data_type in [
            DataType::Int32,
            DataType::Int64,
            DataType::Float64,
            DataType::Boolean,
            DataType::Utf8,
            DataType::Binary,
            DataType::Decimal128(38, 12),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ] {
            let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect();
            let schema = Arc::new(Schema::new(fields));
            let properties = properties(&schema, &[], &WriterSettings::default()).unwrap();
            let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).unwrap();
            let values: ArrayRef = match &data_type {
                DataType::Utf8 => Arc::new(StringArray::from(vec![Some("a"), None])),
                DataType::Binary => Arc::new(BinaryArray::from(vec![Some(&b"a"[..]), None])),
                other => cast(&Int64Array::from(vec![Some(1), None]), other).unwrap(),
            };
            let batch = RecordBatch::try_new(schema, vec![values; names.len()]).unwrap();
            writer.write(&batch).unwrap();
            writer.write(&RecordBatch::new_empty(batch.schema())).unwrap();
            let file = Bytes::from(writer.into_inner().unwrap());
            let mut read = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            assert_eq!(read.next().unwrap().unwrap(), batch, "{data_type}");
        }
    }
}
