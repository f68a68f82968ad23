//! Which impressions an interaction of their user may join. A join on user and time would compare
//! each impression of a user with each interaction: millions of pairs for one busy user. Here the
//! windows of a user's interactions are put together, so one search tells.
//!
//! An impression may be joined if it is in the window before an interaction of its user, and if its
//! campaign is unknown, or is the interaction's, or one of the same advertiser (conversions only),
//! or if the interaction names it. That is more than attribution takes, never less: see
//! [`adlake_domain::attribution`].

use std::sync::Arc;

use adlake_domain::schema::timestamp;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionImplementation, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use hashbrown::{HashMap, HashSet};

use crate::views::arguments::{strings, value};

/// Ranges of time, both ends included: ordered, and none overlaps another.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// The windows before these times.
    fn before(mut times: Vec<i64>, window: i64) -> Ranges {
        times.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for time in times {
            let from = time.saturating_sub(window);
            match ranges.last_mut() {
                Some((_, to)) if from <= *to => *to = time,
                _ => ranges.push((from, time)),
            }
        }
        Ranges(ranges)
    }

    fn hold(&self, time: i64) -> bool {
        let place = self.0.partition_point(|(_, to)| *to < time);
        self.0.get(place).is_some_and(|(from, _)| *from <= time)
    }
}

/// Which impressions of a user an interaction may join by their campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    /// Those of this campaign.
    Campaign(u32),
    /// Those of the campaigns of this advertiser.
    Advertiser(u32),
    /// All.
    Any,
}

/// The windows before interactions.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// By user: a number, and the windows of all interactions.
    users: HashMap<String, (u32, Ranges)>,
    /// By the user's number, and what the interactions join.
    windows: HashMap<(u32, Whose), Ranges>,
    /// The impressions that interactions name.
    named: HashSet<String>,
    campaigns: Campaigns,
    /// About what all this takes.
    bytes: usize,
    memory: Option<MemoryReservation>,
}

/// What an interaction takes, beside its texts: a user, and windows by three keys.
const BYTES_PER_INTERACTION: usize = 400;

/// The numbers of campaigns and advertisers.
#[derive(Debug, Default)]
struct Campaigns {
    numbers: HashMap<String, (u32, Option<u32>)>,
    advertisers: HashMap<String, u32>,
}

impl Campaigns {
    /// The campaigns whose advertiser is known.
    fn of(advertisers: &HashMap<String, String>) -> Campaigns {
        let mut campaigns = Campaigns::default();
        for (campaign, advertiser) in advertisers {
            let number = number(campaigns.advertisers.len());
            let advertiser = *campaigns.advertisers.entry_ref(advertiser.as_str()).or_insert(number);
            campaigns.insert(campaign, Some(advertiser));
        }
        campaigns
    }

