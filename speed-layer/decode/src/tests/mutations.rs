//! Changes good records and those of the public suites at random for some seconds, and checks the
//! invariants for arbitrary bytes.
//!
//! `ADLAKE_FUZZ_SECONDS` (default 4) holds for each of the four formats. `ADLAKE_FUZZ_SEED` repeats
//! a run, whose seed is printed. `fuzz/` does the same, guided by coverage.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::trial::{GOOD_BID, GOOD_CLICK, GOOD_DATUM, GOOD_IMPRESSION, Tally, Trial, Trier};

const BYTES_MAX: usize = 16 << 10;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn contents(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    files(folder, ending).iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The payloads to change, and the tokens to insert.
fn seeds(trial: Trial) -> (Vec<Vec<u8>>, &'static [&'static [u8]]) {
    const JSON: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"\\u0000",
        b"\\ud800",
        b"null",
        b"1e999",
        b"-0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"[[[[[[[[",
        b"\"timestamp\":",
        b"\"user_id\":",
        b"9999999999999999999999",
        b"\0",
        b"[{}",
        b"{\"a\":{\"a\":",
    ];
    const CSV: &[&[u8]] = &[
        b"\"",
        b"\"\"",
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xff",
        b",,,,,,,,",
        b"\xef\xbb\xbf",
        b"{\"a\":[",
        b"1e999",
    ];
    const AVRO: &[&[u8]] = &[
        &[0],
        &[1],
        &[2],
        &[0x7f],
        &[0x80],
        &[0xff; 9],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        b"Obj\x01",
        &[0xc3, 1],
        &[3, 5],
        &[3, 0],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40],
        &[2, 2, 2, 2, 2, 2, 2, 2],
    ];
    match trial {
        Trial::Json => {
            let mut seeds = contents("JSONTestSuite/test_parsing", ".json");
            seeds.extend([GOOD_IMPRESSION.to_vec(), [b"[", GOOD_IMPRESSION, b",{},", GOOD_IMPRESSION, b"]"].concat()]);
            (seeds, JSON)
        }
        Trial::JsonBids => (vec![GOOD_BID.to_vec(), [b"[", GOOD_BID, b",null]"].concat()], JSON),
        Trial::Csv => {
            let mut seeds = contents("csv-spectrum/csvs", ".csv");
            seeds.push(GOOD_CLICK.to_vec());
            (seeds, CSV)
        }
        Trial::Avro => {
            let mut seeds = contents("arrow-testing/data/avro", ".avro");
            let framed = |head: &[u8]| [head, GOOD_DATUM].concat();
            seeds.extend([framed(&[]), framed(&[]), framed(&[0, 0, 0, 0, 9]), framed(&[3, 0]), framed(&[0xc3, 1])]);
            (seeds, AVRO)
        }
    }
}

/// Makes one change, of the sorts that find most bugs.
fn change(bytes: &mut Vec<u8>, other: &[u8], tokens: &[&[u8]], random: &mut SmallRng) {
    let at = random.random_range(0..=bytes.len());
    let end = (at + random.random_range(0..64)).min(bytes.len());
    match random.random_range(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let copy = bytes[at..end].to_vec();
            let times = if random.random_range(0..50) == 0 { 200 } else { random.random_range(1..4) };
            bytes.splice(at..at, copy.repeat(times));
        }
        5 => {
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(0..256)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => drop(bytes.splice(at..at, tokens[random.random_range(0..tokens.len())].iter().copied())),
    }
    bytes.truncate(BYTES_MAX);
}

#[test]
fn for_some_seconds() {
    let seconds = number("ADLAKE_FUZZ_SECONDS", 4);
    let seed = number("ADLAKE_FUZZ_SEED", rand::rng().random());
    println!("ADLAKE_FUZZ_SEED={seed} for {seconds} s each");
    let one = |trial: Trial| {
        let (seeds, tokens) = seeds(trial);
        let mut trier = Trier::new(trial).unwrap();
        let mut random = SmallRng::seed_from_u64(seed);
        let started = Instant::now();
        let (mut tried, mut sum) = (0u64, Tally::default());
        while started.elapsed() < Duration::from_secs(seconds) {
            let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
            for _ in 0..random.random_range(0..6) {
                let other = random.random_range(0..seeds.len());
                change(&mut bytes, &seeds[other], tokens, &mut random);
            }
            match trier.try_bytes(&bytes) {
                Ok(tally) => {
                    sum.rows += tally.rows;
                    sum.dead_letters += tally.dead_letters;
                }
                Err(what) => panic!("{trial:?}, seed {seed}, after {tried}: {what}\n{bytes:?}"),
            }
            tried += 1;
        }
        println!("{trial:?}: {tried} records tried, {} rows and {} dead letters of them", sum.rows, sum.dead_letters);
    };
    std::thread::scope(|scope| {
        for trials in [[Trial::Json, Trial::JsonBids], [Trial::Csv, Trial::Avro]] {
            scope.spawn(move || trials.map(one));
        }
    });
}
