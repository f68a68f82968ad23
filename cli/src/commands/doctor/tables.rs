//! The tables: their versions, and whether this program can read and write them.

use std::time::Duration;

use adlake_domain::catalogue;
use adlake_lake::Lake;
use adlake_lake::probe::TableFeatures;

use super::Part;
use super::finding::{Area, Finding};
use crate::failure::line;

/// Whether a part may read a table. Ingest reads of the batch layer only what it has published.
fn reads(part: Part, table: &str) -> bool {
    part != Part::Speed || !table.starts_with("batch/") || table == catalogue::MANIFEST
}

/// Reads the protocol of each table that the part may read.
pub async fn examine(lake: &Lake, part: Part, timeout: Duration, findings: &mut Vec<Finding>) {
    let mut tables = catalogue::tables();
    tables.retain(|table| reads(part, table.name));
    let mut missing = Vec::new();
    for table in &tables {
        match tokio::time::timeout(timeout, lake.table_features(table)).await {
            Ok(Ok(Some(features))) => findings.push(judge(table.name, &features)),
            Ok(Ok(None)) => missing.push(table.name),
            Ok(Err(error)) => {
                let remedy = "`adlake check-lake` tells what is wrong with the log, and what to do";
                findings.push(Finding::error(Area::Tables, table.name, line(&error.into()), remedy));
            }
            Err(_) => {
                let remedy = "write a checkpoint (`adlake batch checkpoint`), or allow more with --timeout";
                let detail = format!("its log was not read within {timeout:?}");
                findings.push(Finding::error(Area::Tables, table.name, detail, remedy));
            }
        }
    }
    if missing.len() == tables.len() {
        findings.push(Finding::ok(Area::Tables, "lake", "is empty: the first `adlake ingest` makes the tables"));
    } else if !missing.is_empty() {
        let detail = format!("not there yet: {}. Each is made when it is first written", missing.join(", "));
        findings.push(Finding::ok(Area::Tables, "lake", detail));
    }
}

fn judge(table: &str, features: &TableFeatures) -> Finding {
    let TableFeatures { version, reader_version, writer_version, features, lacking, problem } = features;
    let features = if features.is_empty() { String::new() } else { format!(", features {}", features.join(", ")) };
    let detail = format!("version {version}, protocol {reader_version}/{writer_version}{features}");
    if let Some(problem) = problem {
        let remedy = "another program has changed the table: undo its change, or use a version of adlake that knows it";
        return Finding::error(Area::Tables, table, format!("{detail}: {problem}"), remedy);
    }
    if !lacking.is_empty() {
        let detail = format!("{detail}; lacks {}, which the next write adds", lacking.join(", "));
        return Finding::ok(Area::Tables, table, detail);
    }
    Finding::ok(Area::Tables, table, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Level;

    #[test]
    fn ingest_does_not_look_at_what_it_may_not_read() {
        let tables = |part| catalogue::tables().iter().filter(|table| reads(part, table.name)).count();
        assert!(reads(Part::Speed, "raw/impressions") && reads(Part::Speed, "batch/manifest"));
        assert!(!reads(Part::Speed, "batch/impressions") && reads(Part::Serving, "batch/impressions"));
        assert!(tables(Part::Speed) < tables(Part::All) && tables(Part::All) == catalogue::tables().len());
    }

    #[test]
    fn a_table_that_cannot_be_written_is_an_error() {
        let mut features = TableFeatures {
            version: 7,
            reader_version: 1,
            writer_version: 7,
            features: vec!["rowTracking".to_owned()],
            lacking: vec!["geo.city".to_owned()],
            problem: None,
        };
        let found = judge("raw/impressions", &features);
        let expected = "version 7, protocol 1/7, features rowTracking; lacks geo.city, which the next write adds";
        assert_eq!((found.level, found.detail.as_str()), (Level::Ok, expected));
        features.problem = Some("it asks writers for the feature rowTracking".to_owned());
        let found = judge("raw/impressions", &features);
        assert!(found.level == Level::Error && found.detail.ends_with("rowTracking"), "{found:?}");
    }
}
