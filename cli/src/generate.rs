//! Synthetic advertising traffic: seeded and realistic, together with the truth about it.
//!
//! ```text
//! knobs -> plan -> world (campaigns, websites, users)
//!                    |
//!                 stream (opportunities -> events, in order of arrival)
//!                    |
//!        encode (JSON, CSV, Avro), spoil some -> sink (files, Kafka)
//!                    |
//!                  truth (what a correct lake answers)
//! ```
//!
//! Invariants: the records are a function of the plan alone, never of the rate, the clock or the
//! machine. The truth counts exactly what was sent.

pub mod clock;
pub mod encode_avro;
pub mod encode_text;
pub mod event;
pub mod knobs;
pub mod malformed;
pub mod places;
pub mod random;
pub mod reference;
pub mod sink;
pub mod sink_files;
pub mod sink_kafka;
pub mod stream;
pub mod text;
pub mod truth;
pub mod world;

use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use anyhow::Result;
use apache_avro::Schema;
use tokio_util::sync::CancellationToken;

use crate::generate::encode_avro::BidEncoder;
use crate::generate::event::{Body, Event};
use crate::generate::knobs::Plan;
use crate::generate::random::chance;
use crate::generate::sink::Sink;
use crate::generate::stream::Stream;
use crate::generate::truth::Truth;
use crate::generate::world::{World, user_id};

/// How many records are sent between two progress reports and checks for cancellation.
const TELL_EVERY: u64 = 1_024;
/// The longest sleep between two checks for cancellation.
const NAP: Duration = Duration::from_millis(20);

/// A stream of records, together with the truth about it.
pub struct Generator {
    plan: Plan,
    world: World,
    stream: Stream,
    bids: BidEncoder,
    framed: bool,
    truth: Truth,
    key: Vec<u8>,
    payload: Vec<u8>,
    spoilt: Vec<u8>,
}

impl Generator {
    /// `framed`: write Avro in single-object encoding, for Kafka. Otherwise write bare datums, for
    /// container files.
    pub fn new(plan: Plan, schema: &Schema, framed: bool) -> Result<Generator> {
        let world = World::new(&plan);
        Ok(Generator {
            stream: Stream::new(&plan, &world),
            bids: BidEncoder::new(schema, framed, plan.id_seed, &plan.currencies)?,
            framed,
            truth: Truth::new(&plan, &world),
            world,
            plan,
            key: Vec::new(),
            payload: Vec::new(),
            spoilt: Vec::new(),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The totals of what has been sent so far.
    pub fn totals(&self) -> truth::Totals {
        self.truth.totals()
    }

    /// The truth about what has been sent so far, as JSON.
    pub fn truth_json(&mut self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.truth.report(&self.plan))? + "\n")
    }

    /// Sends every record of the plan at `rate` records a second (0: as fast as the sink takes
    /// them). Stops early at `cancel`.
    ///
    /// Passes `tell` the records and bytes sent so far.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        rate: f64,
        cancel: &CancellationToken,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < self.plan.events {
            if rate > 0.0 {
                let due = started + Duration::from_secs_f64(sent as f64 / rate);
                if due > Instant::now() {
                    sink.pause()?;
                    tell(sent, self.truth.bytes());
                    wait_until(due, cancel);
                }
            }
            let until_told = if rate > 0.0 { (rate / 100.0) as u64 } else { TELL_EVERY };
            let burst = until_told.clamp(1, TELL_EVERY).min(self.plan.events - sent);
            for _ in 0..burst {
                self.send_next(sink)?;
            }
            sent = self.truth.records();
            tell(sent, self.truth.bytes());
            if cancel.is_cancelled() {
                break;
            }
        }
        sink.finish()
    }

    /// Sends one record: the next event, or a spoilt copy of it first.
    fn send_next(&mut self, sink: &mut dyn Sink) -> Result<()> {
        if self.plan.malformed > 0.0 && self.spoil_next(sink)? {
            return Ok(());
        }
        let event = self.stream.next(&self.world);
        self.write(&event);
        sink.send(event.body.kind(), &self.key, &self.payload)?;
        self.truth.sent(&self.world, &event, self.payload.len());
        Ok(())
    }

    /// With the plan's probability, sends a spoilt copy of the next event, which does not decode.
    /// The good record still follows.
    fn spoil_next(&mut self, sink: &mut dyn Sink) -> Result<bool> {
        if !chance(self.stream.random(), self.plan.malformed) {
            return Ok(false);
        }
        let event = self.stream.peek(&self.world);
        self.write(&event);
        self.spoilt.clear();
        let kind = event.body.kind();
        let random = self.stream.random();
        let fault = match &event.body {
            Body::Bid(bid) => {
                malformed::spoil_avro(random, &self.bids, &self.world, bid, self.framed, &mut self.spoilt)
            }
            _ => malformed::spoil_text(random, kind, &self.payload, &mut self.spoilt),
        };
        sink.send(kind, &self.key, &self.spoilt)?;
        self.truth.malformed(kind, fault, self.spoilt.len());
        Ok(true)
    }

