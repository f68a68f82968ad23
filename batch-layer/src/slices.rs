//! Cuts the events of a day into slices that are aggregated one by one.

use std::ops::Range;

use adlake_lake::views::{Slice, Volume};

/// Slices of about `events_max` events each. `volumes` are the events of `range` by campaign and
/// hour, ordered by campaign (NULL first) and hour.
///
/// Neighbouring campaigns share a slice. A campaign that has more events than a slice is cut
/// between hours if `cuts_hours`.
pub(crate) fn slices(range: &Range<i64>, volumes: &[Volume], events_max: u64, cuts_hours: bool) -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut shared: Option<(Option<String>, Option<String>, u64)> = None;
    for hours in volumes.chunk_by(|a, b| a.campaign == b.campaign) {
        let Some(campaign) = hours.first().map(|volume| volume.campaign.clone()) else { continue };
        let events: u64 = hours.iter().map(|volume| volume.events).sum();
        let fits = shared.as_ref().is_some_and(|(_, _, before)| before + events <= events_max);
        if !fits && let Some((first, last, _)) = shared.take() {
            slices.push(Slice { range: range.clone(), campaigns: Some((first, last)) });
        }
        if events > events_max && cuts_hours {
            let one = (campaign.clone(), campaign);
            slices.extend(
                cut(range, hours, events_max).into_iter().map(|range| Slice { range, campaigns: Some(one.clone()) }),
            );
        } else {
            shared = match shared {
                Some((first, _, before)) => Some((first, campaign, before + events)),
                None => Some((campaign.clone(), campaign, events)),
            };
        }
    }
    slices.extend(shared.map(|(first, last, _)| Slice { range: range.clone(), campaigns: Some((first, last)) }));
    slices
}

/// Cuts a range before hours, so that each part has at most `events_max` events, or one hour.
fn cut(range: &Range<i64>, hours: &[Volume], events_max: u64) -> Vec<Range<i64>> {
    let mut parts = Vec::new();
    let (mut begin, mut events) = (range.start, 0);
    for volume in hours {
        if events > 0 && events + volume.events > events_max {
            parts.push(begin..volume.hour);
            (begin, events) = (volume.hour, 0);
        }
        events += volume.events;
    }
    parts.push(begin..range.end);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(campaign: Option<&str>, hour: i64, events: u64) -> Volume {
        Volume { campaign: campaign.map(String::from), hour, events }
    }

    fn shown(slices: &[Slice]) -> Vec<String> {
        let name = |campaign: &Option<String>| campaign.clone().unwrap_or_else(|| "-".to_string());
        let one = |slice: &Slice| {
            let (first, last) = slice.campaigns.clone().unwrap();
            format!("{}..{} {}..{}", name(&first), name(&last), slice.range.start, slice.range.end)
        };
        slices.iter().map(one).collect()
    }

    #[test]
    fn neighbours_share_a_slice_and_large_campaigns_are_cut_between_hours() {
        let volumes = [
            volume(None, 0, 3),
            volume(None, 10, 4),
            volume(Some("a"), 0, 2),
            volume(Some("b"), 20, 3),
            volume(Some("c"), 0, 6),
            volume(Some("c"), 10, 6),
            volume(Some("c"), 20, 2),
            volume(Some("d"), 0, 1),
            volume(Some("e"), 0, 1),
        ];
        let cut = slices(&(0..30), &volumes, 10, true);
        assert_eq!(shown(&cut), ["-..a 0..30", "b..b 0..30", "c..c 0..10", "c..c 10..30", "d..e 0..30"]);
        let whole = slices(&(0..30), &volumes, 10, false);
        assert_eq!(shown(&whole), ["-..a 0..30", "b..b 0..30", "c..c 0..30", "d..e 0..30"]);
        assert_eq!(shown(&slices(&(0..30), &[], 10, true)), Vec::<String>::new());
        // An hour is never cut.
        assert_eq!(shown(&slices(&(0..30), &[volume(None, 5, 99)], 10, true)), ["-..- 0..30"]);
    }
}
