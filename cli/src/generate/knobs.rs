//! The options of the generator, as given on the command line, and the checked plan that they
//! become.
//!
//! A [`Plan`] is complete and consistent: everything after it is a pure function of it.

use std::time::Duration;

use adlake_domain::event::EventKind;
use anyhow::Result;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use clap::{Args, ValueEnum};

use crate::failure::usage;
use crate::generate::clock::DAY;

/// A kind of event, by the name of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    Impressions,
    Interactions,
    BidRequests,
}

impl Kind {
    /// As the domain names it.
    pub fn event_kind(self) -> EventKind {
        match self {
            Kind::Impressions => EventKind::Impression,
            Kind::Interactions => EventKind::Interaction,
            Kind::BidRequests => EventKind::BidRequest,
        }
    }
}

/// What to generate.
#[derive(Debug, Clone, Args)]
pub struct Knobs {
    /// All random draws follow from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Records to send, malformed ones and duplicates included
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Send for this long at --rate, instead of --events ("30s", "2h")
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "events", requires = "rate")]
    pub duration: Option<Duration>,
    /// Records per second; 0: as fast as possible. The records do not depend on it
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub rate: f64,
    /// Event time of the first event: RFC 3339, a date, or "now" (event time then follows --rate,
    /// not --days)
    #[arg(long, value_name = "TIME", default_value = "2025-01-01")]
    pub start: String,
    /// Days of event time that the events are spread over
    #[arg(long, default_value_t = 1.0)]
    pub days: f64,
    /// Kinds of events to send
    #[arg(long, value_enum, value_delimiter = ',', default_value = "impressions,interactions,bid_requests")]
    pub kinds: Vec<Kind>,
    /// Distinct users
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..100_000_000)
    )]
    pub users: u32,
    /// Campaigns
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..100_000))]
    pub campaigns: u32,
    /// Websites and apps
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub websites: u32,
    /// Bid requests per impression
    #[arg(long, value_name = "RATIO", default_value_t = 1.5)]
    pub bid_requests: f64,
    /// Mean click-through rate over the campaigns
    #[arg(long, value_name = "RATIO", default_value_t = 0.02)]
    pub ctr: f64,
    /// Mean conversion rate (conversions per click) over the campaigns
    #[arg(long, value_name = "RATIO", default_value_t = 0.1)]
    pub cvr: f64,
    /// Mean time from a click to its conversion
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30m")]
    pub conversion_delay: Duration,
    /// Share of events sent twice, byte for byte
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub duplicates: f64,
    /// Share of events sent a second time with the same id and other content
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    pub conflicts: f64,
    /// Share of events that arrive minutes to hours late
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub late: f64,
    /// Share of records that no decoder can accept
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub malformed: f64,
    /// Share of users that are bots
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    pub bots: f64,
    /// Share of events without an id of their own
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    pub without_id: f64,
    /// Share of won bid requests whose outcome comes in a later record
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub split_outcomes: f64,
    /// Currencies that some websites and shops use beside the account's ("EUR,GBP")
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub currencies: Vec<String>,
}

/// What will be generated: checked and complete.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// The seed of the events' ids. Streams with different seeds share a world, but no event.
    pub id_seed: u64,
    /// Records to send.
    pub events: u64,
    /// Event time of the first opportunity, µs.
    pub start: i64,
    /// How opportunities get their times.
    pub pace: Pace,
    /// Whether a kind is sent, in the order of [`EventKind::ALL`].
    pub kinds: [bool; 3],
    pub users: u32,
    pub campaigns: u32,
    pub websites: u32,
    pub bid_requests: f64,
    pub ctr: f64,
    pub cvr: f64,
    /// µs.
    pub conversion_delay: f64,
    pub duplicates: f64,
    pub conflicts: f64,
    pub late: f64,
    pub malformed: f64,
    pub bots: f64,
    pub without_id: f64,
    pub split_outcomes: f64,
    /// The currencies; the account's comes first.
    pub currencies: Vec<String>,
}

/// How opportunities get their times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// All events lie within this many µs, spread by the daily rhythm.
    Span(i64),
    /// This many records per second of event time.
    PerSecond(f64),
}

