//! Segments: groups of users by what they did. Each user is in one segment, that of the first rule
//! whose conditions all hold, else in [`OTHER`].
//!
//! What a user did is summed up in four numbers, over the valid events with a known user:
//!
//! - `recency_days`: whole days from the user's newest event to the newest event of any user. So it
//!   does not depend on the clock.
//! - `frequency`: impressions.
//! - `value`: revenue, in units of the account currency.
//! - `engagement`: clicks and conversions (of primary types).

use serde::{Deserialize, Serialize};

/// The segment of users to whom no rule applies.
pub const OTHER: &str = "other";

/// The rules of segments, in order. They only choose what is shown, so a change takes effect at
/// once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Segments {
    /// The rules. The first one that applies to a user gives the segment.
    pub rule: Vec<Rule>,
}

/// A rule: all its conditions have to hold. Bounds are included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The segment.
    pub name: String,
    /// At least so many days since the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recency_days_min: Option<i64>,
    /// At most so many days since the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recency_days_max: Option<i64>,
    /// At least so many impressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_min: Option<i64>,
    /// At most so many impressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_max: Option<i64>,
    /// At least so many units of revenue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_min: Option<i64>,
    /// At most so many units of revenue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_max: Option<i64>,
    /// At least so many clicks and conversions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engagement_min: Option<i64>,
    /// At most so many clicks and conversions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engagement_max: Option<i64>,
    /// At least so many conversions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversions_min: Option<i64>,
    /// At most so many conversions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversions_max: Option<i64>,
}

/// A condition of a rule: a number of a user, and the bounds of it.
pub type Condition = (&'static str, Option<i64>, Option<i64>);

impl Rule {
    /// The conditions, by the names of the view's columns.
    pub fn conditions(&self) -> [Condition; 5] {
        [
            ("recency_days", self.recency_days_min, self.recency_days_max),
            ("frequency", self.frequency_min, self.frequency_max),
            ("value", self.value_min, self.value_max),
            ("engagement", self.engagement_min, self.engagement_max),
            ("conversions", self.conversions_min, self.conversions_max),
        ]
    }
}

impl Default for Segments {
    fn default() -> Self {
        let rule = |name: &str| Rule { name: name.to_string(), ..Rule::default() };
        Segments {
            rule: vec![
                Rule { conversions_min: Some(3), recency_days_max: Some(30), ..rule("loyal") },
                Rule { conversions_min: Some(1), recency_days_max: Some(90), ..rule("customer") },
                Rule { conversions_min: Some(1), ..rule("lapsed_customer") },
                Rule { engagement_min: Some(1), recency_days_max: Some(30), ..rule("engaged") },
                Rule { recency_days_max: Some(30), ..rule("reached") },
                rule("lapsed"),
            ],
        }
    }
}

impl Segments {
    /// Refuses a rule that cannot be meant. The message names it.
    pub fn check(&self) -> Result<(), String> {
        for (place, rule) in self.rule.iter().enumerate() {
            let which = format!("segments.rule[{place}]");
            if rule.name.is_empty() {
                return Err(format!("{which}: a segment needs a name"));
            }
            for (name, min, max) in rule.conditions() {
                if let (Some(min), Some(max)) = (min, max)
                    && min > max
                {
                    return Err(format!("{which}: {name}_min ({min}) is greater than {name}_max ({max})"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        assert_eq!(Segments::default().check(), Ok(()));
        let refused = |rule: Rule| Segments { rule: vec![rule] }.check().unwrap_err();
        assert!(refused(Rule::default()).contains("segments.rule[0]: a segment needs a name"));
        let crossed = Rule { name: "x".into(), value_min: Some(2), value_max: Some(1), ..Rule::default() };
        assert!(refused(crossed).contains("value_min (2) is greater than value_max (1)"));
    }
}
