//! From an expectation to SQL. Aggregates of one table and `where` share a scan; what needs groups
//! or joins is a query of its own. Both give one row of numbers, which [`super::verdict`] reads.

use super::expectation::{Check, Expectation, Literal, Measure, Source, identifier, quoted};

/// The most values whose shares are kept of a distribution. The others count as one.
pub(super) const VALUES_MAX: usize = 50;

/// How an expectation is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    /// Aggregates over the expectation's rows.
    Scan(Vec<String>),
    /// A query with one row.
    Query(String),
    /// A query with a row for each value: the value, and how many rows have it.
    Shares(String),
}

/// What the planner has to know of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Its columns.
    pub columns: Vec<String>,
    /// Whether the expectation's column is a number.
    pub is_number: bool,
}

/// Columns that tell which row it is, without naming a user: reports are passed on.
const TELLING: [&str; 14] = [
    "impression_id",
    "interaction_id",
    "event_id",
    "order_id",
    "auction_id",
    "imp_id",
    "event_time",
    "hour",
    "day",
    "campaign_id",
    "ad_creative_id",
    "website",
    "event_date",
    "source",
];
/// The most columns of an example.
const EXAMPLE_COLUMNS_MAX: usize = 7;

/// How an expectation is evaluated.
pub(super) fn work(expectation: &Expectation, shape: &Shape) -> Work {
    let column = expectation.column_sql();
    let source = &expectation.source;
    let violations = |bad: &str| {
        vec![
            format!("count(*) FILTER (WHERE {column} IS NOT NULL)"),
            format!("count(*) FILTER (WHERE {column} IS NOT NULL AND {bad})"),
        ]
    };
    if let Some(bad) = violating(expectation) {
        return match expectation.check {
            Check::NotNull | Check::Completeness { .. } => {
                Work::Scan(vec!["count(*)".to_string(), format!("count(*) FILTER (WHERE {bad})")])
            }
            _ => Work::Scan(violations(&bad)),
        };
    }
    match &expectation.check {
        Check::Unique { columns } => {
            let groups = groups(source, columns);
            Work::Query(format!("SELECT sum(rows) AS a, sum(rows) - count(*) AS b FROM ({groups})"))
        }
        Check::Relationship { to, to_column, .. } => {
            let values = format!(
                "SELECT CAST({column} AS VARCHAR) AS value, count(*) AS rows FROM {} AND {column} IS NOT NULL \
                 GROUP BY 1",
                source.sql()
            );
            let target = target(to, to_column);
            Work::Query(format!(
                "SELECT s.a, s.b, t.c FROM (SELECT sum(v.rows) AS a, sum(v.rows) FILTER (WHERE t.value IS NULL) AS b \
                 FROM ({values}) AS v LEFT JOIN ({target}) AS t ON v.value = t.value) AS s \
                 CROSS JOIN (SELECT count(*) AS c FROM ({target})) AS t"
            ))
        }
        Check::Freshness { .. } => Work::Scan(vec![
            "count(*)".to_string(),
            format!("CAST(arrow_cast(max({column}), 'Timestamp(Microsecond, None)') AS BIGINT)"),
        ]),
        Check::Drift { measure, .. } => drift(*measure, &column, source, shape),
        Check::Discrepancy { difference_max, .. } => {
            let differences = differences(expectation);
            Work::Query(format!(
                "SELECT count(*) AS a, count(*) FILTER (WHERE difference > {difference_max:e}) AS b, \
                 max(difference) AS c FROM ({differences})"
            ))
        }
        Check::Sql { query } => Work::Query(format!("SELECT count(*) AS a FROM ({})", body(query))),
        _ => Work::Scan(vec!["count(*)".to_string()]),
    }
}

/// The query for examples of what violates an expectation.
pub(super) fn examples(expectation: &Expectation, shape: &Shape, limit: usize) -> Option<String> {
    let (source, column) = (&expectation.source, expectation.column_sql());
    if let Some(bad) = violating(expectation) {
        let own = expectation.column.iter().map(String::as_str);
        let telling = TELLING.into_iter().filter(|name| shape.columns.iter().any(|column| column == name));
        let others = telling.filter(|name| Some(*name) != expectation.column.as_deref());
        let columns: Vec<String> = own.chain(others).take(EXAMPLE_COLUMNS_MAX).map(identifier).collect();
        return Some(format!("SELECT {} FROM {} AND {bad} LIMIT {limit}", columns.join(", "), source.sql()));
    }
    match &expectation.check {
        Check::Unique { columns } => {
            Some(format!("SELECT * FROM ({}) WHERE rows > 1 ORDER BY rows DESC LIMIT {limit}", groups(source, columns)))
        }
        Check::Relationship { to, to_column, .. } => Some(format!(
            "SELECT v.value AS {column}, v.rows FROM (SELECT CAST({column} AS VARCHAR) AS value, count(*) AS rows \
             FROM {} AND {column} IS NOT NULL GROUP BY 1) AS v LEFT JOIN ({}) AS t ON v.value = t.value \
             WHERE t.value IS NULL ORDER BY v.rows DESC, v.value LIMIT {limit}",
            source.sql(),
            target(to, to_column)
        )),
        Check::Discrepancy { difference_max, .. } => Some(format!(
            "SELECT * FROM ({}) WHERE difference > {difference_max:e} ORDER BY difference DESC LIMIT {limit}",
            differences(expectation)
        )),
        Check::Sql { query } => Some(format!("SELECT * FROM ({}) LIMIT {limit}", body(query))),
        _ => None,
    }
}

