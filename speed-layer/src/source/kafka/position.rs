//! Where reading a partition begins: decided from what the lake has stored and what the broker holds, and from nothing else.

use crate::settings::FirstStart;

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this offset.
    At(i64),
    /// The records that come next do not exist; what happened and what can be done.
    Lost(&'static str),
}

const EXPIRED: &str = "The records between were deleted before they were ingested (retention). To go on without them, \
                       ingest into a new lake or under another kafka.cluster name; to keep this from happening, raise the topic's retention";
const RECREATED: &str = "The topic was deleted and created again, or its log was truncated. If it is a new topic, \
                         give it another name or set another kafka.cluster name";

/// `low` is the broker's first offset and `high` its end; `stored` the next offset to read, as stored in the lake.
pub fn begin(stored: Option<i64>, low: i64, high: i64, first_start: FirstStart) -> Begin {
    match stored {
        Some(stored) if stored < low => Begin::Lost(EXPIRED),
        Some(stored) if stored > high => Begin::Lost(RECREATED),
        Some(stored) => Begin::At(stored),
        None => match first_start {
            FirstStart::Earliest => Begin::At(low),
            FirstStart::Latest => Begin::At(high),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn begins_where_the_lake_says_or_refuses() {
        let check = |stored, low, high, expected| {
            assert_eq!(begin(stored, low, high, FirstStart::Earliest), expected, "{stored:?} in {low}..{high}");
        };
        check(None, 0, 0, Begin::At(0));
        check(None, 7, 9, Begin::At(7));
        check(Some(7), 7, 9, Begin::At(7));
        check(Some(9), 7, 9, Begin::At(9));
        check(Some(9), 9, 9, Begin::At(9));
        check(Some(6), 7, 9, Begin::Lost(EXPIRED));
        check(Some(10), 7, 9, Begin::Lost(RECREATED));
        check(Some(10), 0, 0, Begin::Lost(RECREATED));
        assert_eq!(begin(None, 7, 9, FirstStart::Latest), Begin::At(9));
        assert_eq!(begin(Some(7), 7, 9, FirstStart::Latest), Begin::At(7));
    }

    proptest! {
        #[test]
        fn never_begins_elsewhere_than_stored_nor_outside_the_log(
            stored in proptest::option::of(0..100i64), low in 0..100i64, length in 0..100i64, latest: bool,
        ) {
            let first_start = if latest { FirstStart::Latest } else { FirstStart::Earliest };
            match begin(stored, low, low + length, first_start) {
                Begin::At(position) => {
                    prop_assert!((low..=low + length).contains(&position));
                    prop_assert!(stored.is_none_or(|stored| stored == position));
                }
                Begin::Lost(_) => {
                    let stored = stored.unwrap();
                    prop_assert!(stored < low || stored > low + length);
                }
            }
        }
    }
}
