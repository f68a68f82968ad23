//! Bid requests of random histories: requests with several imps, bids, and outcomes that come
//! before, with or after them.

use proptest::prelude::*;

use super::pools::{AMOUNT_PLACES, CAMPAIGNS, COUNTRIES, CREATIVES, REGIONS, USERS, When, amount, as_sent, pick, when};
use crate::oracle::raw::{App, Banner, Device, Geo, Imp, RawBidRequest, Site};

const AUCTIONS: [Option<&str>; 6] = [Some("a1"), Some("a2"), Some("a3"), Some("a4"), Some("unknown"), Some("a5")];

/// A bid request or an outcome by its places in the pools.
#[derive(Debug, Clone)]
pub struct BidSpec {
    when: When,
    auction: u8,
    user: u8,
    /// Chooses the imps that are offered.
    offer: u8,
    /// Chooses the imp that the bid names.
    imp: u8,
    /// Chooses whether there is a bid, an outcome, both or neither.
    bid: u8,
    campaign: u8,
    creative: u8,
    price: u8,
    clearing: u8,
    place: u8,
    country: u8,
    device: u8,
}

pub(super) fn bid() -> impl Strategy<Value = BidSpec> {
    let who = (when(), 0_u8..6, 0_u8..8);
    let what = (0_u8..8, 0_u8..6, 0_u8..8, 0_u8..8, 0_u8..6, AMOUNT_PLACES, AMOUNT_PLACES);
    let surroundings = (0_u8..5, 0_u8..6, 0_u8..8);
    (who, what, surroundings).prop_map(|((when, auction, user), what, (place, country, device))| {
        let (offer, imp, bid, campaign, creative, price, clearing) = what;
        BidSpec { when, auction, user, offer, imp, bid, campaign, creative, price, clearing, place, country, device }
    })
}

impl BidSpec {
    pub(super) fn row(&self) -> RawBidRequest {
        let mut row = RawBidRequest {
            auction_id: pick(&AUCTIONS, self.auction),
            user_id: pick(&USERS, self.user),
            event_time: self.when.micros(),
            imp: self.imps(),
            at: Some(1 + i32::from(self.place % 2)),
            cur: (self.place == 2).then(|| vec!["USD".to_string()]),
            site: self.site(),
            app: (self.place == 3).then(|| App { bundle: Some("app.one".to_string()), ..App::default() }),
            device: self.device(),
            targeting: (self.place == 4)
                .then(|| vec![("age".to_string(), Some("18-24".to_string())), ("zone".to_string(), None)]),
            imp_id: pick(&[None, None, Some("1"), Some("2"), Some("x"), Some("")], self.imp),
            ..RawBidRequest::default()
        };
        // 0 to 2: a request without a bid.
        if self.bid >= 3 {
            row.campaign_id = pick(&CAMPAIGNS, self.campaign);
            row.ad_creative_id = pick(&CREATIVES, self.creative);
            row.bid_price = as_sent(amount(self.price).map(i64::abs));
        }
        if self.bid >= 5 {
            row.won = Some(self.bid >= 6);
            row.clearing_price = as_sent(amount(self.clearing).map(i64::abs));
        }
        row
    }

    fn imps(&self) -> Option<Vec<Imp>> {
        let imp = |id: Option<&str>| Imp { id: id.map(str::to_string), bidfloor: Some(0.5), ..Imp::default() };
        match self.offer {
            0 => None,
            1 => Some(vec![]),
            2 => Some(vec![imp(None)]),
            3 => Some(vec![imp(Some("1"))]),
            4 => Some(vec![imp(Some("1")), imp(Some("2"))]),
            5 => Some(vec![imp(Some("2")), imp(None), imp(None)]),
            6 => Some(vec![imp(Some("x")), imp(Some("x"))]),
            _ => {
                let banner = Some(Banner { w: Some(300), h: Some(250), pos: None });
                Some(vec![Imp { banner, ..imp(Some("1")) }, imp(Some(""))])
            }
        }
    }

    fn site(&self) -> Option<Site> {
        match self.place {
            0 => None,
            3 => Some(Site { domain: Some("unknown".to_string()), ..Site::default() }),
            place => Some(Site {
                domain: Some(format!("{}.example", char::from(b'a' + place % 2))),
                cat: Some(vec!["IAB1".to_string(), "IAB2".to_string()]),
                ..Site::default()
            }),
        }
    }

    fn device(&self) -> Option<Device> {
        let geo = (self.country > 0).then(|| Geo {
            lat: Some(52.5),
            country: pick(&COUNTRIES, self.country),
            region: pick(&REGIONS, self.country),
            ..Geo::default()
        });
        // 0 is in the list of null values; 1 to 5 stand for words.
        let devicetype = (self.device < 6).then(|| i32::from(self.device));
        (self.device < 7).then(|| Device { devicetype, geo, ..Device::default() })
    }
}
