//! The merge of what each user did. Numbers are changed by signed sums. A user whose first or last
//! event may be gone is computed anew.

use adlake_domain::batch_schema::user_segments_schema;
use adlake_domain::catalogue;
use adlake_domain::event::EventKind;

use super::Merge;
use crate::error::LakeError;
use crate::views::segments::{SUMS, actions, users};

impl Merge<'_> {
    /// Registers `merged_users`.
    pub(super) async fn merge_users(&self) -> Result<(), LakeError> {
        let merged = actions("merged_impressions", "merged_interactions", "merged_attributions");
        let schema = user_segments_schema();
        if !self.register_published("published_users", catalogue::USER_SEGMENTS, schema).await? {
            // Nothing is published, or by a version that did not write this table.
            self.plans.define("merged_users", &users(&merged)).await?;
            return Ok(());
        }
        let columns = ["user_id", "first_seen", "last_seen"].into_iter().chain(SUMS).collect::<Vec<_>>().join(", ");
        let signed = |sign: &str| SUMS.map(|name| format!("{sign}{name} AS {name}")).join(", ");
        let changes = format!(
            "SELECT user_id, min(came) AS first_came, max(came) AS last_came, min(went) AS first_went, \
             max(went) AS last_went, {} FROM (SELECT user_id, event_time AS came, \
             arrow_cast(NULL, 'Timestamp(Microsecond, Some(\"UTC\"))') AS went, {} FROM ({}) \
             UNION ALL SELECT user_id, arrow_cast(NULL, 'Timestamp(Microsecond, Some(\"UTC\"))') AS came, \
             event_time AS went, {} FROM ({})) GROUP BY user_id",
            SUMS.map(|name| format!("sum({name}) AS {name}")).join(", "),
            signed(""),
            actions("new_impressions", "interactions_after", "attributions_after"),
            signed("-"),
            actions("replaced_impressions", "interactions_before", "attributions_before"),
        );
        let has_changed = self.has_changed(&[EventKind::Impression, EventKind::Interaction]);
        if !(has_changed && self.materialize("user_changes", &changes, None).await?) {
            self.plans.define("merged_users", &format!("SELECT {columns} FROM published_users")).await?;
            return Ok(());
        }
        // All that went was published, so nothing that went is beyond the published ends. An end
        // that did not go is there still. Where one went and nothing came at or beyond it, it is
        // not known which event is at the end now: NULL.
        let end = |seen: &str, came: &str, went: &str, beyond: &str| {
            format!(
                "CASE WHEN p.{seen} IS NULL OR c.{came} {beyond} p.{seen} THEN c.{came} \
                 WHEN c.{went} = p.{seen} THEN NULL ELSE p.{seen} END AS {seen}"
            )
        };
        let changed = format!(
            "SELECT c.user_id, {}, {}, {} FROM user_changes c LEFT JOIN published_users p ON c.user_id = p.user_id",
            end("first_seen", "first_came", "first_went", "<="),
            end("last_seen", "last_came", "last_went", ">="),
            SUMS.map(|name| format!("coalesce(p.{name}, 0) + c.{name} AS {name}")).join(", "),
        );
        self.materialize("changed_sums", &changed, None).await?;
        let mut all = format!(
            "SELECT {columns} FROM published_users p LEFT ANTI JOIN user_changes c ON p.user_id = c.user_id \
             UNION ALL SELECT {columns} FROM changed_sums WHERE first_seen IS NOT NULL AND last_seen IS NOT NULL",
        );
        let unsure = "SELECT user_id FROM changed_sums WHERE first_seen IS NULL OR last_seen IS NULL";
        if self.materialize("unsure_users", unsure, None).await? {
            let merged = format!("SELECT a.* FROM ({merged}) a LEFT SEMI JOIN unsure_users u ON a.user_id = u.user_id");
            self.materialize("users_anew", &users(&merged), None).await?;
            all = format!("{all} UNION ALL SELECT {columns} FROM users_anew");
        }
        self.plans.define("merged_users", &all).await?;
        Ok(())
    }
}
