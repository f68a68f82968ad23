//! The time from the last touch to the conversion.

use adlake_domain::time;
use adlake_lake::LakeError;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::col;
use futures::StreamExt;

use super::Asked;
use super::sums::{expression, within};
use crate::question::{Condition, Dimension};

/// How many conversions have reached how many of `bounds` (seconds). Those count whose last
/// touchpoint is one of the campaign, or of any that those who ask may see.
pub async fn conversions_by_delay(
    asked: Asked<'_>,
    campaign: Option<&str>,
    range: (i64, i64),
    bounds: &[i64],
) -> Result<Vec<i64>, LakeError> {
    let mut conditions = vec![asked.scope.condition()];
    conditions.extend(campaign.map(|id| Condition::In(Dimension::Campaign, vec![Some(id.to_owned())])));
    let touchpoint = |_: Dimension| col("touchpoint_campaign_id");
    let touched = expression(&Condition::All(conditions), &touchpoint, asked.names, asked.state);
    let condition = touched.and(within("interaction_time", range));
    let micros: Vec<i64> = bounds.iter().map(|seconds| seconds * time::SECOND).collect();
    let mut rows = asked.state.views.delays(condition, &micros).await?;
    let mut counts = vec![0; bounds.len() + 1];
    while let Some(batch) = rows.next().await.transpose()? {
        let numbers = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.map(|column| column.values().to_vec()).unwrap_or_default()
        };
        for (reached, conversions) in numbers("reached").into_iter().zip(numbers("conversions")) {
            if let Some(count) = counts.get_mut(reached as usize) {
                *count += conversions;
            }
        }
    }
    Ok(counts)
}
