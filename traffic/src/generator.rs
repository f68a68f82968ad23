//! The walk from a plan to records in a sink, one record after another.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use apache_avro::Schema;
use tokio_util::sync::CancellationToken;

use crate::encode_avro::BidEncoder;
use crate::error::TrafficError;
use crate::event::{Body, Event};
use crate::plan::Plan;
use crate::random::chance;
use crate::sink::Sink;
use crate::stream::Stream;
use crate::truth::{Totals, Truth};
use crate::world::{World, user_id};
use crate::{encode_text, malformed};

/// How many records are sent between two progress reports and checks for cancellation.
const RECORDS_PER_REPORT: u64 = 1_024;
/// The longest sleep between two checks for cancellation.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// A stream of records, together with the truth about it.
#[derive(Debug)]
pub struct Generator {
    plan: Plan,
    world: World,
    stream: Stream,
    bids: BidEncoder,
    framed: bool,
    truth: Truth,
    /// The buffers of the record that is written now: its Kafka key, its bytes, and the bytes of
    /// its malformed copy.
    key: Vec<u8>,
    payload: Vec<u8>,
    malformed: Vec<u8>,
}

impl Generator {
    /// `schema` is that of bid requests. With `framed`, Avro is written in single-object encoding,
    /// for Kafka; otherwise as bare datums, for container files.
    pub fn new(plan: Plan, schema: &Schema, framed: bool) -> Result<Generator, TrafficError> {
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
            malformed: Vec::new(),
        })
    }

    /// What is generated.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The campaigns, creatives, websites and users of the events.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The totals of what has been sent so far.
    pub fn totals(&self) -> Totals {
        self.truth.totals()
    }

    /// The truth about what has been sent so far, as JSON.
    pub fn truth_json(&mut self) -> Result<String, TrafficError> {
        Ok(serde_json::to_string_pretty(&self.truth.report(&self.plan))? + "\n")
    }

    /// Sends every record of the plan at `rate` records a second (0: as fast as the sink takes
    /// them). Stops early at `cancel`.
    ///
    /// Passes `report` the records and bytes sent so far.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        rate: f64,
        cancel: &CancellationToken,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<(), TrafficError> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < self.plan.events {
            if rate > 0.0 {
                let due = started + Duration::from_secs_f64(sent as f64 / rate);
                if due > Instant::now() {
                    sink.pause()?;
                    report(sent, self.truth.bytes());
                    wait_until(due, cancel);
                }
            }
            let until_report = if rate > 0.0 { (rate / 100.0) as u64 } else { RECORDS_PER_REPORT };
            let burst = until_report.clamp(1, RECORDS_PER_REPORT).min(self.plan.events - sent);
            for _ in 0..burst {
                self.send_next(sink)?;
            }
            sent = self.truth.records();
            report(sent, self.truth.bytes());
            if cancel.is_cancelled() {
                break;
            }
        }
        sink.finish()
    }

    /// Sends one record: the next event, or a malformed copy of it first.
    fn send_next(&mut self, sink: &mut dyn Sink) -> Result<(), TrafficError> {
        if self.plan.malformed > 0.0 && self.send_malformed(sink)? {
            return Ok(());
        }
        let event = self.stream.next(&self.world);
        self.write(&event);
        sink.send(event.body.kind(), &self.key, &self.payload)?;
        self.truth.sent(&self.world, &event, self.payload.len());
        Ok(())
    }

    /// With the plan's probability, sends a malformed copy of the next event, which no decoder
    /// accepts. The well-formed record still follows. Returns whether a copy was sent.
    fn send_malformed(&mut self, sink: &mut dyn Sink) -> Result<bool, TrafficError> {
        if !chance(self.stream.random(), self.plan.malformed) {
            return Ok(false);
        }
        let event = self.stream.peek(&self.world);
        self.write(&event);
        self.malformed.clear();
        let kind = event.body.kind();
        let random = self.stream.random();
        let fault = match &event.body {
            Body::Bid(bid) => {
                malformed::write_avro(random, &self.bids, &self.world, bid, self.framed, &mut self.malformed)
            }
            _ => malformed::write_text(random, kind, &self.payload, &mut self.malformed),
        };
        sink.send(kind, &self.key, &self.malformed)?;
        self.truth.malformed(kind, fault, self.malformed.len());
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
        std::thread::sleep(left.min(SLEEP_MAX));
    }
}

/// The names of the kinds that are sent, for messages.
pub fn kind_names(kinds: [bool; 3]) -> Vec<&'static str> {
    EventKind::ALL.into_iter().zip(kinds).filter(|(_, sent)| *sent).map(|(kind, _)| kind.table()).collect()
}
