use adlake_domain::settings::Display;

use super::*;

fn rules(text: &str) -> Result<Vec<Rule>, Wrong> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.toml"), text).unwrap();
    read(Some(folder.path()), false, &Catalogue::new(&Display::default()))
}

const RULE: &str = "[[rule]]\nname = \"a\"\nmetric = \"ctr\"\n";

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let check = |text: &str, line: usize, parts: &[&str]| {
        let error = rules(text).unwrap_err().to_string();
        assert!(error.contains(&format!("x.toml:{line}: ")), "line {line}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    };
    let with = |more: &str| format!("# a comment\n{RULE}detect = {{ above = 1 }}\n{more}\n");
    check(&with("windows = \"1h\""), 6, &["windows"]);
    check(&with("window = \"90m\""), 6, &["window", "whole hours"]);
    check(&with("by = [\"site\"]"), 6, &["by", "no dimension \"site\""]);
    check(&with("min_volume = { ctr = 3 }"), 6, &["min_volume", "no sum"]);
    check(&with("scope = [\"=\", \"nothing\", \"x\"]"), 6, &["scope"]);
    check(&with("recover = { above = 2.0 }"), 6, &["recover", "normal side"]);
    check(&with("severity = \"loud\""), 6, &["loud"]);
    check(&with("[[rule.test]]\nseries = [{ clicks = 1 }]\nstates = []"), 2, &["1 steps", "0 states"]);
    check("[[rule]]\nname = \"a\"\nmetric = \"ctrr\"\ndetect = { above = 1 }\n", 3, &["did you mean \"ctr\"?"]);
    let detect = |text: &str| format!("{RULE}detect = {{ {text} }}\n");
    check(&detect("weeks = 3"), 4, &["need a baseline"]);
    check(&detect(""), 4, &["above, below or a baseline"]);
    check(&detect("baseline = \"yesterday\""), 4, &["hour_of_week"]);
    check(&detect("baseline = \"hour_of_week\", min_change = \"-20\""), 4, &["no change"]);
    check(&detect("baseline = \"hour_of_week\", method = \"wilson\", z = 99"), 4, &["z is between"]);
    check(&format!("{RULE}detect = {{ above = 1 }}\n{RULE}detect = {{ above = 1 }}\n"), 5, &["two rules"]);
}

#[test]
fn rules_that_inhibit_each_other_are_refused() {
    let rule = |name: &str, by: &str| {
        format!("[[rule]]\nname = \"{name}\"\nmetric = \"ctr\"\ndetect = {{ above = 1 }}\ninhibited_by = [\"{by}\"]\n")
    };
    let error = rules(&format!("{}{}", rule("a", "b"), rule("b", "a"))).unwrap_err().to_string();
    assert!(error.contains("inhibits itself"), "{error}");
    let error = rules(&rule("a", "nobody")).unwrap_err().to_string();
    assert!(error.contains("no rule \"nobody\""), "{error}");
}

#[test]
fn a_rule_replaces_a_built_in_one_or_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    let catalogue = Catalogue::new(&Display::default());
    let built_in = read(None, true, &catalogue).unwrap();
    let text = "[[rule]]\nname = \"batch_late\"\nmetric = \"batch_age\"\ndetect = { above = 7 }\n\
                [[rule]]\nname = \"over_budget\"\nenabled = false\nmetric = \"pacing\"\nby = [\"campaign_id\"]\n\
                detect = { above = 1 }\n";
    std::fs::write(&file, text).unwrap();
    let rules = read(Some(&file), true, &catalogue).unwrap();
    assert_eq!(rules.len(), built_in.len() - 1);
    let found = rules.iter().find(|rule| rule.name == "batch_late").unwrap();
    assert!(matches!(found.detect, Detect::Threshold { above: Some(7.0), .. }), "{found:?}");
}

#[test]
fn the_example_of_the_guide_is_read() {
    let text = r#"
        [[rule]]
        name = "ctr_drop"
        metric = "ctr"
        by = ["campaign_id"]
        scope = ["in", "country", ["DE", "AT"]]
        window = "1h"
        delay = "10m"
        detect = { baseline = "hour_of_week", weeks = 6, method = "wilson", z = 3.0, min_change = "-20%" }
        min_volume = { impressions = 20000 }
        for = "15m"
        recover = { change = "-10%", for = "30m" }
        no_data = { after = "30m", severity = "info" }
        max_alerts = 20
        severity = "critical"
        owner = "trading"
        runbook = "https://wiki/ctr"
    "#;
    let rules = rules(text).unwrap();
    let rule = &rules[0];
    assert_eq!((rule.window_hours, rule.delay, rule.alerts_max), (1, 600_000_000, 20));
    assert_eq!((rule.times.hold, rule.times.recover), (900_000_000, 1_800_000_000));
    assert_eq!((rule.severity, rule.no_data_severity), (Severity::Critical, Severity::Info));
    assert_eq!(
        (rule.inputs.clone(), rule.min_volume.clone()),
        (vec!["clicks".into(), "impressions".into()], vec![(1, 20_000.0)])
    );
}
