//! The Arrow schemas of the raw tables: the fields as sent, then the fields that ingest adds.
//!
//! A raw row has the content fields in schema order, `attributes`, `content_hash`, the struct
//! `enriched`, the struct `source`, `ingested_at` and the partition `event_date`. Copies of an
//! event are compared, and content is hashed, in the order of the content fields.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::event::EventKind;

/// The fractional digits of stored amounts as sent.
pub const AMOUNT_SCALE: i8 = 12;
/// The digits of stored amounts as sent.
pub const AMOUNT_PRECISION: u8 = 38;

/// The type of every time in the lake: UTC, microseconds.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of amounts as sent.
pub fn amount() -> DataType {
    DataType::Decimal128(AMOUNT_PRECISION, AMOUNT_SCALE)
}

fn utf8(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn int32(name: &str) -> Field {
    Field::new(name, DataType::Int32, true)
}

fn int64(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn float64(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn structure(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}

fn list(name: &str, element: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("element", element, true))), true)
}

/// The fields of an event as they are sent, in schema order, without `attributes`.
pub fn content_fields(kind: EventKind) -> Vec<Field> {
    match kind {
        EventKind::Impression => impression_fields(),
        EventKind::Interaction => interaction_fields(),
        EventKind::BidRequest => bid_request_fields(),
    }
}

fn impression_fields() -> Vec<Field> {
    vec![
        utf8("ad_creative_id"),
        utf8("user_id"),
        Field::new("event_time", timestamp(), true),
        utf8("website"),
        utf8("impression_id"),
        utf8("campaign_id"),
        utf8("ad_group_id"),
        utf8("advertiser_id"),
        utf8("placement_id"),
        utf8("auction_id"),
        int64("cost_micros"),
        utf8("currency"),
        int32("width"),
        int32("height"),
        Field::new("viewable", DataType::Boolean, true),
        int64("view_time_ms"),
        int64("interaction_depth"),
        utf8("device_type"),
        utf8("os"),
        utf8("browser"),
        utf8("user_agent"),
        utf8("ip"),
        utf8("country"),
        utf8("region"),
        utf8("city"),
        utf8("content_category"),
        utf8("consent"),
    ]
}

fn interaction_fields() -> Vec<Field> {
    vec![
        Field::new("event_time", timestamp(), true),
        utf8("user_id"),
        utf8("campaign_id"),
        utf8("conversion_type"),
        utf8("event_id"),
        utf8("ad_creative_id"),
        utf8("impression_id"),
        utf8("order_id"),
        Field::new("value", amount(), true),
        utf8("currency"),
        int64("quantity"),
        utf8("country"),
        utf8("device_type"),
        utf8("user_agent"),
    ]
}

fn bid_request_fields() -> Vec<Field> {
    let publisher = || structure("publisher", vec![utf8("id"), utf8("name"), utf8("domain")]);
    vec![
        utf8("auction_id"),
        utf8("user_id"),
        Field::new("event_time", timestamp(), true),
        list("imp", imp_type()),
        int32("at"),
        int32("tmax"),
        list("cur", DataType::Utf8),
        structure(
            "site",
            vec![
                utf8("id"),
                utf8("name"),
                utf8("domain"),
                utf8("page"),
                utf8("ref"),
                list("cat", DataType::Utf8),
                int32("mobile"),
                publisher(),
            ],
        ),
        structure(
            "app",
            vec![
                utf8("id"),
                utf8("name"),
                utf8("bundle"),
                utf8("domain"),
                utf8("storeurl"),
                utf8("ver"),
                list("cat", DataType::Utf8),
                publisher(),
            ],
        ),
        structure(
            "device",
            vec![
                utf8("ua"),
                utf8("ip"),
                utf8("ipv6"),
                int32("devicetype"),
                utf8("make"),
                utf8("model"),
                utf8("os"),
                utf8("osv"),
                utf8("language"),
                int32("connectiontype"),
                utf8("ifa"),
                int32("lmt"),
                structure(
                    "geo",
                    vec![
                        float64("lat"),
                        float64("lon"),
                        utf8("country"),
                        utf8("region"),
                        utf8("city"),
                        utf8("zip"),
                        int32("type"),
                    ],
                ),
            ],
        ),
        structure(
            "user",
            vec![
                utf8("id"),
                utf8("buyeruid"),
                int32("yob"),
                utf8("gender"),
                utf8("keywords"),
                list("segments", DataType::Utf8),
                list(
                    "data",
                    DataType::Struct(Fields::from(vec![
                        utf8("id"),
                        utf8("name"),
                        list("segment", DataType::Struct(Fields::from(vec![utf8("id"), utf8("name"), utf8("value")]))),
                    ])),
                ),
            ],
        ),
        list("wseat", DataType::Utf8),
        list("bcat", DataType::Utf8),
        list("badv", DataType::Utf8),
        Field::new(
            "targeting",
            DataType::Map(
                Arc::new(Field::new(
                    "key_value",
                    DataType::Struct(Fields::from(vec![
                        Field::new("key", DataType::Utf8, false),
                        Field::new("value", DataType::Utf8, true),
                    ])),
                    false,
                )),
                false,
            ),
            true,
        ),
        utf8("imp_id"),
        utf8("campaign_id"),
        utf8("ad_creative_id"),
        Field::new("bid_price", amount(), true),
        Field::new("clearing_price", amount(), true),
        Field::new("won", DataType::Boolean, true),
    ]
}

