//! The alarms that CloudWatch should have for the rules. Pure: nothing is asked, nothing is done.
//!
//! Each rule has a metric alarm. A rule that others inhibit has a composite alarm too, "this one
//! and none of those", and then it is the composite alarm that notifies. One more composite alarm
//! is in alarm while any critical rule is, or while adlake evaluates nothing.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_cloudwatch::types::ComparisonOperator;

use super::super::SinkError;
use super::rule_dimensions;
use crate::alarms::rule::{Rule, Severity};
use crate::alarms::settings::CloudwatchSettings;

/// The most alarms that the rule of a composite alarm names.
const CHILDREN_MAX: usize = 100;
/// The most characters of the rule of a composite alarm.
const RULE_CHARACTERS_MAX: usize = 10_240;
/// The most composite alarms that name one alarm.
const PARENTS_MAX: usize = 150;
/// The most characters of a name.
const NAME_CHARACTERS_MAX: usize = 255;

/// An alarm of CloudWatch as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub name: String,
    pub description: String,
    /// What it notifies, when it begins and when it ends.
    pub actions: Vec<String>,
    pub kind: Kind,
}

/// When an alarm is in alarm.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A metric is beyond 1.
    Metric {
        metric: &'static str,
        dimensions: Vec<(String, String)>,
        comparison: ComparisonOperator,
        periods: i32,
        missing: &'static str,
    },
    /// An expression over other alarms holds.
    Composite(String),
}

impl Wanted {
    /// Whether it is a composite alarm.
    pub fn is_composite(&self) -> bool {
        matches!(self.kind, Kind::Composite(_))
    }
}

/// The alarms of the rules. An alarm comes after all that it names.
pub fn alarms(rules: &[Rule], settings: &CloudwatchSettings) -> Result<Vec<Wanted>, SinkError> {
    let mut all = vec![heartbeat(settings)];
    all.extend(rules.iter().map(|rule| of_rule(rule, settings)));
    if settings.composites {
        let inhibited = rules.iter().filter(|rule| !rule.inhibited_by.is_empty());
        all.extend(inhibited.map(|rule| not_inhibited(rule, settings)));
        all.extend(any_critical(rules, settings));
    }
    check(&all)?;
    Ok(all)
}

fn heartbeat(settings: &CloudwatchSettings) -> Wanted {
    Wanted {
        name: format!("{}heartbeat", settings.prefix),
        description: "adlake does not evaluate its alarms".into(),
        actions: settings.actions.clone(),
        kind: Kind::Metric {
            metric: "Heartbeat",
            dimensions: Vec::new(),
            comparison: ComparisonOperator::LessThanThreshold,
            periods: 5,
            missing: "breaching",
        },
    }
}

fn of_rule(rule: &Rule, settings: &CloudwatchSettings) -> Wanted {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let dimensions = rule_dimensions(rule).iter().map(|d| (text(d.name()), text(d.value()))).collect();
    Wanted {
        name: format!("{}{}", settings.prefix, rule.name),
        description: described(rule),
        // Else what the composite alarm tells would be told twice.
        actions: if has_composite(rule, settings) { Vec::new() } else { settings.actions.clone() },
        kind: Kind::Metric {
            metric: "Firing",
            dimensions,
            comparison: ComparisonOperator::GreaterThanOrEqualToThreshold,
            periods: 1,
            missing: "notBreaching",
        },
    }
}

fn described(rule: &Rule) -> String {
    format!("{} Runbook: {}", rule.description, rule.runbook)
}

fn has_composite(rule: &Rule, settings: &CloudwatchSettings) -> bool {
    settings.composites && !rule.inhibited_by.is_empty()
}

/// The name of the alarm that stands for a rule, as seen by other alarms.
fn told_by(rule: &Rule, settings: &CloudwatchSettings) -> String {
    // Names of rules have no hyphens, so this is the name of no rule.
    let end = if has_composite(rule, settings) { "-not-inhibited" } else { "" };
    format!("{}{}{end}", settings.prefix, rule.name)
}

fn not_inhibited(rule: &Rule, settings: &CloudwatchSettings) -> Wanted {
    let parents: BTreeSet<&String> = rule.inhibited_by.iter().collect();
    let parents =
        parents.into_iter().map(|parent| format!(" AND NOT {}", alarm(&format!("{}{parent}", settings.prefix))));
    let own = alarm(&format!("{}{}", settings.prefix, rule.name));
    Wanted {
        name: told_by(rule, settings),
        description: described(rule),
        actions: settings.actions.clone(),
        kind: Kind::Composite(format!("{own}{}", parents.collect::<String>())),
    }
}

