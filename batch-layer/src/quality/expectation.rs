//! What is expected of a table or view. An [`Expectation`] is complete: [`super::parse`] has filled
//! in the defaults and refused what cannot be.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::quality_report::Severity;

/// How much may violate an expectation. Without any limit: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tolerance {
    /// The most violating rows.
    pub rows_max: Option<u64>,
    /// The largest share of the checked rows that may violate it.
    pub fraction_max: Option<f64>,
}

impl Tolerance {
    /// Whether so many violations are tolerated. Both limits hold, if there are both.
    pub fn accepts(&self, violating: u64, checked: u64) -> bool {
        let few_rows = match (self.rows_max, self.fraction_max) {
            (None, None) => violating == 0,
            (rows_max, _) => rows_max.is_none_or(|most| violating <= most),
        };
        few_rows && self.fraction_max.is_none_or(|most| violating == 0 || violating as f64 <= most * checked as f64)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rows_max, self.fraction_max) {
            (None, None) => Ok(()),
            (Some(rows), None) => write!(f, ", up to {rows} excepted"),
            (None, Some(fraction)) => write!(f, ", up to {}% excepted", fraction * 100.0),
            (Some(rows), Some(fraction)) => write!(f, ", up to {rows} and up to {}% excepted", fraction * 100.0),
        }
    }
}

/// A limit or an accepted value: a number, or a text (of a time, for example).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Text(String),
}

impl Literal {
    /// As SQL.
    pub fn sql(&self) -> String {
        match self {
            Literal::Integer(number) => number.to_string(),
            // DataFusion reads a number with an exponent as a float.
            Literal::Number(number) => format!("{number:e}"),
            Literal::Boolean(value) => value.to_string(),
            Literal::Text(text) => quoted(text),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Integer(number) => write!(f, "{number}"),
            Literal::Number(number) => write!(f, "{number}"),
            Literal::Boolean(value) => write!(f, "{value}"),
            Literal::Text(text) => f.write_str(text),
        }
    }
}

/// A text as an SQL literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is measured of a column, to be compared with earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The mean.
    Mean,
    /// The sum.
    Sum,
    /// The share of NULL.
    NullFraction,
    /// About how many different values there are.
    Distinct,
    /// How many rows have a value.
    Rows,
    /// The share of the rows that each value has.
    Values,
}

impl Measure {
    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Mean => "mean",
            Measure::Sum => "sum",
            Measure::NullFraction => "null_fraction",
            Measure::Distinct => "distinct",
            Measure::Rows => "rows",
            Measure::Values => "values",
        }
    }
}

/// What is expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// The column is never NULL.
    NotNull,
    /// At least this share of the rows has a value.
    Completeness { min: f64 },
    /// No two rows have the same values. Rows with NULL among them are not checked.
    Unique { columns: Vec<String> },
    /// The column has one of the values, or NULL.
    AcceptedValues { values: Vec<Literal> },
    /// The column is within limits, or NULL.
    Range { min: Option<Literal>, max: Option<Literal> },
    /// The text matches, or is NULL.
    Regex { pattern: String },
    /// The value is among those of another column, or NULL.
    Relationship { to: String, to_column: String, target_may_be_empty: bool },
    /// So many rows there are.
    RowCount { min: Option<u64>, max: Option<u64> },
    /// The newest time of the column is at most this old.
    Freshness { age_max: Duration },
    /// A measure is near to what it was in the last runs.
    Drift { measure: Measure, runs: usize, runs_min: usize, change_max: f64 },
    /// A measure of two tables is about the same.
    Discrepancy {
        measure: String,
        other: Source,
        other_measure: String,
        by: Vec<String>,
        difference_max: f64,
        min: f64,
    },
    /// The query returns no rows.
    Sql { query: String },
}

/// The rows of a table or view for which a condition holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Source {
    /// The table or view.
    pub table: String,
    /// The condition, as SQL.
    pub filter: Option<String>,
}

impl Source {
    /// The condition, as SQL.
    pub fn condition(&self) -> String {
        self.filter.as_ref().map_or_else(|| "TRUE".to_string(), |filter| format!("({filter})"))
    }

    /// `table WHERE condition`, as SQL.
    pub fn sql(&self) -> String {
        format!("{} WHERE {}", identifier(&self.table), self.condition())
    }
}

