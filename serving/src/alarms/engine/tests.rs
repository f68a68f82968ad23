use super::*;
use crate::alarms::detect::Sums;
use crate::alarms::rule::read;
use crate::metrics::Catalogue;

const MINUTE: i64 = 60 * time::SECOND;
const START: i64 = 1_767_225_600_000_000;

const RULES: &str = r#"
[[rule]]
name = "parent"
metric = "freshness"
detect = { above = 100.0 }

[[rule]]
name = "child"
metric = "ctr"
by = ["campaign_id"]
detect = { below = 0.01 }
recover = { below = 0.02, for = "10m" }
for = "10m"
max_alerts = 3
inhibited_by = ["parent"]
"#;

fn rules() -> Arc<Vec<Rule>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, RULES).unwrap();
    read::read(Some(&file), false, &Catalogue::new(&Default::default())).unwrap().into()
}

fn sample(value: f64) -> Sample {
    let current = Sums { numerator: value, denominator: Some(1.0), volume: 1.0 };
    Sample { current: Some(current), is_enough: true, ..Sample::default() }
}

fn group(name: &str) -> Arc<str> {
    format!("{{\"campaign_id\":\"{name}\"}}").into()
}

/// Steps every five minutes with the same values. Returns what is told.
fn steps(engine: &mut Engine, at: &mut i64, count: usize, parent: f64, children: &[(&str, f64)]) -> Vec<Row> {
    let mut told = Vec::new();
    for _ in 0..count {
        let children = children.iter().map(|(name, value)| Observation { group: group(name), sample: sample(*value) });
        let parents = vec![Observation { group: "{}".into(), sample: sample(parent) }];
        let rows = engine.step(*at, vec![Some(parents), Some(children.collect())]);
        // What is stored leads to the same states.
        told.extend(rows.into_iter().filter(|row| row.is_notice));
        *at += 5 * MINUTE;
    }
    told
}

fn states(rows: &[Row]) -> Vec<(String, &'static str)> {
    rows.iter().map(|row| (row.rule.clone(), row.state.name())).collect()
}

#[test]
fn a_trouble_is_told_once_when_it_begins_and_once_when_it_ends() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    assert_eq!(steps(&mut engine, &mut at, 5, 0.0, &[("a", 0.05)]), []);
    let told = steps(&mut engine, &mut at, 20, 0.0, &[("a", 0.001)]);
    assert_eq!(states(&told), [("child".to_owned(), "FIRING")]);
    let id = told[0].id.clone();
    assert!(told[0].why.contains("ctr is 0.001; at least 0.01"), "{}", told[0].why);
    // Better, but not recovered.
    assert_eq!(steps(&mut engine, &mut at, 20, 0.0, &[("a", 0.015)]), []);
    let told = steps(&mut engine, &mut at, 20, 0.0, &[("a", 0.05)]);
    assert_eq!(states(&told), [("child".to_owned(), "OK")]);
    assert_eq!(told[0].id, id);
}

#[test]
fn a_rule_that_is_inhibited_tells_nothing_and_begins_anew() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    let told = steps(&mut engine, &mut at, 20, 500.0, &[("a", 0.001)]);
    assert_eq!(states(&told), [("parent".to_owned(), "FIRING")]);
    // The parent is over, and the child has to be wrong for its own time.
    let told = steps(&mut engine, &mut at, 2, 0.0, &[("a", 0.001)]);
    assert_eq!(states(&told), [("parent".to_owned(), "OK")]);
    let told = steps(&mut engine, &mut at, 2, 0.0, &[("a", 0.001)]);
    assert_eq!(states(&told), [("child".to_owned(), "FIRING")]);
    // What fires already stays, and is not resolved by a parent.
    assert_eq!(states(&steps(&mut engine, &mut at, 5, 500.0, &[("a", 0.05)])), [("parent".to_owned(), "FIRING")]);
    let told = steps(&mut engine, &mut at, 5, 0.0, &[("a", 0.05)]);
    assert_eq!(states(&told), [("parent".to_owned(), "OK"), ("child".to_owned(), "OK")]);
}

#[test]
fn a_storm_ends_in_the_worst_and_a_count() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    let names: Vec<String> = (0..500).map(|number| format!("c{number:03}")).collect();
    let bad: Vec<(&str, f64)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), 0.009 - n as f64 * 1e-5)).collect();
    let told = steps(&mut engine, &mut at, 30, 0.0, &bad);
    assert_eq!(told.len(), 4, "{:?}", states(&told));
    let worst: Vec<&str> = told.iter().filter(|row| &*row.group != OTHERS).map(|row| &*row.group).collect();
    assert_eq!(worst, ["c497", "c498", "c499"].map(|name| group(name).to_string()));
    assert!(told.iter().any(|row| &*row.group == OTHERS && row.value == Some(497.0)), "{told:?}");
    assert_eq!(engine.alarms(at).len(), 501);
    // All recover: each that was told, and the count, once.
    let good: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.05)).collect();
    let told = steps(&mut engine, &mut at, 30, 0.0, &good);
    assert_eq!(told.len(), 4, "{:?}", states(&told));
    assert!(told.iter().all(Row::is_resolved));
    assert_eq!(engine.alarms(at), []);
}