    fn insert(&mut self, campaign: &str, advertiser: Option<u32>) -> (u32, Option<u32>) {
        let next = number(self.numbers.len());
        *self.numbers.entry_ref(campaign).or_insert((next, advertiser))
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Near {
    /// The columns of an interaction, in order.
    pub(super) const COLUMNS: &str = "user_id, event_time, interaction_type, campaign_id, impression_id";

    /// The windows before these interactions, whose columns are [`Near::COLUMNS`]. `advertisers`
    /// are those of campaigns. With `any`, conversions join impressions of any campaign.
    pub(super) fn of(
        rows: &[RecordBatch],
        window: i64,
        advertisers: &HashMap<String, String>,
        any: bool,
    ) -> Result<Near> {
        let mut near = Near { campaigns: Campaigns::of(advertisers), ..Near::default() };
        let mut users: HashMap<String, (u32, Vec<i64>)> = HashMap::new();
        let mut windows: HashMap<(u32, Whose), Vec<i64>> = HashMap::new();
        for batch in rows {
            let [ids, kinds, campaigns, impressions] = [0, 2, 3, 4].map(|place| strings(batch.column(place)));
            let (ids, kinds, campaigns, impressions) = (ids?, kinds?, campaigns?, impressions?);
            let times = times(batch.column(1))?;
            near.bytes += batch.get_array_memory_size() + batch.num_rows() * BYTES_PER_INTERACTION;
            for row in 0..batch.num_rows() {
                let (Some(user), true) = (value(ids, row), times.is_valid(row)) else { continue };
                let time = times.value(row);
                let next = number(users.len());
                let (user, all) = users.entry_ref(user).or_insert_with(|| (next, Vec::new()));
                all.push(time);
                if let Some(impression) = value(impressions, row) {
                    near.named.get_or_insert_with(impression, str::to_owned);
                }
                let is_click = value(kinds, row) == Some("click");
                let mut joins = |whose: Whose| windows.entry((*user, whose)).or_default().push(time);
                if any && !is_click {
                    joins(Whose::Any);
                }
                if let Some(campaign) = value(campaigns, row) {
                    let (campaign, advertiser) = near.campaigns.insert(campaign, None);
                    joins(Whose::Campaign(campaign));
                    if let (false, Some(advertiser)) = (is_click, advertiser) {
                        joins(Whose::Advertiser(advertiser));
                    }
                }
            }
        }
        let of_users = |(user, (number, times))| (user, (number, Ranges::before(times, window)));
        near.users = users.into_iter().map(of_users).collect();
        near.windows = windows.into_iter().map(|(key, times)| (key, Ranges::before(times, window))).collect();
        Ok(near)
    }

    /// Whether an impression may be joined.
    fn holds(&self, user: &str, time: i64, campaign: Option<&str>, id: Option<&str>) -> bool {
        let Some((user, ranges)) = self.users.get(user) else { return false };
        if !ranges.hold(time) {
            return false;
        }
        let Some(campaign) = campaign else { return true };
        let joined = |whose: Whose| self.windows.get(&(*user, whose)).is_some_and(|ranges| ranges.hold(time));
        let by_campaign = self.campaigns.numbers.get(campaign).is_some_and(|(campaign, advertiser)| {
            joined(Whose::Campaign(*campaign))
                || advertiser.is_some_and(|advertiser| joined(Whose::Advertiser(advertiser)))
        });
        by_campaign || joined(Whose::Any) || id.is_some_and(|id| self.named.contains(id))
    }

    /// Registers `has_near(user)` and `is_near(user, time, campaign, impression)` in a session. The
    /// first says less, from a single column: where a file is read, the others are then decoded for
    /// the few rows alone that it leaves.
    pub(super) fn register(mut self, context: &SessionContext) {
        let memory = MemoryConsumer::new("windows of interactions").register(&context.runtime_env().memory_pool);
        // They have to be in memory, whatever else is.
        memory.grow(self.bytes);
        self.memory = Some(memory);
        let near = Arc::new(self);
        let windows = near.clone();
        let has = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let users = strings(&arrays[0])?;
            let has = |row: usize| value(users, row).is_some_and(|user| near.users.contains_key(user));
            Ok(booleans(users.len(), has))
        };
        let is = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let (users, times) = (strings(&arrays[0])?, times(&arrays[1])?);
            let (campaigns, ids): (&StringArray, &StringArray) = (strings(&arrays[2])?, strings(&arrays[3])?);
            let holds = |row: usize| {
                times.is_valid(row)
                    && value(users, row).is_some_and(|user| {
                        windows.holds(user, times.value(row), value(campaigns, row), value(ids, row))
                    })
            };
            Ok(booleans(users.len(), holds))
        };
        let types = [DataType::Utf8, timestamp(), DataType::Utf8, DataType::Utf8];
        let register = |name: &str, columns: usize, function: ScalarFunctionImplementation| {
            let types = types[..columns].to_vec();
            context.register_udf(create_udf(name, types, DataType::Boolean, Volatility::Immutable, function));
        };
        register("has_near", 1, Arc::new(has));
        register("is_near", 4, Arc::new(is));
    }
}

