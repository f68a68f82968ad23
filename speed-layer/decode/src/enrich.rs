//! What ingest adds to an event besides what was sent: the column `enriched`.
//!
//! - Campaign and advertiser come from the reference data.
//! - Country and region come from the event.
//! - Device, operating system and browser come from the user agent.
//! - The parts of the day and the year are in the report's time zone.
//! - Money is in micros of the account currency.
//!
//! None of it affects identity or content. Only money can reject a record: an amount in a currency
//! that has no rate on the event's UTC day is never summed as if it had one.

mod agent;

use std::borrow::Cow;

use adlake_domain::country;
use adlake_domain::event::EventKind;
use adlake_domain::money::{AMOUNT_ONE, EVENT_MICROS_MAX, RATE_ONE, amount_to_micros, micros_to_micros};
use adlake_domain::schema;
use adlake_domain::settings::Identity;
use adlake_domain::time::{TimeParts, event_date, time_parts};
use arrow::datatypes::DataType;
use chrono::DateTime;
use chrono_tz::Tz;
use hashbrown::{HashMap, HashSet};

use self::agent::{Agents, Client};
use crate::cell::Cell;
use crate::reject::{Reason, Reject};

/// How events are enriched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrichmentSettings {
    /// The currency of the account (ISO 4217). Amounts without a currency are in it.
    pub account_currency: String,
    /// The time zone for the parts of the day and the year.
    pub time_zone: Tz,
    /// Which ids count as absent.
    pub identity: Identity,
}

impl Default for EnrichmentSettings {
    fn default() -> Self {
        EnrichmentSettings { account_currency: "USD".to_owned(), time_zone: Tz::UTC, identity: Identity::default() }
    }
}

/// The reference data that events are enriched with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceData {
    /// The campaign of each creative.
    pub campaigns: HashMap<String, String>,
    /// The advertiser of each campaign.
    pub advertisers: HashMap<String, String>,
    /// By UTC day (days since the epoch) and currency: units of the account currency for one unit,
    /// times 10^12.
    pub rates: HashMap<(i32, String), i128>,
}

/// The reference data, indexed for ingest. All decoders share it. It is replaced as a whole when
/// the data changes.
#[derive(Debug)]
pub struct Enrichment {
    account_currency: String,
    time_zone: Tz,
    null_values: HashSet<String>,
    /// The campaign of each creative.
    campaigns: HashMap<String, String>,
    /// The advertiser of each campaign.
    advertisers: HashMap<String, String>,
    /// The rates by currency and UTC day.
    rates: HashMap<String, HashMap<i32, i128>>,
}

impl Enrichment {
    /// Indexes the reference data. Ids that count as absent are left out, so they are never found.
    pub fn new(settings: &EnrichmentSettings, reference: ReferenceData) -> Enrichment {
        let null_values: HashSet<String> = settings.identity.null_values.iter().cloned().collect();
        let is_known = |(id, owner): &(String, String)| !null_values.contains(id) && !null_values.contains(owner);
        let campaigns = reference.campaigns.into_iter().filter(is_known).collect();
        let advertisers = reference.advertisers.into_iter().filter(is_known).collect();
        let mut rates: HashMap<String, HashMap<i32, i128>> = HashMap::new();
        for ((day, currency), rate) in reference.rates {
            rates.entry(currency.to_ascii_uppercase()).or_default().insert(day, rate);
        }
        Enrichment {
            account_currency: settings.account_currency.trim().to_ascii_uppercase(),
            time_zone: settings.time_zone,
            null_values,
            campaigns,
            advertisers,
            rates,
        }
    }

    /// The advertiser of an event: that of the campaign that was sent. If no campaign was sent,
    /// that of the creative's campaign.
    fn advertiser(&self, sent: Option<&str>, of_creative: Option<&str>) -> Option<&str> {
        match sent {
            Some(sent) => match self.advertisers.get(sent) {
                Some(advertiser) => Some(advertiser),
                None if self.null_values.contains(sent) => self.advertiser(None, of_creative),
                None => None,
            },
            None => self.advertisers.get(of_creative?).map(String::as_str),
        }
    }

