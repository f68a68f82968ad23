//! Reads expectations from TOML. Whatever is wrong is told with its file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adlake_lake::LakeError;
use serde::Deserialize;
use toml::Spanned;

use super::expectation::{Check, Expectation, Literal, Measure, Source, Tolerance};
use crate::quality_report::Severity;

/// The expectations that hold where none are given.
const BUILT_IN: &str = include_str!("defaults.toml");

/// The most expectations.
const EXPECTATIONS_MAX: usize = 2_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    expectation: Vec<Spanned<Given>>,
}

/// An expectation as it is written. Which keys belong to which type is checked apart.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    table: Option<String>,
    column: Option<String>,
    columns: Option<Vec<String>>,
    #[serde(rename = "where")]
    filter: Option<String>,
    severity: Severity,
    max_rows: Option<u64>,
    max_fraction: Option<f64>,
    owner: Option<String>,
    description: Option<String>,
    values: Option<Vec<Literal>>,
    min: Option<Literal>,
    max: Option<Literal>,
    pattern: Option<String>,
    to: Option<String>,
    to_column: Option<String>,
    target_may_be_empty: Option<bool>,
    max_age: Option<String>,
    measure: Option<String>,
    runs: Option<usize>,
    min_runs: Option<usize>,
    max_change: Option<f64>,
    max_psi: Option<f64>,
    other_table: Option<String>,
    other_where: Option<String>,
    other_measure: Option<String>,
    by: Option<Vec<String>>,
    max_difference: Option<f64>,
    min_measure: Option<f64>,
    sql: Option<String>,
}

/// The expectations of a file, or of the `.toml` files of a folder by name. An empty path gives the
/// built-in ones.
pub fn read(path: &Path) -> Result<Vec<Expectation>, LakeError> {
    if path.as_os_str().is_empty() {
        return parse_all(&[(PathBuf::from("the built-in expectations"), BUILT_IN.to_string())]);
    }
    let unreadable = |path: &Path, error: std::io::Error| {
        LakeError::Configuration(format!("quality.expectations: cannot read {}: {error}", path.display()))
    };
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|error| unreadable(path, error))? {
            let file = entry.map_err(|error| unreadable(path, error))?.path();
            if file.extension().is_some_and(|extension| extension == "toml") {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            let detail = format!("quality.expectations: the folder {} has no .toml file", path.display());
            return Err(LakeError::Configuration(detail));
        }
    } else {
        files.push(path.to_path_buf());
    }
    let texts = files.into_iter().map(|file| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(unreadable(&file, error)),
    });
    parse_all(&texts.collect::<Result<Vec<_>, _>>()?)
}

/// The expectations of a text.
pub fn parse(file: &str, text: &str) -> Result<Vec<Expectation>, LakeError> {
    parse_all(&[(PathBuf::from(file), text.to_string())])
}

