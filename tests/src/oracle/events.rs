//! Dedupe: keeps one event per identity and resolves its fields.

use std::collections::{BTreeMap, BTreeSet};

use super::Input;
use super::content::{Content, content_hash};
use super::raw::{RawBidRequest, RawImpression, RawInteraction, RawRow};
use super::resolve::{country, device, known, sent_or_enriched};

/// The events of all kinds, each once.
pub(super) struct Events {
    pub impressions: Vec<Impression>,
    pub interactions: Vec<Interaction>,
    pub bids: Vec<Bid>,
}

/// What attribution and the cubes know of an event. Unknown fields are NULL.
#[derive(Debug, Clone, Default)]
pub(super) struct Common {
    pub time: i64,
    /// The id as shown. It decides between equal times; then `key` does.
    pub id: String,
    pub key: [u8; 16],
    pub user: Option<String>,
    pub campaign: Option<String>,
    pub advertiser: Option<String>,
    /// The advertiser of the campaign in `ref/campaigns`.
    pub scope_advertiser: Option<String>,
    pub creative: Option<String>,
    pub website: Option<String>,
    pub country: Option<String>,
    pub region: Option<String>,
    pub device: Option<String>,
}

impl Common {
    /// The order of events: the "latest" event has the greatest value.
    pub fn order(&self) -> (i64, &[u8], [u8; 16]) {
        (self.time, self.id.as_bytes(), self.key)
    }
}

pub(super) struct Impression {
    pub common: Common,
    /// Why it is invalid, if it is.
    pub reason: Option<&'static str>,
    pub row: RawImpression,
    pub ad_group: Option<String>,
    pub placement: Option<String>,
    pub auction: Option<String>,
    pub currency: Option<String>,
    pub os: Option<String>,
    pub browser: Option<String>,
}

pub(super) struct Interaction {
    pub common: Common,
    /// Why it is invalid, if it is.
    pub reason: Option<&'static str>,
    pub row: RawInteraction,
    pub click: bool,
    pub refund: bool,
    /// Whether it is a conversion that counts.
    pub primary: bool,
    /// That of a refund is not positive.
    pub value_micros: Option<i64>,
    pub conversion_type: Option<String>,
    pub event_id: Option<String>,
    pub order_id: Option<String>,
    pub impression_id: Option<String>,
    pub currency: Option<String>,
}

pub(super) struct Bid {
    pub common: Common,
    pub auction: Option<String>,
    pub imp: String,
    pub bid_price_micros: Option<i64>,
    pub clearing_price_micros: Option<i64>,
    /// Whether there is a bid price, even if it could not be converted.
    pub has_bid_price: bool,
    pub won: Option<bool>,
}

/// What all copies of an event have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Id(String),
    Order { conversion_type: String, order: String, owner: Owner },
    Event { conversion_type: String, event: String },
    Imp { auction: String, imp: String },
    Content(Vec<Content>),
    ContentImp(Vec<Content>, String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Advertiser(String),
    Campaign(String),
    Unknown,
}

impl Identity {
    /// The key that decides if time and id are equal: XXH3-128 of the kind, the way of
    /// identification, and the parts with their lengths.
    fn key(&self, kind: u8) -> [u8; 16] {
        let (way, parts): (u8, Vec<Vec<u8>>) = match self {
            Identity::Id(id) => (b'i', vec![id.clone().into_bytes()]),
            Identity::Order { conversion_type, order, owner } => {
                let mut parts = vec![conversion_type.clone().into_bytes(), order.clone().into_bytes()];
                match owner {
                    Owner::Advertiser(id) => parts.extend([b"advertiser".to_vec(), id.clone().into_bytes()]),
                    Owner::Campaign(id) => parts.extend([b"campaign".to_vec(), id.clone().into_bytes()]),
                    Owner::Unknown => parts.push(b"unknown".to_vec()),
                }
                (b'o', parts)
            }
            Identity::Event { conversion_type, event } => {
                (b'e', vec![conversion_type.clone().into_bytes(), event.clone().into_bytes()])
            }
            Identity::Imp { auction, imp } => (b'a', vec![auction.clone().into_bytes(), imp.clone().into_bytes()]),
            Identity::Content(content) => (b'c', vec![content_hash(content).to_vec()]),
            Identity::ContentImp(content, imp) => {
                (b'd', vec![content_hash(content).to_vec(), imp.clone().into_bytes()])
            }
        };
        let mut bytes = vec![kind, way];
        for part in parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes()
    }
}

/// Returns one event per identity.
pub(super) fn dedupe(input: &Input) -> Events {
    let nulls = &input.meaning.identity.null_values;
    let impressions = copies(&input.impressions, |row| match known(nulls, &row.impression_id) {
        Some(id) => Identity::Id(id.clone()),
        None => Identity::Content(row.flat_content()),
    });
    let interactions = copies(&input.interactions, |row| interaction_identity(row, input));
    Events {
        impressions: impressions
            .into_iter()
            .map(|(identity, rows)| impression(&identity, least(&rows), input))
            .collect(),
        interactions: interactions
            .into_iter()
            .map(|(identity, rows)| interaction(&identity, least(&rows), input))
            .collect(),
        bids: bids(input),
    }
}