    fn write(&mut self, event: &Event) {
        self.key.clear();
        match event.body.user() {
            Some(user) => user_id(&mut self.key, user),
            None => self.key.extend_from_slice(b"unknown"),
        }
        self.payload.clear();
        let (seed, currencies) = (self.plan.id_seed, &self.plan.currencies);
        match &event.body {
            Body::Impression(event) => encode_text::impression(&mut self.payload, &self.world, seed, currencies, event),
            Body::Interaction(event) => {
                encode_text::interaction(&mut self.payload, &self.world, seed, currencies, event)
            }
            Body::Bid(event) => self.bids.encode(&mut self.payload, &self.world, event),
        }
    }
}

fn wait_until(due: Instant, cancel: &CancellationToken) {
    while let Some(left) = due.checked_duration_since(Instant::now()) {
        if cancel.is_cancelled() || left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// The kinds' names, for messages.
pub fn kind_names(kinds: [bool; 3]) -> Vec<&'static str> {
    EventKind::ALL.into_iter().zip(kinds).filter(|(_, sent)| *sent).map(|(kind, _)| kind.table()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value as Avro;
    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::generate::knobs::{Knobs, place};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        knobs: Knobs,
    }

    /// Keeps every record.
    #[derive(Default, PartialEq)]
    struct Kept(Vec<(EventKind, Vec<u8>, Vec<u8>)>);

    impl Sink for Kept {
        fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<()> {
            self.0.push((kind, key.to_vec(), payload.to_vec()));
            Ok(())
        }

        fn pause(&mut self) -> Result<()> {
            Ok(())
        }

        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn of(&self, kind: EventKind) -> impl Iterator<Item = &[u8]> {
            self.0.iter().filter(move |(other, _, _)| *other == kind).map(|(_, _, payload)| payload.as_slice())
        }
    }

    fn schema() -> Schema {
        Schema::parse_str(adlake_speed_layer::decode::bid_request_avro_schema()).unwrap()
    }

    fn generated(line: &str, framed: bool, rate: f64) -> (Kept, Value) {
        let knobs = Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace())).unwrap().knobs;
        let mut generator = Generator::new(knobs.plan("USD", 0).unwrap(), &schema(), framed).unwrap();
        let mut kept = Kept::default();
        generator.run(&mut kept, rate, &CancellationToken::new(), &mut |_, _| {}).unwrap();
        (kept, serde_json::from_str(&generator.truth_json().unwrap()).unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_records_at_any_rate() {
        let (first, truth) = generated("--events 3000 --seed 7", true, 0.0);
        let (again, same_truth) = generated("--events 3000 --seed 7", true, 60_000.0);
        assert!(first == again);
        assert_eq!(truth, same_truth);
        let (other, _) = generated("--events 3000 --seed 8", true, 0.0);
        assert!(first != other);
    }

    #[test]
    fn as_many_records_as_were_asked_for() {
        for events in [1, 17, 20_000] {
            let (kept, truth) = generated(&format!("--events {events}"), false, 0.0);
            assert_eq!((kept.0.len(), truth["records"].as_u64().unwrap()), (events, events as u64));
        }
    }

    #[test]
    fn the_truth_is_what_reading_the_records_finds() {
        let line =
            "--events 60000 --malformed 0 --conflicts 0 --duplicates 0.05 --ctr 0.1 --cvr 0.5 --conversion-delay 5m";
        let (kept, truth) = generated(line, false, 0.0);
        let mut spend = BTreeMap::<String, i64>::new();
        let (mut seen, mut duplicates) = (BTreeSet::new(), 0);
        let creatives: BTreeMap<String, String> = {
            let knobs = Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace())).unwrap().knobs;
            let world = World::new(&knobs.plan("USD", 0).unwrap());
            let campaign = |creative: u32| world.campaigns[creative as usize].id.clone();
            world.creatives.iter().map(|creative| (creative.id.clone(), campaign(creative.campaign))).collect()
        };
        for record in kept.of(EventKind::Impression) {
            let impression: Value = serde_json::from_slice(record).unwrap();
            if !seen.insert(record) {
                duplicates += 1;
                continue;
            }
            let campaign = &creatives[impression["ad_creative_id"].as_str().unwrap()];
            *spend.entry(campaign.clone()).or_default() += impression["cost_micros"].as_i64().unwrap_or(0);
        }
        assert_eq!(truth["impressions"]["duplicates"], duplicates);
        assert_eq!(truth["impressions"]["events"], seen.len());
        assert!(duplicates > 500, "{duplicates}");
        let campaigns = truth["campaigns"].as_array().unwrap();
        for campaign in campaigns {
            let name = campaign["campaign_id"].as_str().unwrap();
            assert_eq!(campaign["spend_micros"].as_i64().unwrap(), spend.get(name).copied().unwrap_or(0), "{name}");
        }
        let (mut clicks, mut conversions, mut revenue) = (BTreeSet::new(), BTreeSet::new(), 0.0);
        for record in kept.of(EventKind::Interaction) {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record);
            let row = reader.records().next().unwrap().unwrap();
            assert_eq!(row.len(), encode_text::CSV_HEADER.split(',').count());
            let fresh = if &row[3] == "click" { clicks.insert(record) } else { conversions.insert(record) };
            if fresh && !row[8].is_empty() {
                revenue += row[8].parse::<f64>().unwrap();
            }
        }
        assert_eq!(
            (truth["clicks"].as_u64().unwrap(), truth["conversions"].as_u64().unwrap()),
            (clicks.len() as u64, conversions.len() as u64)
        );
        assert!((truth["revenue_micros"].as_f64().unwrap() / 1e6 - revenue).abs() < 1e-3);
        assert!(conversions.len() > 300, "{}", conversions.len());
    }

    #[test]
    fn bid_requests_are_avro() {
        let (kept, truth) = generated("--events 5000 --kinds bid_requests --malformed 0 --currencies EUR", true, 0.0);
        let schema = schema();
        let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>().bytes;
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let (mut wins, mut imps) = (0, 0);
        let mut seen = BTreeSet::new();
        for record in kept.of(EventKind::BidRequest) {
            assert_eq!((&record[..2], &record[2..10]), (&[0xc3, 0x01][..], fingerprint.as_slice()));
            let mut rest = &record[10..];
            let Avro::Record(fields) = reader.read_value(&mut rest).unwrap() else { panic!() };
            assert!(rest.is_empty());
            let fields: BTreeMap<String, Avro> = fields.into_iter().collect();
            let inner = |name: &str| match &fields[name] {
                Avro::Union(_, inner) => inner.as_ref().clone(),
                other => other.clone(),
            };
            let fresh = seen.insert(inner("auction_id").clone().to_string_for_test());
            if let (true, Avro::Array(elements)) = (fresh, inner("imp")) {
                imps += elements.len();
            }
            if inner("won") == Avro::Boolean(true)
                && seen.insert(format!("won {}", inner("auction_id").to_string_for_test()))
            {
                wins += 1;
            }
        }
        assert_eq!(truth["wins"], wins);
        assert_eq!(truth["bid_request_events"], imps);
        assert!(wins > 1_000, "{wins}");
    }

    trait Text {
        fn to_string_for_test(&self) -> String;
    }

    impl Text for Avro {
        fn to_string_for_test(&self) -> String {
            match self {
                Avro::String(text) => text.clone(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn shares_are_kept() {
        let (_, truth) = generated("--events 200000 --malformed 0.02 --duplicates 0.03 --conflicts 0.01", true, 0.0);
        let share = |name: &str| {
            let of = |kind: &str| truth[kind][name].as_u64().unwrap();
            (of("impressions") + of("interactions") + of("bid_requests")) as f64 / 200_000.0
        };
        assert!((share("malformed_total") - 0.02).abs() < 0.002, "{}", share("malformed_total"));
        assert!((share("duplicates") - 0.03).abs() < 0.005, "{}", share("duplicates"));
        assert!((share("conflicts") - 0.01).abs() < 0.002, "{}", share("conflicts"));
        for (kind, count) in [("impressions", 6), ("bid_requests", 4)] {
            assert_eq!(
                truth[kind]["malformed"].as_object().unwrap().len(),
                count + usize::from(kind == "impressions"),
                "{kind}"
            );
        }
    }

    #[test]
    fn spoilt_records_stay_on_their_line() {
        let (kept, _) = generated("--events 50000 --malformed 0.5", false, 0.0);
        for (kind, _, payload) in &kept.0 {
            let is_text = place(*kind) != 2;
            assert!(
                !is_text || (!payload.is_empty() && !payload.contains(&b'\n')),
                "{:?}",
                String::from_utf8_lossy(payload)
            );
        }
    }

    #[test]
    fn impressions_are_of_the_usual_size() {
        let (_, truth) = generated("--events 50000 --kinds impressions --malformed 0", true, 0.0);
        let mean = truth["impressions"]["bytes"].as_u64().unwrap() / 50_000;
        assert!((250..300).contains(&mean), "{mean}");
    }
}
