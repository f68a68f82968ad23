//! What each user did, and the segment that follows from it: the table `batch/user_segments`, and
//! the view.
//!
//! The rules and the numbers are those of [`adlake_domain::segments`]. The table has segments by
//! the rules of its run. The view takes the numbers and finds the segments anew, so that new rules
//! take effect at once.

use std::sync::Arc;

use adlake_domain::segments::{OTHER, Segments};
use datafusion::common::Result;
use datafusion::prelude::DataFrame;

use super::batch_table::BatchTable;
use super::cubes;
use super::materialize::{Kept, materialize};
use super::plans::Plans;
use super::slice::MICROS_PER_DAY;

/// The most bytes of users that stay in memory.
const USERS_BYTES_MAX: usize = 128 << 20;

/// The numbers of a user that add up, as the table has them.
pub(super) const SUMS: [&str; 5] = ["frequency", "clicks", "conversions", "refunds", "value_micros"];

impl Plans {
    /// The rows of `user_segments` by these rules, from tables `impressions`, `interactions` and
    /// `attributions`, in the order of the batch table. They can be read while the second lives.
    pub async fn user_segments(&self, rules: &Segments) -> Result<(DataFrame, Kept)> {
        self.segments_of(&users(&actions("impressions", "interactions", "attributions")), rules).await
    }

    /// The same, from the table `merged_users`.
    pub async fn merged_user_segments(&self, rules: &Segments) -> Result<(DataFrame, Kept)> {
        self.segments_of("SELECT * FROM merged_users", rules).await
    }

    /// The users are read twice: the newest event of all tells how long ago that of each was.
    async fn segments_of(&self, users: &str, rules: &Segments) -> Result<(DataFrame, Kept)> {
        let frame = self.sql(users).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let users = materialize(self.context(), frame.execute_stream().await?, schema, USERS_BYTES_MAX).await?;
        let name = self.name_table("users", users.table)?;
        let order = BatchTable::Users.order();
        let frame = self.sql(&format!("{} ORDER BY {order}", rows(&name, rules))).await?;
        Ok((frame, users.kept))
    }
}

/// SQL: the valid events of known users in these tables, as what they add to the numbers of their
/// user: `user_id`, `event_time`, and the sums.
pub(super) fn actions(impressions: &str, interactions: &str, attributions: &str) -> String {
    let interactions = cubes::inherited(interactions, attributions);
    let number = |condition: &str| format!("CASE WHEN {condition} THEN 1 ELSE 0 END");
    let conversion = "interaction_type = 'conversion' AND is_primary(conversion_type)";
    let value = format!(
        "CASE WHEN {conversion} OR interaction_type = 'refund' AND coalesce(order_is_primary, true) \
         THEN coalesce(value_micros, 0) ELSE 0 END"
    );
    format!(
        "SELECT user_id, event_time, 1 AS frequency, 0 AS clicks, 0 AS conversions, 0 AS refunds, \
         CAST(0 AS DECIMAL(38, 0)) AS value_micros FROM {impressions} \
         WHERE invalid_reason IS NULL AND user_id IS NOT NULL \
         UNION ALL SELECT user_id, event_time, 0 AS frequency, {} AS clicks, {} AS conversions, {} AS refunds, \
         CAST({value} AS DECIMAL(38, 0)) AS value_micros FROM ({interactions}) \
         WHERE invalid_reason IS NULL AND user_id IS NOT NULL",
        number("interaction_type = 'click'"),
        number(conversion),
        number("interaction_type = 'refund'")
    )
}

/// SQL: a row for each user of some actions: `user_id`, `first_seen`, `last_seen`, and the sums.
pub(super) fn users(actions: &str) -> String {
    let sums = SUMS.map(|name| format!("sum({name}) AS {name}")).join(", ");
    format!(
        "SELECT user_id, min(event_time) AS first_seen, max(event_time) AS last_seen, {sums} FROM ({actions}) \
         GROUP BY user_id"
    )
}

/// SQL: the rows of the table for all users, which are a table with the columns of [`users`].
pub(super) fn rows(users: &str, rules: &Segments) -> String {
    let micros = |time: &str| format!("CAST({time} AS BIGINT)");
    let numbers = format!(
        "SELECT *, ({} - {}) / {MICROS_PER_DAY} AS recency_days, clicks + conversions AS engagement \
         FROM {users} CROSS JOIN (SELECT max(last_seen) AS newest FROM {users})",
        micros("newest"),
        micros("last_seen")
    );
    format!(
        "SELECT user_id, {} AS segment, recency_days, frequency, value_micros, engagement, clicks, conversions, \
         refunds, first_seen, last_seen FROM ({numbers})",
        segment(rules)
    )
}

/// SQL of the view.
pub(super) fn user_segments(rules: &Segments) -> String {
    format!(
        "SELECT user_id, segment, recency_days, frequency, micros(value_micros) AS value, engagement, clicks, \
         conversions, refunds, first_seen, last_seen FROM ({})",
        rows("merged_users", rules)
    )
}

/// SQL: the segment of a user, from the numbers.
fn segment(rules: &Segments) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut cases = String::new();
    for rule in &rules.rule {
        let mut conditions = Vec::new();
        for (name, min, max) in rule.conditions() {
            // Money is compared in micros, and in 128 bits.
            let (column, unit) = if name == "value" { ("value_micros", "000000") } else { (name, "") };
            let bound = |sign: &str, bound: i64| format!("{column} {sign} CAST('{bound}{unit}' AS DECIMAL(38, 0))");
            conditions.extend(min.map(|min| bound(">=", min)));
            conditions.extend(max.map(|max| bound("<=", max)));
        }
        let condition = if conditions.is_empty() { "true".to_string() } else { conditions.join(" AND ") };
        cases.push_str(&format!(" WHEN {condition} THEN {}", quoted(&rule.name)));
    }
    if cases.is_empty() { quoted(OTHER) } else { format!("CASE{cases} ELSE {} END", quoted(OTHER)) }
}
