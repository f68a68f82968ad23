//! The tables of the lake: their paths, contents, partition columns, and the meaning and the values
//! of their columns.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};

use crate::batch_schema;
use crate::event::EventKind;
use crate::kpi;
use crate::schema;

/// A table of the lake.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its path under the lake's URI, which is also its name.
    pub name: &'static str,
    /// What it holds.
    pub description: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
    /// The partition columns, last in the schema.
    pub partition_columns: &'static [&'static str],
    /// The columns by which the rows of a file are ordered, most significant first.
    pub clustered_by: &'static [&'static str],
    /// The texts by which single rows are searched. The statistics of the files tell which files
    /// can hold them.
    pub searched_by: &'static [&'static str],
}

/// How the values of a column differ. The encoding of the column follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Some values occur in many rows.
    Repeated,
    /// Random bytes. They do not compress, and their order has no meaning.
    Random,
    /// Texts that nearly all differ, or that have so many values that a dictionary is full before
    /// the file is. Lookups in such a dictionary miss the CPU's caches, and the texts after it is
    /// full are written without it anyway.
    DistinctTexts,
    /// Integers that differ little from the one before, or whose values are spread so widely that a
    /// dictionary is of no use.
    DistinctIntegers,
    /// Integers that mostly have one value in a whole file, or in a long run of rows.
    ConstantIntegers,
}

impl Table {
    /// The same table with more columns at its end.
    #[must_use]
    pub fn with_columns(mut self, columns: &[Field]) -> Table {
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone()).chain(columns.iter().cloned());
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }
}

/// The manifest's name.
pub const MANIFEST: &str = "batch/manifest";
/// The name of the results of the expectations.
pub const QUALITY: &str = "batch/quality";
/// The dead letters' name.
pub const DEAD_LETTERS: &str = "raw/dead_letters";
/// The name of the list of ingested files.
pub const FILES: &str = "raw/files";
/// The attributions' name.
pub const ATTRIBUTIONS: &str = "batch/attributions";
/// The hourly cube's name.
pub const CAMPAIGN_HOURLY: &str = "batch/campaign_hourly";
/// The name of the sums per hour and campaign.
pub const CAMPAIGN_ROLLUP: &str = "batch/campaign_rollup";
/// The reach sketches' name.
pub const CAMPAIGN_REACH: &str = "batch/campaign_reach";
/// The name of the segments of users.
pub const USER_SEGMENTS: &str = "batch/user_segments";
/// The name of the transitions of alarms.
pub const ALARMS: &str = "batch/alarms";
/// The creatives' name.
pub const CREATIVES: &str = "ref/creatives";
/// The campaigns' name.
pub const CAMPAIGNS: &str = "ref/campaigns";
/// The exchange rates' name.
pub const FX_RATES: &str = "ref/fx_rates";

