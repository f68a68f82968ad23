//! An independent and simple computation of every SQL view.
//!
//! It follows the contract's text (`ARCHITECTURE.md` and `docs/decisions/`). It uses neither
//! DataFusion, nor Arrow's compute kernels, nor any rule of `adlake-domain`, but sorted maps, loops
//! over all pairs, and `i128` sums. It shares with the implementation only the settings
//! ([`Meaning`], [`Display`]), the names of models and the arithmetic of XXH3. It is slow on
//! purpose. It refuses nothing: its input counts as already decoded.

mod attribution;
mod calendar;
pub mod compare;
pub mod content;
mod cubes;
mod events;
mod invalid;
pub mod raw;
mod resolve;
mod segments;
pub mod value;
mod views;

use std::collections::BTreeMap;

use adlake_domain::settings::{Display, Meaning};

use raw::{RawBidRequest, RawImpression, RawInteraction};
use value::Row;

/// The views that the oracle answers, in the order of the contract's table.
pub const VIEWS: [&str; 13] = [
    "impressions",
    "clicks",
    "conversions",
    "bid_requests",
    "attributions",
    "campaign_hourly",
    "campaign_daily",
    "campaign_kpis",
    "geo_daily",
    "site_daily",
    "funnel",
    "invalid_traffic",
    "user_segments",
];

/// Everything that the answers depend on.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `raw/impressions`, in any order.
    pub impressions: Vec<RawImpression>,
    /// `raw/interactions`, in any order.
    pub interactions: Vec<RawInteraction>,
    /// `raw/bid_requests`, in any order.
    pub bid_requests: Vec<RawBidRequest>,
    /// Campaign -> advertiser, as in `ref/campaigns`.
    pub advertisers: BTreeMap<String, String>,
    /// The settings that say what the rows mean.
    pub meaning: Meaning,
    /// The settings that say what is shown.
    pub display: Display,
}

/// Computes every view of [`VIEWS`]; its rows are in no particular order.
pub fn views(input: &Input) -> BTreeMap<&'static str, Vec<Row>> {
    let mut events = events::dedupe(input);
    invalid::classify(&mut events, input);
    let joins = attribution::join(&events, input);
    let facts = cubes::facts(&events, &joins, input);
    BTreeMap::from([
        ("impressions", views::impressions(&events)),
        ("clicks", views::interactions(&events, &joins, true)),
        ("conversions", views::interactions(&events, &joins, false)),
        ("bid_requests", views::bid_requests(&events)),
        ("attributions", views::attributions(&events, &joins)),
        ("campaign_hourly", cubes::campaign_hourly(&facts)),
        ("campaign_daily", cubes::campaign_daily(&facts)),
        ("campaign_kpis", cubes::campaign_kpis(&facts)),
        ("geo_daily", cubes::geo_daily(&facts)),
        ("site_daily", cubes::site_daily(&facts)),
        ("funnel", cubes::funnel(&facts)),
        ("user_segments", segments::user_segments(&events, &joins, input)),
        ("invalid_traffic", views::invalid_traffic(&events, input)),
    ])
}
