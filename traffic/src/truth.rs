//! The answers that a correct lake gives for what was sent. They are counted from the generator's
//! own events, without adlake's layers.
//!
//! Copies follow the contract's rule: there is one event per identity; the smallest copy by (time,
//! content) wins; copies that differ from the winner are conflicts. Campaigns come from the
//! creatives, so `creatives.csv` has to be loaded before ingest. Money is in the account currency,
//! at the rate of the event's UTC day (`fx_rates.csv`). Only what was sent counts; events that are
//! still pending at the end do not.

use std::collections::{BTreeMap, HashMap, HashSet};

use adlake_domain::event::EventKind;
use serde::Serialize;

use crate::event::{Action, Bid, Body, Copies, Event, Part};
use crate::incident::Incident;
use crate::malformed::Fault;
use crate::plan::{Plan, kind_index};
use crate::world::World;

/// Distinct users are not counted if that needs more bits than this.
const REACH_BITS_MAX: u64 = 1 << 31;

/// Counts what is sent.
#[derive(Debug)]
pub struct Truth {
    kinds: [Kind; 3],
    campaigns: Vec<Campaign>,
    bid_requests: u64,
    conversions_by_type: BTreeMap<&'static str, u64>,
    /// Events with two equal copies of which one has been sent.
    duplicated: HashSet<(usize, u64)>,
    /// For events with two different copies: the copy that was sent first.
    conflicting: HashMap<(usize, u64), Body>,
    /// Bid requests with two records of which one has been sent.
    split: HashSet<u64>,
    /// One bit per campaign and user. Empty if that needs too many bits.
    reach: Vec<u64>,
    users: u64,
    first_time: Option<i64>,
    last_time: Option<i64>,
}

/// Records of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Kind {
    /// All of them.
    pub records: u64,
    pub bytes: u64,
    /// Those that decode.
    pub valid: u64,
    /// Distinct events among them (bid requests: per auction and imp).
    pub events: u64,
    /// Records that equal an earlier one.
    pub duplicates: u64,
    /// Records whose content differs from that of the event's winner.
    pub conflicts: u64,
    /// Records that carry the outcome of a bid request that is in another record.
    pub outcomes: u64,
    /// Records that do not decode, by what is wrong with them.
    pub malformed: BTreeMap<&'static str, u64>,
    /// The same, counted by the reason of their dead letters.
    pub rejected: BTreeMap<&'static str, u64>,
    pub malformed_total: u64,
}

/// The sums of one campaign, by the names of the SQL views.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Campaign {
    pub campaign_id: String,
    pub impressions: i64,
    pub measurable_impressions: i64,
    pub viewable_impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub refunds: i64,
    pub bids: i64,
    pub wins: i64,
    pub spend_micros: i64,
    pub revenue_micros: i64,
    pub gross_impressions: i64,
    pub gross_clicks: i64,
    pub gross_conversions: i64,
    pub gross_spend_micros: i64,
    pub gross_revenue_micros: i64,
    pub unpriced_events: i64,
    pub view_time_ms: i64,
    /// Sum of the clearing prices (CPM) of the won bids.
    pub clearing_price_micros: i64,
    /// The exact number of distinct users of its impressions; absent if there are too many to
    /// count.
    pub reach: Option<u64>,
}

/// The totals over all campaigns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub records: u64,
    pub malformed: u64,
    pub impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub spend_micros: i64,
    pub revenue_micros: i64,
}

/// What `truth.json` holds.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub seed: u64,
    pub records: u64,
    pub first_event_time: Option<String>,
    pub last_event_time: Option<String>,
    pub account_currency: &'a str,
    /// What was planted.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub incidents: &'a [Incident],
    pub impressions: &'a Kind,
    pub interactions: &'a Kind,
    pub bid_requests: &'a Kind,
    pub clicks: i64,
    pub conversions: i64,
    pub refunds: i64,
    pub conversions_by_type: &'a BTreeMap<&'static str, u64>,
    pub bids: i64,
    pub wins: i64,
    pub spend_micros: i64,
    pub revenue_micros: i64,
    pub gross_impressions: i64,
    pub gross_clicks: i64,
    pub gross_conversions: i64,
    pub gross_spend_micros: i64,
    pub gross_revenue_micros: i64,
    /// Bid requests by (auction, imp), of every campaign and of none.
    pub bid_request_events: u64,
    /// Distinct campaigns with at least one event.
    pub campaigns: Vec<&'a Campaign>,
}

impl Totals {
    /// The totals of both.
    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            records: self.records + other.records,
            malformed: self.malformed + other.malformed,
            impressions: self.impressions + other.impressions,
            clicks: self.clicks + other.clicks,
            conversions: self.conversions + other.conversions,
            spend_micros: self.spend_micros + other.spend_micros,
            revenue_micros: self.revenue_micros + other.revenue_micros,
        }
    }
}

