//! Decides where reading a partition begins, from what the lake has stored and what the broker
//! holds, and from nothing else.

/// Where a partition begins that the lake has never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// At the broker's first offset.
    Earliest,
    /// At the broker's end.
    Latest,
    /// At the first record of a given time or later, as found by the broker. `None`: there is no
    /// such record yet.
    Since(Option<i64>),
    /// At this offset, as configured.
    Offset(i64),
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this offset.
    At(i64),
    /// The next records do not exist any more. The text says what happened and what can be done.
    Lost(&'static str),
    /// The broker does not have the configured offset.
    Outside,
}

/// What to do about records that are gone.
pub const EXPIRED: &str = "The records between were deleted before they were ingested (retention). \
                           To go on without them, ingest into a new lake or under another kafka.cluster name; \
                           to keep this from happening, raise the topic's retention";
/// What to do about a topic that was deleted and created again, or truncated.
pub const RECREATED: &str = "The topic was deleted and created again, or its log was truncated. If it is a new topic, \
                             give it another name or set another kafka.cluster name";

/// Decides where to begin. `low` is the broker's first offset and `high` its end. `stored` is the
/// next offset to read, as stored in the lake.
pub fn begin(stored: Option<i64>, low: i64, high: i64, first: First) -> Begin {
    match stored {
        Some(stored) if stored < low => Begin::Lost(EXPIRED),
        Some(stored) if stored > high => Begin::Lost(RECREATED),
        Some(stored) => Begin::At(stored),
        None => match first {
            First::Earliest => Begin::At(low),
            First::Latest => Begin::At(high),
            // The broker was asked for the three numbers one after another, so they may disagree.
            First::Since(found) => Begin::At(found.unwrap_or(high).clamp(low, high)),
            First::Offset(offset) if (low..=high).contains(&offset) => Begin::At(offset),
            First::Offset(_) => Begin::Outside,
        },
    }
}

/// Whether a partition was added after the lake first saw its topic, which then had
/// `partitions_then` partitions. Such a partition must not lose its first records to a
/// `first_start` that was meant for the topic as it was then.
pub fn is_added(partition: i32, partitions_then: i64) -> bool {
    i64::from(partition) >= partitions_then
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn begins_where_the_lake_says_or_refuses() {
        let check = |stored, low, high, expected| {
            assert_eq!(begin(stored, low, high, First::Earliest), expected, "{stored:?} in {low}..{high}");
        };
        check(None, 0, 0, Begin::At(0));
        check(None, 7, 9, Begin::At(7));
        check(Some(7), 7, 9, Begin::At(7));
        check(Some(9), 7, 9, Begin::At(9));
        check(Some(9), 9, 9, Begin::At(9));
        check(Some(6), 7, 9, Begin::Lost(EXPIRED));
        check(Some(10), 7, 9, Begin::Lost(RECREATED));
        check(Some(10), 0, 0, Begin::Lost(RECREATED));
    }

    #[test]
    fn a_first_start_is_where_it_is_configured() {
        let check = |first, expected| {
            assert_eq!(begin(None, 7, 9, first), expected, "{first:?}");
            assert_eq!(begin(Some(7), 7, 9, first), Begin::At(7), "{first:?}");
        };
        check(First::Latest, Begin::At(9));
        check(First::Since(Some(8)), Begin::At(8));
        check(First::Since(Some(3)), Begin::At(7));
        check(First::Since(None), Begin::At(9));
        check(First::Offset(7), Begin::At(7));
        check(First::Offset(9), Begin::At(9));
        check(First::Offset(6), Begin::Outside);
        check(First::Offset(10), Begin::Outside);
    }

    #[test]
    fn partitions_are_numbered_as_they_are_added() {
        assert!(!is_added(0, 1) && !is_added(2, 3));
        assert!(is_added(1, 1) && is_added(7, 3));
    }

    fn first() -> impl Strategy<Value = First> {
        prop_oneof![
            Just(First::Earliest),
            Just(First::Latest),
            proptest::option::of(0..200i64).prop_map(First::Since),
            (0..200i64).prop_map(First::Offset),
        ]
    }

    proptest! {
        #[test]
        fn never_begins_elsewhere_than_stored_nor_outside_the_log(
            stored in proptest::option::of(0..100i64), low in 0..100i64, length in 0..100i64, first in first(),
        ) {
            match begin(stored, low, low + length, first) {
                Begin::At(position) => {
                    prop_assert!((low..=low + length).contains(&position));
                    prop_assert!(stored.is_none_or(|stored| stored == position));
                }
                Begin::Lost(_) => {
                    let stored = stored.unwrap();
                    prop_assert!(stored < low || stored > low + length);
                }
                Begin::Outside => prop_assert!(stored.is_none() && matches!(first, First::Offset(_))),
            }
        }
    }
}
