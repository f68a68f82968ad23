//! Records to send: good ones, copies of earlier ones, and malformed ones. A sender sends them
//! while faults happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adlake_tests::kafka::Broker;
use anyhow::{Result, anyhow};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const OPENING: &str = "{\"user_id\":\"";
const CLOSING: &str = "\",\"website\":\"example.com\"}";

/// An endless stream of impressions from a seed: one in twelve is a copy of an earlier one, one in
/// twenty is malformed.
pub struct Traffic {
    random: ChaCha8Rng,
    made: Vec<Vec<u8>>,
}

impl Traffic {
    pub fn new(seed: u64) -> Traffic {
        Traffic { random: ChaCha8Rng::seed_from_u64(seed), made: Vec::new() }
    }
}

impl Iterator for Traffic {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let n = self.made.len();
        let record = match self.random.random_range(0..60) {
            0..3 => malformed(n),
            3..8 if n > 0 => self.made[self.random.random_range(0..n)].clone(),
            _ => good(n),
        };
        self.made.push(record.clone());
        Some(record)
    }
}

fn good(n: usize) -> Vec<u8> {
    let (creative, day) = (n % 10, 1 + n % 3);
    format!("{OPENING}u{n}\",\"ad_creative_id\":\"c{creative}\",\"timestamp\":\"2026-03-{day:02}T10:00:00Z{CLOSING}")
        .into_bytes()
}

fn malformed(n: usize) -> Vec<u8> {
    match n % 5 {
        0 => format!("{OPENING}u{n}\", \"cut").into_bytes(),
        1 => [b"\xff\xfe\x00".as_slice(), n.to_string().as_bytes()].concat(),
        2 => format!("{OPENING}u{n}\"}}").into_bytes(),
        3 => {
            format!("{OPENING}u{n}\",\"ad_creative_id\":\"c\",\"timestamp\":\"never\",\"website\":\"w\"}}").into_bytes()
        }
        _ => Vec::new(),
    }
}

/// The user of a good record; `None` if the record is malformed.
pub fn user(record: &[u8]) -> Option<&str> {
    let inner = record.strip_prefix(OPENING.as_bytes())?.strip_suffix(CLOSING.as_bytes())?;
    std::str::from_utf8(inner).ok()?.split('"').next()
}

/// Sends records at a steady pace until it is stopped.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Sender {
    pub fn start(broker: &'static Broker, topic: &str, traffic: Traffic, per_second: u32) -> Sender {
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (started, mut sent) = (Instant::now(), 0);
            let paced = traffic.take_while(|_| {
                let due = started + Duration::from_secs_f64(sent as f64 / f64::from(per_second));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let goes_on = !stopped.load(Ordering::Relaxed);
                sent += u64::from(goes_on);
                goes_on
            });
            broker.produce(&topic, None, paced)?;
            Ok(sent)
        });
        Sender { stop, thread }
    }

    /// Stops sending. Returns how many records were sent.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sender panicked"))?
    }
}

#[test]
fn good_records_tell_their_user_and_malformed_ones_do_not() {
    for n in 0..10 {
        assert_eq!(user(&good(n)), Some(format!("u{n}").as_str()));
        assert_eq!(user(&malformed(n)), None);
    }
}