    /// How many account units one unit of a currency is worth on a UTC day, times 10^12.
    fn rate(&self, currency: Option<&str>, day: i32) -> Result<i128, Reject> {
        let Some(currency) = currency.filter(|currency| !currency.is_empty()) else { return Ok(RATE_ONE) };
        if currency.eq_ignore_ascii_case(&self.account_currency) || self.null_values.contains(currency) {
            return Ok(RATE_ONE);
        }
        let upper: Cow<'_, str> = if currency.bytes().any(|byte| byte.is_ascii_lowercase()) {
            Cow::Owned(currency.to_ascii_uppercase())
        } else {
            Cow::Borrowed(currency)
        };
        self.rates.get(upper.as_ref()).and_then(|days| days.get(&day)).copied().ok_or_else(|| {
            let date = DateTime::from_timestamp(i64::from(day) * 86_400, 0);
            let date = date.map_or_else(|| day.to_string(), |date| date.format("%Y-%m-%d").to_string());
            Reject::new(Reason::NoFxRate, format!("{currency} has no rate on {date}"))
        })
    }
}

/// What is added to one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enriched<'e> {
    pub campaign_id: Option<&'e str>,
    pub advertiser_id: Option<&'e str>,
    pub country: Option<country::CountryCode>,
    pub region: Option<&'e str>,
    pub client: Client,
    pub time: TimeParts,
    /// The kind's amounts in micros of the account currency, in schema order.
    pub money: [Option<i64>; 2],
}

/// The positions of enrichment's inputs among the content fields of a kind.
#[derive(Debug)]
struct Inputs {
    creative: Option<usize>,
    campaign: Option<usize>,
    country: Option<Place>,
    region: Option<Place>,
    agent: Option<Place>,
    currency: Option<usize>,
    amounts: Vec<AmountInput>,
}

/// A field that holds an amount.
#[derive(Debug)]
struct AmountInput {
    name: &'static str,
    field: usize,
    is_micros: bool,
}

/// A field, or a part of a nested field.
#[derive(Debug)]
struct Place {
    field: usize,
    parts: Vec<usize>,
}

impl Place {
    fn text<'a>(&self, cells: &[Cell<'a>]) -> Option<&'a str> {
        self.parts.iter().fold(cells[self.field], |cell, part| cell.part(*part)).text()
    }
}

/// Enriches the events of one kind. It caches the results for user agents, and for the last second.
#[derive(Debug)]
pub(crate) struct Enricher {
    inputs: Inputs,
    agents: Agents,
    /// The second of the last event, and its parts of the day and the year. The offsets of time
    /// zones are whole seconds, so a whole second has the same parts.
    second: (i64, Option<TimeParts>),
}

impl Enricher {
    pub fn new(kind: EventKind) -> Enricher {
        Enricher { inputs: Inputs::new(kind), agents: Agents::default(), second: (0, None) }
    }

    /// Returns what is added to the event with these cells. Rejects amounts that have no rate or
    /// are out of range.
    #[inline]
    pub fn enrich<'e>(
        &mut self,
        enrichment: &'e Enrichment,
        cells: &[Cell<'e>],
        event_time: i64,
    ) -> Result<Enriched<'e>, Reject> {
        let second = event_time.div_euclid(1_000_000);
        let time = match self.second {
            (last, Some(time)) if last == second => time,
            _ => time_parts(event_time, enrichment.time_zone),
        };
        self.second = (second, Some(time));
        let inputs = &self.inputs;
        let text = |place: &Option<usize>| place.and_then(|field| cells[field].text());
        let nested = |place: &Option<Place>| place.as_ref().and_then(|place| place.text(cells));
        let creative = text(&inputs.creative);
        let campaign_id = creative.and_then(|id| enrichment.campaigns.get(id)).map(String::as_str);
        Ok(Enriched {
            campaign_id,
            advertiser_id: enrichment.advertiser(text(&inputs.campaign), campaign_id),
            country: nested(&inputs.country).and_then(country::normalise),
            region: nested(&inputs.region),
            client: nested(&inputs.agent).map_or(Client::UNKNOWN, |agent| self.agents.client(agent)),
            time,
            money: inputs.money(enrichment, cells, event_date(event_time))?,
        })
    }
}