impl Knobs {
    /// Makes the plan. `account_currency` comes from the configuration; `now` is the meaning of
    /// "now" (µs).
    pub fn plan(&self, account_currency: &str, now: i64) -> Result<Plan> {
        for (name, share) in [
            ("ctr", self.ctr),
            ("cvr", self.cvr),
            ("duplicates", self.duplicates),
            ("conflicts", self.conflicts),
            ("late", self.late),
            ("bots", self.bots),
            ("without-id", self.without_id),
            ("split-outcomes", self.split_outcomes),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(usage(format!("--{name} is {share}: it is a share from 0 to 1")));
            }
        }
        if !(0.0..=0.9).contains(&self.malformed) {
            return Err(usage(format!("--malformed is {}: it is a share from 0 to 0.9", self.malformed)));
        }
        if !(0.0..=100.0).contains(&self.bid_requests) {
            return Err(usage(format!("--bid-requests is {}: it is a ratio from 0 to 100", self.bid_requests)));
        }
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            return Err(usage(format!(
                "--rate is {}: it is a number of records per second, 0 for no limit",
                self.rate
            )));
        }
        if !(self.days > 0.0 && self.days <= 3_660.0) {
            return Err(usage(format!("--days is {}: it is more than 0 and at most 3660", self.days)));
        }
        let mut kinds = [false; 3];
        for kind in &self.kinds {
            kinds[place(kind.event_kind())] = true;
        }
        if kinds == [false, false, true] && self.bid_requests == 0.0 {
            return Err(usage("--bid-requests 0 leaves no event of --kinds bid_requests to send"));
        }
        if kinds == [false, true, false] && self.ctr == 0.0 {
            return Err(usage("--ctr 0 leaves no event of --kinds interactions to send"));
        }
        let events = match self.duration {
            Some(_) if self.rate == 0.0 => {
                return Err(usage("--duration needs a --rate above 0; without one give --events"));
            }
            Some(duration) => ((duration.as_secs_f64() * self.rate) as u64).max(1),
            None => self.events,
        };
        let (start, pace) = if self.start == "now" {
            if self.rate == 0.0 {
                return Err(usage("--start now needs a --rate above 0: event time follows it"));
            }
            (now.div_euclid(1_000) * 1_000, Pace::PerSecond(self.rate))
        } else {
            (parse_time(&self.start)?, Pace::Span((self.days * DAY as f64) as i64))
        };
        let mut currencies = vec![account_currency.to_ascii_uppercase()];
        for code in &self.currencies {
            let code = code.trim().to_ascii_uppercase();
            if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(usage(format!("--currencies: {code:?} is not an ISO 4217 code such as EUR")));
            }
            if !currencies.contains(&code) {
                currencies.push(code);
            }
        }
        Ok(Plan {
            seed: self.seed,
            id_seed: self.seed,
            events,
            start,
            pace,
            kinds,
            users: self.users,
            campaigns: self.campaigns,
            websites: self.websites,
            bid_requests: self.bid_requests,
            ctr: self.ctr,
            cvr: self.cvr,
            conversion_delay: self.conversion_delay.as_micros() as f64,
            duplicates: self.duplicates,
            conflicts: self.conflicts,
            late: self.late,
            malformed: self.malformed,
            bots: self.bots,
            without_id: self.without_id,
            split_outcomes: self.split_outcomes,
            currencies,
        })
    }
}

/// The index of a kind in arrays by kind.
pub fn place(kind: EventKind) -> usize {
    match kind {
        EventKind::Impression => 0,
        EventKind::Interaction => 1,
        EventKind::BidRequest => 2,
    }
}

/// A duration as people write it: "90s", "2h 30m".
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text)
        .map_err(|error| format!("{error} (for example 90s, 30m or 2h)"))
}

fn parse_time(text: &str) -> Result<i64> {
    let time = DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").map(|time| time.and_utc()))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(Default::default()).and_utc())
        })
        .map_err(|_| usage(format!("--start is {text:?}: give 2025-01-31, 2025-01-31T12:00:00Z or now")))?;
    Ok(time.timestamp_millis() * 1_000)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        knobs: Knobs,
    }

    fn plan(line: &str) -> Result<Plan> {
        Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace()))?.knobs.plan("usd", 1_234_567)
    }

    #[test]
    fn defaults_make_a_plan() {
        let plan = plan("").unwrap();
        assert_eq!((plan.events, plan.start, plan.pace), (100_000, 20_089 * DAY, Pace::Span(DAY)));
        assert_eq!((plan.kinds, plan.currencies), ([true; 3], vec!["USD".to_string()]));
    }

    #[test]
    fn a_duration_is_a_number_of_records() {
        assert_eq!(plan("--duration 30s --rate 200").unwrap().events, 6_000);
        let live = plan("--start now --rate 50 --events 10").unwrap();
        assert_eq!((live.start, live.pace), (1_234_000, Pace::PerSecond(50.0)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, named) in [
            ("--late 2", "--late"),
            ("--malformed 1", "--malformed"),
            ("--start yesterday", "--start"),
            ("--start now", "--rate"),
            ("--duration 5s --rate 0", "--rate"),
            ("--days 0", "--days"),
            ("--currencies EURO", "--currencies"),
            ("--kinds bid_requests --bid-requests 0", "--bid-requests"),
            ("--kinds clicks", "clicks"),
        ] {
            let message = format!("{:#}", plan(line).unwrap_err());
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