impl Truth {
    /// Nothing sent yet.
    pub fn new(plan: &Plan, world: &World) -> Truth {
        let users = u64::from(plan.users);
        let bits = users * world.campaigns.len() as u64;
        let campaign =
            |campaign: &crate::world::Campaign| Campaign { campaign_id: campaign.id.clone(), ..Campaign::default() };
        Truth {
            kinds: Default::default(),
            campaigns: world.campaigns.iter().map(campaign).collect(),
            bid_requests: 0,
            conversions_by_type: BTreeMap::new(),
            duplicated: HashSet::new(),
            conflicting: HashMap::new(),
            split: HashSet::new(),
            reach: if bits <= REACH_BITS_MAX { vec![0; bits.div_ceil(64) as usize] } else { Vec::new() },
            users,
            first_time: None,
            last_time: None,
        }
    }

    /// Records sent so far.
    pub fn records(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.records).sum()
    }

    /// Bytes sent so far.
    pub fn bytes(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.bytes).sum()
    }

    /// Counts a record that does not decode.
    pub fn malformed(&mut self, kind: EventKind, fault: Fault, bytes: usize) {
        let kind = &mut self.kinds[kind_index(kind)];
        kind.records += 1;
        kind.bytes += bytes as u64;
        kind.malformed_total += 1;
        *kind.malformed.entry(fault.name).or_default() += 1;
        *kind.rejected.entry(fault.reason).or_default() += 1;
    }

    /// Counts a record of this event.
    pub fn sent(&mut self, world: &World, event: &Event, bytes: usize) {
        let place = kind_index(event.body.kind());
        let kind = &mut self.kinds[place];
        kind.records += 1;
        kind.bytes += bytes as u64;
        kind.valid += 1;
        let time = event.body.time();
        self.first_time = Some(self.first_time.map_or(time, |first| first.min(time)));
        self.last_time = Some(self.last_time.map_or(time, |last| last.max(time)));
        let key = (place, event.body.number());
        match event.copies {
            Copies::Single => self.count(world, &event.body, 1),
            Copies::Duplicate => {
                if self.duplicated.insert(key) {
                    self.count(world, &event.body, 1);
                } else {
                    self.duplicated.remove(&key);
                    self.kinds[place].duplicates += 1;
                }
            }
            Copies::Conflict => match self.conflicting.remove(&key) {
                None => {
                    self.count(world, &event.body, 1);
                    self.conflicting.insert(key, event.body.clone());
                }
                Some(first) => {
                    self.kinds[place].conflicts += 1;
                    if rank(&event.body) < rank(&first) {
                        self.count(world, &first, -1);
                        self.count(world, &event.body, 1);
                    }
                }
            },
            Copies::Split => {
                let Body::Bid(bid) = &event.body else { return };
                if self.split.insert(event.body.number()) {
                    self.count_request(bid, 1);
                } else {
                    self.split.remove(&event.body.number());
                }
                if bid.part == Part::Outcome {
                    self.kinds[place].outcomes += 1;
                    self.count_bid(world, bid, 1);
                }
            }
        }
    }

    /// Adds (`sign` is 1) or subtracts (-1) an event.
    fn count(&mut self, world: &World, body: &Body, sign: i64) {
        match body {
            Body::Impression(event) => {
                let creative = &world.creatives[event.creative as usize];
                let campaign = &mut self.campaigns[creative.campaign as usize];
                let website = &world.websites[event.website as usize];
                let cost = event.cost_micros.map(|cost| world.account_micros(cost, website.currency, event.time));
                campaign.gross_impressions += sign;
                campaign.gross_spend_micros += sign * cost.unwrap_or(0);
                // It is invalid traffic if its user agent is that of a robot.
                if !(website.optional_fields.user_agent && world.is_robot(event.user)) {
                    campaign.impressions += sign;
                    campaign.measurable_impressions += sign * i64::from(event.viewable.is_some());
                    campaign.viewable_impressions += sign * i64::from(event.viewable == Some(true));
                    campaign.spend_micros += sign * cost.unwrap_or(0);
                    campaign.unpriced_events += sign * i64::from(cost.is_none());
                    if website.optional_fields.view_time {
                        campaign.view_time_ms += sign * i64::from(event.view_time_ms);
                    }
                    // Both copies of an event have the same user, campaign and website.
                    if event.known_user && !self.reach.is_empty() {
                        let bit = u64::from(creative.campaign) * self.users + u64::from(event.user);
                        self.reach[(bit / 64) as usize] |= 1 << (bit % 64);
                    }
                }
            }
            Body::Interaction(event) => {
                let campaign = &mut self.campaigns[event.campaign as usize];
                let valid = if world.is_robot(event.user) { 0 } else { sign };
                match event.action {
                    Action::Click => {
                        campaign.gross_clicks += sign;
                        campaign.clicks += valid;
                    }
                    Action::Refund => campaign.refunds += valid,
                    _ => {
                        campaign.gross_conversions += sign;
                        campaign.conversions += valid;
                        let of_type = self.conversions_by_type.entry(event.action.name()).or_default();
                        *of_type = of_type.wrapping_add_signed(valid);
                    }
                }
                if event.action.has_order() {
                    let value = world.account_micros(event.value_micros, event.currency, event.time);
                    campaign.gross_revenue_micros += sign * value;
                    campaign.revenue_micros += valid * value;
                }
            }
            Body::Bid(event) => {
                self.count_request(event, sign);
                self.count_bid(world, event, sign);
                return;
            }
        }
        let events = &mut self.kinds[kind_index(body.kind())].events;
        *events = events.wrapping_add_signed(sign);
    }

    fn count_request(&mut self, event: &Bid, sign: i64) {
        let imps = sign * i64::from(event.imps);
        self.bid_requests = self.bid_requests.wrapping_add_signed(imps);
        let events = &mut self.kinds[2].events;
        *events = events.wrapping_add_signed(imps);
    }

    fn count_bid(&mut self, world: &World, event: &Bid, sign: i64) {
        let Some(bid) = event.carried() else { return };
        let campaign = &mut self.campaigns[world.creatives[bid.creative as usize].campaign as usize];
        campaign.bids += sign;
        if let Some(price) = bid.clearing_micros {
            campaign.wins += sign;
            let currency = world.websites[event.website as usize].currency;
            campaign.clearing_price_micros += sign * world.account_micros(price, currency, event.time);
        }
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        let total = |value: fn(&Campaign) -> i64| self.campaigns.iter().map(value).sum();
        Totals {
            records: self.records(),
            malformed: self.kinds.iter().map(|kind| kind.malformed_total).sum(),
            impressions: total(|campaign| campaign.impressions),
            clicks: total(|campaign| campaign.clicks),
            conversions: total(|campaign| campaign.conversions),
            spend_micros: total(|campaign| campaign.spend_micros),
            revenue_micros: total(|campaign| campaign.revenue_micros),
        }
    }

    /// The report so far.
    pub fn report<'a>(&'a mut self, plan: &'a Plan) -> Report<'a> {
        if !self.reach.is_empty() {
            let users = self.users;
            for (number, campaign) in self.campaigns.iter_mut().enumerate() {
                campaign.reach = Some(count_bits(&self.reach, number as u64 * users, users));
            }
        }
        let total = |value: fn(&Campaign) -> i64| self.campaigns.iter().map(value).sum();
        let time = |time: Option<i64>| {
            time.map(|time| {
                let mut text = Vec::new();
                crate::text::date_time(&mut text, time, b'T');
                text.push(b'Z');
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        Report {
            seed: plan.seed,
            records: self.records(),
            first_event_time: time(self.first_time),
            last_event_time: time(self.last_time),
            account_currency: &plan.currencies[0],
            incidents: &plan.story.0,
            impressions: &self.kinds[0],
            interactions: &self.kinds[1],
            bid_requests: &self.kinds[2],
            clicks: total(|campaign| campaign.clicks),
            conversions: total(|campaign| campaign.conversions),
            refunds: total(|campaign| campaign.refunds),
            conversions_by_type: &self.conversions_by_type,
            bids: total(|campaign| campaign.bids),
            wins: total(|campaign| campaign.wins),
            spend_micros: total(|campaign| campaign.spend_micros),
            revenue_micros: total(|campaign| campaign.revenue_micros),
            gross_impressions: total(|campaign| campaign.gross_impressions),
            gross_clicks: total(|campaign| campaign.gross_clicks),
            gross_conversions: total(|campaign| campaign.gross_conversions),
            gross_spend_micros: total(|campaign| campaign.gross_spend_micros),
            gross_revenue_micros: total(|campaign| campaign.gross_revenue_micros),
            bid_request_events: self.bid_requests,
            campaigns: self.campaigns.iter().filter(|campaign| campaign.is_seen()).collect(),
        }
    }
}

impl Campaign {
    fn is_seen(&self) -> bool {
        self.gross_impressions + self.gross_clicks + self.gross_conversions + self.refunds + self.bids > 0
    }
}

/// The rank of a copy: its time, then the one field in which copies of the same time can differ.
fn rank(body: &Body) -> (i64, i64) {
    let differing = match body {
        Body::Impression(event) => event.cost_micros.unwrap_or(i64::MIN),
        Body::Interaction(event) => event.value_micros,
        Body::Bid(event) => i64::from(event.tmax),
    };
    (body.time(), differing)
}

fn count_bits(bits: &[u64], from: u64, count: u64) -> u64 {
    let (mut at, end, mut found) = (from, from + count, 0);
    while at < end {
        let (word, offset) = ((at / 64) as usize, at % 64);
        let width = (64 - offset).min(end - at);
        let mask = if width == 64 { u64::MAX } else { ((1 << width) - 1) << offset };
        found += u64::from((bits[word] & mask).count_ones());
        at += width;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_across_words() {
        let bits = [u64::MAX, 0b1011, u64::MAX];
        assert_eq!(count_bits(&bits, 0, 192), 64 + 3 + 64);
        assert_eq!(count_bits(&bits, 60, 8), 4 + 3);
        assert_eq!(count_bits(&bits, 66, 62), 1);
        assert_eq!(count_bits(&bits, 5, 0), 0);
    }
}
