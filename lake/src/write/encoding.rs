//! How each column of a table is encoded, and which columns have statistics. Encodings and
//! statistics that cost time and gain nothing are left out.
//!
//! A dictionary of values that nearly all differ stores the column twice. Bounds that exclude no
//! file cost a comparison with every value all the same. docs/decisions/0008 says which readers
//! read these encodings.

use arrow::datatypes::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnDescriptor;

use super::WriterSettings;

/// Random bytes. They do not compress, and their order has no meaning.
const RANDOM: [&str; 6] =
    ["content_hash", "event_key", "interaction_key", "touchpoint_key", "reach_sketch", "bid_content_hash"];

/// Texts that nearly all differ, or that have so many values that a dictionary is full before the
/// file is. Lookups in such a dictionary miss the CPU's caches, and the texts after it is full are
/// written without it anyway.
const DISTINCT_TEXTS: [&str; 5] = ["impression_id", "event_id", "order_id", "auction_id", "user_id"];

/// Integers that differ little from the one before, or whose values are spread so widely that a
/// dictionary is of no use.
const DISTINCT_INTEGERS: [&str; 4] = ["event_time", "offset", "bid_price_micros", "clearing_price_micros"];

/// Integers that mostly have one value in a whole file, or in a long run of rows.
const CONSTANT_INTEGERS: [&str; 2] = ["partition", "ingested_at"];

/// Texts outside of `clustered_by` whose bounds exclude files: a replay finds its letters by
/// `replay_id` (`letters/desk.rs`).
const BOUNDED_TEXTS: [&str; 1] = ["replay_id"];

/// The writer properties of files with the columns of `schema`. `clustered_by` names the columns
/// that order the rows, if any do.
pub(super) fn properties(
    schema: &Schema,
    clustered_by: &[&str],
    settings: &WriterSettings,
) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(zstd_level(settings)))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(settings.row_group_rows))
        .set_created_by(concat!("adlake ", env!("CARGO_PKG_VERSION")).to_string());
    for column in ArrowSchemaConverter::new().convert(schema)?.columns() {
        properties = encode(properties, clustered_by, column);
    }
    Ok(properties.build())
}

/// The level of zstd. An unknown level becomes the default.
pub(super) fn zstd_level(settings: &WriterSettings) -> ZstdLevel {
    ZstdLevel::try_new(settings.compression_level).unwrap_or_default()
}

fn encode(
    properties: WriterPropertiesBuilder,
    clustered_by: &[&str],
    column: &ColumnDescriptor,
) -> WriterPropertiesBuilder {
    let (path, name) = (column.path().clone(), column.name());
    let is_any = |names: &[&str]| column.max_rep_level() == 0 && names.contains(&name);
    let is_integer = matches!(column.physical_type(), Type::INT32 | Type::INT64);
    let mut properties = properties;
    let is_bytes = column.physical_type() == Type::BYTE_ARRAY;
    if is_any(&RANDOM) && is_bytes {
        // The lengths are stored apart from the bytes. Mostly they are all the same.
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED);
    } else if is_any(&DISTINCT_TEXTS) && is_bytes {
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    } else if is_any(&DISTINCT_INTEGERS) && is_integer {
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
    } else if is_any(&CONSTANT_INTEGERS) && is_integer {
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
    }
    if is_bounded(clustered_by, column) {
        properties
    } else {
        properties.set_column_statistics_enabled(path, EnabledStatistics::None)
    }
}

/// Whether the bounds of a column are useful: those of integers and times, and of the columns that
/// order a table. Unordered texts bound nothing. Lists, decimals and floats have no bounds in
/// Delta's log.
fn is_bounded(clustered_by: &[&str], column: &ColumnDescriptor) -> bool {
    let is_root = |name: &&str| column.path().parts() == [(*name).to_owned()];
    let mut bounded = clustered_by.iter().chain(&BOUNDED_TEXTS);
    match column.physical_type() {
        _ if column.max_rep_level() > 0 => false,
        Type::INT32 | Type::INT64 => column.type_scale() <= 0,
        Type::BYTE_ARRAY => bounded.any(is_root),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adlake_domain::catalogue;
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, TimeUnit};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::schema::types::ColumnPath;

    use super::*;

    fn check(table: &str, column: &str, dictionary: bool, encoding: Option<Encoding>, bounded: bool) {
        let table = catalogue::table(table).unwrap();
        let properties = properties(&table.schema, table.clustered_by, &WriterSettings::default()).unwrap();
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        assert_eq!(properties.dictionary_enabled(&path), dictionary, "{} {column}", table.name);
        assert_eq!(properties.encoding(&path), encoding, "{} {column}", table.name);
        let statistics = if bounded { EnabledStatistics::Chunk } else { EnabledStatistics::None };
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
        check("raw/dead_letters", "replay_id", true, None, true);
        check("raw/dead_letters", "reason", true, None, false);
    }

    #[test]
    fn columns_of_others_are_written_whatever_they_are_called() {
        // The configuration may add columns with names that other tables use for hashes.
        let names = RANDOM.iter().chain(&DISTINCT_TEXTS).chain(&DISTINCT_INTEGERS).chain(&CONSTANT_INTEGERS);
        let names: Vec<&str> = names.copied().collect();
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
