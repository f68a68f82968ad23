//! The attributions of some days.

use std::collections::BTreeSet;

use adlake_domain::attribution::micros;
use datafusion::common::Result;
use datafusion::prelude::DataFrame;

use super::plans::{Plans, impression_input, interaction_input};
use super::slice::{Day, MICROS_PER_DAY};

/// The longest window that intervals of SQL are made of: a hundred years.
pub(super) const WINDOW_MAX: i64 = 36_500 * MICROS_PER_DAY;

impl Plans {
    /// The attributions of the interactions of some UTC days, with the columns of
    /// `batch/attributions`, from tables `impressions` and `interactions`. Read are these days, and
    /// [`Plans::context_days`] before each. `with_refunds`: there may be refunds on them.
    pub async fn attributions_of(&self, days: &BTreeSet<Day>, with_refunds: bool) -> Result<DataFrame> {
        let list: Vec<String> = days.iter().map(|day| day.literal()).collect();
        let wanted = format!("event_date IN ({})", list.join(", "));
        let before = self.context_days(with_refunds);
        let mut ranges: Vec<(Day, Day)> = Vec::new();
        for day in days {
            let begin = Day(day.0.saturating_sub(before));
            match ranges.last_mut() {
                Some((_, end)) if begin <= *end => *end = *day,
                _ => ranges.push((begin, *day)),
            }
        }
        let ranges = ranges
            .iter()
            .map(|(begin, end)| format!("event_date BETWEEN {} AND {}", begin.literal(), end.literal()))
            .collect::<Vec<_>>()
            .join(" OR ");
        let users = format!("SELECT DISTINCT user_id FROM interactions WHERE user_id IS NOT NULL AND {wanted}");
        let of_users = |table: &str, condition: &str| {
            format!(
                "SELECT e.* FROM (SELECT * FROM {table} WHERE {condition}) e LEFT SEMI JOIN ({users}) u \
                 ON e.user_id = u.user_id"
            )
        };
        let impressions = of_users("impressions", &ranges);
        let context = of_users("interactions", &format!("({ranges}) AND NOT ({wanted})"));
        let interactions = format!("SELECT * FROM interactions WHERE user_id IS NOT NULL AND {wanted}");
        self.attribute(&[
            impression_input(&impressions),
            interaction_input(&context, false),
            interaction_input(&interactions, true),
        ])
        .await
    }

    /// The longest distance at which one event can affect the attributions of another that is no
    /// refund, in microseconds.
    pub(super) fn window(&self) -> i64 {
        let rules = &self.meaning().attribution;
        let through_clicks =
            micros(rules.click_through_window).saturating_add(micros(rules.click_to_impression_window));
        through_clicks.max(micros(rules.view_through_window)).min(WINDOW_MAX)
    }

    /// The longest distance at which one event can affect the attributions of a refund, in
    /// microseconds.
    pub(super) fn refund_window(&self) -> i64 {
        let orders = micros(self.meaning().conversions.refund_window).min(WINDOW_MAX);
        orders.saturating_add(self.window()).min(WINDOW_MAX)
    }

    /// How many days before an interaction the events can be that affect its attributions.
    pub fn context_days(&self, with_refunds: bool) -> i32 {
        let window = if with_refunds { self.refund_window() } else { self.window() };
        i32::try_from(window.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX).saturating_add(1)
    }

    /// Whether a table of interactions has refunds.
    pub async fn has_refunds(&self, interactions: &str) -> Result<bool> {
        let sql = format!("SELECT event_key FROM {interactions} WHERE interaction_type = 'refund' LIMIT 1");
        Ok(self.sql(&sql).await?.collect().await?.iter().any(|batch| batch.num_rows() > 0))
    }
}
