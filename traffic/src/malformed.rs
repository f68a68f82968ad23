//! Records that no decoder can accept. Each is a copy of a well-formed record, with one fault.
//!
//! To a reader of lines as well as to a reader of Kafka, every malformed record is exactly one
//! record. It never affects its neighbours: it has no line ends, and no quote that stays open at
//! the end of the line.

use adlake_domain::event::EventKind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::encode_avro::BidEncoder;
use crate::event::Bid;
use crate::world::World;

/// A time in the future.
pub const FUTURE_DATE: &str = "2099-12-31";
const FUTURE: i64 = 4_102_358_400_000_000;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub name: &'static str,
    /// The `reason` that its dead letter must have.
    pub reason: &'static str,
}

const fn fault(name: &'static str, reason: &'static str) -> Fault {
    Fault { name, reason }
}

/// Appends a malformed copy of `good`, a record of this kind (JSON or CSV).
pub fn write_text(random: &mut ChaCha8Rng, kind: EventKind, good: &[u8], out: &mut Vec<u8>) -> Fault {
    match kind {
        EventKind::Interaction => write_csv(random, good, out),
        _ => write_json(random, good, out),
    }
}

fn write_json(random: &mut ChaCha8Rng, good: &[u8], out: &mut Vec<u8>) -> Fault {
    match random.random_range(0..7_u32) {
        0 => {
            out.extend_from_slice(&good[..within_string(good, good.len() * 2 / 3)]);
            fault("truncated", "invalid_json")
        }
        1 => {
            out.extend_from_slice(b"<html><body>502 Bad Gateway</body></html>");
            fault("not_json", "invalid_json")
        }
        2 => {
            replace(good, b"\"user_id\":", b"\"nobody\":", out);
            fault("missing_field", "missing_field")
        }
        3 => {
            replace_value(good, b"\"timestamp\":", b"\"the day before yesterday\"", out);
            fault("bad_time", "bad_timestamp")
        }
        4 => {
            replace_value(good, b"\"width\":", b"\"three hundred\"", out);
            fault("bad_type", "bad_type")
        }
        5 => {
            replace_value(good, b"\"timestamp\":", format!("\"{FUTURE_DATE}T00:00:00Z\"").as_bytes(), out);
            fault("future", "too_far_in_future")
        }
        _ => {
            replace_value(good, b"\"website\":", b"\"caf\xe9.example\"", out);
            fault("not_utf8", "invalid_utf8")
        }
    }
}

fn write_csv(random: &mut ChaCha8Rng, good: &[u8], out: &mut Vec<u8>) -> Fault {
    let cells: Vec<&[u8]> = good.split(|&byte| byte == b',').collect();
    let with = |place: usize, cell: &[u8], out: &mut Vec<u8>| {
        for (at, old) in cells.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(if at == place { cell } else { old });
        }
    };
    match random.random_range(0..6_u32) {
        0 => {
            // Two columns are too few: the campaign and the type are missing.
            out.extend_from_slice(cells[0]);
            out.push(b',');
            out.extend_from_slice(cells.get(1).copied().unwrap_or_default());
            fault("missing_field", "missing_field")
        }
        1 => {
            with(0, b"31/31/2025", out);
            fault("bad_time", "bad_timestamp")
        }
        2 => {
            with(3, b"", out);
            fault("empty_type", "missing_field")
        }
        3 => {
            with(8, b"twelve", out);
            fault("bad_amount", "bad_type")
        }
        4 => {
            with(0, format!("{FUTURE_DATE}T00:00:00Z").as_bytes(), out);
            fault("future", "too_far_in_future")
        }
        _ => {
            with(10, b"1.5", out);
            fault("bad_type", "bad_type")
        }
    }
}

/// Appends a malformed copy of a bid request. In a container file (`framed` is false) only its
/// content can be wrong. A Kafka record can also be cut short or have an unknown schema.
pub fn write_avro(
    random: &mut ChaCha8Rng,
    encoder: &BidEncoder,
    world: &World,
    good: &Bid,
    framed: bool,
    out: &mut Vec<u8>,
) -> Fault {
    let choices = if framed { 4 } else { 1 };
    match random.random_range(0..choices) {
        0 => {
            encoder.encode(out, world, &Bid { time: FUTURE, ..good.clone() });
            fault("future", "too_far_in_future")
        }
        1 => {
            encoder.encode(out, world, good);
            out.truncate(out.len() * 2 / 3);
            fault("truncated", "invalid_avro")
        }
        2 => {
            encoder.encode(out, world, good);
            // The fingerprint of the schema stands in bytes 2 to 9.
            out[2..10].copy_from_slice(b"nowhere!");
            fault("unknown_schema", "unknown_schema")
        }
        _ => {
            out.extend_from_slice(b"<html><body>502 Bad Gateway</body></html>");
            fault("not_avro", "invalid_avro")
        }
    }
}

/// The last place up to `end` that is within a string of JSON without escapes. A line that ends
/// there ends the record: no string goes on in the next line. Behind a colon, the next line could
/// be a part of it.
fn within_string(text: &[u8], end: usize) -> usize {
    let quotes = text[..end].iter().filter(|&&byte| byte == b'"').count();
    match text[..end].iter().rposition(|&byte| byte == b'"') {
        Some(closing) if quotes.is_multiple_of(2) => closing,
        _ => end,
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn replace(text: &[u8], part: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let Some(at) = find(text, part) else { return };
    out.extend_from_slice(&text[..at]);
    out.extend_from_slice(by);
    out.extend_from_slice(&text[at + part.len()..]);
}

/// Replaces the value after `name`, a number or a string without commas or escapes.
fn replace_value(text: &[u8], name: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let Some(at) = find(text, name).map(|at| at + name.len()) else { return };
    let length = text[at..].iter().position(|&byte| byte == b',' || byte == b'}').unwrap_or(text.len() - at);
    out.extend_from_slice(&text[..at]);
    out.extend_from_slice(by);
    out.extend_from_slice(&text[at + length..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_off_ends_within_a_string() {
        let text = br#"{"id":"ab","width":300,"name":"c"}"#;
        for end in 3..text.len() {
            let cut = &text[..within_string(text, end)];
            let quotes = cut.iter().filter(|&&byte| byte == b'"').count();
            assert!(quotes % 2 == 1 && cut.len() <= end, "{}", String::from_utf8_lossy(cut));
        }
        assert_eq!(within_string(text, 19), 17);
        assert_eq!(within_string(text, 9), 9);
    }
}
