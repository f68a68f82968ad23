//! Synthetic advertising traffic: seeded, realistic, with the truth about it.
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
//! What always holds: the records are a function of the plan alone, never of the rate, the clock or the machine; the truth
//! counts exactly what was sent.

pub mod knobs;
pub mod clock;
pub mod random;
pub mod places;
pub mod world;
pub mod event;
pub mod stream;
pub mod text;
pub mod encode_text;
pub mod encode_avro;
pub mod malformed;
pub mod sink;
pub mod sink_files;
pub mod sink_kafka;
pub mod truth;
pub mod reference;

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

/// How often progress is told, and cancellation looked for.
const TELL_EVERY: u64 = 1_024;
/// The longest sleep between two looks at cancellation.
const NAP: Duration = Duration::from_millis(20);

/// A stream of records with their truth.
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
    /// `framed`: Avro in single-object encoding, for Kafka; else bare, for container files.
    pub fn new(plan: Plan, schema: &Schema, framed: bool) -> Result<Generator> {
        let world = World::new(&plan);
        Ok(Generator {
            stream: Stream::new(&plan, &world),
            bids: BidEncoder::new(schema, framed, plan.seed, &plan.currencies)?,
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

    /// The truth about what was sent so far, as JSON.
    pub fn truth_json(&mut self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.truth.report(&self.plan))? + "\n")
    }

    /// Sends every record of the plan at `rate` a second (0: as fast as the sink takes them), until `cancel`.
    ///
    /// `tell` learns the records and bytes sent so far.
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

    /// One record: the next event, or before it one spoilt.
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

    /// With the plan's probability sends a record that does not decode: the next event, spoilt. The good one still follows.
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
        let (seed, currencies) = (self.plan.seed, &self.plan.currencies);
        match &event.body {
            Body::Impression(event) => encode_text::impression(&mut self.payload, &self.world, seed, currencies, event),
            Body::Interaction(event) => encode_text::interaction(&mut self.payload, &self.world, seed, currencies, event),
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
