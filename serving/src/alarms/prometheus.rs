//! Alarms for Prometheus: rules on the metrics of the server, as a file of rules.
//!
//! The rules of adlake are evaluated by adlake. Prometheus watches that they are, and can tell of
//! what fires where no other sink is configured.

use std::fmt::Write;

use super::rule::Rule;

/// The file of rules, for `promtool check rules` and for Prometheus.
pub fn rules_file(rules: &[Rule]) -> String {
    let mut text = String::from(
        "# Written by `adlake alarms prometheus-rules`. Write it anew when rules are added or removed.\n\
         groups:\n  - name: adlake-alarms\n    rules:\n",
    );
    for rule in rules {
        let selector = format!("adlake_serve_alarms_firing{{rule=\"{}\"}}", rule.name);
        alert(
            &mut text,
            &pascal(&rule.name),
            &format!("max without (instance) ({selector}) > 0"),
            "0s",
            rule.severity.name(),
            [("summary", &format!("{{{{ $value }}}} groups: {}", rule.description)), ("runbook", &rule.runbook)],
        );
    }
    text.push_str("  - name: adlake-serve\n    rules:\n");
    let own: [(&str, &str, &str, &str, &str); 4] = [
        (
            "AdlakeServerEvaluatesNoRules",
            "max(adlake_serve_alarms_evaluated_age_seconds) > 300 or absent(adlake_serve_alarms_evaluated_age_seconds)",
            "5m",
            "critical",
            "no server evaluates the rules",
        ),
        (
            "AdlakeServerWithoutLeader",
            "sum(adlake_serve_alarms_leader) == 0",
            "5m",
            "critical",
            "no server holds the lease of the alarms",
        ),
        (
            "AdlakeServerSinkFails",
            "max by (sink) (adlake_serve_alarms_sink_failing_seconds) > 300",
            "0s",
            "critical",
            "a sink of alarms takes none",
        ),
        ("AdlakeServerStale", "max(adlake_serve_stale) > 0", "5m", "critical", "the lake cannot be read"),
    ];
    for (name, expression, hold, severity, summary) in own {
        alert(&mut text, name, expression, hold, severity, [("summary", summary), ("runbook", "docs/alarms.md")]);
    }
    text
}

fn alert(text: &mut String, name: &str, expression: &str, hold: &str, severity: &str, annotations: [(&str, &str); 2]) {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    // JSON texts are YAML texts. Writing to a text does not fail.
    let _ = writeln!(text, "      - alert: {name}\n        expr: {}\n        for: {hold}", quoted(expression));
    let _ = writeln!(text, "        labels:\n          severity: {severity}\n        annotations:");
    for (name, value) in annotations {
        let _ = writeln!(text, "          {name}: {}", quoted(value));
    }
}

/// `ctr_drop` as `AdlakeCtrDrop`.
fn pascal(name: &str) -> String {
    let word = |word: &str| word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1)).collect();
    std::iter::once("Adlake".to_owned()).chain(name.split('_').map(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    #[test]
    fn each_name_is_there_once() {
        let rules = read::read(None, true, &Catalogue::new(&Default::default())).unwrap();
        let text = rules_file(&rules);
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert_eq!(names.len(), rules.len() + 4);
        names.sort_unstable();
        // promtool refuses a name that is there twice.
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
