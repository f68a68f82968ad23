//! Random histories of a lake: rows arrive, and batch runs, restarts and new reference data come in
//! between.
//!
//! A history consists of small numbers that pick from small pools. So copies, conflicts, equal
//! times and times at the borders of windows are common, and proptest shrinks a failing history to
//! a few readable specs. [`History::steps`] turns a history into raw rows; [`batches::table`]
//! builds record batches of them.

pub mod batches;
mod bids;
mod ingest;

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_domain::settings::{Meaning, Scope};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::oracle::raw::{RawBidRequest, RawImpression, RawInteraction};
pub use bids::BidSpec;
use ingest::Ingest;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// 2026-10-23T00:00:00Z: two days before clocks go back in Berlin, and nine before they do in New
/// York.
pub const START: i64 = 1_792_713_600 * SECOND;

/// The number of slots of six hours. Windows of one and of seven days begin and end at slots.
const SLOTS: u8 = 44;

const NUDGES: [i64; 8] = [0, 0, 0, 0, 1, -1, 1_500_000, 40 * 60 * SECOND];
const USERS: [Option<&str>; 8] =
    [Some("u1"), Some("u1"), Some("u1"), Some("u2"), Some("u2"), Some("ü3"), Some("unknown"), Some("")];
const CAMPAIGNS: [Option<&str>; 8] =
    [Some("c1"), Some("c1"), Some("c1"), Some("c2"), Some("c3"), Some("c9"), Some("null"), None];
const CREATIVES: [Option<&str>; 6] = [Some("r1"), Some("r2"), Some("r3"), Some("r1"), Some("r8"), Some("0")];
const WEBSITES: [Option<&str>; 4] = [Some("a.example"), Some("b.example"), Some(""), Some("A.example")];
const COUNTRIES: [Option<&str>; 6] = [None, Some("DE"), Some("usa"), Some("Narnia"), Some("unknown"), Some("fr")];
const REGIONS: [Option<&str>; 4] = [None, Some("BE"), Some("ny"), Some("-")];
const DEVICES: [Option<&str>; 6] = [None, Some("Mobile"), Some("4"), Some(" desktop "), Some("ctv"), Some("N/A")];
const CURRENCIES: [Option<&str>; 4] = [Some("USD"), Some("EUR"), None, Some("")];
const IMPRESSION_IDS: [Option<&str>; 10] =
    [Some("i1"), Some("i2"), Some("i3"), Some("i4"), Some("i5"), Some("i6"), Some("I6"), Some("i7"), None, Some("0")];
const TYPES: [&str; 8] = ["click", "click", "click", "Click ", "purchase", "purchase", "signup", "lead"];
const EVENT_IDS: [Option<&str>; 8] =
    [Some("e1"), Some("e2"), Some("e3"), Some("e4"), Some("e5"), None, None, Some("nil")];
const ORDER_IDS: [Option<&str>; 8] = [None, None, None, None, Some("o1"), Some("o2"), Some("e1"), Some("NULL")];
/// Twice the last value is more than 64 bits hold.
const AMOUNTS: [Option<i64>; 10] = [
    None,
    Some(0),
    Some(1_000_000),
    Some(7),
    Some(12_345_678),
    Some(-3_000_001),
    Some(999),
    Some(10_000_000_000_000_000),
    Some(HUGE),
    Some(-HUGE),
];
const HUGE: i64 = 7_000_000_000_000_000_001;
/// The places in the pool of amounts.
const AMOUNT_PLACES: std::ops::Range<u8> = 0..AMOUNTS.len() as u8;
const SENT_IMPRESSIONS: [Option<&str>; 8] =
    [None, None, None, None, Some("i1"), Some("i2"), Some("elsewhere"), Some("unknown")];

fn pick(pool: &[Option<&str>], place: u8) -> Option<String> {
    pool[usize::from(place) % pool.len()].map(str::to_string)
}

fn amount(place: u8) -> Option<i64> {
    AMOUNTS[usize::from(place) % AMOUNTS.len()]
}

/// A time: a slot and a small shift from it.
#[derive(Debug, Clone, Copy)]
pub struct When {
    slot: u8,
    nudge: u8,
}

impl When {
    fn micros(self) -> i64 {
        START + i64::from(self.slot) * 6 * HOUR + NUDGES[usize::from(self.nudge) % NUDGES.len()]
    }
}

fn when() -> impl Strategy<Value = When> {
    // Most events fall into a day and a half, so that they interact.
    let slot = prop_oneof![4 => 28_u8..34, 1 => 0_u8..SLOTS];
    (slot, 0_u8..8).prop_map(|(slot, nudge)| When { slot, nudge })
}