fn alarm(name: &str) -> String {
    format!("ALARM(\"{name}\")")
}

/// One alarm of all critical ones. If they are too many for one expression, parts come first.
fn any_critical(rules: &[Rule], settings: &CloudwatchSettings) -> Vec<Wanted> {
    let name = format!("{}any-critical", settings.prefix);
    let critical = rules.iter().filter(|rule| rule.severity == Severity::Critical);
    let mut children = vec![format!("{}heartbeat", settings.prefix)];
    children.extend(critical.map(|rule| told_by(rule, settings)));
    let mut parts = split(&children);
    let mut all = Vec::new();
    if parts.len() > 1 {
        let part = |(place, expression): (usize, String)| Wanted {
            name: format!("{name}-{}", place + 1),
            description: "A part of what is critical".into(),
            actions: Vec::new(),
            kind: Kind::Composite(expression),
        };
        all.extend(parts.into_iter().enumerate().map(part));
        let names: Vec<String> = all.iter().map(|part: &Wanted| part.name.clone()).collect();
        // A hundred parts hold ten thousand alarms. More than one part of parts is refused later.
        parts = vec![names.iter().map(|name| alarm(name)).collect::<Vec<_>>().join(" OR ")];
    }
    all.extend(parts.into_iter().map(|expression| Wanted {
        name: name.clone(),
        description: "Something critical is wrong, or adlake does not evaluate its alarms".into(),
        actions: settings.critical_actions.clone(),
        kind: Kind::Composite(expression),
    }));
    all
}

/// Expressions that hold while any of the alarms is in alarm, each within the limits.
fn split(names: &[String]) -> Vec<String> {
    let (mut parts, mut count) = (Vec::<String>::new(), 0);
    for name in names {
        let next = alarm(name);
        match parts.last_mut() {
            Some(part) if count < CHILDREN_MAX && part.len() + 4 + next.len() <= RULE_CHARACTERS_MAX => {
                part.push_str(" OR ");
                part.push_str(&next);
                count += 1;
            }
            _ => {
                parts.push(next);
                count = 1;
            }
        }
    }
    parts
}

/// The names of the alarms that an expression is over.
pub fn children(expression: &str) -> BTreeSet<&str> {
    expression.split('"').skip(1).step_by(2).collect()
}

