//! Runs the tests that stand beside the rules.

use super::detect::{Sample, Sums};
use super::engine::{Engine, Observation};
use super::rule::metric::Metric;
use super::rule::{Rule, RuleTest};
use super::samples::test_sample;
use super::track::AlarmState;

/// Runs all tests of the rules. Returns how many there are, and what failed.
pub fn run(rules: &[Rule]) -> (usize, Vec<String>) {
    let mut count = 0;
    let mut failed = Vec::new();
    for rule in rules {
        for test in &rule.tests {
            count += 1;
            let states = states(rule, test);
            if let Some(step) = (0..states.len()).find(|step| states[*step] != test.states[*step]) {
                failed.push(format!(
                    "{}: rule {:?}: test {:?}: step {} is {} instead of {}; all steps: {}",
                    test.place,
                    rule.name,
                    test.name,
                    step + 1,
                    states[step],
                    test.states[step],
                    states.join(", ")
                ));
            }
        }
    }
    (count, failed)
}

fn states(rule: &Rule, test: &RuleTest) -> Vec<String> {
    // Other rules do not take part.
    let alone = Rule { inhibited_by: Vec::new(), ..rule.clone() };
    let mut engine = Engine::new(vec![alone].into());
    let mut states = Vec::with_capacity(test.series.len());
    // Any moment will do, but 0 is none.
    let mut now = 1_767_225_600_000_000;
    for row in &test.series {
        let sample = match &rule.metric {
            Metric::Kpi { kpi, .. } => test_sample(rule, kpi, row, &test.baseline),
            Metric::Pacing | Metric::Operational(_) => {
                let value = row.first().map(|(_, value)| *value);
                let sums = |numerator| Sums { numerator, denominator: None, volume: numerator };
                Sample {
                    current: value.map(sums),
                    is_enough: value.is_some(),
                    is_expected: rule.times.no_data.is_some(),
                    ..Sample::default()
                }
            }
        };
        engine.step(now, vec![Some(vec![Observation { group: "{}".into(), sample }])]);
        let alarms = engine.alarms(now);
        let state = alarms.iter().find(|alarm| alarm.group.is_empty()).map_or(AlarmState::Ok, |alarm| alarm.state);
        states.push(state.name().to_owned());
        now += test.every;
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    #[test]
    fn the_tests_of_the_built_in_rules_pass() {
        let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
        let (count, failed) = run(&rules);
        assert!(count >= 9 && failed.is_empty(), "{count}: {failed:#?}");
    }
}