/// Every table, in the order in which they are created and listed.
pub fn tables() -> Vec<Table> {
    let mut tables = Vec::new();
    for kind in EventKind::ALL {
        tables.push(Table {
            name: kind.raw_table(),
            description: match kind {
                EventKind::Impression => {
                    "Ad impressions as they arrived: one row per record, typed and enriched, append-only"
                }
                EventKind::Interaction => {
                    "Clicks and conversions as they arrived: one row per record, typed and enriched, append-only"
                }
                EventKind::BidRequest => {
                    "Bid requests as they arrived: one row per record, typed and enriched, append-only"
                }
            },
            schema: schema::raw_schema(kind),
            partition_columns: &["event_date"],
            clustered_by: &[],
            searched_by: &[],
        });
    }
    tables.push(Table {
        name: DEAD_LETTERS,
        description: "Records that were rejected, whole, with the reason and where they came from",
        schema: schema::dead_letters_schema(),
        partition_columns: &["ingest_date"],
        clustered_by: &[],
        searched_by: &["replay_id"],
    });
    tables.push(Table {
        name: FILES,
        description: "Files that were ingested to their ends, as they were then; of several rows of a file \
                      the last counts",
        schema: schema::files_schema(),
        partition_columns: &[],
        clustered_by: &[],
        searched_by: &[],
    });
    for kind in EventKind::ALL {
        tables.push(Table {
            name: kind.batch_table(),
            description: match kind {
                EventKind::Impression => "Impressions, one row per event, fields resolved",
                EventKind::Interaction => "Clicks and conversions, one row per event, fields resolved",
                EventKind::BidRequest => "Bid requests, one row per auction and imp, with our bid and its outcome",
            },
            schema: batch_schema::event_schema(kind),
            partition_columns: &["event_date"],
            clustered_by: &["campaign_id", "event_time"],
            searched_by: &[],
        });
    }
    tables.push(Table {
        name: ATTRIBUTIONS,
        description: "A row per interaction and touchpoint, with the credit of each under five models",
        schema: batch_schema::attributions_schema(),
        partition_columns: &["event_date"],
        clustered_by: &["campaign_id"],
        searched_by: &[],
    });
    tables.push(Table {
        name: CAMPAIGN_HOURLY,
        description: "Additive sums per hour, campaign, website, creative, device, country, region and conversion type",
        schema: batch_schema::campaign_hourly_schema(),
        partition_columns: &["event_date"],
        clustered_by: &["campaign_id"],
        searched_by: &[],
    });
    tables.push(Table {
        name: CAMPAIGN_ROLLUP,
        description: "The sums of campaign_hourly per hour and campaign",
        schema: batch_schema::campaign_rollup_schema(),
        partition_columns: &["event_date"],
        clustered_by: &["campaign_id"],
        searched_by: &[],
    });
    tables.push(Table {
        name: CAMPAIGN_REACH,
        description: "A theta sketch (k = 4096) of the users reached, per day and campaign",
        schema: batch_schema::campaign_reach_schema(),
        partition_columns: &["event_date"],
        clustered_by: &["campaign_id"],
        searched_by: &[],
    });
    tables.push(Table {
        name: USER_SEGMENTS,
        description: "What each user did, and the segment by the rules that the run had",
        schema: batch_schema::user_segments_schema(),
        partition_columns: &[],
        clustered_by: &["user_id"],
        searched_by: &[],
    });
    tables.push(Table {
        name: ALARMS,
        description: "Transitions of alarms, and what people have silenced or look after, append-only",
        schema: batch_schema::alarms_schema(),
        partition_columns: &["event_date"],
        clustered_by: &[],
        searched_by: &[],
    });
    for (name, description, schema) in [
        (
            MANIFEST,
            "One row per published batch run: what it covers and what it wrote",
            batch_schema::manifest_schema(),
        ),
        (
            QUALITY,
            "Results of the expectations: a row per expectation and check, of batch runs and of `batch check`",
            batch_schema::quality_schema(),
        ),
        (CREATIVES, "Creatives and the campaign each belongs to", batch_schema::creatives_schema()),
        (CAMPAIGNS, "Campaigns, their advertisers, targets and budgets", batch_schema::campaigns_schema()),
        (FX_RATES, "Units of the account currency per unit of a currency, by UTC day", batch_schema::fx_rates_schema()),
    ] {
        tables.push(Table { name, description, schema, partition_columns: &[], clustered_by: &[], searched_by: &[] });
    }
    tables
}

/// A table by its name.
pub fn table(name: &str) -> Option<Table> {
    tables().into_iter().find(|table| table.name == name)
}