fn copies<R: RawRow>(rows: &[R], identity: impl Fn(&R) -> Identity) -> BTreeMap<Identity, Vec<&R>> {
    let mut groups: BTreeMap<Identity, Vec<&R>> = BTreeMap::new();
    for row in rows {
        groups.entry(identity(row)).or_default().push(row);
    }
    groups
}

fn least<'a, R: RawRow>(rows: &[&'a R]) -> &'a R {
    rows.iter().min_by_key(|row| row.order()).expect("a group has a row")
}

/// Whether a list of the configuration has the type of a row. Names are compared trimmed and in
/// lower case.
fn listed(names: &BTreeSet<String>, row: &RawInteraction) -> bool {
    let trimmed = |name: &str| name.trim().to_lowercase();
    row.conversion_type.as_ref().is_some_and(|sent| names.iter().any(|name| trimmed(name) == trimmed(sent)))
}

fn is_refund(row: &RawInteraction, input: &Input) -> bool {
    listed(&input.meaning.conversions.refund_types, row)
}

fn interaction_identity(row: &RawInteraction, input: &Input) -> Identity {
    let nulls = &input.meaning.identity.null_values;
    let conversion_type = row.conversion_type.clone().unwrap_or_default();
    if let (true, Some(event)) = (is_refund(row, input), known(nulls, &row.event_id)) {
        return Identity::Event { conversion_type, event: event.clone() };
    }
    if let Some(order) = known(nulls, &row.order_id) {
        let campaign = known(nulls, &row.campaign_id).cloned();
        let owner = match (advertiser_of(&campaign, input), campaign) {
            (Some(advertiser), _) => Owner::Advertiser(advertiser),
            (None, Some(campaign)) => Owner::Campaign(campaign),
            (None, None) => Owner::Unknown,
        };
        return Identity::Order { conversion_type, order: order.clone(), owner };
    }
    match known(nulls, &row.event_id) {
        Some(event) => Identity::Event { conversion_type, event: event.clone() },
        None => Identity::Content(row.flat_content()),
    }
}

