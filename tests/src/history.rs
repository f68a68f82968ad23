//! Random histories of a lake: rows arrive, and batch runs, restarts and new reference data come in
//! between.
//!
//! A history consists of small numbers that pick from small pools. So copies, conflicts, equal
//! times and times at the borders of windows are common, and proptest shrinks a failing history to
//! a few readable specs. [`History::steps`] turns a history into raw rows; [`batches::table`]
//! builds record batches of them.

pub mod batches;
mod bids;
mod configuration;
mod copies;
mod impressions;
mod ingest;
mod interactions;
mod pools;

use adlake_domain::settings::Meaning;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::raw::{RawBidRequest, RawImpression, RawInteraction};
pub use bids::BidSpec;
use configuration::configured;
pub use configuration::{Configured, ReferenceData};
pub use copies::Change;
use copies::change;
pub use impressions::ImpressionSpec;
use impressions::impression;
use ingest::Ingest;
pub use interactions::InteractionSpec;
use interactions::interaction;
pub use pools::{START, When};

/// A history, in the form that proptest generates and shrinks.
#[derive(Debug, Clone)]
pub struct History {
    configured: Configured,
    happenings: Vec<Happening>,
}

/// Histories of up to `happenings_max` steps.
pub fn history(happenings_max: usize) -> impl Strategy<Value = History> {
    let happenings = prop::collection::vec(happening(), 1..=happenings_max);
    (configured(), happenings).prop_map(|(configured, happenings)| History { configured, happenings })
}

/// What happens next to the lake, in the form that proptest generates.
#[derive(Debug, Clone)]
pub enum Happening {
    /// Records arrive, in one commit per table.
    Arrivals(Vec<Arrival>),
    /// A batch run, incremental or from scratch.
    Batch {
        /// `--full`.
        full: bool,
    },
    /// A batch run while records arrive.
    BatchDuring(Vec<Arrival>),
    /// The serving layer's process restarts.
    Restart,
    /// Other reference data is loaded.
    Reference(u8),
    /// The configuration changes the meaning of the rows.
    Meaning(Configured),
    /// Another writer rewrites the raw tables' small files into large ones.
    Compaction,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => prop::collection::vec(arrival(), 1..40).prop_map(Happening::Arrivals),
        3 => Just(Happening::Batch { full: false }),
        1 => Just(Happening::Batch { full: true }),
        1 => prop::collection::vec(arrival(), 1..10).prop_map(Happening::BatchDuring),
        1 => Just(Happening::Restart),
        1 => (0_u8..3).prop_map(Happening::Reference),
        1 => configured().prop_map(Happening::Meaning),
        1 => Just(Happening::Compaction),
    ]
}

/// One arriving record.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A new impression. Its id may have occurred before.
    Impression(ImpressionSpec),
    /// A new click or conversion. Its id may have occurred before.
    Interaction(InteractionSpec),
    /// A bid request or an outcome.
    Bid(BidSpec),
    /// A copy of an impression that arrived before.
    ImpressionAgain(Index, Change),
    /// A copy of a click or conversion that arrived before.
    InteractionAgain(Index, Change),
    /// A copy of a bid request that arrived before.
    BidAgain(Index, Change),
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        6 => impression().prop_map(Arrival::Impression),
        7 => interaction().prop_map(Arrival::Interaction),
        4 => bids::bid().prop_map(Arrival::Bid),
        2 => (any::<Index>(), change()).prop_map(|(of, change)| Arrival::ImpressionAgain(of, change)),
        2 => (any::<Index>(), change()).prop_map(|(of, change)| Arrival::InteractionAgain(of, change)),
        1 => (any::<Index>(), change()).prop_map(|(of, change)| Arrival::BidAgain(of, change)),
    ]
}

/// Rows of every kind.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// For `raw/impressions`.
    pub impressions: Vec<RawImpression>,
    /// For `raw/interactions`.
    pub interactions: Vec<RawInteraction>,
    /// For `raw/bid_requests`.
    pub bid_requests: Vec<RawBidRequest>,
}

