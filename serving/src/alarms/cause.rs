//! What has contributed most to a change: of the sites and of the creatives of a campaign, the one
//! without which the change would be smallest.
//!
//! For a sum, the contribution of a part is its own change. For a ratio it is the change of the
//! ratio that is left if the part were as it was before, in its share and in its rate. Both sides
//! are sums of the lake, so the answer is exact. It is asked only when an alarm fires.

use adlake_domain::time;

use super::engine::{Row, labels};
use super::rule::metric::{Kpi, Metric};
use super::rule::{Against, Rule};
use super::samples::{Groups, Sampler, campaign, has_volume, of_group, windows};
use crate::answer::AnswerError;
use crate::question::Dimension;

/// Names what has contributed most. `None`: no part stands out.
pub async fn find(sampler: &Sampler<'_>, rule: &Rule, row: &Row) -> Result<Option<String>, AnswerError> {
    let (Metric::Kpi { kpi, .. }, Some(_)) = (&rule.metric, campaign(&row.group)) else { return Ok(None) };
    let zone = sampler.state.report_zone();
    let windows = windows(rule, sampler.now, zone);
    let filter = of_group(rule, &labels(&row.group));
    // The window that was judged: the running one, where it has enough.
    let mut range = windows.complete;
    if let Some(running) = windows.running.filter(|_| sampler.has_running) {
        let all = sampler.asked_sums(&rule.inputs, &[], &filter, (Some(running.0), Some(running.1))).await?;
        if all.values().any(|sums| has_volume(rule, kpi, sums, 1.0)) {
            range = running;
        }
    }
    let week = 7 * time::DAY;
    let before = match rule.against {
        Against::Previous => (range.0 - (range.1 - range.0), range.0),
        // One week says which part it is; the baseline has said that it is a change.
        _ => (range.0 - week, range.1 - week),
    };
    let mut parts = Vec::new();
    for (dimension, name) in [(Dimension::Website, "site"), (Dimension::Creative, "creative")] {
        let sums = async |range: (i64, i64)| {
            sampler.asked_sums(&rule.inputs, &[dimension], &filter, (Some(range.0), Some(range.1))).await
        };
        let (now, then) = (sums(range).await?, sums(before).await?);
        if let Some((value, share)) = greatest(rule, kpi, &now, &then) {
            parts.push(format!("{name} {value} ({:.0}% of the change)", share * 100.0));
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join(", ")))
}

/// The part without whose change the whole would have changed least, and its share of the change.
fn greatest(rule: &Rule, kpi: &Kpi, now: &Groups, then: &Groups) -> Option<(String, f64)> {
    let width = rule.inputs.len();
    let total = |groups: &Groups| {
        groups.values().fold(vec![0.0; width], |total, numbers| {
            total.iter().zip(numbers).map(|(total, number)| total + number).collect()
        })
    };
    let (all_now, all_then) = (total(now), total(then));
    let value = |numbers: &[f64]| kpi.sums(&rule.inputs, numbers).value(kpi.factor);
    let (after, before) = (value(&all_now)?, value(&all_then)?);
    let change = after - before;
    if change == 0.0 {
        return None;
    }
    // Traffic as a whole may have grown: parts are put back in the size that they would have now.
    let growth = match &kpi.denominator {
        None => 1.0,
        Some(_) => {
            let volume = |numbers: &[f64]| kpi.sums(&rule.inputs, numbers).volume;
            volume(&all_now) / volume(&all_then).max(1.0)
        }
    };
    let mut groups: Vec<_> = now.keys().chain(then.keys()).collect();
    groups.sort_unstable();
    groups.dedup();
    let zero = vec![0.0; width];
    let shares = groups.into_iter().filter_map(|group| {
        let (own_now, own_then) = (now.get(group).unwrap_or(&zero), then.get(group).unwrap_or(&zero));
        let restored: Vec<f64> =
            (0..width).map(|place| all_now[place] - own_now[place] + own_then[place] * growth).collect();
        let share = (after - value(&restored)?) / change;
        let name = super::engine::labels(group).into_values().next()?;
        Some((name, share))
    });
    shares.filter(|(_, share)| *share >= 0.2).max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    #[test]
    fn the_part_that_fell_is_named() {
        let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
        let rule = rules.iter().find(|rule| rule.name == "ctr_drop").unwrap();
        let Metric::Kpi { kpi, .. } = &rule.metric else { panic!() };
        assert_eq!(rule.inputs, ["clicks", "impressions"]);
        let groups = |parts: &[(&str, f64, f64)]| -> Groups {
            let group = |name: &str| serde_json::json!({"website": name}).to_string().into();
            parts.iter().map(|(name, clicks, impressions)| (group(name), vec![*clicks, *impressions])).collect()
        };
        let then = groups(&[("a", 100.0, 10_000.0), ("b", 200.0, 10_000.0), ("c", 50.0, 10_000.0)]);
        let check = |now: &[(&str, f64, f64)], expected: Option<&str>| {
            let found = greatest(rule, kpi, &groups(now), &then);
            assert_eq!(found.as_ref().map(|(name, _)| name.as_str()), expected, "{found:?}");
        };
        check(&[("a", 100.0, 10_000.0), ("b", 20.0, 10_000.0), ("c", 50.0, 10_000.0)], Some("b"));
        // Twice the traffic, and one part does not follow.
        check(&[("a", 20.0, 20_000.0), ("b", 400.0, 20_000.0), ("c", 100.0, 20_000.0)], Some("a"));
        // A part that is new and has hardly any clicks.
        check(
            &[("a", 100.0, 10_000.0), ("b", 200.0, 10_000.0), ("c", 50.0, 10_000.0), ("d", 1.0, 30_000.0)],
            Some("d"),
        );
        check(&[("a", 100.0, 10_000.0), ("b", 200.0, 10_000.0), ("c", 50.0, 10_000.0)], None);
    }
}
