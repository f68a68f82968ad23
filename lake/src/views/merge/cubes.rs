//! The merge of sums and sketches. Sums are changed by signed rows. A sketch from which a user may
//! be gone is computed anew.

use adlake_domain::batch_schema::{campaign_hourly_schema, campaign_reach_schema, campaign_rollup_schema};
use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_domain::kpi;

use super::Merge;
use crate::error::LakeError;
use crate::views::cubes::{self, Contributors};

/// SQL: the signed contributions of what has come and gone, by hour and these dimensions.
fn changes(dimensions: &[&str]) -> String {
    let new = Contributors {
        impressions: "new_impressions".to_string(),
        interactions: "interactions_after".to_string(),
        attributions: "attributions_after".to_string(),
        touches: "attributions_after".to_string(),
        bid_requests: "new_bid_requests".to_string(),
        counted: None,
    };
    let old = Contributors {
        impressions: "replaced_impressions".to_string(),
        interactions: "interactions_before".to_string(),
        attributions: "attributions_before".to_string(),
        touches: "attributions_before".to_string(),
        bid_requests: "replaced_bid_requests".to_string(),
        counted: None,
    };
    format!("{} UNION ALL {}", cubes::contributions(&new, 1, dimensions), cubes::contributions(&old, -1, dimensions))
}

fn hourly_changes() -> String {
    cubes::hourly(&changes(&kpi::DIMENSIONS), &kpi::DIMENSIONS)
}

impl Merge<'_> {
    /// Registers `merged_hourly`.
    pub(super) async fn merge_hourly(&self) -> Result<(), LakeError> {
        let schema = campaign_hourly_schema();
        self.register_published("published_hourly", catalogue::CAMPAIGN_HOURLY, schema.clone()).await?;
        let merged = if !self.has_changed(&EventKind::ALL) {
            self.plans.register_empty("hourly_changes", schema)?;
            "SELECT * FROM published_hourly"
        } else if self.materialize("hourly_changes", &hourly_changes(), Some(schema)).await? {
            "SELECT * FROM published_hourly UNION ALL SELECT * FROM hourly_changes"
        } else {
            "SELECT * FROM published_hourly"
        };
        self.plans.define("merged_hourly", merged).await?;
        Ok(())
    }

    /// Registers `merged_rollup`. `has_hourly`: the changes of the hourly cube are known. They are
    /// changes of these sums too, in more rows than needed.
    pub(super) async fn merge_rollup(&self, has_hourly: bool) -> Result<(), LakeError> {
        let schema = campaign_rollup_schema();
        self.register_published("published_rollup", catalogue::CAMPAIGN_ROLLUP, schema.clone()).await?;
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = columns.join(", ");
        let (changed, table) = if has_hourly {
            (self.has_rows("hourly_changes"), "hourly_changes")
        } else {
            let changes = cubes::hourly(&changes(&["campaign_id"]), &["campaign_id"]);
            let table = "rollup_changes";
            let has_changed = self.has_changed(&EventKind::ALL);
            (has_changed && self.materialize(table, &changes, Some(schema.clone())).await?, table)
        };
        let merged = if changed {
            format!("SELECT {columns} FROM published_rollup UNION ALL SELECT {columns} FROM {table}")
        } else {
            format!("SELECT {columns} FROM published_rollup")
        };
        self.plans.define("merged_rollup", &merged).await?;
        Ok(())
    }

    /// Registers `merged_reach`.
    pub(super) async fn merge_reach(&self) -> Result<(), LakeError> {
        self.register_published("published_reach", catalogue::CAMPAIGN_REACH, campaign_reach_schema()).await?;
        let schema = Some(campaign_reach_schema());
        if self.has_changed(&[EventKind::Impression]) {
            self.materialize("new_reach", &cubes::reach("new_impressions"), schema.clone()).await?;
        } else {
            self.plans.register_empty("new_reach", campaign_reach_schema())?;
        }
        // A group of which each replaced impression has a new one of the same user has lost nobody.
        let group = "SELECT report_day(event_time) AS day, campaign_id, user_id FROM";
        let lost = format!(
            "SELECT DISTINCT o.day, o.campaign_id FROM ({group} replaced_impressions WHERE invalid_reason IS NULL) o \
             LEFT ANTI JOIN ({group} new_impressions WHERE invalid_reason IS NULL) n ON o.day = n.day \
             AND (o.campaign_id IS NOT DISTINCT FROM n.campaign_id) AND (o.user_id IS NOT DISTINCT FROM n.user_id)"
        );
        if !(self.has_rows("replaced_impressions") && self.materialize("changed_reach", &lost, None).await?) {
            let merged = if self.has_rows("new_reach") {
                "SELECT * FROM published_reach UNION ALL SELECT * FROM new_reach"
            } else {
                "SELECT * FROM published_reach"
            };
            self.plans.define("merged_reach", merged).await?;
            self.plans.define("replaced_reach", "SELECT day, campaign_id FROM new_reach WHERE false").await?;
            self.plans.define("added_reach", "SELECT * FROM new_reach").await?;
            return Ok(());
        }
        // Nothing can be removed from a sketch. If a user may be gone, it is computed anew. The day
        // of a report begins on the UTC date of its first instant, and ends on the next or the one
        // after.
        let day = "CAST(day AS DATE)";
        let dates = format!(
            "SELECT DISTINCT d FROM (SELECT {day} AS d FROM changed_reach \
             UNION ALL SELECT {day} + INTERVAL '1 day' FROM changed_reach \
             UNION ALL SELECT {day} + INTERVAL '2 days' FROM changed_reach)"
        );
        let dates = self.on_dates("b.event_date", &format!("SELECT CAST(d AS DATE) FROM ({dates})")).await?;
        let impressions = format!(
            "SELECT event_time, campaign_id, user_id, invalid_reason FROM (SELECT b.event_time, b.campaign_id, \
             b.user_id, b.invalid_reason, b.event_key FROM published_impressions b{dates}) b \
             LEFT ANTI JOIN replaced_impressions o ON b.event_key = o.event_key \
             UNION ALL SELECT event_time, campaign_id, user_id, invalid_reason FROM new_impressions"
        );
        let anew = format!(
            "SELECT r.* FROM ({}) r LEFT SEMI JOIN changed_reach g ON r.day = g.day AND \
             (r.campaign_id IS NOT DISTINCT FROM g.campaign_id)",
            cubes::reach(&format!("({impressions})"))
        );
        self.materialize("recomputed_reach", &anew, schema).await?;
        let unchanged = |table: &str| {
            format!(
                "SELECT r.* FROM {table} r LEFT ANTI JOIN changed_reach g \
                 ON r.day = g.day AND (r.campaign_id IS NOT DISTINCT FROM g.campaign_id)"
            )
        };
        let added = format!("{} UNION ALL SELECT * FROM recomputed_reach", unchanged("new_reach"));
        self.plans.define("replaced_reach", "SELECT day, campaign_id FROM changed_reach").await?;
        self.plans.define("added_reach", &added).await?;
        let merged = format!("{} UNION ALL SELECT * FROM added_reach", unchanged("published_reach"));
        self.plans.define("merged_reach", &merged).await?;
        Ok(())
    }
}