/// The meaning of a column. A name has the same meaning in every table.
pub fn column_description(column: &str) -> Option<&'static str> {
    let text = match column {
        "path" => "the file's canonical path, or its URI",
        "file_bytes" => "its length as stored",
        "file_tag" => "its ETag, or when it was last changed: differs when it was written in between",
        "read_bytes" => "how many bytes at its beginning read_hash is of",
        "read_hash" => "XXH3-128 of the bytes that were read, in hex digits",
        "records" => "its records, good and bad",
        "status" => {
            "of a file: ingested; or changed: it does not begin with what was ingested any more. Of an expectation: \
             pass, warn, fail, or error: it could not be evaluated"
        }
        "check_id" => "id of the check, the same in all rows of one check",
        "decision" => "check: no batch run; publish, publish_anyway or refuse: what became of the batch run",
        "decided_by" => "who published although an expectation had failed",
        "expectation" => "name of the expectation",
        "expected" => "what has to hold, readable",
        "observed" => "the number that was compared: rows, a fraction, seconds, a difference",
        "distribution" => "JSON: the share of the rows that has each value, for later checks to compare with",
        "checked_rows" => "rows, values or groups that were looked at",
        "violating_rows" => "rows, values or groups that do not meet the expectation",
        "checked_at" => "when the check began, UTC",
        "event_time" => "when the event happened, UTC",
        "event_date" => "UTC date of the event",
        "ingest_date" => "UTC date on which the record was taken in",
        "ingested_at" => "when the record was taken in, UTC",
        "source" => "where the record came from: topic or path, partition, offset or line",
        "content_hash" => "XXH3-128 of the fields as sent; copies that differ in it differ in content",
        "event_key" | "interaction_key" => "16 bytes that are equal exactly for copies of the same event",
        "touchpoint_key" => "event_key of the touchpoint",
        "attributes" => "fields that the schema does not know, as a JSON object",
        "enriched" => "what ingest added: campaign, advertiser, place, device, time parts, money in account micros",
        "user_id" => "who saw, clicked or converted",
        "campaign_id" => "the campaign",
        "advertiser_id" => "the campaign's advertiser",
        "scope_advertiser_id" => "the campaign's advertiser by ref/campaigns when the batch ran",
        "ad_creative_id" => "the creative that was shown",
        "website" => "where the ad was shown: a domain, a URL or an app's bundle",
        "impression_id" => "id of the impression",
        "interaction_id" => "order or event id, else the content hash",
        "interaction_type" => "click, conversion or refund",
        "conversion_type" => "the kind of click or conversion, as sent",
        "cost_micros" => "cost of this one impression, micros",
        "value_micros" => {
            "total value of the conversion, or of all of a user, in micros of the account currency; negative if it is \
             a refund"
        }
        "segment" => "the first rule of [segments] that applied to the user when the batch ran",
        "recency_days" => "whole days from the user's newest event to the newest of any user",
        "frequency" => "the user's valid impressions",
        "engagement" => "the user's clicks and conversions",
        "first_seen" => "time of the user's oldest valid event, UTC",
        "last_seen" => "time of the user's newest valid event, UTC",
        "bid_price_micros" => "bid, a CPM in micros of the account currency",
        "clearing_price_micros" => "price paid, a CPM in micros of the account currency",
        "value" => "total value of the conversion as sent",
        "currency" => "ISO 4217 code of the amounts as sent",
        "country" => "ISO 3166 country",
        "viewable" => "whether the impression was viewable; NULL where it was not measured",
        "view_time_ms" => "time in view, milliseconds",
        "won" => "whether our bid won the auction",
        "payload" => "the record's bytes exactly as received",
        "reason" => "machine-readable reason of the rejection",
        "detail" => "readable detail of the rejection",
        "format" => {
            "how the payload is written where the configuration does not say it: JSON; fragment: not a whole record"
        }
        "replay_id" => "the replay that has taken the letter; without an outcome it is still at it",
        "replay_outcome" => "replayed: the record is a row now; else the reason why it was rejected again",
        "replay_detail" => "readable detail of being rejected again",
        "replayed_at" => "when the replay decided, UTC",
        "hour" => "the instant, in UTC, at which the hour of the report zone begins",
        "day" => "the instant, in UTC, at which the day of the report zone begins; the UTC day of a rate",
        "reach_sketch" => "bottom-k sketch of the users reached: ascending 64-bit hashes, little-endian",
        "versions" => "versions of the raw and ref tables covered and of the batch tables written",
        "meaning" => "the configuration that the run computed with, JSON",
        "meaning_hash" => "hash of that configuration",
        "revision" => "which rules the program computed with; batch tables of another revision are not read",
        "last_touch" => "whether this is the last touchpoint of the interaction, or of its order",
        "invalid_reason" => "why the event is invalid traffic; NULL where it is valid",
        "inherits" => "whether the interaction takes what it lacks from this row",
        "order_is_primary" => "of a refund: whether its order is of a primary type; NULL where there is no order",
        "seconds_between_micros" => "time from touchpoint to interaction, microseconds",
        "alarm_id" => "id of the trouble, the same until it is over; or of the silence",
        "sequence" => "number of the transition, without gaps; NULL where it is none",
        "rule" => "the rule of the alarm",
        "alarm_group" => "the labels of the group, a JSON object",
        "alarm_state" => "OK, PENDING, FIRING, NO DATA; SILENCED and ACKED are what people have done",
        "metric_value" => "value of the rule's metric",
        "expected_low" => "the least value that was expected",
        "expected_high" => "the most that was expected",
        "at" => "when it happened, UTC",
        "why" => "readable reason",
        "cause" => "what has contributed most to the change",
        "severity" => "info, warning or critical",
        "notice" => "whether it is told to people",
        "until" => "the end of the silence, UTC",
        "by_whom" => "who has silenced the alarm, or looks after it",
        "rate" => "account currency units per unit of the currency",
        _ => return kpi::SUMS.iter().find(|sum| sum.column == column).map(|sum| sum.description),
    };
    Some(text)
}

