//! Raw rows as plain structs, with the fields of the raw tables.

use super::content::{Content, IntoContent, fields, structure};

/// An impression as it arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawImpression {
    pub ad_creative_id: Option<String>,
    pub user_id: Option<String>,
    pub event_time: i64,
    pub website: Option<String>,
    pub impression_id: Option<String>,
    pub campaign_id: Option<String>,
    pub ad_group_id: Option<String>,
    pub advertiser_id: Option<String>,
    pub placement_id: Option<String>,
    pub auction_id: Option<String>,
    pub cost_micros: Option<i64>,
    pub currency: Option<String>,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub viewable: Option<bool>,
    pub view_time_ms: Option<i64>,
    pub interaction_depth: Option<i64>,
    pub device_type: Option<String>,
    pub os: Option<String>,
    pub browser: Option<String>,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
    pub country: Option<String>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub content_category: Option<String>,
    pub consent: Option<String>,
    pub attributes: Option<String>,
    pub enriched: Enriched,
    /// `cost_micros` in micros of the account currency, added by ingest.
    pub enriched_cost_micros: Option<i64>,
    pub source: Source,
    pub ingested_at: i64,
}

/// A click or conversion as it arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawInteraction {
    pub event_time: i64,
    pub user_id: Option<String>,
    pub campaign_id: Option<String>,
    pub conversion_type: Option<String>,
    pub event_id: Option<String>,
    pub ad_creative_id: Option<String>,
    pub impression_id: Option<String>,
    pub order_id: Option<String>,
    /// The digits of a decimal that has twelve fractional digits.
    pub value: Option<i128>,
    pub currency: Option<String>,
    pub quantity: Option<i64>,
    pub country: Option<String>,
    pub device_type: Option<String>,
    pub user_agent: Option<String>,
    pub attributes: Option<String>,
    pub enriched: Enriched,
    /// `value` in micros of the account currency, added by ingest.
    pub enriched_value_micros: Option<i64>,
    pub source: Source,
    pub ingested_at: i64,
}

/// A bid request as it arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawBidRequest {
    pub auction_id: Option<String>,
    pub user_id: Option<String>,
    pub event_time: i64,
    pub imp: Option<Vec<Imp>>,
    pub at: Option<i32>,
    pub tmax: Option<i32>,
    pub cur: Option<Vec<String>>,
    pub site: Option<Site>,
    pub app: Option<App>,
    pub device: Option<Device>,
    pub user: Option<User>,
    pub wseat: Option<Vec<String>>,
    pub bcat: Option<Vec<String>>,
    pub badv: Option<Vec<String>>,
    /// Sorted by key.
    pub targeting: Option<Vec<(String, Option<String>)>>,
    pub imp_id: Option<String>,
    pub campaign_id: Option<String>,
    pub ad_creative_id: Option<String>,
    /// The digits of a decimal that has twelve fractional digits. So are those of `clearing_price`.
    pub bid_price: Option<i128>,
    pub clearing_price: Option<i128>,
    pub won: Option<bool>,
    pub attributes: Option<String>,
    pub enriched: Enriched,
    /// `bid_price` in micros of the account currency, added by ingest.
    pub enriched_bid_price_micros: Option<i64>,
    /// `clearing_price` in micros of the account currency, added by ingest.
    pub enriched_clearing_price_micros: Option<i64>,
    pub source: Source,
    pub ingested_at: i64,
}

/// An element of `imp[]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imp {
    pub id: Option<String>,
    pub tagid: Option<String>,
    pub instl: Option<i32>,
    pub secure: Option<i32>,
    pub bidfloor: Option<f64>,
    pub bidfloorcur: Option<String>,
    pub banner: Option<Banner>,
    pub video: Option<Video>,
}

/// An imp's banner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Banner {
    pub w: Option<i32>,
    pub h: Option<i32>,
    pub pos: Option<i32>,
}

/// An imp's video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Video {
    pub w: Option<i32>,
    pub h: Option<i32>,
    pub minduration: Option<i32>,
    pub maxduration: Option<i32>,
}

/// A website.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    pub id: Option<String>,
    pub name: Option<String>,
    pub domain: Option<String>,
    pub page: Option<String>,
    pub r#ref: Option<String>,
    pub cat: Option<Vec<String>>,
    pub mobile: Option<i32>,
    pub publisher: Option<Publisher>,
}

/// The publisher of a site or an app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publisher {
    pub id: Option<String>,
    pub name: Option<String>,
    pub domain: Option<String>,
}

/// An app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct App {
    pub id: Option<String>,
    pub name: Option<String>,
    pub bundle: Option<String>,
    pub domain: Option<String>,
    pub storeurl: Option<String>,
    pub ver: Option<String>,
    pub cat: Option<Vec<String>>,
    pub publisher: Option<Publisher>,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    pub ua: Option<String>,
    pub ip: Option<String>,
    pub ipv6: Option<String>,
    pub devicetype: Option<i32>,
    pub make: Option<String>,
    pub model: Option<String>,
    pub os: Option<String>,
    pub osv: Option<String>,
    pub language: Option<String>,
    pub connectiontype: Option<i32>,
    pub ifa: Option<String>,
    pub lmt: Option<i32>,
    pub geo: Option<Geo>,
}

/// The location of a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geo {
    pub lat: Option<f64>,
    pub lon: Option<f64>,
    pub country: Option<String>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub zip: Option<String>,
    pub r#type: Option<i32>,
}

/// What the exchange says about a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    pub id: Option<String>,
    pub buyeruid: Option<String>,
    pub yob: Option<i32>,
    pub gender: Option<String>,
    pub keywords: Option<String>,
    pub segments: Option<Vec<String>>,
    pub data: Option<Vec<Data>>,
}