/// What is expected of a table or view, and what happens if it is not so.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Its name. No two have the same.
    pub name: String,
    /// The rows. The table of a query is empty if it was not given.
    pub source: Source,
    /// The column, where there is one.
    pub column: Option<String>,
    /// What is expected.
    pub check: Check,
    /// What happens if it is not so.
    pub severity: Severity,
    /// How much may violate it.
    pub tolerance: Tolerance,
    /// Who is told.
    pub owner: Option<String>,
    /// Why it is expected.
    pub description: Option<String>,
}

impl Expectation {
    /// The name of what is expected, as in TOML.
    pub fn kind(&self) -> &'static str {
        match self.check {
            Check::NotNull => "not_null",
            Check::Completeness { .. } => "completeness",
            Check::Unique { .. } => "unique",
            Check::AcceptedValues { .. } => "accepted_values",
            Check::Range { .. } => "range",
            Check::Regex { .. } => "regex",
            Check::Relationship { .. } => "relationship",
            Check::RowCount { .. } => "row_count",
            Check::Freshness { .. } => "freshness",
            Check::Drift { .. } => "drift",
            Check::Discrepancy { .. } => "discrepancy",
            Check::Sql { .. } => "sql",
        }
    }

    /// The column, as SQL.
    pub fn column_sql(&self) -> String {
        identifier(self.column.as_deref().unwrap_or_default())
    }

    /// The column or columns that it is about, readable.
    pub fn columns(&self) -> Option<String> {
        match &self.check {
            Check::Unique { columns } => Some(columns.join(", ")),
            Check::Discrepancy { by, .. } if !by.is_empty() => Some(by.join(", ")),
            _ => self.column.clone(),
        }
    }

    /// What has to hold, readable.
    pub fn expected(&self) -> String {
        let percent = |fraction: f64| format!("{}%", (fraction * 1e6).round() / 1e4);
        let text = match &self.check {
            Check::NotNull => "never NULL".to_string(),
            Check::Completeness { min } => format!("a value in at least {} of the rows", percent(*min)),
            Check::Unique { .. } => "no value twice".to_string(),
            Check::AcceptedValues { values } => {
                let values: Vec<String> = values.iter().map(Literal::to_string).collect();
                format!("one of {}", values.join(", "))
            }
            Check::Range { min, max } => match (min, max) {
                (Some(min), Some(max)) => format!("from {min} to {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, max) => format!("at most {}", max.as_ref().map(Literal::to_string).unwrap_or_default()),
            },
            Check::Regex { pattern } => format!("matches {pattern}"),
            Check::Relationship { to, to_column, .. } => format!("is in {to}.{to_column}"),
            Check::RowCount { min, max } => match (min, max) {
                (Some(min), Some(max)) => format!("{min} to {max} rows"),
                (Some(min), None) => format!("at least {min} rows"),
                (None, max) => format!("at most {} rows", max.unwrap_or_default()),
            },
            Check::Freshness { age_max } => {
                format!("at most {} old", humantime_serde::re::humantime::format_duration(*age_max))
            }
            Check::Drift { measure: Measure::Values, runs, change_max, .. } => {
                format!("shares of values as in the last {runs} runs, PSI at most {change_max}")
            }
            Check::Drift { measure, runs, change_max, .. } => {
                format!("{} within {} of the mean of the last {runs} runs", measure.name(), percent(*change_max))
            }
            Check::Discrepancy { measure, other, other_measure, difference_max, .. } => {
                format!("{measure} within {} of {other_measure} of {}", percent(*difference_max), other.table)
            }
            Check::Sql { .. } => "the query returns no rows".to_string(),
        };
        format!("{text}{}", self.tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances() {
        let check = |rows_max, fraction_max, violating, checked, expected| {
            let tolerance = Tolerance { rows_max, fraction_max };
            assert_eq!(tolerance.accepts(violating, checked), expected, "{tolerance:?} {violating}/{checked}");
        };
        check(None, None, 0, 10, true);
        check(None, None, 1, 10, false);
        check(Some(3), None, 3, 3, true);
        check(Some(3), None, 4, 1000, false);
        check(None, Some(0.1), 1, 10, true);
        check(None, Some(0.1), 2, 10, false);
        check(None, Some(0.1), 0, 0, true);
        check(Some(5), Some(0.1), 2, 10, false);
        check(Some(1), Some(0.5), 2, 10, false);
        check(Some(5), Some(0.5), 5, 10, true);
    }

    #[test]
    fn literals_cannot_leave_their_quotes() {
        assert_eq!(Literal::Text("a' OR '1'='1".into()).sql(), "'a'' OR ''1''=''1'");
        assert_eq!(identifier("a\" b"), "\"a\"\" b\"");
        assert_eq!(Literal::Number(0.5).sql(), "5e-1");
    }
}
