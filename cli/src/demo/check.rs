//! The check at the end of the demo: the lake's answers are compared with what was sent.

use adlake_serving::QueryEngine;
use adlake_traffic::truth::Totals;
use anyhow::Result;
use arrow::array::Array;
use futures::TryStreamExt;

use crate::failure::query_error;
use crate::output::cell;

/// One number of the lake beside the generator's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: &'static str,
    pub answered: i128,
    pub sent: i128,
}

/// Compares the totals of the merged `campaign_kpis`, and the dead letters, with the truth.
pub async fn compare(engine: &QueryEngine, truth: &Totals) -> Result<Vec<Line>> {
    let sums = cells(
        engine,
        "SELECT sum(impressions), sum(clicks), sum(conversions), sum(spend), sum(revenue) FROM campaign_kpis",
    )
    .await?;
    let dead = cells(engine, "SELECT count(*) FROM dead_letters").await?;
    let sent = [truth.impressions, truth.clicks, truth.conversions, truth.spend_micros, truth.revenue_micros];
    let names = ["impressions", "clicks", "conversions", "spend (micros)", "revenue (micros)"];
    let mut lines: Vec<Line> = names
        .into_iter()
        .zip(sums.iter().zip(sent))
        .map(|(name, (cell, sent))| Line { name, answered: integer(cell), sent: sent.into() })
        .collect();
    lines.push(Line {
        name: "dead letters",
        answered: dead.first().map_or(0, |cell| integer(cell)),
        sent: truth.malformed.into(),
    });
    Ok(lines)
}

/// The values of an answer that has one row.
async fn cells(engine: &QueryEngine, sql: &str) -> Result<Vec<String>> {
    let stream = engine.query(sql).await.map_err(query_error)?;
    let batches: Vec<_> = stream.try_collect().await.map_err(adlake_lake::LakeError::from)?;
    let mut cells = Vec::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        for column in batch.columns() {
            let mut text = String::new();
            cell::json(&mut text, column, 0);
            cells.push(text);
        }
    }
    Ok(cells)
}

/// The rows of an answer as text, NULL as `None`.
pub async fn rows(engine: &QueryEngine, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let stream = engine.query(sql).await.map_err(query_error)?;
    let batches: Vec<_> = stream.try_collect().await.map_err(adlake_lake::LakeError::from)?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| {
                (!column.is_null(row)).then(|| {
                    let mut text = String::new();
                    cell::value(&mut text, column, row);
                    text
                })
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    Ok(rows)
}

pub async fn is_empty(engine: &QueryEngine) -> Result<bool> {
    let counted = rows(engine, "SELECT sum(raw_rows) FROM freshness").await?;
    Ok(counted.into_iter().flatten().flatten().all(|count| count == "0"))
}

/// The digits of a count, or of a decimal with six fractional digits (then the result is in
/// micros).
fn integer(cell: &str) -> i128 {
    cell.replace('.', "").parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_micros() {
        assert_eq!(["12.500000", "-0.000001", "7", "null"].map(integer), [12_500_000, -1, 7, 0]);
    }
}