#[test]
fn a_start_tells_nothing_that_was_told_before() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    let mut stored = Vec::new();
    let bad: Vec<(&str, f64)> = ["a", "b", "c", "d", "e"].map(|name| (name, 0.001)).to_vec();
    for _ in 0..6 {
        let children = bad.iter().map(|(name, value)| Observation { group: group(name), sample: sample(*value) });
        stored.extend(engine.step(at, vec![None, Some(children.collect())]));
        at += 5 * MINUTE;
    }
    assert_eq!(stored.iter().filter(|row| row.is_notice).count(), 4);
    let mut again = Engine::restored(rules(), stored.clone());
    assert_eq!(again.sequence(), engine.sequence());
    assert_eq!(steps(&mut again, &mut at, 20, 0.0, &bad), []);
    let told = steps(&mut again, &mut at, 20, 0.0, &bad.iter().map(|(name, _)| (*name, 0.05)).collect::<Vec<_>>());
    assert_eq!(told.len(), 4);
    // Ids are those of the troubles that were told.
    let ids = |rows: &[Row]| rows.iter().map(|row| row.id.clone()).collect::<std::collections::BTreeSet<_>>();
    let notices: Vec<Row> = stored.into_iter().filter(|row| row.is_notice).collect();
    assert_eq!(ids(&told), ids(&notices));
}

#[test]
fn what_is_silenced_is_told_when_the_silence_ends() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    let until = START + 60 * MINUTE;
    let silence = Row {
        sequence: None,
        at,
        rule: "child".into(),
        group: group("a"),
        state: RowState::Silenced,
        id: "s1".into(),
        value: None,
        low: None,
        high: None,
        why: "known".into(),
        severity: crate::alarms::rule::Severity::Info,
        is_notice: false,
        until: Some(until),
        by: Some("ann".into()),
        cause: None,
    };
    engine.take_by_hand(vec![silence]);
    let told = steps(&mut engine, &mut at, 12, 0.0, &[("a", 0.001), ("b", 0.001)]);
    assert_eq!(told.iter().map(|row| row.group.clone()).collect::<Vec<_>>(), [group("b")]);
    let told = steps(&mut engine, &mut at, 3, 0.0, &[("a", 0.001), ("b", 0.001)]);
    assert_eq!(told.iter().map(|row| row.group.clone()).collect::<Vec<_>>(), [group("a")]);
    assert!(told[0].at >= until);
}

#[test]
fn alarms_of_a_rule_that_is_gone_are_resolved() {
    let (mut engine, mut at) = (Engine::new(rules()), START);
    let mut stored = Vec::new();
    for _ in 0..4 {
        let children = vec![Observation { group: group("a"), sample: sample(0.001) }];
        stored.extend(engine.step(at, vec![None, Some(children)]));
        at += 5 * MINUTE;
    }
    let only: Arc<Vec<Rule>> = rules().iter().filter(|rule| rule.name == "parent").cloned().collect::<Vec<_>>().into();
    let mut engine = Engine::restored(only, stored);
    let rows = engine.step(at, Vec::new());
    assert_eq!(states(&rows), [("child".to_owned(), "OK")]);
    assert!(rows[0].is_notice);
    assert_eq!(engine.step(at + MINUTE, Vec::new()), []);
}

#[test]
fn the_same_values_lead_to_the_same_states() {
    // A batch run takes over from the stream: the values are the same, the snapshot is another.
    let (mut engine, mut at) = (Engine::new(rules()), START);
    steps(&mut engine, &mut at, 10, 0.0, &[("a", 0.001), ("b", 0.05)]);
    let before = engine.alarms(at);
    let told = steps(&mut engine, &mut at, 100, 0.0, &[("a", 0.001), ("b", 0.05)]);
    assert_eq!(told, []);
    assert_eq!(engine.alarms(at), before);
}

#[test]
fn two_thousand_groups_of_twelve_rules_are_judged_in_time() {
    let one = rules()[1].clone();
    let rules: Vec<Rule> =
        (0..12).map(|number| Rule { name: format!("rule{number}"), inhibited_by: Vec::new(), ..one.clone() }).collect();
    let mut engine = Engine::new(rules.into());
    let groups: Vec<Arc<str>> = (0..2_000).map(|number| group(&number.to_string())).collect();
    let observed = || {
        let observation = |(n, group): (usize, &Arc<str>)| {
            let value = if n % 10 == 0 { 0.001 } else { 0.05 };
            Observation { group: group.clone(), sample: sample(value) }
        };
        vec![Some(groups.iter().enumerate().map(observation).collect::<Vec<_>>()); 12]
    };
    let began = std::time::Instant::now();
    for step in 0..10 {
        engine.step(START + step * 5 * MINUTE, observed());
    }
    let each = began.elapsed() / 10;
    assert!(each < std::time::Duration::from_millis(500), "{each:?}");
}
