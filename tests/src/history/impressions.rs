//! Impressions of random histories.

use proptest::prelude::*;

use super::pools::{
    ADDRESSES, AGENTS, AMOUNT_PLACES, CAMPAIGNS, COUNTRIES, CREATIVES, CURRENCIES, DEVICES, HUGE, IMPRESSION_IDS,
    REGIONS, SIZES, USERS, WEBSITES, When, amount, pick, when,
};
use crate::oracle::raw::RawImpression;

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
    agent: u8,
    address: u8,
    size: u8,
}

pub(super) fn impression() -> impl Strategy<Value = ImpressionSpec> {
    let who = (when(), 0_u8..8, 0_u8..10, 0_u8..8, 0_u8..6);
    let what = (0_u8..4, 0_u8..6, 0_u8..4, 0_u8..6, AMOUNT_PLACES, 0_u8..4, 0_u8..3);
    let how = (0_u8..12, 0_u8..12, 0_u8..8);
    (who, what, how).prop_map(|((when, user, id, campaign, creative), what, (agent, address, size))| {
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
            agent,
            address,
            size,
        }
    })
}

impl ImpressionSpec {
    pub(super) fn row(&self) -> RawImpression {
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
            height: SIZES[usize::from(self.size) % SIZES.len()],
            user_agent: pick(&AGENTS, self.agent),
            ip: pick(&ADDRESSES, self.address),
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