impl Inputs {
    fn new(kind: EventKind) -> Inputs {
        let fields = schema::content_fields(kind);
        let find = |name: &str| fields.iter().position(|field| field.name() == name);
        let place = |path: &[&str]| {
            let field = find(path.first()?)?;
            let mut parts = Vec::new();
            let mut data_type = fields[field].data_type();
            for name in &path[1..] {
                let DataType::Struct(inner) = data_type else { return None };
                let part = inner.iter().position(|field| field.name() == name)?;
                data_type = inner[part].data_type();
                parts.push(part);
            }
            Some(Place { field, parts })
        };
        let either = |flat: &[&str], nested: &[&str]| place(flat).or_else(|| place(nested));
        let amounts = ["cost_micros", "value", "bid_price", "clearing_price"];
        Inputs {
            creative: find("ad_creative_id"),
            campaign: find("campaign_id"),
            country: either(&["country"], &["device", "geo", "country"]),
            region: either(&["region"], &["device", "geo", "region"]),
            agent: either(&["user_agent"], &["device", "ua"]),
            currency: find("currency").or_else(|| find("cur")),
            amounts: amounts
                .into_iter()
                .filter_map(|name| Some(AmountInput { name, field: find(name)?, is_micros: name.ends_with("micros") }))
                .collect(),
        }
    }

