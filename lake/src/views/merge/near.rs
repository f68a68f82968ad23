//! Which impressions are near an interaction of their user. A join on user and time would compare
//! each impression of a user with each interaction: millions of pairs for one busy user. Here the
//! windows of a user's interactions are put together, so one search tells.

use std::sync::Arc;

use adlake_domain::schema::timestamp;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;

use crate::views::arguments::{strings, value};

/// Ranges of time by user, both ends included. Those of a user are ordered, and do not overlap.
#[derive(Debug, Default)]
pub(super) struct Near(HashMap<String, Vec<(i64, i64)>>);

impl Near {
    /// The windows before the times of these rows, whose columns are a user and a time.
    pub(super) fn of(rows: &[RecordBatch], window: i64) -> Near {
        let mut times: HashMap<String, Vec<i64>> = HashMap::new();
        for batch in rows {
            let users = batch.column(0).as_string_opt::<i32>();
            let all = batch.column(1).as_primitive_opt::<TimestampMicrosecondType>();
            for (user, time) in users.into_iter().flatten().zip(all.into_iter().flatten()) {
                if let (Some(user), Some(time)) = (user, time) {
                    times.entry_ref(user).or_default().push(time);
                }
            }
        }
        let ranges = times.into_iter().map(|(user, mut times)| {
            times.sort_unstable();
            let mut ranges: Vec<(i64, i64)> = Vec::new();
            for time in times {
                let from = time.saturating_sub(window);
                match ranges.last_mut() {
                    Some((_, to)) if from <= *to => *to = time,
                    _ => ranges.push((from, time)),
                }
            }
            (user, ranges)
        });
        Near(ranges.collect())
    }

    fn holds(&self, user: &str, time: i64) -> bool {
        let Some(ranges) = self.0.get(user) else { return false };
        let place = ranges.partition_point(|(_, to)| *to < time);
        ranges.get(place).is_some_and(|(from, _)| *from <= time)
    }

    /// Registers `is_near(user, time)` in a session.
    pub(super) fn register(self, context: &SessionContext) {
        let near = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let users = strings(&arrays[0])?;
            let times = arrays[1].as_primitive_opt::<TimestampMicrosecondType>();
            let times =
                times.ok_or_else(|| exec_datafusion_err!("expected a time, found {}", arrays[1].data_type()))?;
            let holds = |row: usize| {
                times.is_valid(row) && value(users, row).is_some_and(|user| self.holds(user, times.value(row)))
            };
            Ok(ColumnarValue::Array(Arc::new((0..users.len()).map(|row| Some(holds(row))).collect::<BooleanArray>())))
        };
        let types = vec![DataType::Utf8, timestamp()];
        context.register_udf(create_udf("is_near", types, DataType::Boolean, Volatility::Immutable, Arc::new(near)));
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn a_time_is_near_if_it_is_in_a_window_before_one_of_its_users() {
        let users: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("a"), Some("b"), None]));
        let times = TimestampMicrosecondArray::from(vec![100, 20, 25, 7, 9]).with_timezone("UTC");
        let rows =
            RecordBatch::try_from_iter([("user_id", users), ("event_time", Arc::new(times) as ArrayRef)]).unwrap();
        let near = Near::of(&[rows], 10);
        assert_eq!(near.0["a"], [(10, 25), (90, 100)]);
        for (user, time, expected) in [
            ("a", 9, false),
            ("a", 10, true),
            ("a", 22, true),
            ("a", 25, true),
            ("a", 26, false),
            ("a", 90, true),
            ("a", 101, false),
            ("b", 7, true),
            ("b", -3, true),
            ("b", 8, false),
            ("c", 7, false),
        ] {
            assert_eq!(near.holds(user, time), expected, "{user} {time}");
        }
    }
}