/// The fields of a bid request that belong to a bid or its outcome. The others are the request's
/// own.
pub const BID_FIELDS: [&str; 6] = ["imp_id", "campaign_id", "ad_creative_id", "bid_price", "clearing_price", "won"];

/// An element of `imp[]`: those parts of OpenRTB's `Imp` that have types here.
pub fn imp_type() -> DataType {
    DataType::Struct(Fields::from(vec![
        utf8("id"),
        utf8("tagid"),
        int32("instl"),
        int32("secure"),
        float64("bidfloor"),
        utf8("bidfloorcur"),
        structure("banner", vec![int32("w"), int32("h"), int32("pos")]),
        structure("video", vec![int32("w"), int32("h"), int32("minduration"), int32("maxduration")]),
    ]))
}

/// The fields that ingest adds to an event, as one struct.
pub fn enriched_fields(kind: EventKind) -> Fields {
    let mut fields = vec![
        utf8("campaign_id"),
        utf8("advertiser_id"),
        utf8("country"),
        utf8("region"),
        utf8("device_type"),
        utf8("os"),
        utf8("browser"),
        utf8("part_of_day"),
        utf8("day_type"),
        utf8("season"),
    ];
    match kind {
        EventKind::Impression => fields.push(int64("cost_micros")),
        EventKind::Interaction => fields.push(int64("value_micros")),
        EventKind::BidRequest => fields.extend([int64("bid_price_micros"), int64("clearing_price_micros")]),
    }
    Fields::from(fields)
}

/// The origin of a row. `topic` is the Kafka topic or the file's path, `offset` the record's offset
/// or line.
pub fn source_fields() -> Fields {
    Fields::from(vec![utf8("topic"), int32("partition"), int64("offset")])
}

/// The `replay_outcome` of a dead letter whose record has become a row.
pub const REPLAYED: &str = "replayed";

/// The `format` of a dead letter that holds a part of a record, or bytes that are no record at all.
pub const FRAGMENT: &str = "fragment";

/// The schema of a raw table.
pub fn raw_schema(kind: EventKind) -> SchemaRef {
    let mut fields = content_fields(kind);
    fields.push(utf8("attributes"));
    fields.push(Field::new("content_hash", DataType::Binary, true));
    fields.push(Field::new("enriched", DataType::Struct(enriched_fields(kind)), true));
    fields.push(Field::new("source", DataType::Struct(source_fields()), true));
    fields.push(Field::new("ingested_at", timestamp(), true));
    fields.push(Field::new("event_date", DataType::Date32, true));
    Arc::new(Schema::new(fields))
}

/// The schema of `raw/dead_letters`: what was sent, why it was rejected, how to decode it again,
/// and the outcome of that.
///
/// The `replay_*` columns are NULL until a replay takes the letter. If only `replay_id` is set, a
/// replay has claimed the letter. If `replay_outcome` is set too, the replay has decided: it holds
/// [`REPLAYED`], or the reason why the record was rejected again.
pub fn dead_letters_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        utf8("kind"),
        Field::new("payload", DataType::Binary, true),
        Field::new("key", DataType::Binary, true),
        utf8("reason"),
        utf8("detail"),
        Field::new("source", DataType::Struct(source_fields()), true),
        Field::new("record_time", timestamp(), true),
        Field::new("ingested_at", timestamp(), true),
        utf8("format"),
        utf8("replay_id"),
        utf8("replay_outcome"),
        utf8("replay_detail"),
        Field::new("replayed_at", timestamp(), true),
        Field::new("ingest_date", DataType::Date32, true),
    ]))
}

/// The schema of `raw/files`.
pub fn files_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        utf8("path"),
        utf8("kind"),
        utf8("status"),
        Field::new("file_bytes", DataType::Int64, true),
        utf8("file_tag"),
        Field::new("read_bytes", DataType::Int64, true),
        utf8("read_hash"),
        Field::new("records", DataType::Int64, true),
        Field::new("ingested_at", timestamp(), true),
        utf8("reason"),
        utf8("last_hash"),
        Field::new("numbering", DataType::Int64, true),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields_exist_in_their_schemas() {
        for kind in EventKind::ALL {
            let schema = raw_schema(kind);
            for name in kind.required_fields() {
                assert!(schema.field_with_name(name).is_ok(), "{kind}: {name}");
            }
        }
    }

    #[test]
    fn bid_fields_are_content_fields() {
        let fields = content_fields(EventKind::BidRequest);
        for name in BID_FIELDS {
            assert!(fields.iter().any(|field| field.name() == name), "{name}");
        }
    }
}