impl Rows {
    /// Appends the rows of `other`.
    pub fn extend(&mut self, other: &Rows) {
        self.impressions.extend_from_slice(&other.impressions);
        self.interactions.extend_from_slice(&other.interactions);
        self.bid_requests.extend_from_slice(&other.bid_requests);
    }

    /// The first half of each kind, and the rest.
    pub fn halves(&self) -> (Rows, Rows) {
        let (impressions, interactions) = (halve(&self.impressions), halve(&self.interactions));
        let bid_requests = halve(&self.bid_requests);
        (
            Rows { impressions: impressions.0, interactions: interactions.0, bid_requests: bid_requests.0 },
            Rows { impressions: impressions.1, interactions: interactions.1, bid_requests: bid_requests.1 },
        )
    }

    /// The rows `times` times over. Each time they are the events of other users, with other ids.
    pub fn repeated(&self, times: usize) -> Rows {
        let mut all = Rows::default();
        for time in 0..times {
            let rename = |id: &mut Option<String>| {
                if let Some(id) = id.as_mut().filter(|id| time > 0 && !id.is_empty()) {
                    id.push_str(&format!("-{time}"));
                }
            };
            let moved = |offset: &mut i64| *offset += time as i64 * OFFSETS_MAX;
            let mut rows = self.clone();
            for row in &mut rows.impressions {
                [&mut row.user_id, &mut row.impression_id, &mut row.auction_id].into_iter().for_each(rename);
                moved(&mut row.source.offset);
            }
            for row in &mut rows.interactions {
                [&mut row.user_id, &mut row.event_id, &mut row.order_id, &mut row.impression_id]
                    .into_iter()
                    .for_each(rename);
                moved(&mut row.source.offset);
            }
            for row in &mut rows.bid_requests {
                [&mut row.user_id, &mut row.auction_id].into_iter().for_each(rename);
                moved(&mut row.source.offset);
            }
            all.extend(&rows);
        }
        all
    }
}

/// The most records of a history.
const OFFSETS_MAX: i64 = 1_000_000;

fn halve<R: Clone>(rows: &[R]) -> (Vec<R>, Vec<R>) {
    let (first, second) = rows.split_at(rows.len() / 2);
    (first.to_vec(), second.to_vec())
}

/// What happens next to the lake.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a few steps in tests")]
pub enum Step {
    /// These rows are appended, each table in one commit.
    Append(Rows),
    /// A batch run, incremental or from scratch, while these rows are appended.
    Batch {
        /// `--full`.
        full: bool,
        /// Rows that the run may or may not see.
        during: Rows,
    },
    /// The serving layer's process restarts.
    Restart,
    /// The reference data is replaced by this.
    Reference(ReferenceData),
    /// The configured meaning is replaced by this.
    Meaning(Meaning),
    /// The raw tables' small files are rewritten into large ones.
    Compaction,
}

impl History {
    /// The meaning that is configured at the beginning.
    pub fn meaning(&self) -> Meaning {
        self.configured.meaning()
    }

    /// All rows that arrive.
    pub fn rows(&self) -> Rows {
        let mut all = Rows::default();
        for step in self.steps() {
            if let Step::Append(rows) | Step::Batch { during: rows, .. } = step {
                all.extend(&rows);
            }
        }
        all
    }

    /// The steps with their rows. At the beginning the reference data is [`ReferenceData::variant`]
    /// 0.
    pub fn steps(&self) -> Vec<Step> {
        let mut ingest = Ingest::new(ReferenceData::variant(0));
        let step = |happening: &Happening| match happening {
            Happening::Arrivals(arrivals) => Step::Append(ingest.rows(arrivals)),
            Happening::Batch { full } => Step::Batch { full: *full, during: Rows::default() },
            Happening::BatchDuring(arrivals) => Step::Batch { full: false, during: ingest.rows(arrivals) },
            Happening::Restart => Step::Restart,
            Happening::Reference(place) => {
                ingest.reference = ReferenceData::variant(*place);
                Step::Reference(ingest.reference.clone())
            }
            Happening::Meaning(configured) => Step::Meaning(configured.meaning()),
            Happening::Compaction => Step::Compaction,
        };
        self.happenings.iter().map(step).collect()
    }
}
