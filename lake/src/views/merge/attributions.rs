//! The merge of attributions: those of all interactions that a changed event can affect are
//! computed anew.

use adlake_domain::attribution::micros;
use adlake_domain::batch_schema::{attributions_schema, event_schema};
use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_domain::settings::Scope;
use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::near::Near;
use super::{MICROS_PER_DAY, Merge, date_literal};

use crate::error::LakeError;
use crate::views::attributed_days::WINDOW_MAX;
use crate::views::plans::{columns_of, impression_input, interaction_input};

impl Merge<'_> {
    /// Registers `merged_attributions`.
    pub(super) async fn merge_attributions(&self) -> Result<(), LakeError> {
        self.register_published("published_attributions", catalogue::ATTRIBUTIONS, attributions_schema()).await?;
        if !self.has_changed(&[EventKind::Impression, EventKind::Interaction]) {
            for side in ["before", "after"] {
                self.plans.register_empty(&format!("interactions_{side}"), event_schema(EventKind::Interaction))?;
                self.plans.register_empty(&format!("attributions_{side}"), attributions_schema())?;
            }
            self.plans.define("merged_attributions", "SELECT * FROM published_attributions").await?;
            return Ok(());
        }
        let changed = "SELECT user_id, event_time FROM new_impressions \
                       UNION ALL SELECT user_id, event_time FROM replaced_impressions \
                       UNION ALL SELECT user_id, event_time FROM new_interactions \
                       UNION ALL SELECT user_id, event_time FROM replaced_interactions";
        let users = format!(
            "SELECT user_id, min(event_time) AS first, max(event_time) AS last FROM ({changed}) \
             WHERE user_id IS NOT NULL GROUP BY user_id"
        );
        self.materialize("changed_users", &users, None).await?;
        let interactions = event_schema(EventKind::Interaction);
        let columns = columns_of(EventKind::Interaction, "b");
        let window = self.plans.window();
        // The range of changes, widened at both ends by the longest distance at which one event can
        // affect another.
        let after = format!("b.event_time <= u.last + INTERVAL '{window} microseconds'");
        // A refund is affected through its order, which may be much older.
        let far = self.plans.refund_window();
        let dates = self.within("changed_users", "first", "last", "b.event_time", -window, far).await?;
        let refunds = format!(
            "SELECT {columns} FROM (SELECT * FROM published_interactions b{dates}) b \
             JOIN changed_users u ON b.user_id = u.user_id \
             AND b.event_time > u.last + INTERVAL '{window} microseconds' \
             AND b.event_time <= u.last + INTERVAL '{far} microseconds' WHERE b.interaction_type = 'refund'"
        );
        let old = format!(
            "SELECT {columns} FROM published_interactions b JOIN changed_users u ON b.user_id = u.user_id AND \
             b.event_time >= u.first AND {after}{} UNION ALL {refunds} \
             UNION ALL SELECT {columns} FROM replaced_interactions b WHERE b.user_id IS NULL",
            self.within("changed_users", "first", "last", "b.event_time", 0, window).await?
        );
        self.materialize("interactions_before", &old, Some(interactions.clone())).await?;
        let new = "SELECT b.* FROM interactions_before b \
                   LEFT ANTI JOIN replaced_interactions o ON b.event_key = o.event_key \
                   UNION ALL SELECT * FROM new_interactions";
        self.materialize("interactions_after", new, Some(interactions)).await?;
        let touched = "SELECT u.user_id, u.first, u.last, bool_or(i.interaction_type = 'refund') AS has_refunds \
                       FROM changed_users u JOIN interactions_after i ON u.user_id = i.user_id \
                       GROUP BY u.user_id, u.first, u.last";
        self.materialize("attributed_users", touched, None).await?;
        let with_refunds =
            self.materialize("users_with_refunds", "SELECT * FROM attributed_users WHERE has_refunds", None).await?;
        let published = self.without_replaced("published_interactions", "interactions");
        let before = format!("b.event_time >= u.first - INTERVAL '{window} microseconds'");
        let dates = self.within("changed_users", "first", "last", "b.event_time", window, window).await?;
        let mut context = format!(
            "SELECT {columns} FROM (SELECT b.* FROM {published}) b \
             JOIN attributed_users u ON b.user_id = u.user_id AND {before} AND b.event_time < u.first{dates}",
        );
        if with_refunds {
            // An order of these refunds may be outside of the range of changes, on both sides, and
            // its touchpoints before it.
            let dates = self.within("users_with_refunds", "first", "last", "b.event_time", far, far).await?;
            context = format!(
                "{context} UNION ALL SELECT {columns} FROM (SELECT * FROM (SELECT b.* FROM {published}) b{dates}) b \
                 JOIN users_with_refunds u ON b.user_id = u.user_id AND \
                 (b.event_time < u.first - INTERVAL '{window} microseconds' \
                 AND b.event_time >= u.first - INTERVAL '{far} microseconds' \
                 OR b.event_time > u.last + INTERVAL '{window} microseconds' \
                 AND b.event_time <= u.last + INTERVAL '{far} microseconds' AND b.interaction_type <> 'refund')"
            );
        }
        self.materialize("interactions_context", &context, Some(event_schema(EventKind::Interaction))).await?;
        self.find_needed_impressions().await?;
        let context = "SELECT * FROM interactions_context";
        let wanted = "SELECT * FROM interactions_after WHERE user_id IS NOT NULL";
        let impressions = "SELECT * FROM needed_impressions";
        let inputs =
            [impression_input(impressions), interaction_input(context, false), interaction_input(wanted, true)];
        let stream = self.plans.attribute(&inputs).await?.execute_stream().await?;
        let rows = self.run(stream, attributions_schema()).await?;
        self.register_rows("attributions_after", rows)?;
        let old = "SELECT a.* FROM published_attributions a \
                   LEFT SEMI JOIN interactions_before i ON a.interaction_key = i.event_key";
        let has_refunds = self.plans.has_refunds("interactions_before").await?;
        let after = if has_refunds { far } else { window };
        let dates = self.within("changed_users", "first", "last", "a.interaction_time", 0, after).await?;
        self.materialize("attributions_before", &format!("{old}{dates}"), Some(attributions_schema())).await?;
        let published = if self.has_rows("attributions_before") {
            "SELECT b.* FROM published_attributions b \
             LEFT ANTI JOIN interactions_before i ON b.interaction_key = i.event_key"
        } else {
            "SELECT * FROM published_attributions"
        };
        let merged = if self.has_rows("attributions_after") {
            format!("{published} UNION ALL SELECT * FROM attributions_after")
        } else {
            published.into()
        };
        self.plans.define("merged_attributions", &merged).await?;
        Ok(())
    }

    /// Defines `needed_impressions`: those that [`Near`] tells for the interactions whose
    /// attribution may have changed, and for the clicks that their conversions may join. If a user
    /// has refunds, these are all interactions at hand: an order may join any of them.
    async fn find_needed_impressions(&self) -> Result<(), LakeError> {
        let rules = &self.plans.meaning().attribution;
        let clicks = micros(rules.click_through_window);
        let window = micros(rules.click_to_impression_window).max(micros(rules.view_through_window)).min(WINDOW_MAX);
        let columns = |alias: &str| columns_with(alias, Near::COLUMNS);
        let needed = format!(
            "SELECT {} FROM interactions_after b WHERE user_id IS NOT NULL \
             UNION ALL SELECT {context} FROM interactions_context c \
             LEFT SEMI JOIN users_with_refunds u ON c.user_id = u.user_id \
             UNION ALL SELECT {context} FROM interactions_context c \
             LEFT SEMI JOIN interactions_after v ON c.user_id = v.user_id AND v.interaction_type <> 'click' \
             AND c.event_time <= v.event_time AND c.event_time >= v.event_time - INTERVAL '{} microseconds' \
             WHERE c.interaction_type = 'click'",
            columns("b"),
            clicks.min(WINDOW_MAX),
            context = columns("c"),
        );
        self.materialize("joining", &needed, None).await?;
        let joining = self.plans.sql("SELECT * FROM joining").await?.collect().await?;
        let any_campaign = rules.scope == Scope::Account;
        let near = Near::of(&joining, window, &self.snapshot.reference.advertisers(), any_campaign)?;
        near.register(self.plans.context());
        let dates = self.within("joining", "event_time", "event_time", "b.event_time", window, 0).await?;
        let dates = dates.replacen(" WHERE", " AND", 1);
        let published = format!(
            "SELECT {} FROM (SELECT b.* FROM {}) b WHERE {}{dates}",
            columns_of(EventKind::Impression, "b"),
            self.without_replaced("published_impressions", "impressions"),
            is_near("b"),
        );
        let new = format!("SELECT * FROM new_impressions n WHERE {}", is_near("n"));
        self.plans.define("needed_impressions", &format!("{published} UNION ALL {new}")).await?;
        Ok(())
    }

    /// SQL: a condition that prunes files to the dates from the least `first` of a table to its
    /// greatest `last`, widened. A bound without a literal is left out.
    async fn within(
        &self,
        table: &str,
        first: &str,
        last: &str,
        column: &str,
        before: i64,
        after: i64,
    ) -> Result<String, LakeError> {
        let bounds = format!("SELECT min({first}), max({last}) FROM {table}");
        let batches = self.plans.sql(&bounds).await?.collect().await?;
        let bounds = batches.iter().find(|batch| batch.num_rows() > 0).and_then(|batch| {
            let time = |place: usize| {
                let times = batch.column(place).as_primitive_opt::<TimestampMicrosecondType>()?;
                times.is_valid(0).then(|| times.value(0))
            };
            Some((time(0)?, time(1)?))
        });
        let Some((first, last)) = bounds else { return Ok(" WHERE false".to_string()) };
        let date = column.replace("event_time", "event_date").replace("interaction_time", "event_date");
        let day = |micros: i64| date_literal(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()?);
        let lowest = day(first.saturating_sub(before)).map(|day| format!("{date} >= {day}"));
        let highest = day(last.saturating_add(after)).map(|day| format!("{date} <= {day}"));
        let bounds: Vec<String> = lowest.into_iter().chain(highest).collect();
        Ok(if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) })
    }
}

/// SQL: whether an impression may be joined.
fn is_near(alias: &str) -> String {
    let columns = columns_with(alias, "user_id, event_time, campaign_id, impression_id");
    format!("has_near({alias}.user_id) AND is_near({columns})")
}

/// SQL: the names, each with the table's alias.
fn columns_with(alias: &str, names: &str) -> String {
    names.split(", ").map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", ")
}