fn parse_all(files: &[(PathBuf, String)]) -> Result<Vec<Expectation>, LakeError> {
    let mut all = Vec::new();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in files {
        let at = |offset: usize| format!("{}:{}", path.display(), line_of(text, offset));
        let wrong = |place: &str, detail: &str| LakeError::Configuration(format!("{place}: {detail}"));
        let document: Document = toml::from_str(text)
            .map_err(|error| wrong(&at(error.span().map_or(0, |span| span.start)), error.message()))?;
        for given in document.expectation {
            let place = at(given.span().start);
            let expectation = given.into_inner().complete().map_err(|detail| wrong(&place, &detail))?;
            if let Some(first) = places.insert(expectation.name.clone(), place.clone()) {
                let detail = format!("an expectation is named {:?} already, at {first}", expectation.name);
                return Err(wrong(&place, &detail));
            }
            all.push(expectation);
            if all.len() > EXPECTATIONS_MAX {
                return Err(wrong(&place, &format!("there are more than {EXPECTATIONS_MAX} expectations")));
            }
        }
    }
    Ok(all)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

impl Given {
    /// The error says what is wrong.
    fn complete(mut self) -> Result<Expectation, String> {
        let kind = self.kind.take().ok_or("type is missing")?;
        let table = self.table.take();
        let check = self.check(&kind)?;
        let column = self.column.take();
        if let Some(key) = self.left() {
            return Err(format!("{key} does not belong to an expectation of the type {kind}"));
        }
        let needs_column = !matches!(
            check,
            Check::Unique { .. } | Check::RowCount { .. } | Check::Discrepancy { .. } | Check::Sql { .. }
        );
        let needs_column = needs_column && !matches!(check, Check::Drift { measure: Measure::Rows, .. });
        match (needs_column, &column) {
            (true, None) => return Err(format!("column is missing, which the type {kind} needs")),
            (false, Some(_)) => return Err(format!("column does not belong to an expectation of the type {kind}")),
            _ => {}
        }
        if table.is_none() && !matches!(check, Check::Sql { .. }) {
            return Err(format!("table is missing, which the type {kind} needs"));
        }
        let is_of_rows = !matches!(
            check,
            Check::RowCount { .. } | Check::Freshness { .. } | Check::Drift { .. } | Check::Completeness { .. }
        );
        if !is_of_rows && (self.max_rows.is_some() || self.max_fraction.is_some()) {
            return Err(format!("max_rows and max_fraction do not belong to the type {kind}"));
        }
        if matches!(check, Check::Sql { .. }) && (self.filter.is_some() || self.max_fraction.is_some()) {
            return Err("where and max_fraction do not belong to the type sql".to_string());
        }
        fraction("max_fraction", self.max_fraction)?;
        let table = table.unwrap_or_default();
        let default_name = || {
            let columns = match &check {
                Check::Unique { columns } => Some(columns.join("_")),
                _ => column.clone(),
            };
            [Some(table.clone()).filter(|table| !table.is_empty()), columns, Some(kind.clone())]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(".")
        };
        let name = self.name.take().unwrap_or_else(default_name);
        if name.trim().is_empty() {
            return Err("name is empty".to_string());
        }
        Ok(Expectation {
            name,
            source: Source { table, filter: self.filter },
            column,
            check,
            severity: self.severity,
            tolerance: Tolerance { rows_max: self.max_rows, fraction_max: self.max_fraction },
            owner: self.owner,
            description: self.description,
        })
    }

    /// Takes the keys that belong to a type.
    fn check(&mut self, kind: &str) -> Result<Check, String> {
        let missing = |key: &str| format!("{key} is missing, which the type {kind} needs");
        Ok(match kind {
            "not_null" => Check::NotNull,
            "completeness" => match self.min.take() {
                Some(Literal::Number(min)) if (0.0..=1.0).contains(&min) => Check::Completeness { min },
                Some(Literal::Integer(min @ (0 | 1))) => Check::Completeness { min: min as f64 },
                Some(min) => return Err(format!("min is {min}, but has to be a share from 0 to 1")),
                None => return Err(missing("min")),
            },
            "unique" => match (self.columns.take(), self.column.take()) {
                (Some(columns), None) if !columns.is_empty() => Check::Unique { columns },
                (None, Some(column)) => Check::Unique { columns: vec![column] },
                _ => return Err("the type unique needs column, or columns with at least one name".to_string()),
            },
            "accepted_values" => match self.values.take() {
                Some(values) if !values.is_empty() => Check::AcceptedValues { values },
                _ => return Err(missing("values")),
            },
            "range" => match (self.min.take(), self.max.take()) {
                (None, None) => return Err("the type range needs min or max".to_string()),
                (Some(Literal::Integer(min)), Some(Literal::Integer(max))) if min > max => {
                    return Err(format!("min {min} is above max {max}"));
                }
                (min, max) => Check::Range { min, max },
            },
            "regex" => {
                let pattern = self.pattern.take().ok_or_else(|| missing("pattern"))?;
                if let Err(error) = regex::Regex::new(&pattern) {
                    let detail = error.to_string();
                    let detail: Vec<&str> = detail.split_whitespace().collect();
                    return Err(format!("pattern: {}", detail.join(" ")));
                }
                Check::Regex { pattern }
            }
            "relationship" => Check::Relationship {
                to: self.to.take().ok_or_else(|| missing("to"))?,
                to_column: match self.to_column.take().or_else(|| self.column.clone()) {
                    Some(column) => column,
                    None => return Err(missing("column")),
                },
                target_may_be_empty: self.target_may_be_empty.take().unwrap_or(false),
            },
            "row_count" => match (rows("min", self.min.take())?, rows("max", self.max.take())?) {
                (None, None) => return Err("the type row_count needs min or max".to_string()),
                (Some(min), Some(max)) if min > max => return Err(format!("min {min} is above max {max}")),
                (min, max) => Check::RowCount { min, max },
            },
            "freshness" => Check::Freshness {
                age_max: duration("max_age", self.max_age.take().ok_or_else(|| missing("max_age"))?)?,
            },
            "drift" => self.drift()?,
            "discrepancy" => {
                let measure = self.measure.take().unwrap_or_else(|| "count(*)".to_string());
                Check::Discrepancy {
                    other: Source {
                        table: self.other_table.take().ok_or_else(|| missing("other_table"))?,
                        filter: self.other_where.take(),
                    },
                    other_measure: self.other_measure.take().unwrap_or_else(|| measure.clone()),
                    measure,
                    by: self.by.take().unwrap_or_default(),
                    difference_max: fraction("max_difference", self.max_difference.take())?
                        .ok_or_else(|| missing("max_difference"))?,
                    min: self.min_measure.take().unwrap_or(0.0),
                }
            }
            "sql" => Check::Sql { query: self.sql.take().ok_or_else(|| missing("sql"))? },
            other => {
                return Err(format!(
                    "type {other:?} is not known; the types are not_null, completeness, unique, accepted_values, \
                     range, regex, relationship, row_count, freshness, drift, discrepancy and sql"
                ));
            }
        })
    }

    fn drift(&mut self) -> Result<Check, String> {
        let measure = match self.measure.take().as_deref() {
            Some("mean") => Measure::Mean,
            Some("sum") => Measure::Sum,
            Some("null_fraction") => Measure::NullFraction,
            Some("distinct") => Measure::Distinct,
            Some("rows") => Measure::Rows,
            Some("values") => Measure::Values,
            other => {
                let other = other.unwrap_or("missing");
                return Err(format!(
                    "measure is {other}; it has to be mean, sum, null_fraction, distinct, rows or values"
                ));
            }
        };
        let change_max = match (measure, self.max_change.take(), self.max_psi.take()) {
            (Measure::Values, None, psi) => psi.unwrap_or(0.25),
            (Measure::Values, Some(_), _) => return Err("of values, max_psi is the limit and not max_change".into()),
            (_, change, None) => change.unwrap_or(0.5),
            (_, _, Some(_)) => return Err("max_psi belongs to the measure values alone".into()),
        };
        if !change_max.is_finite() || change_max < 0.0 {
            return Err(format!("the limit {change_max} has to be a number from 0 on"));
        }
        let (runs, runs_min) = (self.runs.take().unwrap_or(7), self.min_runs.take());
        let runs_min = runs_min.unwrap_or(3.min(runs));
        if !(1..=1000).contains(&runs) || !(1..=runs).contains(&runs_min) {
            return Err("runs has to be from 1 to 1000, and min_runs from 1 to runs".to_string());
        }
        Ok(Check::Drift { measure, runs, runs_min, change_max })
    }

    /// A key of a type that was not taken.
    fn left(&self) -> Option<&'static str> {
        let keys = [
            ("columns", self.columns.is_some()),
            ("values", self.values.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("pattern", self.pattern.is_some()),
            ("to", self.to.is_some()),
            ("to_column", self.to_column.is_some()),
            ("target_may_be_empty", self.target_may_be_empty.is_some()),
            ("max_age", self.max_age.is_some()),
            ("measure", self.measure.is_some()),
            ("runs", self.runs.is_some()),
            ("min_runs", self.min_runs.is_some()),
            ("max_change", self.max_change.is_some()),
            ("max_psi", self.max_psi.is_some()),
            ("other_table", self.other_table.is_some()),
            ("other_where", self.other_where.is_some()),
            ("other_measure", self.other_measure.is_some()),
            ("by", self.by.is_some()),
            ("max_difference", self.max_difference.is_some()),
            ("min_measure", self.min_measure.is_some()),
            ("sql", self.sql.is_some()),
        ];
        keys.into_iter().find(|(_, is_left)| *is_left).map(|(key, _)| key)
    }
}

fn fraction(key: &str, value: Option<f64>) -> Result<Option<f64>, String> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(format!("{key} is {value}, but has to be from 0 to 1")),
        value => Ok(value),
    }
}

