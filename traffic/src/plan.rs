//! What to generate: a complete and consistent description of the traffic.
//!
//! Everything else in this crate is a pure function of a [`Plan`]. Whoever makes a plan checks the
//! values: shares lie from 0 to 1, and the kinds that are sent have events at all.

use adlake_domain::event::EventKind;

use crate::clock::DAY;
use crate::incident::Story;

/// What will be generated: checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// All random draws follow from it.
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
    /// Distinct users.
    pub users: u32,
    pub campaigns: u32,
    /// Websites and apps.
    pub websites: u32,
    /// Bid requests per impression.
    pub bid_requests: f64,
    /// Mean click-through rate over the campaigns.
    pub ctr: f64,
    /// Mean conversion rate over the campaigns: conversions per click.
    pub cvr: f64,
    /// Mean time from a click to its conversion, µs.
    pub conversion_delay: f64,
    /// Share of events that are sent twice, byte for byte.
    pub duplicates: f64,
    /// Share of events that are sent twice, with the same id and other content.
    pub conflicts: f64,
    /// Share of events that arrive minutes to hours late.
    pub late: f64,
    /// Share of records that no decoder accepts.
    pub malformed: f64,
    /// Share of users that are bots.
    pub bots: f64,
    /// Share of events without an id of their own.
    pub without_id: f64,
    /// Share of won bid requests whose outcome comes in a later record.
    pub split_outcomes: f64,
    /// The currencies; the account's comes first.
    pub currencies: Vec<String>,
    /// Whether the traffic follows the week and the holidays, and clicks the hour of the day.
    pub seasons: bool,
    /// What goes wrong, or happens, at a known time.
    pub story: Story,
}

/// How opportunities get their times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// All events lie within this many µs, spread by the daily rhythm.
    Span(i64),
    /// This many records per second of event time.
    PerSecond(f64),
}

impl Default for Plan {
    /// A day of traffic of every kind, with a little of everything that goes wrong.
    fn default() -> Plan {
        Plan {
            seed: 1,
            id_seed: 1,
            events: 100_000,
            // 2025-01-01
            start: 20_089 * DAY,
            pace: Pace::Span(DAY),
            kinds: [true; 3],
            users: 100_000,
            campaigns: 50,
            websites: 200,
            bid_requests: 1.5,
            ctr: 0.02,
            cvr: 0.1,
            conversion_delay: 30.0 * 60e6,
            duplicates: 0.01,
            conflicts: 0.001,
            late: 0.02,
            malformed: 0.01,
            bots: 0.005,
            without_id: 0.005,
            split_outcomes: 0.1,
            currencies: vec!["USD".to_owned()],
            seasons: false,
            story: Story::default(),
        }
    }
}

impl Plan {
    /// About how many of a day's records are impressions, each counted once.
    pub fn impressions_per_day(&self) -> f64 {
        let records_per_day = match self.pace {
            Pace::Span(span) => self.events as f64 / (span.max(1) as f64 / DAY as f64),
            Pace::PerSecond(rate) => rate * 86_400.0,
        };
        let split = self.bid_requests.min(1.0) * self.split_outcomes;
        let per_impression = [1.0, self.ctr * (1.0 + self.cvr), self.bid_requests + split];
        let sent = |(kind, count): (&bool, f64)| if *kind { count } else { 0.0 };
        let events: f64 = self.kinds.iter().zip(per_impression).map(sent).sum();
        let copies = 1.0 + self.duplicates + self.conflicts + self.malformed;
        records_per_day / (events * copies).max(f64::EPSILON)
    }
}

/// The index of a kind in arrays by kind, which have the order of [`EventKind::ALL`].
pub fn kind_index(kind: EventKind) -> usize {
    match kind {
        EventKind::Impression => 0,
        EventKind::Interaction => 1,
        EventKind::BidRequest => 2,
    }
}