    fn money(&self, enrichment: &Enrichment, cells: &[Cell<'_>], day: i32) -> Result<[Option<i64>; 2], Reject> {
        let mut money = [None; 2];
        for (converted, input) in money.iter_mut().zip(&self.amounts) {
            let cell = cells[input.field];
            if matches!(cell, Cell::Null) {
                continue;
            }
            let currency = match self.currency.map(|field| cells[field]) {
                Some(Cell::Text(currency)) => Some(currency),
                // The currency of a bid is the first of those that the auction allows.
                Some(Cell::List([first, ..])) => first.text(),
                _ => None,
            };
            let rate = enrichment.rate(currency, day)?;
            *converted = match cell {
                Cell::Integer(micros) if input.is_micros => micros_to_micros(micros, rate),
                Cell::Amount(amount) => amount_to_micros(amount, rate),
                _ => None,
            };
            if !converted.is_some_and(|micros| micros.unsigned_abs() <= EVENT_MICROS_MAX.unsigned_abs()) {
                return Err(too_much(input, cell, currency, &enrichment.account_currency));
            }
        }
        Ok(money)
    }
}

/// Rejects an amount that is too large for one event. A converted amount that does not fit its type
/// is too large as well.
#[cold]
fn too_much(input: &AmountInput, sent: Cell<'_>, currency: Option<&str>, account_currency: &str) -> Reject {
    let currency = currency.filter(|currency| !currency.is_empty()).unwrap_or(account_currency);
    let sent = match sent {
        Cell::Integer(micros) => format!("{micros} micros of {currency}"),
        Cell::Amount(amount) => format!("{} {currency}", units(amount)),
        other => format!("{other:?}"),
    };
    let detail = format!(
        "{}: {sent} is out of range: one event's money is at most 10,000,000,000 {account_currency} \
         (10^16 micros), after conversion",
        input.name
    );
    Reject::new(Reason::OutOfRange, detail)
}

/// The amount as a decimal number.
fn units(amount: i128) -> String {
    let (sign, magnitude, one) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs(), AMOUNT_ONE.unsigned_abs());
    let text = format!("{sign}{}.{:012}", magnitude / one, magnitude % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrichment() -> Enrichment {
        let mut reference = ReferenceData::default();
        for (creative, campaign) in [("cr1", "c1"), ("0", "c1"), ("cr2", "unknown")] {
            reference.campaigns.insert(creative.to_owned(), campaign.to_owned());
        }
        for (campaign, advertiser) in [("c1", "a1"), ("c2", "a2")] {
            reference.advertisers.insert(campaign.to_owned(), advertiser.to_owned());
        }
        reference.rates.insert((0, "EUR".to_owned()), 1_100_000_000_000);
        reference.rates.insert((0, "IDR".to_owned()), 60_000_000);
        reference.rates.insert((0, "BTC".to_owned()), 100_000_000_000_000_000);
        Enrichment::new(&EnrichmentSettings::default(), reference)
    }

    fn impression<'a>(values: &[(&str, Cell<'a>)]) -> Vec<Cell<'a>> {
        cells(EventKind::Impression, values)
    }

    fn cells<'a>(kind: EventKind, values: &[(&str, Cell<'a>)]) -> Vec<Cell<'a>> {
        let fields = schema::content_fields(kind);
        let mut cells = vec![Cell::Null; fields.len()];
        for (name, cell) in values {
            cells[fields.iter().position(|field| field.name() == name).unwrap()] = *cell;
        }
        cells
    }

    #[test]
    fn campaigns_and_advertisers() {
        let enrichment = enrichment();
        let check = |creative: &str, campaign: Option<&str>, expected: (Option<&str>, Option<&str>)| {
            let campaign = campaign.map_or(Cell::Null, Cell::Text);
            let cells = impression(&[("ad_creative_id", Cell::Text(creative)), ("campaign_id", campaign)]);
            let enriched = Enricher::new(EventKind::Impression).enrich(&enrichment, &cells, 0).unwrap();
            assert_eq!((enriched.campaign_id, enriched.advertiser_id), expected);
        };
        check("cr1", None, (Some("c1"), Some("a1")));
        check("cr1", Some("c2"), (Some("c1"), Some("a2")));
        check("cr1", Some("c9"), (Some("c1"), None));
        check("cr1", Some("unknown"), (Some("c1"), Some("a1")));
        check("cr9", None, (None, None));
        // Ids in `null_values` count as absent on either side.
        check("0", None, (None, None));
        check("cr2", None, (None, None));
    }

    #[test]
    fn what_is_remembered_of_a_second_is_of_no_other() {
        for zone in [Tz::UTC, Tz::Asia__Kolkata, Tz::Africa__Monrovia] {
            let settings = EnrichmentSettings { time_zone: zone, ..EnrichmentSettings::default() };
            let enrichment = Enrichment::new(&settings, ReferenceData::default());
            let mut enricher = Enricher::new(EventKind::Impression);
            // Times around hours and midnights, forward and backward.
            let hours = (0..2_000i64).map(|n| n * 7 % 48 * 3_600_000_000);
            for time in hours.flat_map(|hour| [hour, hour + 999_999, hour + 1_000_000, (hour - 1).max(0)]) {
                let enriched = enricher.enrich(&enrichment, &impression(&[]), time).unwrap();
                assert_eq!(enriched.time, time_parts(time, zone), "{time} in {zone}");
            }
        }
    }

    #[test]
    fn money_is_in_account_micros() {
        let enrichment = enrichment();
        let check = |cost: Option<i64>, currency: Option<&str>, day: i64, expected: Result<Option<i64>, Reason>| {
            let cells = impression(&[
                ("cost_micros", cost.map_or(Cell::Null, Cell::Integer)),
                ("currency", currency.map_or(Cell::Null, Cell::Text)),
            ]);
            let enriched = Enricher::new(EventKind::Impression).enrich(&enrichment, &cells, day * 86_400_000_000);
            assert_eq!(enriched.map(|enriched| enriched.money[0]).map_err(|reject| reject.reason), expected);
        };
        check(Some(1000), None, 0, Ok(Some(1000)));
        check(Some(1000), Some(""), 0, Ok(Some(1000)));
        check(Some(1000), Some("usd"), 0, Ok(Some(1000)));
        check(Some(1000), Some("unknown"), 0, Ok(Some(1000)));
        check(Some(1000), Some("EUR"), 0, Ok(Some(1100)));
        check(Some(1000), Some("eur"), 0, Ok(Some(1100)));
        check(Some(1000), Some("EUR"), 1, Err(Reason::NoFxRate));
        check(Some(1000), Some("GBP"), 0, Err(Reason::NoFxRate));
        check(Some(i64::MAX), Some("EUR"), 0, Err(Reason::OutOfRange));
        let most = 10i64.pow(16);
        check(Some(most), None, 0, Ok(Some(most)));
        check(Some(most / 11 * 10), Some("EUR"), 0, Ok(Some(most / 11 * 11)));
        check(Some(most / 11 * 10 + 20), Some("EUR"), 0, Err(Reason::OutOfRange));
        check(Some(most + 1), None, 0, Err(Reason::OutOfRange));
        // 20 billion rupiah are 1.2 million dollars.
        check(Some(2 * most), Some("IDR"), 0, Ok(Some(12 * 10i64.pow(11))));
        check(Some(i64::MAX), Some("IDR"), 0, Ok(Some(553_402_322_211_287)));
        check(Some(i64::MIN), None, 0, Err(Reason::OutOfRange));
        // Without an amount the currency does not matter.
        check(None, Some("GBP"), 0, Ok(None));
    }

    #[test]
    fn money_is_bounded_in_the_account_currency_alone() {
        let enrichment = enrichment();
        let check = |value: i128, currency: Option<&str>, expected: Result<i64, &str>| {
            let currency = currency.map_or(Cell::Null, Cell::Text);
            let cells = cells(EventKind::Interaction, &[("value", Cell::Amount(value)), ("currency", currency)]);
            let enriched = Enricher::new(EventKind::Interaction).enrich(&enrichment, &cells, 0);
            let found = enriched.map(|enriched| enriched.money[0].unwrap()).map_err(|reject| {
                assert_eq!(reject.reason, Reason::OutOfRange);
                reject.detail
            });
            assert_eq!(
                found.as_ref().map_err(|detail| detail.split_once(" is out of range").unwrap().0),
                expected.as_ref().map_err(|sent| *sent)
            );
        };
        let (units, most) = (|units: i128| units * AMOUNT_ONE, 10i64.pow(16));
        check(units(10i128.pow(10)), None, Ok(most));
        check(units(-(10i128.pow(10))), None, Ok(-most));
        check(units(10i128.pow(10)) + AMOUNT_ONE / 2, None, Err("value: 10000000000.5 USD"));
        check(units(-20_000_000_000), None, Err("value: -20000000000 USD"));
        check(units(20_000_000_000), Some("IDR"), Ok(12 * 10i64.pow(11)));
        check(units(-20_000_000_000), Some("IDR"), Ok(-12 * 10i64.pow(11)));
        check(units(10i128.pow(6)), Some("BTC"), Err("value: 1000000 BTC"));
        // The products of the greatest amounts exceed 128 bits.
        let greatest = 10i128.pow(38) - 1;
        check(greatest, Some("BTC"), Err("value: 99999999999999999999999999.999999999999 BTC"));
        check(-greatest, Some("IDR"), Err("value: -99999999999999999999999999.999999999999 IDR"));
        check(greatest, None, Err("value: 99999999999999999999999999.999999999999 USD"));
    }

    #[test]
    fn bids_have_two_amounts_and_nested_inputs() {
        let enrichment = enrichment();
        let geo = [Cell::Null, Cell::Null, Cell::Text("DEU"), Cell::Text("BE"), Cell::Null, Cell::Null, Cell::Null];
        let mut device = [Cell::Null; 13];
        device[0] = Cell::Text("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0");
        device[12] = Cell::Struct(&geo);
        let cells = cells(
            EventKind::BidRequest,
            &[
                ("cur", Cell::List(&[Cell::Text("EUR"), Cell::Text("USD")])),
                ("device", Cell::Struct(&device)),
                ("clearing_price", Cell::Amount(2_000_000_000_000)),
            ],
        );
        let enriched = Enricher::new(EventKind::BidRequest).enrich(&enrichment, &cells, 0).unwrap();
        assert_eq!(enriched.money, [None, Some(2_200_000)]);
        assert_eq!(enriched.country.map(|code| code.as_str().to_owned()), Some("DE".to_owned()));
        assert_eq!(enriched.region, Some("BE"));
        assert_eq!(enriched.client.device_type, Some("desktop"));
        assert_eq!(enriched.time.part_of_day, "night");
    }
}
