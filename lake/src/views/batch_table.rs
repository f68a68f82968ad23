//! The tables that the batch layer writes.

use adlake_domain::event::EventKind;
use adlake_domain::kpi;

use super::cubes;

/// A table that the batch layer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchTable {
    /// Deduplicated events.
    Events(EventKind),
    /// Interactions and their touchpoints.
    Attributions,
    /// The hourly cube.
    Hourly,
    /// The sums of the hourly cube by campaign.
    Rollup,
    /// The sketches.
    Reach,
    /// What each user did, and their segments.
    Users,
}

impl BatchTable {
    /// All of them, each after those that it is made from.
    pub const ALL: [BatchTable; 8] = [
        BatchTable::Events(EventKind::Impression),
        BatchTable::Events(EventKind::Interaction),
        BatchTable::Events(EventKind::BidRequest),
        BatchTable::Attributions,
        BatchTable::Hourly,
        BatchTable::Rollup,
        BatchTable::Reach,
        BatchTable::Users,
    ];

    /// The columns that its rows are ordered by, NULL first. Files hold one date each, if the table
    /// has dates, so the date comes first. No two rows have the same values in these columns.
    pub fn order_columns(self) -> Vec<&'static str> {
        let others = match self {
            BatchTable::Users => return vec!["user_id"],
            BatchTable::Events(_) => vec!["campaign_id", "event_time", "event_key"],
            BatchTable::Attributions => {
                vec!["campaign_id", "interaction_time", "interaction_key", "touchpoint_time", "touchpoint_key"]
            }
            BatchTable::Hourly => {
                let others = kpi::DIMENSIONS.into_iter().filter(|name| *name != "campaign_id");
                ["campaign_id", "hour"].into_iter().chain(others).collect()
            }
            BatchTable::Rollup => vec!["campaign_id", "hour"],
            BatchTable::Reach => vec!["campaign_id", "day"],
        };
        ["event_date"].into_iter().chain(others).collect()
    }

    /// SQL: the order of its rows.
    pub fn order(self) -> String {
        cubes::ordered(&self.order_columns())
    }

    /// Its name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            BatchTable::Events(kind) => kind.batch_table(),
            BatchTable::Attributions => adlake_domain::catalogue::ATTRIBUTIONS,
            BatchTable::Hourly => adlake_domain::catalogue::CAMPAIGN_HOURLY,
            BatchTable::Rollup => adlake_domain::catalogue::CAMPAIGN_ROLLUP,
            BatchTable::Reach => adlake_domain::catalogue::CAMPAIGN_REACH,
            BatchTable::Users => adlake_domain::catalogue::USER_SEGMENTS,
        }
    }
}