fn booleans(rows: usize, holds: impl Fn(usize) -> bool) -> ColumnarValue {
    ColumnarValue::Array(Arc::new((0..rows).map(|row| Some(holds(row))).collect::<BooleanArray>()))
}

fn times(array: &dyn Array) -> Result<&arrow::array::TimestampMicrosecondArray> {
    let times = array.as_primitive_opt::<TimestampMicrosecondType>();
    times.ok_or_else(|| exec_datafusion_err!("expected a time, found {}", array.data_type()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    type Interaction = (Option<&'static str>, i64, &'static str, Option<&'static str>, Option<&'static str>);

    fn near(interactions: &[Interaction], any: bool) -> Near {
        let texts = |of: fn(&Interaction) -> Option<&'static str>| -> ArrayRef {
            Arc::new(interactions.iter().map(of).collect::<StringArray>())
        };
        let times: TimestampMicrosecondArray = interactions.iter().map(|interaction| Some(interaction.1)).collect();
        let rows = RecordBatch::try_from_iter([
            ("user_id", texts(|interaction| interaction.0)),
            ("event_time", Arc::new(times.with_timezone("UTC")) as ArrayRef),
            ("interaction_type", texts(|interaction| Some(interaction.2))),
            ("campaign_id", texts(|interaction| interaction.3)),
            ("impression_id", texts(|interaction| interaction.4)),
        ]);
        let advertisers = [("c1", "a"), ("c2", "a"), ("c3", "b")];
        let advertisers = advertisers.map(|(campaign, owner)| (campaign.to_string(), owner.to_string())).into();
        Near::of(&[rows.unwrap()], 10, &advertisers, any).unwrap()
    }

    #[test]
    fn a_time_is_near_if_it_is_in_a_window_before_an_interaction_of_its_user() {
        let near = near(
            &[
                (Some("a"), 100, "click", Some("c1"), None),
                (Some("a"), 20, "click", Some("c1"), None),
                (Some("a"), 25, "click", Some("c1"), None),
                (Some("b"), 7, "click", Some("c1"), None),
                (None, 9, "click", Some("c1"), None),
            ],
            false,
        );
        assert_eq!(near.users["a"].1, Ranges(vec![(10, 25), (90, 100)]));
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
            for campaign in [None, Some("c1")] {
                assert_eq!(near.holds(user, time, campaign, Some("i")), expected, "{user} {time} {campaign:?}");
            }
        }
    }

    #[test]
    fn clicks_join_their_campaign_conversions_their_advertiser_and_both_what_they_name() {
        let interactions = [
            (Some("a"), 20, "click", Some("c1"), None),
            (Some("a"), 40, "purchase", Some("c1"), None),
            (Some("a"), 60, "purchase", Some("unknown"), None),
            (Some("a"), 80, "purchase", None, Some("named")),
        ];
        let (scoped, account) = (near(&interactions, false), near(&interactions, true));
        for (time, campaign, id, expected) in [
            (15, Some("c1"), "i", [true, true]),
            (15, Some("c2"), "i", [false, false]),
            (15, None, "i", [true, true]),
            (15, Some("c2"), "named", [true, true]),
            (35, Some("c1"), "i", [true, true]),
            (35, Some("c2"), "i", [true, true]),
            (35, Some("c3"), "i", [false, true]),
            (35, Some("unknown"), "i", [false, true]),
            (55, Some("unknown"), "i", [true, true]),
            (55, Some("c1"), "i", [false, true]),
            (75, Some("c1"), "i", [false, true]),
            (75, Some("c1"), "named", [true, true]),
            (75, None, "i", [true, true]),
            (45, Some("c1"), "named", [false, false]),
        ] {
            let holds = [&scoped, &account].map(|near| near.holds("a", time, campaign, Some(id)));
            assert_eq!(holds, expected, "{time} {campaign:?} {id}");
        }
    }
}
