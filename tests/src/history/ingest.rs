//! Does to the arriving records of a random history what ingest does.

use adlake_domain::settings::Meaning;
use proptest::sample::Index;

use super::pools::{HOUR, SECOND, START};
use super::{Arrival, ReferenceData, Rows};
use crate::oracle::raw::{Enriched, RawBidRequest, RawImpression, RawInteraction, Source};

/// Gives arriving records their source, and enriches them with the reference data in force.
pub(super) struct Ingest {
    pub reference: ReferenceData,
    all: Rows,
    offset: i64,
}

impl Ingest {
    pub fn new(reference: ReferenceData) -> Ingest {
        Ingest { reference, all: Rows::default(), offset: 0 }
    }

    pub fn rows(&mut self, arrivals: &[Arrival]) -> Rows {
        let mut rows = Rows::default();
        for arrival in arrivals {
            match arrival {
                Arrival::Impression(spec) => rows.impressions.extend(self.impression(spec.row())),
                Arrival::Interaction(spec) => rows.interactions.extend(self.interaction(spec.row())),
                Arrival::Bid(spec) => rows.bid_requests.extend(self.bid_request(spec.row())),
                Arrival::ImpressionAgain(of, change) => {
                    let again = self.earlier(of, &self.all.impressions).map(|row| change.impression(row));
                    rows.impressions.extend(again.and_then(|row| self.impression(row)));
                }
                Arrival::InteractionAgain(of, change) => {
                    let again = self.earlier(of, &self.all.interactions).map(|row| change.interaction(row));
                    rows.interactions.extend(again.and_then(|row| self.interaction(row)));
                }
                Arrival::BidAgain(of, change) => {
                    let again = self.earlier(of, &self.all.bid_requests).map(|row| change.bid_request(row));
                    rows.bid_requests.extend(again.and_then(|row| self.bid_request(row)));
                }
            }
        }
        rows
    }

    fn earlier<R: Clone>(&self, of: &Index, rows: &[R]) -> Option<R> {
        (!rows.is_empty()).then(|| of.get(rows).clone())
    }

    /// The source and time of the next record. Three records share an instant, and two partitions
    /// alternate.
    fn next(&mut self) -> (Source, i64) {
        self.offset += 1;
        let partition = i32::from(self.offset % 2 == 0);
        let source = Source { topic: "topic".to_string(), partition, offset: self.offset };
        (source, START + 12 * 24 * HOUR + self.offset / 3 * SECOND)
    }

    fn enrich(&self, creative: &Option<String>, campaign: &Option<String>) -> Enriched {
        let known = |value: &Option<String>| {
            value.clone().filter(|value| !Meaning::default().identity.null_values.contains(value))
        };
        let campaign_id = creative.as_ref().and_then(|creative| self.reference.creatives.get(creative)).cloned();
        let resolved = known(campaign).or(campaign_id.clone());
        let advertiser_id = resolved.and_then(|campaign| self.reference.advertisers.get(&campaign)).cloned();
        // Values that ingest derives from addresses and user agents are present in some records
        // only.
        let now_and_then = |every: i64, value: &str| (self.offset % every == 0).then(|| value.to_string());
        Enriched {
            campaign_id,
            advertiser_id,
            country: now_and_then(3, "SE"),
            region: now_and_then(4, "AB"),
            device_type: now_and_then(3, "tablet"),
            os: now_and_then(2, "Linux"),
            browser: now_and_then(2, "Firefox"),
            part_of_day: Some("night".to_string()),
            day_type: Some("weekday".to_string()),
            season: Some("autumn".to_string()),
        }
    }

    fn impression(&mut self, mut row: RawImpression) -> Option<RawImpression> {
        (row.source, row.ingested_at) = self.next();
        row.enriched = self.enrich(&row.ad_creative_id, &row.campaign_id);
        row.enriched_cost_micros = account(row.cost_micros, &row.currency);
        self.all.impressions.push(row.clone());
        Some(row)
    }

    fn interaction(&mut self, mut row: RawInteraction) -> Option<RawInteraction> {
        (row.source, row.ingested_at) = self.next();
        row.enriched = self.enrich(&row.ad_creative_id, &row.campaign_id);
        row.enriched_value_micros = account(row.value.map(|value| (value / 1_000_000) as i64), &row.currency);
        self.all.interactions.push(row.clone());
        Some(row)
    }

    fn bid_request(&mut self, mut row: RawBidRequest) -> Option<RawBidRequest> {
        (row.source, row.ingested_at) = self.next();
        row.enriched = self.enrich(&row.ad_creative_id, &row.campaign_id);
        row.enriched_bid_price_micros = row.bid_price.map(|price| (price / 1_000_000) as i64);
        row.enriched_clearing_price_micros = row.clearing_price.map(|price| (price / 1_000_000) as i64);
        self.all.bid_requests.push(row.clone());
        Some(row)
    }
}

/// Converts to micros of the account's currency. One euro is 1.25 dollars.
fn account(micros: Option<i64>, currency: &Option<String>) -> Option<i64> {
    let factor = if currency.as_deref() == Some("EUR") { 5 } else { 4 };
    micros.map(|micros| (i128::from(micros) * factor / 4) as i64)
}
