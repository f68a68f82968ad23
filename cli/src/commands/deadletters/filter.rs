//! The options that choose dead letters. `list` and `replay` share them.

use std::time::Duration;

use adlake_lake::letters::{LetterFilter, LetterState};
use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;

use crate::options::Kind;

/// Chooses dead letters. If an option is given several times, a letter has to match one of
/// its values.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterOptions {
    /// Only letters with this reason, as in the column reason; may be given several times
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Only letters of this topic, or of the file with this path; may be given several times
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only letters of this kind of event; may be given several times
    #[arg(long = "kind", value_enum)]
    kinds: Vec<Kind>,
    /// Only records rejected at this time or later: RFC 3339, a day, or how long ago ("2h",
    /// "3days")
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only records rejected before this time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
}

impl FilterOptions {
    /// The filter that these options stand for.
    pub fn filter(&self, state: Option<LetterState>) -> LetterFilter {
        LetterFilter {
            kinds: self.kinds.iter().map(|kind| kind.event_kind()).collect(),
            reasons: self.reasons.clone(),
            topics: self.topics.clone(),
            partition: None,
            offset: None,
            since: self.since.map(|time| time.timestamp_micros()),
            until: self.until.map(|time| time.timestamp_micros()),
            state,
        }
    }
}

/// A point in time as people write it.
fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    at(text, Utc::now())
}

fn at(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let ago: Duration = humantime::parse_duration(text)
        .map_err(|_| "not a time: give 2026-03-01T10:00:00Z, 2026-03-01, or how long ago (2h)".to_owned())?;
    let ago = chrono::Duration::from_std(ago).map_err(|error| error.to_string())?;
    now.checked_sub_signed(ago).ok_or_else(|| "too long ago".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| assert_eq!(at(text, now).unwrap().to_rfc3339(), expected, "{text}");
        check("2026-02-01T10:00:00+02:00", "2026-02-01T08:00:00+00:00");
        check("2026-02-01", "2026-02-01T00:00:00+00:00");
        check("2h", "2026-03-01T10:00:00+00:00");
        check("1day 30m", "2026-02-28T11:30:00+00:00");
        for text in ["", "soon", "2026-02-30", "9999999999years"] {
            assert!(at(text, now).is_err(), "{text}");
        }
    }
}