fn advertiser_of(campaign: &Option<String>, input: &Input) -> Option<String> {
    let advertiser = input.advertisers.get(campaign.as_ref()?).cloned();
    known(&input.meaning.identity.null_values, &advertiser).cloned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn impression(identity: &Identity, row: &RawImpression, input: &Input) -> Impression {
    let nulls = &input.meaning.identity.null_values;
    let campaign = sent_or_enriched(nulls, &row.campaign_id, &row.enriched.campaign_id);
    let id = match known(nulls, &row.impression_id) {
        Some(id) => id.clone(),
        None => hex(&content_hash(&row.flat_content())),
    };
    Impression {
        common: Common {
            time: row.event_time,
            id,
            key: identity.key(b'i'),
            user: known(nulls, &row.user_id).cloned(),
            scope_advertiser: advertiser_of(&campaign, input),
            campaign,
            advertiser: sent_or_enriched(nulls, &row.advertiser_id, &row.enriched.advertiser_id),
            creative: known(nulls, &row.ad_creative_id).cloned(),
            website: known(nulls, &row.website).cloned(),
            country: country(sent_or_enriched(nulls, &row.country, &row.enriched.country)),
            region: sent_or_enriched(nulls, &row.region, &row.enriched.region),
            device: device(sent_or_enriched(nulls, &row.device_type, &row.enriched.device_type)),
        },
        reason: None,
        ad_group: known(nulls, &row.ad_group_id).cloned(),
        placement: known(nulls, &row.placement_id).cloned(),
        auction: known(nulls, &row.auction_id).cloned(),
        currency: known(nulls, &row.currency).cloned(),
        os: row.os.clone().or(row.enriched.os.clone()),
        browser: row.browser.clone().or(row.enriched.browser.clone()),
        row: row.clone(),
    }
}

fn interaction(identity: &Identity, row: &RawInteraction, input: &Input) -> Interaction {
    let nulls = &input.meaning.identity.null_values;
    let campaign = sent_or_enriched(nulls, &row.campaign_id, &row.enriched.campaign_id);
    let refund = is_refund(row, input);
    let id = match (known(nulls, &row.order_id), known(nulls, &row.event_id)) {
        (Some(_), Some(event)) if refund => event.clone(),
        (Some(id), _) | (None, Some(id)) => id.clone(),
        (None, None) => hex(&content_hash(&row.flat_content())),
    };
    let types = &input.meaning.conversions;
    let conversion_type = row.conversion_type.clone();
    let click = listed(&types.click_types, row);
    let value_micros = row.enriched_value_micros.map(|value| if refund { -value.abs() } else { value });
    Interaction {
        common: Common {
            time: row.event_time,
            id,
            key: identity.key(b'c'),
            user: known(nulls, &row.user_id).cloned(),
            scope_advertiser: advertiser_of(&campaign, input),
            campaign,
            advertiser: known(nulls, &row.enriched.advertiser_id).cloned(),
            creative: known(nulls, &row.ad_creative_id).cloned(),
            website: None,
            country: country(sent_or_enriched(nulls, &row.country, &row.enriched.country)),
            region: known(nulls, &row.enriched.region).cloned(),
            device: device(sent_or_enriched(nulls, &row.device_type, &row.enriched.device_type)),
        },
        reason: None,
        click,
        refund,
        primary: !click && !refund && (types.primary_types.is_empty() || listed(&types.primary_types, row)),
        value_micros,
        event_id: known(nulls, &row.event_id).cloned(),
        order_id: known(nulls, &row.order_id).cloned(),
        impression_id: known(nulls, &row.impression_id).cloned(),
        currency: known(nulls, &row.currency).cloned(),
        conversion_type,
        row: row.clone(),
    }
}

/// The imps for which a record is an event, and the imp that its bid is for.
fn imps(row: &RawBidRequest) -> (BTreeSet<String>, String) {
    let offered: Vec<String> = row
        .imp
        .iter()
        .flatten()
        .enumerate()
        .map(|(place, imp)| imp.id.clone().unwrap_or_else(|| (place + 1).to_string()))
        .collect();
    let bid_for = row.imp_id.clone().or_else(|| offered.first().cloned()).unwrap_or_else(|| "1".to_string());
    let mut all: BTreeSet<String> = offered.into_iter().collect();
    if all.is_empty() || row.imp_id.is_some() {
        all.insert(bid_for.clone());
    }
    (all, bid_for)
}

fn bids(input: &Input) -> Vec<Bid> {
    let nulls = &input.meaning.identity.null_values;
    let mut groups: BTreeMap<Identity, Vec<(&RawBidRequest, String)>> = BTreeMap::new();
    for row in &input.bid_requests {
        for imp in imps(row).0 {
            let identity = match known(nulls, &row.auction_id) {
                Some(auction) => Identity::Imp { auction: auction.clone(), imp: imp.clone() },
                None => Identity::ContentImp(row.flat_content(), imp.clone()),
            };
            groups.entry(identity).or_default().push((row, imp));
        }
    }
    groups.into_iter().map(|(identity, rows)| bid(&identity, &rows, input)).collect()
}

fn bid(identity: &Identity, rows: &[(&RawBidRequest, String)], input: &Input) -> Bid {
    let nulls = &input.meaning.identity.null_values;
    let imp = rows[0].1.clone();
    let requests: Vec<&RawBidRequest> = rows.iter().map(|(row, _)| *row).collect();
    let request = least(&requests);
    let carrying: Vec<&RawBidRequest> =
        requests.iter().copied().filter(|row| imps(row).1 == imp && carries_bid(row, input)).collect();
    let won: Vec<&RawBidRequest> = carrying.iter().copied().filter(|row| row.won == Some(true)).collect();
    let outcome = match (won.is_empty(), carrying.is_empty()) {
        (false, _) => least(&won).clone(),
        (true, false) => least(&carrying).clone(),
        (true, true) => RawBidRequest::default(),
    };
    let campaign = sent_or_enriched(nulls, &outcome.campaign_id, &outcome.enriched.campaign_id);
    let device_sent = request.device.clone().unwrap_or_default();
    let geo = device_sent.geo.unwrap_or_default();
    let site = request.site.clone().unwrap_or_default();
    let app = request.app.clone().unwrap_or_default();
    let device_type = device_sent.devicetype.map(|number| number.to_string());
    Bid {
        common: Common {
            time: request.event_time,
            id: String::new(),
            key: identity.key(b'b'),
            user: known(nulls, &request.user_id).cloned(),
            scope_advertiser: None,
            campaign,
            advertiser: known(nulls, &outcome.enriched.advertiser_id).cloned(),
            creative: known(nulls, &outcome.ad_creative_id).cloned(),
            website: known(nulls, &site.domain).or(known(nulls, &app.bundle)).cloned(),
            country: country(sent_or_enriched(nulls, &geo.country, &request.enriched.country)),
            region: sent_or_enriched(nulls, &geo.region, &request.enriched.region),
            device: device(sent_or_enriched(nulls, &device_type, &request.enriched.device_type)),
        },
        auction: known(nulls, &request.auction_id).cloned(),
        imp,
        bid_price_micros: outcome.enriched_bid_price_micros,
        clearing_price_micros: outcome.enriched_clearing_price_micros,
        has_bid_price: outcome.bid_price.is_some(),
        won: outcome.won,
    }
}

/// Whether a record carries a bid or an outcome. The imp id alone is no bid.
fn carries_bid(row: &RawBidRequest, input: &Input) -> bool {
    let nulls = &input.meaning.identity.null_values;
    known(nulls, &row.campaign_id).is_some()
        || known(nulls, &row.ad_creative_id).is_some()
        || row.bid_price.is_some()
        || row.clearing_price.is_some()
        || row.won.is_some()
}
