//! Clicks and conversions of random histories.

use proptest::prelude::*;

use super::pools::{
    AGENTS, AMOUNT_PLACES, CAMPAIGNS, COUNTRIES, CREATIVES, CURRENCIES, DEVICES, EVENT_IDS, ORDER_IDS, REFUNDED,
    SENT_IMPRESSIONS, TYPES, USERS, When, amount, as_sent, pick, when,
};
use crate::oracle::raw::RawInteraction;

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
    agent: u8,
}

pub(super) fn interaction() -> impl Strategy<Value = InteractionSpec> {
    let who = (when(), 0_u8..8, 0_u8..11, 0_u8..8);
    let what = (0_u8..8, 0_u8..8, 0_u8..8, 0_u8..7, AMOUNT_PLACES, 0_u8..4, 0_u8..6, 0_u8..6);
    (who, what, 0_u8..12).prop_map(|((when, user, kind, campaign), what, agent)| {
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
            agent,
        }
    })
}

impl InteractionSpec {
    pub(super) fn row(&self) -> RawInteraction {
        let is_click = self.kind < 4;
        // Nearly all refunds name an order.
        let orders = if self.kind < 8 { ORDER_IDS } else { REFUNDED };
        RawInteraction {
            event_time: self.when.micros(),
            user_id: pick(&USERS, self.user),
            campaign_id: pick(&CAMPAIGNS, self.campaign).or_else(|| Some(String::new())),
            conversion_type: Some(TYPES[usize::from(self.kind) % TYPES.len()].to_string()),
            event_id: pick(&EVENT_IDS, self.event),
            ad_creative_id: if self.creative == 6 { None } else { pick(&CREATIVES, self.creative) },
            impression_id: pick(&SENT_IMPRESSIONS, self.impression),
            order_id: pick(&orders, self.order),
            value: if is_click { None } else { as_sent(amount(self.value)) },
            currency: pick(&CURRENCIES, self.currency),
            quantity: (!is_click).then_some(i64::from(self.value)),
            country: pick(&COUNTRIES, self.country),
            device_type: pick(&DEVICES, self.device),
            user_agent: pick(&AGENTS, self.agent),
            ..RawInteraction::default()
        }
    }
}
