//! The three kinds of event, with their names and required fields.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of event: one topic, one raw table, one table of deduplicated events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An ad was shown (JSON).
    Impression,
    /// A click, or a conversion of any type (CSV).
    Interaction,
    /// A bid request, with our bid and its outcome if there are any (Avro).
    BidRequest,
}

impl EventKind {
    /// Every kind, in the order in which tables and topics are listed.
    pub const ALL: [EventKind; 3] = [EventKind::Impression, EventKind::Interaction, EventKind::BidRequest];

    /// The last part of the names of its tables: `raw/<name>`, `batch/<name>`.
    pub fn table(self) -> &'static str {
        match self {
            EventKind::Impression => "impressions",
            EventKind::Interaction => "interactions",
            EventKind::BidRequest => "bid_requests",
        }
    }

    /// The raw table, relative to the lake's URI.
    pub const fn raw_table(self) -> &'static str {
        match self {
            EventKind::Impression => "raw/impressions",
            EventKind::Interaction => "raw/interactions",
            EventKind::BidRequest => "raw/bid_requests",
        }
    }

    /// The table of deduplicated events, relative to the lake's URI.
    pub fn batch_table(self) -> &'static str {
        match self {
            EventKind::Impression => "batch/impressions",
            EventKind::Interaction => "batch/interactions",
            EventKind::BidRequest => "batch/bid_requests",
        }
    }

    /// The default Kafka topic.
    pub fn default_topic(self) -> &'static str {
        match self {
            EventKind::Impression => "ad-impressions",
            EventKind::Interaction => "clicks-conversions",
            EventKind::BidRequest => "bid-requests",
        }
    }

    /// The required fields: a record that lacks one is a dead letter.
    pub fn required_fields(self) -> &'static [&'static str] {
        match self {
            EventKind::Impression => &["ad_creative_id", "user_id", "event_time", "website"],
            EventKind::Interaction => &["event_time", "user_id", "campaign_id", "conversion_type"],
            EventKind::BidRequest => &["auction_id", "user_id", "event_time"],
        }
    }

    /// One byte that keeps the identities of different kinds apart.
    pub(crate) fn tag(self) -> u8 {
        match self {
            EventKind::Impression => b'i',
            EventKind::Interaction => b'c',
            EventKind::BidRequest => b'b',
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table())
    }
}