/// The condition of the rows that violate an expectation of rows. `None`: it is not one of rows.
fn violating(expectation: &Expectation) -> Option<String> {
    let column = expectation.column_sql();
    Some(match &expectation.check {
        Check::NotNull | Check::Completeness { .. } => format!("{column} IS NULL"),
        Check::AcceptedValues { values } => {
            let is_text = values.iter().any(|value| matches!(value, Literal::Text(_)));
            let list: Vec<String> =
                values.iter().map(|value| if is_text { quoted(&value.to_string()) } else { value.sql() }).collect();
            let value = if is_text { format!("CAST({column} AS VARCHAR)") } else { column };
            format!("{value} NOT IN ({})", list.join(", "))
        }
        Check::Range { min, max } => {
            let below = min.as_ref().map(|min| format!("{column} < {}", min.sql()));
            let above = max.as_ref().map(|max| format!("{column} > {}", max.sql()));
            format!("({})", below.into_iter().chain(above).collect::<Vec<_>>().join(" OR "))
        }
        Check::Regex { pattern } => format!("NOT regexp_like(CAST({column} AS VARCHAR), {})", quoted(pattern)),
        _ => return None,
    })
}

/// The groups of rows with the same values, and how many rows each has.
fn groups(source: &Source, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    let known: Vec<String> = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    let list = columns.join(", ");
    format!("SELECT {list}, count(*) AS rows FROM {} AND {} GROUP BY {list}", source.sql(), known.join(" AND "))
}

/// The values of a column.
fn target(table: &str, column: &str) -> String {
    let (table, column) = (identifier(table), identifier(column));
    format!("SELECT DISTINCT CAST({column} AS VARCHAR) AS value FROM {table} WHERE {column} IS NOT NULL")
}

/// The two measures by group, and how far they are apart: the difference by the larger one.
fn differences(expectation: &Expectation) -> String {
    let Check::Discrepancy { measure, other, other_measure, by, min, .. } = &expectation.check else {
        return String::new();
    };
    let keys: Vec<String> = by.iter().map(|column| identifier(column)).collect();
    let side = |measure: &str, source: &Source| {
        let keys: String = keys.iter().map(|key| format!("{key}, ")).collect();
        let grouped =
            if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.trim_end_matches(", ")) };
        format!("SELECT {keys}CAST({measure} AS DOUBLE) AS measured FROM {}{grouped}", source.sql())
    };
    let join = match keys.is_empty() {
        true => "CROSS JOIN".to_string(),
        false => "FULL JOIN".to_string(),
    };
    let on: Vec<String> = keys.iter().map(|key| format!("l.{key} IS NOT DISTINCT FROM r.{key}")).collect();
    let on = if on.is_empty() { String::new() } else { format!(" ON {}", on.join(" AND ")) };
    let shown: String = keys.iter().map(|key| format!("coalesce(l.{key}, r.{key}) AS {key}, ")).collect();
    let names: String = keys.iter().map(|key| format!("{key}, ")).collect();
    format!(
        "SELECT {names}measured, other, CASE WHEN greatest(measured, -measured, other, -other) > 0 \
         THEN (greatest(measured, other) - least(measured, other)) / greatest(measured, -measured, other, -other) \
         ELSE 0 END AS difference \
         FROM (SELECT {shown}coalesce(l.measured, 0) AS measured, coalesce(r.measured, 0) AS other \
         FROM ({}) AS l {join} ({}) AS r{on}) WHERE greatest(measured, other) >= {min:e}",
        side(measure, &expectation.source),
        side(other_measure, other),
    )
}

fn drift(measure: Measure, column: &str, source: &Source, shape: &Shape) -> Work {
    let rows = format!("count({column})");
    match measure {
        Measure::Mean => Work::Scan(vec![rows, format!("avg(CAST({column} AS DOUBLE))")]),
        Measure::Sum => Work::Scan(vec![rows, format!("sum(CAST({column} AS DOUBLE))")]),
        Measure::NullFraction => Work::Scan(vec![
            "count(*)".to_string(),
            format!("CASE WHEN count(*) > 0 THEN CAST(count(*) - count({column}) AS DOUBLE) / count(*) ELSE NULL END"),
        ]),
        Measure::Distinct => Work::Scan(vec![rows, format!("approx_distinct(CAST({column} AS VARCHAR))")]),
        Measure::Rows => Work::Scan(vec!["count(*)".to_string(), "count(*)".to_string()]),
        Measure::Values => {
            let value = if shape.is_number { bucket(column) } else { format!("CAST({column} AS VARCHAR)") };
            Work::Shares(format!(
                "SELECT CASE WHEN place <= {VALUES_MAX} THEN value ELSE 'all others' END AS value, sum(rows) AS rows \
                 FROM (SELECT value, rows, row_number() OVER (ORDER BY rows DESC, value) AS place FROM \
                 (SELECT coalesce({value}, 'NULL') AS value, count(*) AS rows FROM {} GROUP BY 1)) GROUP BY 1",
                source.sql()
            ))
        }
    }
}

/// A number's power of four, as text: a histogram whose buckets are the same in every run.
fn bucket(column: &str) -> String {
    let number = format!("CAST({column} AS DOUBLE)");
    let mut cases = format!("CASE WHEN {number} IS NULL THEN NULL WHEN {number} < 0 THEN 'below 0' ");
    cases.push_str(&format!("WHEN {number} = 0 THEN '0' "));
    for power in -8..=20 {
        let bound = 4f64.powi(power);
        cases.push_str(&format!("WHEN {number} < {bound:e} THEN 'below {bound}' "));
    }
    cases + "ELSE 'more' END"
}

/// A query without its semicolon, on lines of its own, as it may end in a comment.
fn body(query: &str) -> String {
    format!("\n{}\n", query.trim().trim_end_matches(';'))
}
