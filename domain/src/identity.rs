//! The identity of an event: the key that all its copies share, and the id that people see.
//!
//! A key is [`KEY_BYTES`] bytes: XXH3-128 over the kind of event, the way it is identified, and the
//! parts of its identity. Each part is preceded by its length, so that no two lists of parts give
//! the same bytes.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::event::EventKind;

/// Length of a key and of a content hash.
pub const KEY_BYTES: usize = 16;

/// The identity of an event.
pub type Key = [u8; KEY_BYTES];

/// The first eight bytes of a key. Keys are hashes, so few different keys have the same prefix.
pub fn key_prefix(key: &[u8]) -> i64 {
    let mut prefix = [0; 8];
    for (to, from) in prefix.iter_mut().zip(key) {
        *to = *from;
    }
    i64::from_be_bytes(prefix)
}

/// How an event is identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified<'a> {
    /// By the id that was sent with it (`impression_id`).
    Id(&'a str),
    /// An order: its type, its number and its owner.
    Order {
        /// `conversion_type`.
        conversion_type: &'a str,
        /// `order_id`.
        order_id: &'a str,
        /// The owner of the order number.
        owner: Owner<'a>,
    },
    /// A click or conversion by its type and `event_id`.
    Event {
        /// `conversion_type`.
        conversion_type: &'a str,
        /// `event_id`.
        event_id: &'a str,
    },
    /// An imp of an auction.
    Imp {
        /// `auction_id`.
        auction_id: &'a str,
        /// The imp's id, or "1" if there is none.
        imp_id: &'a str,
    },
    /// Only by its content: only exact copies are the same event.
    Content(&'a [u8]),
    /// An imp of a request without an auction id: by the content of the request and the imp's id.
    ContentImp(&'a [u8], &'a str),
}

/// The owner of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The advertiser that the campaign belongs to.
    Advertiser(&'a str),
    /// The campaign, if its advertiser is not known.
    Campaign(&'a str),
    /// Neither is known.
    Unknown,
}

/// The key of an event.
pub fn key(kind: EventKind, identified: Identified<'_>) -> Key {
    let mut hasher = Xxh3::new();
    let mut head = |way: u8| hasher.update(&[kind.tag(), way]);
    match identified {
        Identified::Id(_) => head(b'i'),
        Identified::Order { .. } => head(b'o'),
        Identified::Event { .. } => head(b'e'),
        Identified::Imp { .. } => head(b'a'),
        Identified::Content(_) => head(b'c'),
        Identified::ContentImp(..) => head(b'd'),
    }
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match identified {
        Identified::Id(id) => part(id.as_bytes()),
        Identified::Order { conversion_type, order_id, owner } => {
            part(conversion_type.as_bytes());
            part(order_id.as_bytes());
            match owner {
                Owner::Advertiser(id) => {
                    part(b"advertiser");
                    part(id.as_bytes());
                }
                Owner::Campaign(id) => {
                    part(b"campaign");
                    part(id.as_bytes());
                }
                Owner::Unknown => part(b"unknown"),
            }
        }
        Identified::Event { conversion_type, event_id } => {
            part(conversion_type.as_bytes());
            part(event_id.as_bytes());
        }
        Identified::Imp { auction_id, imp_id } => {
            part(auction_id.as_bytes());
            part(imp_id.as_bytes());
        }
        Identified::Content(hash) => part(hash),
        Identified::ContentImp(hash, imp_id) => {
            part(hash);
            part(imp_id.as_bytes());
        }
    }
    hasher.digest128().to_be_bytes()
}

/// The key of an event that one id identifies. This common case needs no streaming hasher.
pub fn key_of_id(kind: EventKind, id: &str, scratch: &mut Vec<u8>) -> Key {
    scratch.clear();
    scratch.extend_from_slice(&[kind.tag(), b'i']);
    scratch.extend_from_slice(&(id.len() as u64).to_le_bytes());
    scratch.extend_from_slice(id.as_bytes());
    xxh3_128(scratch).to_be_bytes()
}

/// A content hash in readable form: 32 hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_one_another() {
        let event =
            |conversion_type, event_id| key(EventKind::Interaction, Identified::Event { conversion_type, event_id });
        assert_ne!(event("ab", "c"), event("a", "bc"));
        assert_ne!(event("a", "b"), key(EventKind::Interaction, Identified::Id("ab")));
        let order =
            |owner| key(EventKind::Interaction, Identified::Order { conversion_type: "p", order_id: "1", owner });
        assert_ne!(order(Owner::Advertiser("x")), order(Owner::Campaign("x")));
        assert_ne!(order(Owner::Unknown), order(Owner::Campaign("unknown")));
        assert_ne!(key(EventKind::Impression, Identified::Id("x")), key(EventKind::BidRequest, Identified::Id("x")));
    }

    #[test]
    fn the_short_way_gives_the_same_key() {
        let mut scratch = Vec::new();
        for id in ["", "7", "3f2a"] {
            let short = key_of_id(EventKind::Impression, id, &mut scratch);
            assert_eq!(short, key(EventKind::Impression, Identified::Id(id)));
        }
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(&[0x00, 0xaf, 0x19]), "00af19");
    }
}