/// How the values of a column differ. A name has the same meaning in every table.
pub fn column_values(column: &str) -> Values {
    let known = VALUES.iter().find(|(_, columns)| columns.contains(&column));
    known.map_or(Values::Repeated, |(values, _)| *values)
}

/// The columns whose values are not [`Values::Repeated`], by their names.
const VALUES: [(Values, &[&str]); 4] = [
    (
        Values::Random,
        &["content_hash", "bid_content_hash", "event_key", "interaction_key", "touchpoint_key", "reach_sketch"],
    ),
    (Values::DistinctTexts, &["impression_id", "event_id", "order_id", "auction_id", "user_id"]),
    (
        Values::DistinctIntegers,
        &["event_time", "offset", "bid_price_micros", "clearing_price_micros", "first_seen", "last_seen"],
    ),
    (Values::ConstantIntegers, &["partition", "ingested_at"]),
];

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;

    use super::*;

    #[test]
    fn columns_that_are_named_exist() {
        for table in tables() {
            for column in table.partition_columns.iter().chain(table.clustered_by).chain(table.searched_by) {
                assert!(table.schema.field_with_name(column).is_ok(), "{}: {column}", table.name);
            }
        }
    }

    #[test]
    fn columns_whose_values_are_described_exist_and_have_such_values() {
        let tables = tables();
        for (values, columns) in VALUES {
            for column in columns {
                assert_eq!(column_values(column), values, "{column}");
                let fields = tables.iter().flat_map(|table| table.schema.flattened_fields());
                let types = fields.filter(|field| field.name() == column).map(|field| field.data_type());
                // Sums of a column have its name too, but a wider type, and they are encoded as
                // any other column.
                let types: Vec<&DataType> = types.filter(|data_type| **data_type != batch_schema::wide()).collect();
                let fits = |data_type: &&DataType| match values {
                    Values::Repeated => false,
                    Values::Random => matches!(data_type, DataType::Binary),
                    Values::DistinctTexts => matches!(data_type, DataType::Utf8),
                    Values::DistinctIntegers | Values::ConstantIntegers => {
                        matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Timestamp(..))
                    }
                };
                assert!(!types.is_empty() && types.iter().all(fits), "{column} is of the types {types:?}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = tables().iter().map(|table| table.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tables().len());
    }
}
