//! Parts of the events that are computed by themselves: days, and slices of days.

use std::ops::Range;

/// Microseconds in a day.
pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A UTC day, as days since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// SQL: the day as a literal.
    pub fn literal(self) -> String {
        format!("CAST({} AS DATE)", self.0)
    }

    /// The first instant of the day, in microseconds.
    pub fn begin(self) -> i64 {
        i64::from(self.0) * MICROS_PER_DAY
    }
}

/// The number of events and credits of a campaign in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The campaign.
    pub campaign: Option<String>,
    /// The hour's first instant.
    pub hour: i64,
    /// How many.
    pub events: u64,
}

/// A part of the events that is aggregated by itself: those of some campaigns in a range of time.
/// The slices of a table are disjoint, and none cuts an hour (or a day, for sketches) in two. So
/// the memory that aggregation takes is that of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The range of time.
    pub range: Range<i64>,
    /// The first and the last campaign, in the order of texts with NULL first. `None`: all.
    pub campaigns: Option<(Option<String>, Option<String>)>,
}

impl Slice {
    /// SQL: the condition for rows with a time, a date and a campaign.
    pub(super) fn condition(&self, time: &str) -> String {
        let campaigns = self.campaigns().map(|campaigns| format!(" AND {campaigns}")).unwrap_or_default();
        let days = on_days("event_date", &self.range);
        format!("{days} AND {}{campaigns}", within(time, &self.range))
    }

    /// SQL: the condition on the campaign. `None`: there is none.
    pub(super) fn campaigns(&self) -> Option<String> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        Some(match self.campaigns.as_ref()? {
            (None, None) => "campaign_id IS NULL".to_string(),
            (None, Some(last)) => format!("(campaign_id IS NULL OR campaign_id <= {})", quoted(last)),
            (Some(first), Some(last)) => {
                format!("campaign_id >= {} AND campaign_id <= {}", quoted(first), quoted(last))
            }
            (Some(first), None) => format!("campaign_id >= {}", quoted(first)),
        })
    }
}

/// SQL: a condition on a time.
pub(super) fn within(time: &str, range: &Range<i64>) -> String {
    let at = |micros: i64| format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    format!("{time} >= {} AND {time} < {}", at(range.start), at(range.end))
}

/// SQL: a condition on a date that holds for all rows with times in the range. It excludes
/// partitions.
pub(super) fn on_days(date: &str, range: &Range<i64>) -> String {
    let day = |micros: i64| Day(adlake_domain::time::event_date(micros)).literal();
    format!("{date} BETWEEN {} AND {}", day(range.start), day(range.end - 1))
}