fn rows(key: &str, value: Option<Literal>) -> Result<Option<u64>, String> {
    match value {
        None => Ok(None),
        Some(Literal::Integer(rows)) if rows >= 0 => Ok(Some(rows as u64)),
        Some(other) => Err(format!("{key} is {other}, but has to be a number of rows")),
    }
}

fn duration(key: &str, text: String) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(&text)
        .map_err(|error| format!("{key}: {error} (like 90s, 30m or 2h)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_expectations_are_right() {
        let all = read(Path::new("")).unwrap();
        assert!(all.len() > 10, "{}", all.len());
        assert!(all.iter().any(|expectation| expectation.severity == Severity::Fail));
        assert!(all.iter().all(|expectation| expectation.description.is_some()));
    }

    #[test]
    fn a_folder_is_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.toml", "[[expectation]]\ntype = \"row_count\"\ntable = \"clicks\"\nmin = 1\n");
        write("a.toml", "[[expectation]]\ntype = \"not_null\"\ntable = \"clicks\"\ncolumn = \"user_id\"\n");
        write("c.txt", "no TOML");
        let names: Vec<String> = read(folder.path()).unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["clicks.user_id.not_null", "clicks.row_count"]);
        write("d.toml", "\n[[expectation]]\ntype = \"row_count\"\ntable = \"clicks\"\nmax = 1\n");
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("d.toml:2") && error.contains("b.toml:1"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, expected: &str| {
            let text = format!("# expectations\n[[expectation]]\ntable = \"clicks\"\n{text}");
            let error = parse("x.toml", &text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} is not {expected}");
        };
        check("type = \"nonull\"", "x.toml:2: type \"nonull\" is not known; the types are not_null");
        check("type = \"not_null\"\ncolum = \"x\"", "x.toml:5: unknown field `colum`");
        check("column = \"x\"", "x.toml:2: type is missing");
        check("type = \"not_null\"", "x.toml:2: column is missing");
        check("type = \"row_count\"\nmin = 1\ncolumn = \"x\"", "column does not belong");
        check("type = \"not_null\"\ncolumn = \"x\"\npattern = \"y\"", "pattern does not belong");
        check("type = \"regex\"\ncolumn = \"x\"\npattern = \"(\"", "x.toml:2: pattern: regex parse error");
        check("type = \"range\"\ncolumn = \"x\"", "needs min or max");
        check("type = \"range\"\ncolumn = \"x\"\nmin = 2\nmax = 1", "min 2 is above max 1");
        check("type = \"freshness\"\ncolumn = \"x\"\nmax_age = \"soon\"", "max_age: ");
        check("type = \"not_null\"\ncolumn = \"x\"\nseverity = \"bad\"", "x.toml:6: unknown variant `bad`");
        check(
            "type = \"not_null\"\ncolumn = \"x\"\nmax_fraction = 2.0",
            "max_fraction is 2, but has to be from 0 to 1",
        );
        check("type = \"completeness\"\ncolumn = \"x\"\nmin = 95", "min is 95, but has to be a share");
        check("type = \"drift\"\ncolumn = \"x\"\nmeasure = \"median\"", "measure is median");
        check(
            "type = \"drift\"\ncolumn = \"x\"\nmeasure = \"mean\"\nruns = 2\nmin_runs = 3",
            "min_runs from 1 to runs",
        );
        check("type = \"discrepancy\"\nother_table = \"y\"", "max_difference is missing");
        check("type = \"row_count\"\nmin = 1\nmax_rows = 3", "max_rows and max_fraction do not belong");
        check("type = \"sql\"\nsql = \"SELECT 1\"\nwhere = \"x\"", "where and max_fraction do not belong");
        check("type = \"unique\"\ncolumns = []", "columns with at least one name");
        check("type = ", "x.toml:4: ");
    }
}
