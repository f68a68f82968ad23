//! Copies of rows that arrived before: exact ones, and some that differ in one field.

use proptest::prelude::*;

use super::pools::{AMOUNT_PLACES, CAMPAIGNS, USERS, When, amount, as_sent, pick, when};
use crate::oracle::raw::{RawBidRequest, RawImpression, RawInteraction};

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

pub(super) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Exact),
        1 => when().prop_map(Change::Time),
        1 => (0_u8..8).prop_map(Change::User),
        1 => (0_u8..8).prop_map(Change::Campaign),
        1 => AMOUNT_PLACES.prop_map(Change::Amount),
    ]
}

impl Change {
    pub(super) fn impression(self, mut row: RawImpression) -> RawImpression {
        match self {
            Change::Exact => {}
            Change::Time(when) => row.event_time = when.micros(),
            Change::User(place) => row.user_id = pick(&USERS, place),
            Change::Campaign(place) => row.campaign_id = pick(&CAMPAIGNS, place),
            Change::Amount(place) => row.cost_micros = amount(place),
        }
        row
    }

    pub(super) fn interaction(self, mut row: RawInteraction) -> RawInteraction {
        match self {
            Change::Exact => {}
            Change::Time(when) => row.event_time = when.micros(),
            Change::User(place) => row.user_id = pick(&USERS, place),
            Change::Campaign(place) => row.campaign_id = pick(&CAMPAIGNS, place).or_else(|| Some(String::new())),
            Change::Amount(place) => row.value = as_sent(amount(place)),
        }
        row
    }

    pub(super) fn bid_request(self, mut row: RawBidRequest) -> RawBidRequest {
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
