//! The pools of values that specs pick from. They are small, so that copies, conflicts, equal times
//! and times at the borders of windows are common.

use proptest::prelude::*;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const HOUR: i64 = 3_600 * SECOND;

/// 2026-10-23T00:00:00Z: two days before clocks go back in Berlin, and nine before they do in New
/// York.
pub const START: i64 = 1_792_713_600 * SECOND;

/// The number of slots of six hours. Windows of one and of seven days begin and end at slots.
pub(super) const SLOTS: u8 = 44;

pub(super) const NUDGES: [i64; 8] = [0, 0, 0, 0, 1, -1, 1_500_000, 40 * 60 * SECOND];
pub(super) const USERS: [Option<&str>; 8] =
    [Some("u1"), Some("u1"), Some("u1"), Some("u2"), Some("u2"), Some("ü3"), Some("unknown"), Some("")];
pub(super) const CAMPAIGNS: [Option<&str>; 8] =
    [Some("c1"), Some("c1"), Some("c1"), Some("c2"), Some("c3"), Some("c9"), Some("null"), None];
pub(super) const CREATIVES: [Option<&str>; 6] = [Some("r1"), Some("r2"), Some("r3"), Some("r1"), Some("r8"), Some("0")];
pub(super) const WEBSITES: [Option<&str>; 4] = [Some("a.example"), Some("b.example"), Some(""), Some("A.example")];
pub(super) const COUNTRIES: [Option<&str>; 6] =
    [None, Some("DE"), Some("usa"), Some("Narnia"), Some("unknown"), Some("fr")];
pub(super) const REGIONS: [Option<&str>; 4] = [None, Some("BE"), Some("ny"), Some("-")];
pub(super) const DEVICES: [Option<&str>; 6] =
    [None, Some("Mobile"), Some("4"), Some(" desktop "), Some("ctv"), Some("N/A")];
pub(super) const CURRENCIES: [Option<&str>; 4] = [Some("USD"), Some("EUR"), None, Some("")];
pub(super) const IMPRESSION_IDS: [Option<&str>; 10] =
    [Some("i1"), Some("i2"), Some("i3"), Some("i4"), Some("i5"), Some("i6"), Some("I6"), Some("i7"), None, Some("0")];
pub(super) const TYPES: [&str; 11] =
    ["click", "click", "click", "Click ", "purchase", "purchase", "signup", "lead", "refund", " Refund", "chargeback"];
pub(super) const EVENT_IDS: [Option<&str>; 8] =
    [Some("e1"), Some("e2"), Some("e3"), Some("e4"), Some("e5"), None, None, Some("nil")];
pub(super) const ORDER_IDS: [Option<&str>; 8] =
    [None, None, None, None, Some("o1"), Some("o2"), Some("e1"), Some("NULL")];
pub(super) const AGENTS: [Option<&str>; 12] = [
    None,
    None,
    None,
    None,
    None,
    None,
    None,
    Some("Mozilla/5.0"),
    Some("Googlebot/2.1"),
    Some("CUBOT NOTE"),
    Some("cubot Googlebot"),
    Some("HEADLESSchrome"),
];
pub(super) const ADDRESSES: [Option<&str>; 12] = [
    None,
    None,
    None,
    None,
    Some("192.0.2.7"),
    Some("192.0.2.8"),
    Some("::ffff:192.0.2.7"),
    Some("192.0.2.07"),
    Some("2001:db8::1"),
    Some("2001:0db8::1"),
    Some("198.51.100.1"),
    Some(""),
];
pub(super) const SIZES: [Option<i32>; 8] = [Some(300), Some(300), Some(300), Some(250), Some(250), None, None, Some(0)];
/// The orders of refunds.
pub(super) const REFUNDED: [Option<&str>; 8] =
    [Some("o1"), Some("o1"), Some("o2"), Some("o2"), Some("e1"), Some("o3"), Some("NULL"), None];
/// Twice the last value is more than 64 bits hold.
pub(super) const AMOUNTS: [Option<i64>; 10] = [
    None,
    Some(0),
    Some(1_000_000),
    Some(7),
    Some(12_345_678),
    Some(-3_000_001),
    Some(999),
    Some(10_000_000_000_000_000),
    Some(HUGE),
    Some(-HUGE),
];
pub(super) const HUGE: i64 = 7_000_000_000_000_000_001;
/// The places in the pool of amounts.
pub(super) const AMOUNT_PLACES: std::ops::Range<u8> = 0..AMOUNTS.len() as u8;
pub(super) const SENT_IMPRESSIONS: [Option<&str>; 8] =
    [None, None, None, None, Some("i1"), Some("i2"), Some("elsewhere"), Some("unknown")];

pub(super) fn pick(pool: &[Option<&str>], place: u8) -> Option<String> {
    pool[usize::from(place) % pool.len()].map(str::to_string)
}

pub(super) fn amount(place: u8) -> Option<i64> {
    AMOUNTS[usize::from(place) % AMOUNTS.len()]
}

/// A time: a slot and a small shift from it.
#[derive(Debug, Clone, Copy)]
pub struct When {
    slot: u8,
    nudge: u8,
}

impl When {
    pub(super) fn micros(self) -> i64 {
        START + i64::from(self.slot) * 6 * HOUR + NUDGES[usize::from(self.nudge) % NUDGES.len()]
    }
}

pub(super) fn when() -> impl Strategy<Value = When> {
    // Most events fall into a day and a half, so that they interact.
    let slot = prop_oneof![4 => 28_u8..34, 1 => 0_u8..SLOTS];
    (slot, 0_u8..8).prop_map(|(slot, nudge)| When { slot, nudge })
}

/// Converts micros to a decimal with twelve fractional digits, the form in which amounts are
/// stored.
pub(super) fn as_sent(micros: Option<i64>) -> Option<i128> {
    micros.map(|micros| i128::from(micros) * 1_000_000)
}
