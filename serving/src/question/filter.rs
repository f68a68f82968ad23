//! Filters: conditions on dimensions, which choose events, and conditions on metrics, which choose
//! rows of the answer.

use adlake_domain::money::{Rounding, parse_scaled};
use serde_json::Value;

use super::{Dimension, Invalid};
use crate::metrics::Catalogue;

/// The deepest nesting of a filter, and the most values that it names.
const DEPTH_MAX: usize = 16;
const VALUES_MAX: usize = 10_000;

/// A condition on dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All hold. Without parts: everything.
    All(Vec<Condition>),
    /// One holds. Without parts: nothing.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A dimension has one of the values. `None` is unknown.
    In(Dimension, Vec<Option<String>>),
}

impl Condition {
    /// The dimensions that it names.
    pub fn dimensions(&self) -> Vec<Dimension> {
        match self {
            Condition::All(parts) | Condition::Any(parts) => parts.iter().flat_map(Condition::dimensions).collect(),
            Condition::Not(part) => part.dimensions(),
            Condition::In(dimension, _) => vec![*dimension],
        }
    }
}

/// A comparison of a metric with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The place of the metric in the catalogue.
    pub metric: usize,
    /// How they compare.
    pub operator: Operator,
    /// The number in billionths, exact.
    pub billionths: i128,
    /// The number.
    pub number: f64,
}

/// How a metric compares with a number. A metric without a value compares with none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Operator {
    /// Whether it holds for two values that compare so.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Operator::Equal => ordering.is_eq(),
            Operator::Different => ordering.is_ne(),
            Operator::Less => ordering.is_lt(),
            Operator::AtMost => ordering.is_le(),
            Operator::Greater => ordering.is_gt(),
            Operator::AtLeast => ordering.is_ge(),
        }
    }

    fn parse(text: &str) -> Option<Operator> {
        Some(match text {
            "=" => Operator::Equal,
            "!=" => Operator::Different,
            "<" => Operator::Less,
            "<=" => Operator::AtMost,
            ">" => Operator::Greater,
            ">=" => Operator::AtLeast,
            _ => return None,
        })
    }
}

/// The two kinds of conditions of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Which events count.
    pub events: Condition,
    /// Which rows of the answer are shown: those for which all hold.
    pub rows: Vec<Comparison>,
}

impl Filter {
    /// Everything.
    pub fn everything() -> Filter {
        Filter { events: Condition::All(Vec::new()), rows: Vec::new() }
    }

    /// Reads the filter of a question.
    pub fn read(value: &Value, catalogue: &Catalogue) -> Result<Filter, Invalid> {
        let mut reader = Reader { catalogue, values: 0 };
        match reader.read(value, "/filters", 0)? {
            Read::Events(events) => Ok(Filter { events, rows: Vec::new() }),
            Read::Rows(rows) => Ok(Filter { rows, ..Filter::everything() }),
            Read::Both(events, rows) => Ok(Filter { events, rows }),
        }
    }
}

enum Read {
    Events(Condition),
    Rows(Vec<Comparison>),
    Both(Condition, Vec<Comparison>),
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    values: usize,
}

fn bad(pointer: &str, detail: impl Into<String>) -> Invalid {
    Invalid::new("bad_filter", pointer, detail)
}

