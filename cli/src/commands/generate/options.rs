//! The options that say what to generate, and the checked plan that they become.

use std::time::Duration;

use adlake_traffic::clock::DAY;
use adlake_traffic::incident::{Incident, IncidentText, Story};
use adlake_traffic::plan::{Pace, Plan, kind_index};
use anyhow::Result;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use clap::Args;

use crate::failure::usage;
use crate::options::{Kind, duration};

/// What to generate.
#[derive(Debug, Clone, Args)]
pub struct TrafficOptions {
    /// The same seed and options give the same records
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Records to send, malformed ones and duplicates included
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Send for this long ("30s", "2h") at --rate, instead of a number of records
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "events", requires = "rate")]
    pub duration: Option<Duration>,
    /// Records to send per second; 0: as fast as possible. The records are the same at any rate
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub rate: f64,
    /// Event time of the first event: a date, an RFC 3339 time, or "now". With "now", event time
    /// follows --rate, and --days has no effect
    #[arg(long, value_name = "TIME", default_value = "2025-01-01")]
    pub start: String,
    /// Number of days of event time that the events are spread over
    #[arg(long, default_value_t = 1.0)]
    pub days: f64,
    /// Kinds of events to send
    #[arg(long, value_enum, value_delimiter = ',', default_value = "impressions,interactions,bid_requests")]
    pub kinds: Vec<Kind>,
    /// Number of distinct users
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..100_000_000)
    )]
    pub users: u32,
    /// Number of campaigns
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..100_000))]
    pub campaigns: u32,
    /// Number of websites and apps
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
    /// Let traffic follow the week and holidays, and clicks the hour of the day
    #[arg(long)]
    pub seasons: bool,
    /// Plant an incident: FAULT,key=value,... with a fault (ctr_drop, ctr_fade, cvr_drop, launch,
    /// silence, late_feed, bot_burst, duplicates, bad_placement, cost_factor) and any of
    /// campaign=N, website=N, kind=KIND, size=X, from=TIME or from=+10d (after the first event),
    /// for=6h. May be repeated
    #[arg(long = "incident", value_name = "INCIDENT")]
    pub incidents: Vec<String>,
}

impl TrafficOptions {
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
                return Err(usage(format!("--{name} is {share}: give a share from 0 to 1")));
            }
        }
        if !(0.0..=0.9).contains(&self.malformed) {
            return Err(usage(format!("--malformed is {}: give a share from 0 to 0.9", self.malformed)));
        }
        if !(0.0..=100.0).contains(&self.bid_requests) {
            return Err(usage(format!("--bid-requests is {}: give a ratio from 0 to 100", self.bid_requests)));
        }
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            return Err(usage(format!(
                "--rate is {}: give a number of records per second, or 0 for no limit",
                self.rate
            )));
        }
        if !(self.days > 0.0 && self.days <= 3_660.0) {
            return Err(usage(format!("--days is {}: give more than 0 and at most 3660", self.days)));
        }
        let mut kinds = [false; 3];
        for kind in &self.kinds {
            kinds[kind_index(kind.event_kind())] = true;
        }
        if kinds == [false, false, true] && self.bid_requests == 0.0 {
            return Err(usage(
                "--bid-requests 0 leaves nothing to send of --kinds bid_requests: raise it, or add kinds",
            ));
        }
        if kinds == [false, true, false] && self.ctr == 0.0 {
            return Err(usage(
                "--ctr 0 leaves hardly anything to send of --kinds interactions: raise it, or add kinds",
            ));
        }
        let events = match self.duration {
            Some(_) if self.rate == 0.0 => {
                return Err(usage("--duration needs a --rate above 0: give one, or give --events instead"));
            }
            Some(duration) => ((duration.as_secs_f64() * self.rate) as u64).max(1),
            None => self.events,
        };
        let (start, pace) = if self.start == "now" {
            if self.rate == 0.0 {
                return Err(usage("--start now needs a --rate above 0, because event time follows the rate"));
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
        let story = Story(incidents(&self.incidents, start, self.campaigns, self.websites)?);
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
            seasons: self.seasons,
            story,
        })
    }
}

fn parse_time(text: &str) -> Result<i64> {
    let time = DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").map(|time| time.and_utc()))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(Default::default()).and_utc())
        })
        .map_err(|_| {
            usage(format!("--start is {text:?}: give a date (2025-01-31), a time (2025-01-31T12:00:00Z) or now"))
        })?;
    Ok(time.timestamp_millis() * 1_000)
}

/// The incidents of `--incident` in a stream whose first event is at `start` (µs), in a world with
/// so many campaigns and websites.
pub fn incidents(texts: &[String], start: i64, campaigns: u32, websites: u32) -> Result<Vec<Incident>> {
    let mut incidents = Vec::new();
    for text in texts {
        let incident = text.parse::<IncidentText>().map_err(|error| usage(format!("--incident: {error}")))?;
        let incident = incident.planted(start);
        let named = [("campaign", incident.campaign, campaigns), ("website", incident.website, websites)];
        for (name, number, count) in named {
            if let Some(number) = number.filter(|number| *number >= count) {
                let last = count.saturating_sub(1);
                return Err(usage(format!("--incident {text:?}: there is no {name} {number}, the last is {last}")));
            }
        }
        incidents.push(incident);
    }
    Ok(incidents)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: TrafficOptions,
    }

    fn plan(line: &str) -> Result<Plan> {
        Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace()))?.traffic.plan("usd", 1_234_567)
    }

    #[test]
    fn defaults_make_a_plan() {
        let plan = plan("").unwrap();
        assert_eq!((plan.events, plan.start, plan.pace), (100_000, 20_089 * DAY, Pace::Span(DAY)));
        assert_eq!(plan, Plan::default());
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
            ("--incident ctr_drop,for=1h", "size"),
            ("--incident ctr_drop,size=0.2,campaign=50,for=1h", "campaign 50"),
        ] {
            let message = format!("{:#}", plan(line).unwrap_err());
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
