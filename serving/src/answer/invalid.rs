//! Invalid traffic: what net figures leave out.

use adlake_lake::LakeError;
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::prelude::{Expr, col, lit};
use futures::StreamExt;

use super::Asked;
use super::sums::expression;
use crate::question::{Condition, Dimension};

/// Invalid events of a kind, by a reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvalidEvents {
    /// Impression, click, conversion or refund.
    pub kind: String,
    /// Why they are invalid.
    pub reason: String,
    /// How many there are.
    pub events: i64,
    /// What they would add to the spend, in micros.
    pub cost: i128,
}

/// The invalid events of a campaign, or of all that those who ask may see, by kind and reason. The
/// range has whole days of the report zone.
pub async fn invalid_events(
    asked: Asked<'_>,
    campaign: Option<&str>,
    (from, to): (i64, i64),
) -> Result<Vec<InvalidEvents>, LakeError> {
    let mut conditions = vec![asked.scope.condition()];
    conditions.extend(campaign.map(|id| Condition::In(Dimension::Campaign, vec![Some(id.to_owned())])));
    let column = |_: Dimension| col("campaign_id");
    let mut condition = expression(&Condition::All(conditions), &column, asked.names, asked.state);
    let at = |micros: i64| -> Expr { lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))) };
    if from > i64::MIN {
        condition = condition.and(col("day").gt_eq(at(from)));
    }
    if to < i64::MAX {
        condition = condition.and(col("day").lt(at(to)));
    }
    let mut rows = asked.state.views.invalid(condition).await?;
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await.transpose()? {
        let wrong = || LakeError::Corrupt("invalid traffic has other columns".to_string());
        let column = |name: &str| batch.column_by_name(name).ok_or_else(wrong);
        let [kinds, reasons] =
            [column("kind")?, column("reason")?].map(|column| column.as_string_opt::<i32>().cloned());
        let (kinds, reasons): (StringArray, StringArray) = (kinds.ok_or_else(wrong)?, reasons.ok_or_else(wrong)?);
        let events = column("events")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let costs = column("cost")?.as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?;
        found.extend((0..batch.num_rows()).map(|row| InvalidEvents {
            kind: kinds.value(row).to_owned(),
            reason: reasons.value(row).to_owned(),
            events: events.value(row),
            cost: if costs.is_valid(row) { costs.value(row) } else { 0 },
        }));
    }
    found.sort_unstable();
    Ok(found)
}