/// Refuses what CloudWatch would refuse half way.
fn check(all: &[Wanted]) -> Result<(), SinkError> {
    let wrong = |message: String| Err(SinkError(format!("{message}; nothing was changed")));
    let (mut names, mut parents) = (BTreeSet::new(), BTreeMap::<&str, usize>::new());
    for wanted in all {
        let name = &wanted.name;
        if !names.insert(name) {
            return wrong(format!("two alarms would be named {name:?}: rename the rule"));
        }
        if name.len() > NAME_CHARACTERS_MAX {
            return wrong(format!("the name {name:?} is longer than {NAME_CHARACTERS_MAX} characters"));
        }
        let Kind::Composite(expression) = &wanted.kind else { continue };
        let children = children(expression);
        if children.len() > CHILDREN_MAX || expression.len() > RULE_CHARACTERS_MAX {
            return wrong(format!(
                "the composite alarm {name:?} would name {} alarms in {} characters, and CloudWatch takes \
                 {CHILDREN_MAX} and {RULE_CHARACTERS_MAX}: shorten inhibited_by, or set \
                 alarms.cloudwatch.composites = false",
                children.len(),
                expression.len()
            ));
        }
        for child in children {
            let count = parents.entry(child).or_default();
            *count += 1;
            if *count > PARENTS_MAX {
                return wrong(format!(
                    "more than {PARENTS_MAX} composite alarms would name {child:?}, which CloudWatch does not take: \
                     shorten inhibited_by, or set alarms.cloudwatch.composites = false"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::rule::read;
    use crate::metrics::Catalogue;

    fn defaults() -> Vec<Rule> {
        read::read(None, true, &Catalogue::new(&Default::default())).unwrap()
    }

    fn settings() -> CloudwatchSettings {
        CloudwatchSettings {
            actions: vec!["topic".into()],
            critical_actions: vec!["pager".into()],
            ..Default::default()
        }
    }

    fn find<'a>(all: &'a [Wanted], name: &str) -> &'a Wanted {
        all.iter().find(|wanted| wanted.name == name).unwrap()
    }

    fn rule_of<'a>(all: &'a [Wanted], name: &str) -> &'a str {
        match &find(all, name).kind {
            Kind::Composite(rule) => rule,
            Kind::Metric { .. } => panic!("{name} is no composite alarm"),
        }
    }

    #[test]
    fn what_is_inhibited_notifies_once_and_not_while_a_parent_fires() {
        let all = alarms(&defaults(), &settings()).unwrap();
        let rule = rule_of(&all, "adlake-ctr_drop-not-inhibited");
        let expected = "ALARM(\"adlake-ctr_drop\") AND NOT ALARM(\"adlake-ingest_lag\") AND NOT \
                        ALARM(\"adlake-stale_feed\")";
        assert_eq!(rule, expected);
        let notifies = |name: &str| find(&all, name).actions.clone();
        assert_eq!(notifies("adlake-ctr_drop"), Vec::<String>::new());
        assert_eq!(notifies("adlake-ctr_drop-not-inhibited"), ["topic"]);
        assert_eq!(notifies("adlake-stale_feed"), ["topic"]);
        assert_eq!(notifies("adlake-any-critical"), ["pager"]);
        // Without composite alarms each metric alarm notifies.
        let all = alarms(&defaults(), &CloudwatchSettings { composites: false, ..settings() }).unwrap();
        assert!(all.iter().all(|wanted| !wanted.is_composite() && wanted.actions == ["topic"]), "{all:?}");
    }

    #[test]
    fn what_is_critical_is_told_by_the_alarms_that_notify() {
        let all = alarms(&defaults(), &settings()).unwrap();
        let children = children(rule_of(&all, "adlake-any-critical"));
        let expected = [
            "adlake-conversions_silent-not-inhibited",
            "adlake-heartbeat",
            "adlake-sink_down",
            "adlake-spend_without_impressions-not-inhibited",
            "adlake-stale_feed",
        ];
        assert_eq!(children.into_iter().collect::<Vec<_>>(), expected);
        // An alarm comes after all that it names, or CloudWatch would not take it.
        let mut known = BTreeSet::new();
        for wanted in &all {
            if let Kind::Composite(rule) = &wanted.kind {
                assert!(super::children(rule).iter().all(|child| known.contains(child)), "{wanted:?}");
            }
            known.insert(wanted.name.as_str());
        }
    }

    #[test]
    fn many_critical_rules_are_split_within_the_limits() {
        let stale = defaults().into_iter().find(|rule| rule.name == "stale_feed").unwrap();
        for (count, length, parts) in [(99, 10, 0), (100, 10, 2), (120, 150, 3), (500, 10, 6)] {
            let rule = |number| Rule { name: format!("r{number:0length$}"), ..stale.clone() };
            let rules: Vec<Rule> = (0..count).map(rule).collect();
            let all = alarms(&rules, &settings()).unwrap();
            let composites: Vec<&Wanted> = all.iter().filter(|wanted| wanted.is_composite()).collect();
            assert_eq!(composites.len(), parts + 1, "{count} rules");
            let named: BTreeSet<&str> = composites.iter().flat_map(|c| children(rule_of(&all, &c.name))).collect();
            assert_eq!(named.len(), count + 1 + parts);
        }
    }

    #[test]
    fn what_cloudwatch_would_refuse_is_refused_before_anything_is_done() {
        let stale = defaults().into_iter().find(|rule| rule.name == "stale_feed").unwrap();
        let refused = |rules: Vec<Rule>| alarms(&rules, &settings()).unwrap_err().to_string();
        let parents = (0..120).map(|number| format!("p{number}")).collect();
        let message = refused(vec![Rule { inhibited_by: parents, ..stale.clone() }]);
        assert!(message.contains("stale_feed-not-inhibited") && message.contains("121"), "{message}");
        let child = |number| Rule { name: format!("c{number}"), inhibited_by: vec!["p".into()], ..stale.clone() };
        let message = refused((0..151).map(child).collect());
        assert!(message.contains("adlake-p") && message.contains("150"), "{message}");
        let message = refused(vec![Rule { name: "heartbeat".into(), ..stale.clone() }]);
        assert!(message.contains("adlake-heartbeat"), "{message}");
        let message = refused(vec![Rule { name: "x".repeat(250), ..stale }]);
        assert!(message.contains("255"), "{message}");
    }
}