impl Reader<'_> {
    fn read(&mut self, value: &Value, pointer: &str, depth: usize) -> Result<Read, Invalid> {
        if depth > DEPTH_MAX {
            return Err(bad(pointer, format!("the filter is nested deeper than {DEPTH_MAX} levels")));
        }
        let wrong = || bad(pointer, "a filter is a list like [\"in\", \"country\", [\"DE\"]]");
        let list = value.as_array().ok_or_else(wrong)?;
        let name = list.first().and_then(Value::as_str).ok_or_else(wrong)?;
        match name {
            "and" => self.all(&list[1..], pointer, depth),
            "or" => {
                let mut parts = Vec::new();
                for (place, part) in list.iter().enumerate().skip(1) {
                    parts.push(self.events(part, &format!("{pointer}/{place}"), depth + 1)?);
                }
                Ok(Read::Events(Condition::Any(parts)))
            }
            "not" => {
                let [_, part] = list.as_slice() else { return Err(bad(pointer, "\"not\" takes one filter")) };
                let part = self.events(part, &format!("{pointer}/1"), depth + 1)?;
                Ok(Read::Events(Condition::Not(Box::new(part))))
            }
            "in" | "=" | "!=" | "<" | "<=" | ">" | ">=" => {
                let [_, column, value] = list.as_slice() else {
                    return Err(bad(pointer, format!("{name:?} takes a column and a value")));
                };
                let at = format!("{pointer}/1");
                let column = column.as_str().ok_or_else(|| bad(&at, "a column is a name"))?;
                match (Dimension::parse(column), self.catalogue.find(column)) {
                    (Some(dimension), _) => self.dimension(name, dimension, value, &format!("{pointer}/2")),
                    (None, Some(metric)) => {
                        Ok(Read::Rows(vec![comparison(name, metric, value, pointer, &format!("{pointer}/2"))?]))
                    }
                    (None, None) => Err(bad(&at, format!("there is no dimension or metric {column:?}"))),
                }
            }
            other => {
                Err(bad(&format!("{pointer}/0"), format!("{other:?} is none of and, or, not, in, =, !=, <, <=, >, >=")))
            }
        }
    }

    fn all(&mut self, list: &[Value], pointer: &str, depth: usize) -> Result<Read, Invalid> {
        let (mut events, mut rows) = (Vec::new(), Vec::new());
        for (place, part) in list.iter().enumerate() {
            match self.read(part, &format!("{pointer}/{}", place + 1), depth + 1)? {
                Read::Events(condition) => events.push(condition),
                Read::Rows(more) => rows.extend(more),
                Read::Both(condition, more) => {
                    events.push(condition);
                    rows.extend(more);
                }
            }
        }
        Ok(if rows.is_empty() {
            Read::Events(Condition::All(events))
        } else {
            Read::Both(Condition::All(events), rows)
        })
    }

    fn events(&mut self, value: &Value, pointer: &str, depth: usize) -> Result<Condition, Invalid> {
        match self.read(value, pointer, depth)? {
            Read::Events(condition) => Ok(condition),
            _ => Err(bad(pointer, "a condition on a metric can only be combined by \"and\"")),
        }
    }

    fn dimension(&mut self, name: &str, dimension: Dimension, value: &Value, pointer: &str) -> Result<Read, Invalid> {
        let text = |value: &Value, pointer: &str| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(bad(pointer, "a value of a dimension is a text, or null for unknown")),
        };
        let values = match (name, value) {
            ("in", Value::Array(values)) => {
                let each = values.iter().enumerate();
                each.map(|(place, value)| text(value, &format!("{pointer}/{place}"))).collect::<Result<Vec<_>, _>>()?
            }
            ("in", _) => return Err(bad(pointer, "\"in\" takes a list of values")),
            ("=" | "!=", value) => vec![text(value, pointer)?],
            _ => {
                return Err(bad(
                    pointer,
                    format!("{name:?} compares metrics, and {} is a dimension", dimension.name()),
                ));
            }
        };
        self.values += values.len();
        if self.values > VALUES_MAX {
            return Err(bad(pointer, format!("the filter names more than {VALUES_MAX} values")));
        }
        let condition = Condition::In(dimension, values);
        Ok(Read::Events(if name == "!=" { Condition::Not(Box::new(condition)) } else { condition }))
    }
}

fn comparison(name: &str, metric: usize, value: &Value, pointer: &str, at: &str) -> Result<Comparison, Invalid> {
    let operator =
        Operator::parse(name).ok_or_else(|| bad(pointer, "\"in\" chooses values of dimensions, not of metrics"))?;
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err(bad(at, "a metric is compared with a number, or with a decimal as text")),
    };
    let wrong = || bad(at, format!("{text:?} is no number"));
    let number: f64 = text.trim().parse().map_err(|_| wrong())?;
    if !number.is_finite() {
        return Err(wrong());
    }
    let billionths = parse_scaled(text.trim(), 9, Rounding::HalfEven).map_err(|_| wrong())?;
    Ok(Comparison { metric, operator, billionths, number })
}

#[cfg(test)]
mod tests {
    use adlake_domain::settings::Display;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Filter, Invalid> {
        Filter::read(&value, &Catalogue::new(&Display::default()))
    }

    #[test]
    fn conditions_on_events_and_on_rows_are_told_apart() {
        let filter =
            read(json!(["and", ["in", "country", ["DE", null]], [">", "spend", "10.5"], ["!=", "region", "BY"]]));
        let filter = filter.unwrap();
        let country = Condition::In(Dimension::Country, vec![Some("DE".into()), None]);
        let region = Condition::Not(Box::new(Condition::In(Dimension::Region, vec![Some("BY".into())])));
        assert_eq!(filter.events, Condition::All(vec![country, region]));
        assert_eq!(filter.rows.len(), 1);
        assert_eq!((filter.rows[0].billionths, filter.rows[0].operator), (10_500_000_000, Operator::Greater));
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let check = |value: Value, pointer: &str, part: &str| {
            let error = read(value).unwrap_err();
            assert!(error.pointer == pointer && error.detail.contains(part), "{error:?}");
        };
        check(json!("country"), "/filters", "list");
        check(json!(["xor", []]), "/filters/0", "xor");
        check(json!(["and", ["in", "contry", ["DE"]]]), "/filters/1/1", "contry");
        check(json!(["in", "country", "DE"]), "/filters/2", "list");
        check(json!(["in", "country", ["DE", 7]]), "/filters/2/1", "text");
        check(json!(["or", [">", "spend", 1]]), "/filters/1", "and");
        check(json!([">", "spend", "many"]), "/filters/2", "many");
        check(json!([">", "country", "A"]), "/filters/2", "dimension");
        check(json!(["in", "spend", [1]]), "/filters", "metrics");
        let deep = (0..40).fold(json!(["in", "country", []]), |inner, _| json!(["not", inner]));
        assert!(read(deep).unwrap_err().detail.contains("deeper"));
    }
}