/// An impression by its places in the pools.
#[derive(Debug, Clone)]
pub struct ImpressionSpec {
    when: When,
    user: u8,
    id: u8,
    campaign: u8,
    creative: u8,
    website: u8,
    country: u8,
    region: u8,
    device: u8,
    cost: u8,
    currency: u8,
    viewable: u8,
}

fn impression() -> impl Strategy<Value = ImpressionSpec> {
    let who = (when(), 0_u8..8, 0_u8..10, 0_u8..8, 0_u8..6);
    let what = (0_u8..4, 0_u8..6, 0_u8..4, 0_u8..6, AMOUNT_PLACES, 0_u8..4, 0_u8..3);
    (who, what).prop_map(|((when, user, id, campaign, creative), what)| {
        let (website, country, region, device, cost, currency, viewable) = what;
        ImpressionSpec {
            when,
            user,
            id,
            campaign,
            creative,
            website,
            country,
            region,
            device,
            cost,
            currency,
            viewable,
        }
    })
}

/// A click or conversion by its places in the pools.
#[derive(Debug, Clone)]
pub struct InteractionSpec {
    when: When,
    user: u8,
    kind: u8,
    campaign: u8,
    event: u8,
    order: u8,
    impression: u8,
    creative: u8,
    value: u8,
    currency: u8,
    country: u8,
    device: u8,
}

fn interaction() -> impl Strategy<Value = InteractionSpec> {
    let who = (when(), 0_u8..8, 0_u8..8, 0_u8..8);
    let what = (0_u8..8, 0_u8..8, 0_u8..8, 0_u8..7, AMOUNT_PLACES, 0_u8..4, 0_u8..6, 0_u8..6);
    (who, what).prop_map(|((when, user, kind, campaign), what)| {
        let (event, order, impression, creative, value, currency, country, device) = what;
        InteractionSpec {
            when,
            user,
            kind,
            campaign,
            event,
            order,
            impression,
            creative,
            value,
            currency,
            country,
            device,
        }
    })
}

/// How a copy differs from the earlier row.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Not at all: an exact duplicate from elsewhere, or a re-delivery that was enriched again.
    Exact,
    /// The same id, but another time.
    Time(When),
    /// The same id, but another user.
    User(u8),
    /// The same id, but another campaign.
    Campaign(u8),
    /// The same id, but another price.
    Amount(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Exact),
        1 => when().prop_map(Change::Time),
        1 => (0_u8..8).prop_map(Change::User),
        1 => (0_u8..8).prop_map(Change::Campaign),
        1 => AMOUNT_PLACES.prop_map(Change::Amount),
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

/// A configuration by its places in the pools.
#[derive(Debug, Clone, Copy)]
pub struct Configured {
    zone: u8,
    scope: u8,
    primary: u8,
    touchpoints_max: u8,
    windows: u8,
}

fn configured() -> impl Strategy<Value = Configured> {
    let places = (0_u8..4, 0_u8..4, 0_u8..3, 0_u8..3, 0_u8..3);
    places.prop_map(|(zone, scope, primary, touchpoints_max, windows)| Configured {
        zone,
        scope,
        primary,
        touchpoints_max,
        windows,
    })
}

impl Configured {
    fn meaning(self) -> Meaning {
        let mut meaning = Meaning::default();
        let zones = [chrono_tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::America::New_York, chrono_tz::Asia::Kolkata];
        meaning.report.time_zone = zones[usize::from(self.zone) % zones.len()];
        let scopes = [Scope::Auto, Scope::Advertiser, Scope::Campaign, Scope::Account];
        meaning.attribution.scope = scopes[usize::from(self.scope) % scopes.len()];
        meaning.attribution.touchpoints_max = [100, 100, 2][usize::from(self.touchpoints_max) % 3];
        if self.windows == 1 {
            // View-through windows are longer than click-through windows.
            meaning.attribution.click_through_window = Duration::from_secs(6 * 3600);
            meaning.attribution.view_through_window = Duration::from_secs(48 * 3600);
        }
        let primary: &[&str] = [&[][..], &["purchase"], &["purchase", "SIGNUP"]][usize::from(self.primary) % 3];
        meaning.conversions.primary_types = primary.iter().map(|name| (*name).to_string()).collect();
        meaning
    }
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
}

/// Reference data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceData {
    /// Creative -> campaign.
    pub creatives: BTreeMap<String, String>,
    /// Campaign -> advertiser.
    pub advertisers: BTreeMap<String, String>,
}

impl ReferenceData {
    /// One of the three sets of reference data that histories switch between.
    pub fn variant(place: u8) -> ReferenceData {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        match place % 3 {
            0 => ReferenceData {
                creatives: map(&[("r1", "c1"), ("r2", "c2"), ("r3", "c3")]),
                advertisers: map(&[("c1", "v1"), ("c2", "v1"), ("c3", "v2")]),
            },
            1 => ReferenceData {
                creatives: map(&[("r1", "c2"), ("r3", "c3"), ("r8", "c4")]),
                advertisers: map(&[("c1", "v1"), ("c2", "v2"), ("c4", "v2"), ("c9", "c1")]),
            },
            _ => ReferenceData { creatives: map(&[("r1", "c1")]), advertisers: map(&[("c1", "unknown")]) },
        }
    }
}

