//! The series of a group: the value of its window at each hour, and what was expected then.
//!
//! All hours that are needed are asked for at once, and the windows are made of them. So a series
//! costs one question, whatever its length.

use std::collections::BTreeMap;

use adlake_domain::time;

use super::super::detect::{Judgement, judge};
use super::super::rule::Rule;
use super::super::rule::metric::{Kpi, Metric};
use super::{Groups, Sampler, Window, has_volume, number, of_group, sample, windows};
use crate::answer::{AnswerError, Value};
use crate::question::{Grain, Range};
use crate::state::groups::Coded;

/// What a window of the series says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The end of the window, in microseconds. Of the running one, the present.
    pub at: i64,
    /// Its value, and what was expected.
    pub judgement: Judgement,
}

/// The sums of each hour that has events, by its beginning.
type Hours = BTreeMap<i64, Vec<f64>>;

impl Sampler<'_> {
    /// The series of the group with these labels over the newest hours. `incidents` are left out of
    /// the baseline. `None`: the metric is no sum over a window, so there is no series of it.
    pub async fn series(
        &self,
        rule: &Rule,
        labels: &BTreeMap<String, String>,
        incidents: &[(i64, i64)],
        hours: u32,
    ) -> Result<Option<Vec<Point>>, AnswerError> {
        let Metric::Kpi { kpi, .. } = &rule.metric else { return Ok(None) };
        // The alarm of further groups is none of a group.
        if !rule.by.iter().all(|dimension| labels.contains_key(dimension.name())) {
            return Ok(None);
        }
        let zone = self.state.report_zone();
        let mut ranges: Vec<((i64, i64), i64)> = (0..i64::from(hours))
            .rev()
            .map(|ago| windows(rule, self.now - ago * time::HOUR, zone).complete)
            .map(|range| (range, range.1))
            .collect();
        let running = windows(rule, self.now, zone).running.filter(|_| self.has_running);
        ranges.extend(running.map(|range| (range, self.now - rule.delay)));
        let first = self.state.span(&Coded::All(Vec::new())).map_or(i64::MAX, |(first, _)| first);
        let earlier = |range: (i64, i64)| {
            windows::baseline(rule, range, zone).into_iter().filter(|range| range.0 >= first).collect::<Vec<_>>()
        };
        let all = ranges.iter().flat_map(|(range, _)| std::iter::once(*range).chain(earlier(*range)));
        let Some(begin) = all.map(|range| range.0).min() else { return Ok(Some(Vec::new())) };
        let end = ranges.iter().map(|(range, _)| range.1).max().unwrap_or(begin);
        let sums = self.hours(rule, labels, (begin, end)).await?;
        let group: std::sync::Arc<str> = "{}".into();
        let groups = |range: (i64, i64)| match added(&sums, range) {
            Some(sums) => Groups::from([(group.clone(), sums)]),
            None => Groups::new(),
        };
        let point = |(range, at): ((i64, i64), i64)| {
            let current = groups(range);
            // Of the running window nothing is said before it has enough.
            if Some(range) == running && !current.get(&group).is_some_and(|sums| has_volume(rule, kpi, sums, 1.0)) {
                return None;
            }
            let baseline = earlier(range).into_iter().map(|range| (range, groups(range))).collect();
            let window = Window { current, baseline };
            let sample = sample(rule, kpi, &window, &group, incidents);
            Some(Point { at, judgement: judged(rule, kpi, &sample) })
        };
        Ok(Some(ranges.into_iter().filter_map(point).collect()))
    }

    async fn hours(
        &self,
        rule: &Rule,
        labels: &BTreeMap<String, String>,
        (from, to): (i64, i64),
    ) -> Result<Hours, AnswerError> {
        let range = Range { from: Some(from), to: Some(to) };
        let rows = self.ask(&rule.inputs, &[], &of_group(rule, labels), range, Some(Grain::Hour)).await?;
        let hours = rows.into_iter().filter_map(|row| match row.split_first() {
            Some((Value::Time(at), values)) => Some((*at, values.iter().map(number).collect())),
            _ => None,
        });
        Ok(hours.collect())
    }
}

fn judged(rule: &Rule, kpi: &Kpi, sample: &super::Sample) -> Judgement {
    judge(&rule.detect, rule.metric.kind(), kpi.factor, sample)
}

/// The sums of a range of hours. `None`: no hour of it has events.
fn added(hours: &Hours, (from, to): (i64, i64)) -> Option<Vec<f64>> {
    let mut own = hours.range(from..to).map(|(_, sums)| sums);
    let first = own.next()?.clone();
    Some(own.fold(first, |total, sums| total.iter().zip(sums).map(|(a, b)| a + b).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_a_window_are_those_of_its_hours() {
        let hours = Hours::from([(0, vec![1.0, 10.0]), (1, vec![2.0, 20.0]), (5, vec![4.0, 40.0])]);
        assert_eq!(added(&hours, (0, 2)), Some(vec![3.0, 30.0]));
        assert_eq!(added(&hours, (1, 6)), Some(vec![6.0, 60.0]));
        // An end does not belong to a range.
        assert_eq!(added(&hours, (2, 5)), None);
    }
}