/// The segments of a user that a data provider gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    pub id: Option<String>,
    pub name: Option<String>,
    pub segment: Option<Vec<Segment>>,
}

/// A segment of a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    pub id: Option<String>,
    pub name: Option<String>,
    pub value: Option<String>,
}

/// What ingest adds to every kind of event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Enriched {
    pub campaign_id: Option<String>,
    pub advertiser_id: Option<String>,
    pub country: Option<String>,
    pub region: Option<String>,
    pub device_type: Option<String>,
    pub os: Option<String>,
    pub browser: Option<String>,
    pub part_of_day: Option<String>,
    pub day_type: Option<String>,
    pub season: Option<String>,
}

/// The origin of a row. Its order is the one in which the contract orders copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A raw row of any kind, as dedupe and the table builders see it.
pub trait RawRow: Clone {
    /// The fields as sent, in schema order; `attributes` is last.
    fn content(&self) -> Vec<Content>;
    /// The fields that ingest added: a struct in schema order.
    fn enriched(&self) -> Content;
    /// When it happened, microseconds UTC.
    fn event_time(&self) -> i64;
    /// When ingest read it, microseconds UTC.
    fn ingested_at(&self) -> i64;
    /// Where it came from.
    fn source(&self) -> &Source;

    /// The order of the copies of an event: the smallest copy is the event.
    fn order(&self) -> (i64, Vec<Content>, i64, Source) {
        (self.event_time(), self.flat_content(), self.ingested_at(), self.source().clone())
    }

    /// The fields as sent, in the form in which they are compared and hashed.
    fn flat_content(&self) -> Vec<Content> {
        self.content().into_iter().map(Content::flat).collect()
    }
}

impl Enriched {
    fn contents(&self, money: &[(&'static str, Option<i64>)]) -> Content {
        let mut all = structure!(
            self,
            campaign_id,
            advertiser_id,
            country,
            region,
            device_type,
            os,
            browser,
            part_of_day,
            day_type,
            season,
        );
        if let Content::Struct(fields) = &mut all {
            fields.extend(money.iter().map(|(name, micros)| (*name, micros.content())));
        }
        all
    }
}

impl RawRow for RawImpression {
    fn content(&self) -> Vec<Content> {
        let mut all = fields!(self, ad_creative_id, user_id);
        all.push(Content::Time(self.event_time));
        all.extend(fields!(
            self,
            website,
            impression_id,
            campaign_id,
            ad_group_id,
            advertiser_id,
            placement_id,
            auction_id,
            cost_micros,
            currency,
            width,
            height,
            viewable,
            view_time_ms,
            interaction_depth,
            device_type,
            os,
            browser,
            user_agent,
            ip,
            country,
            region,
            city,
            content_category,
            consent,
            attributes,
        ));
        all
    }

    fn enriched(&self) -> Content {
        self.enriched.contents(&[("cost_micros", self.enriched_cost_micros)])
    }

    fn event_time(&self) -> i64 {
        self.event_time
    }

    fn ingested_at(&self) -> i64 {
        self.ingested_at
    }

    fn source(&self) -> &Source {
        &self.source
    }
}

impl RawRow for RawInteraction {
    fn content(&self) -> Vec<Content> {
        let mut all = vec![Content::Time(self.event_time)];
        all.extend(fields!(
            self,
            user_id,
            campaign_id,
            conversion_type,
            event_id,
            ad_creative_id,
            impression_id,
            order_id,
            value,
            currency,
            quantity,
            country,
            device_type,
            user_agent,
            attributes,
        ));
        all
    }

    fn enriched(&self) -> Content {
        self.enriched.contents(&[("value_micros", self.enriched_value_micros)])
    }

    fn event_time(&self) -> i64 {
        self.event_time
    }

    fn ingested_at(&self) -> i64 {
        self.ingested_at
    }

    fn source(&self) -> &Source {
        &self.source
    }
}

impl RawRow for RawBidRequest {
    fn content(&self) -> Vec<Content> {
        let mut all = fields!(self, auction_id, user_id);
        all.push(Content::Time(self.event_time));
        all.extend(fields!(self, imp, at, tmax, cur, site, app, device, user, wseat, bcat, badv));
        all.push(self.targeting.as_ref().map_or(Content::Null, |entries| {
            Content::Map(entries.iter().map(|(key, value)| (key.clone(), value.content())).collect())
        }));
        all.extend(fields!(self, imp_id, campaign_id, ad_creative_id, bid_price, clearing_price, won, attributes,));
        all
    }

    fn enriched(&self) -> Content {
        self.enriched.contents(&[
            ("bid_price_micros", self.enriched_bid_price_micros),
            ("clearing_price_micros", self.enriched_clearing_price_micros),
        ])
    }

    fn event_time(&self) -> i64 {
        self.event_time
    }

    fn ingested_at(&self) -> i64 {
        self.ingested_at
    }

    fn source(&self) -> &Source {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::content_hash;
    use super::*;

    #[test]
    fn null_is_before_empty() {
        let least = RawImpression::default();
        let empty = RawImpression { website: Some(String::new()), ..RawImpression::default() };
        assert!(least.order() < empty.order());
        assert_ne!(content_hash(&least.content()), content_hash(&empty.content()));
    }

    #[test]
    fn time_comes_before_content() {
        let early = RawInteraction { event_time: 1, user_id: Some("z".into()), ..RawInteraction::default() };
        let late = RawInteraction { event_time: 2, user_id: Some("a".into()), ..RawInteraction::default() };
        assert!(early.order() < late.order());
    }
}