/// What happens next to the lake.
#[derive(Debug, Clone)]
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

/// Converts micros to a decimal with twelve fractional digits, the form in which amounts are
/// stored.
fn as_sent(micros: Option<i64>) -> Option<i128> {
    micros.map(|micros| i128::from(micros) * 1_000_000)
}

impl ImpressionSpec {
    fn row(&self) -> RawImpression {
        RawImpression {
            ad_creative_id: pick(&CREATIVES, self.creative),
            user_id: pick(&USERS, self.user),
            event_time: self.when.micros(),
            website: pick(&WEBSITES, self.website),
            impression_id: pick(&IMPRESSION_IDS, self.id),
            campaign_id: pick(&CAMPAIGNS, self.campaign),
            advertiser_id: (self.campaign == 3).then(|| "sent".to_string()),
            ad_group_id: (self.website == 1).then(|| "g1".to_string()),
            placement_id: (self.website == 3).then(|| "-".to_string()),
            auction_id: (self.website == 2).then(|| "a1".to_string()),
            cost_micros: amount(self.cost),
            currency: pick(&CURRENCIES, self.currency),
            width: Some(300),
            height: (self.viewable > 0).then_some(250),
            viewable: [None, Some(false), Some(true)][usize::from(self.viewable) % 3],
            view_time_ms: (self.viewable == 2).then_some(if self.cost == 7 { HUGE } else { 1_200 }),
            interaction_depth: (self.viewable > 0).then_some(if self.cost == 8 {
                HUGE
            } else {
                i64::from(self.viewable)
            }),
            device_type: pick(&DEVICES, self.device),
            os: (self.device == 1).then(|| "Android".to_string()),
            country: pick(&COUNTRIES, self.country),
            region: pick(&REGIONS, self.region),
            city: (self.region == 1).then(|| "Berlin".to_string()),
            attributes: (self.region == 2).then(|| r#"{"exchange":"x"}"#.to_string()),
            ..RawImpression::default()
        }
    }
}

impl InteractionSpec {
    fn row(&self) -> RawInteraction {
        let is_click = TYPES[usize::from(self.kind) % TYPES.len()].trim().eq_ignore_ascii_case("click");
        RawInteraction {
            event_time: self.when.micros(),
            user_id: pick(&USERS, self.user),
            campaign_id: pick(&CAMPAIGNS, self.campaign).or_else(|| Some(String::new())),
            conversion_type: Some(TYPES[usize::from(self.kind) % TYPES.len()].to_string()),
            event_id: pick(&EVENT_IDS, self.event),
            ad_creative_id: if self.creative == 6 { None } else { pick(&CREATIVES, self.creative) },
            impression_id: pick(&SENT_IMPRESSIONS, self.impression),
            order_id: pick(&ORDER_IDS, self.order),
            value: if is_click { None } else { as_sent(amount(self.value)) },
            currency: pick(&CURRENCIES, self.currency),
            quantity: (!is_click).then_some(i64::from(self.value)),
            country: pick(&COUNTRIES, self.country),
            device_type: pick(&DEVICES, self.device),
            ..RawInteraction::default()
        }
    }
}

impl Change {
    fn impression(self, mut row: RawImpression) -> RawImpression {
        match self {
            Change::Exact => {}
            Change::Time(when) => row.event_time = when.micros(),
            Change::User(place) => row.user_id = pick(&USERS, place),
            Change::Campaign(place) => row.campaign_id = pick(&CAMPAIGNS, place),
            Change::Amount(place) => row.cost_micros = amount(place),
        }
        row
    }

    fn interaction(self, mut row: RawInteraction) -> RawInteraction {
        match self {
            Change::Exact => {}
            Change::Time(when) => row.event_time = when.micros(),
            Change::User(place) => row.user_id = pick(&USERS, place),
            Change::Campaign(place) => row.campaign_id = pick(&CAMPAIGNS, place).or_else(|| Some(String::new())),
            Change::Amount(place) => row.value = as_sent(amount(place)),
        }
        row
    }

    fn bid_request(self, mut row: RawBidRequest) -> RawBidRequest {
        match self {
            Change::Exact => {}
            Change::Time(when) => row.event_time = when.micros(),
            Change::User(place) => row.user_id = pick(&USERS, place),
            Change::Campaign(place) => row.campaign_id = pick(&CAMPAIGNS, place),
            Change::Amount(place) => row.clearing_price = as_sent(amount(place)),
        }
        row
    }
}
