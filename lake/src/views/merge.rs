//! The merge: what the rows after the published run change of its results.
//!
//! Tables are registered by name. `<kind>` is the name of a kind of event:
//!
//! - `b_<kind>`: the events as published.
//! - `t_<kind>`: the tail (raw rows with identities).
//! - `n_<kind>`: new or changed events.
//! - `o_<kind>`: the published events that they replace.
//! - `i_old`, `i_new`: the interactions whose attribution may have changed, as published and as
//!   they are now.
//! - `a_old`, `a_new`: the attributions of these interactions.
//! - `dh`: the signed changes of the sums.
//!
//! What an event or a credit is, is not defined here but in `Q`: see [`super::plans`].

use std::collections::BTreeSet;
use std::sync::Mutex;

use adlake_domain::attribution::micros;
use adlake_domain::batch_schema::{attributions_schema, campaign_hourly_schema, campaign_reach_schema, event_schema};
use adlake_domain::catalogue;
use adlake_domain::event::EventKind;
use adlake_domain::schema::raw_schema;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::Result;
use tempfile::TempDir;

use super::cubes::{self, Contributors};
use super::materialise::{Kept, keep};
use super::plans::{Plans, columns_of, impression_input, interaction_input};
use crate::error::LakeError;
use crate::snapshot::Pinned;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A part of the merge that a query may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Events of a kind.
    Events(EventKind),
    /// Attributions, and the dimensions that interactions inherit through them.
    Attributions,
    /// The sums.
    Hourly,
    /// The sketches.
    Reach,
}

impl Part {
    /// This part and the parts that it is made from, in order.
    fn with_sources(self) -> Vec<Part> {
        use EventKind::{BidRequest, Impression, Interaction};
        match self {
            Part::Events(_) => vec![self],
            Part::Attributions => vec![Part::Events(Impression), Part::Events(Interaction), self],
            Part::Hourly => vec![
                Part::Events(Impression),
                Part::Events(Interaction),
                Part::Events(BidRequest),
                Part::Attributions,
                self,
            ],
            Part::Reach => vec![Part::Events(Impression), self],
        }
    }
}

/// The merged tables of one snapshot, named `m_<table>`, for the parts that a query needs.
pub struct Merge<'a> {
    plans: &'a Plans,
    pinned: &'a Pinned,
    folders: Mutex<Vec<TempDir>>,
    /// The names of materialized tables that have rows.
    filled: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("pinned", &self.pinned.newest).finish_non_exhaustive()
    }
}

/// What the views need after the merge, as long as they are read.
#[derive(Debug, Default)]
pub struct Merged {
    /// Temporary files of tables that did not fit in memory.
    pub folders: Vec<TempDir>,
    /// Whether newer rows have changed the sums.
    pub hourly_changed: bool,
}

impl<'a> Merge<'a> {
    /// A merge of the pinned tables.
    pub fn new(plans: &'a Plans, pinned: &'a Pinned) -> Merge<'a> {
        Merge { plans, pinned, folders: Mutex::default(), filled: Mutex::default() }
    }

    /// Registers the merged tables of the parts: `m_impressions`, `m_interactions`,
    /// `m_bid_requests`, `m_attributions`, `m_hourly`, `m_reach`.
    pub async fn prepare(self, parts: &BTreeSet<Part>) -> Result<Merged, LakeError> {
        let mut all: Vec<Part> = Vec::new();
        for part in parts.iter().flat_map(|part| part.with_sources()) {
            if !all.contains(&part) {
                all.push(part);
            }
        }
        all.sort_unstable();
        for part in all {
            match part {
                Part::Events(kind) => self.events(kind).await?,
                Part::Attributions => self.attributions().await?,
                Part::Hourly => self.hourly().await?,
                Part::Reach => self.reach().await?,
            }
        }
        let hourly_changed = self.has_rows("dh");
        let folders = self.folders.into_inner().unwrap_or_default();
        Ok(Merged { folders, hourly_changed })
    }

    /// Registers a batch table as published, or as empty. Returns whether it is published.
    async fn published(&self, name: &str, table: &str, schema: SchemaRef) -> Result<bool, LakeError> {
        match self.pinned.published_table(table).await? {
            Some(provider) => {
                self.plans.register(name, provider)?;
                Ok(true)
            }
            None => {
                self.plans.register_empty(name, schema)?;
                Ok(false)
            }
        }
    }

    /// Runs a plan, keeps its rows under a name, and returns whether there are any.
    async fn keep(&self, name: &str, sql: &str, schema: Option<SchemaRef>) -> Result<bool, LakeError> {
        let frame = self.plans.sql(sql).await?;
        let schema = schema.unwrap_or_else(|| nullable(frame.schema().as_arrow()));
        let stream = frame.execute_stream().await?;
        let kept = keep(self.plans.context(), stream, schema).await?;
        self.keep_rows(name, kept)
    }

    fn keep_rows(&self, name: &str, kept: Kept) -> Result<bool, LakeError> {
        self.plans.register(name, kept.table)?;
        if let (Some(folder), Ok(mut folders)) = (kept.folder, self.folders.lock()) {
            folders.push(folder);
        }
        if let (true, Ok(mut filled)) = (kept.rows > 0, self.filled.lock()) {
            filled.insert(name.to_string());
        }
        Ok(kept.rows > 0)
    }

    fn has_rows(&self, name: &str) -> bool {
        self.filled.lock().is_ok_and(|filled| filled.contains(name))
    }

    async fn events(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let schema = event_schema(kind);
        let published = self.published(&format!("b_{name}"), kind.batch_table(), schema.clone()).await?;
        self.plans.register_empty(&format!("n_{name}"), schema.clone())?;
        self.plans.register_empty(&format!("o_{name}"), schema.clone())?;
        if let Some(tail) = self.pinned.tail(self.plans.context(), kind).await? {
            self.plans.register(&format!("tail_{name}"), tail)?;
            let raw = format!("(SELECT *, CAST(event_time AS DATE) AS event_date FROM tail_{name})");
            self.plans.define(&format!("tail_dated_{name}"), &raw[1..raw.len() - 1]).await?;
            if published {
                self.changed_events(kind).await?;
            } else {
                self.plans
                    .register("all_keyed", self.plans.keyed(kind, &format!("tail_dated_{name}")).await?.into_view())?;
                let sql = self.plans.deduplicated(kind, "all_keyed").await?;
                let kept = keep(self.plans.context(), sql.execute_stream().await?, schema).await?;
                self.plans.context().deregister_table(format!("n_{name}"))?;
                self.keep_rows(&format!("n_{name}"), kept)?;
                self.plans.context().deregister_table("all_keyed")?;
            }
        }
        self.plans.define(&format!("m_{name}"), &self.with_replaced(&format!("b_{name}"), name, kind)).await?;
        Ok(())
    }

    /// SQL: the published events that are not replaced, and the new events.
    fn with_replaced(&self, published: &str, name: &str, kind: EventKind) -> String {
        let (b, n) = (columns_of(kind, "b"), columns_of(kind, "n"));
        let replaced = self.without_replaced(published, name);
        if self.has_rows(&format!("n_{name}")) {
            format!("SELECT {b} FROM {replaced} UNION ALL SELECT {n} FROM n_{name} n")
        } else {
            format!("SELECT {b} FROM {replaced}")
        }
    }

    /// SQL for a FROM clause: `b`, the rows of `published` whose identities are not replaced.
    fn without_replaced(&self, published: &str, name: &str) -> String {
        if self.has_rows(&format!("o_{name}")) {
            format!("{published} b LEFT ANTI JOIN o_{name} o ON b.event_key = o.event_key")
        } else {
            format!("{published} b")
        }
    }

    /// Makes `n_` and `o_` from the tail and the published events.
    async fn changed_events(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let keyed = self.plans.keyed(kind, &format!("tail_dated_{name}")).await?;
        let keyed_schema = nullable(keyed.schema().as_arrow());
        let kept = keep(self.plans.context(), keyed.execute_stream().await?, keyed_schema.clone()).await?;
        self.keep_rows(&format!("t_{name}"), kept)?;
        let bid = if kind == EventKind::BidRequest { ", b.bid_source, b.bid_event_date" } else { "" };
        let hits = format!(
            "SELECT b.event_key, b.content_hash, b.ingested_at, b.source, b.event_date{bid} FROM b_{name} b \
             LEFT SEMI JOIN t_{name} t ON b.event_key = t.event_key"
        );
        let any_hits = self.keep(&format!("hits_{name}"), &hits, None).await?;
        let candidates = if any_hits {
            // An exact copy that arrived after the published row changes nothing: it is not smaller
            // in the order that decides the winner.
            let trimmed = format!(
                "SELECT t.* FROM t_{name} t LEFT ANTI JOIN hits_{name} h ON t.event_key = h.event_key \
                 AND t.content_hash = h.content_hash AND t.ingested_at > h.ingested_at"
            );
            self.keep(&format!("trimmed_{name}"), &trimmed, Some(keyed_schema)).await?;
            let touched =
                format!("SELECT h.* FROM hits_{name} h LEFT SEMI JOIN trimmed_{name} t ON h.event_key = t.event_key");
            if self.keep(&format!("touched_{name}"), &touched, None).await? {
                self.representatives(kind).await?;
                format!("SELECT * FROM trimmed_{name} UNION ALL SELECT * FROM representatives_{name}")
            } else {
                format!("SELECT * FROM trimmed_{name}")
            }
        } else {
            format!("SELECT * FROM t_{name}")
        };
        self.plans.define(&format!("candidates_{name}"), &candidates).await?;
        let frame = self.plans.deduplicated(kind, &format!("candidates_{name}")).await?;
        let kept = keep(self.plans.context(), frame.execute_stream().await?, event_schema(kind)).await?;
        self.keep_rows(&format!("winners_{name}"), kept)?;
        let schema = Some(event_schema(kind));
        if !self.has_rows(&format!("touched_{name}")) {
            self.plans.context().deregister_table(format!("n_{name}"))?;
            self.keep(&format!("n_{name}"), &format!("SELECT * FROM winners_{name}"), schema).await?;
            return Ok(());
        }
        let former = format!(
            "SELECT {} FROM b_{name} b LEFT SEMI JOIN touched_{name} t ON b.event_key = t.event_key{}",
            columns_of(kind, "b"),
            self.on_dates("b.event_date", &format!("SELECT DISTINCT event_date FROM touched_{name}")).await?
        );
        self.keep(&format!("former_{name}"), &former, schema.clone()).await?;
        // An event whose winner is the same as before has not changed.
        let same = same_winner(kind);
        for table in ["n", "o"] {
            self.plans.context().deregister_table(format!("{table}_{name}"))?;
        }
        let new = format!("SELECT w.* FROM winners_{name} w LEFT ANTI JOIN former_{name} f ON {same}");
        let old = format!("SELECT f.* FROM former_{name} f LEFT ANTI JOIN winners_{name} w ON {same}");
        self.keep(&format!("n_{name}"), &new, schema.clone()).await?;
        self.keep(&format!("o_{name}"), &old, schema).await?;
        Ok(())
    }

    /// Makes `representatives_`: the raw rows that the touched published events were made from,
    /// with their identities.
    async fn representatives(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let table = kind.raw_table();
        let Some(raw) = self.pinned.published_table(table).await? else {
            return Err(LakeError::Corrupt(format!("the published run wrote {} without {table}", kind.batch_table())));
        };
        self.plans.register(&format!("r_{name}"), raw)?;
        let place = |source: &str, date: &str, condition: &str| {
            format!(
                "SELECT {source}['topic'] AS topic, coalesce({source}['partition'], -1) AS part, \
                 {source}['offset'] AS place, \
                 {date} AS event_date FROM touched_{name}{condition}"
            )
        };
        let mut places = place("source", "event_date", "");
        if kind == EventKind::BidRequest {
            let bids = place("bid_source", "bid_event_date", " WHERE bid_source IS NOT NULL");
            places = format!("SELECT DISTINCT * FROM ({places} UNION ALL {bids})");
        }
        self.keep(&format!("places_{name}"), &places, None).await?;
        let dates = self.on_dates("r.event_date", &format!("SELECT DISTINCT event_date FROM places_{name}")).await?;
        // The fields of `source` become columns before they are joined on. DataFusion's pushdown of
        // field accesses fails on join conditions that compute with such fields.
        let columns: Vec<String> =
            raw_schema(kind).fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
        let columns = columns.join(", ");
        let rows = format!(
            "SELECT {columns} FROM (SELECT {columns}, r.source['topic'] AS in_topic, \
             coalesce(r.source['partition'], -1) AS in_part, \
             r.source['offset'] AS in_place FROM r_{name} r{dates}) r LEFT SEMI JOIN \
             (SELECT topic, part, place, event_date AS in_date FROM places_{name}) p \
             ON r.event_date = p.in_date AND r.in_topic = p.topic AND r.in_part = p.part AND r.in_place = p.place"
        );
        self.plans.define(&format!("rows_{name}"), &rows).await?;
        let keyed = self.plans.keyed(kind, &format!("rows_{name}")).await?;
        self.plans.register(&format!("rows_keyed_{name}"), keyed.into_view())?;
        let touched =
            format!("SELECT r.* FROM rows_keyed_{name} r LEFT SEMI JOIN touched_{name} t ON r.event_key = t.event_key");
        self.keep(&format!("representatives_{name}"), &touched, None).await?;
        Ok(())
    }

    /// SQL: a condition that prunes partitions, with the dates that `dates` yields as literals.
    async fn on_dates(&self, column: &str, dates: &str) -> Result<String, LakeError> {
        let batches = self.plans.sql(dates).await?.collect().await?;
        let mut found = BTreeSet::new();
        for batch in &batches {
            if let Some(days) = batch.column(0).as_primitive_opt::<Date32Type>() {
                found.extend(days.iter().flatten());
            }
        }
        let list: Vec<String> = found.into_iter().map(date_literal).collect();
        Ok(if list.is_empty() {
            " WHERE false".to_string()
        } else {
            format!(" WHERE {column} IN ({})", list.join(", "))
        })
    }

    async fn attributions(&self) -> Result<(), LakeError> {
        self.published("b_attributions", catalogue::ATTRIBUTIONS, attributions_schema()).await?;
        let changed = "SELECT user_id, event_time FROM n_impressions \
                       UNION ALL SELECT user_id, event_time FROM o_impressions \
                       UNION ALL SELECT user_id, event_time FROM n_interactions \
                       UNION ALL SELECT user_id, event_time FROM o_interactions";
        let users = format!(
            "SELECT user_id, min(event_time) AS first, max(event_time) AS last FROM ({changed}) \
             WHERE user_id IS NOT NULL GROUP BY user_id"
        );
        self.keep("u", &users, None).await?;
        let interactions = event_schema(EventKind::Interaction);
        let columns = columns_of(EventKind::Interaction, "b");
        let window = self.window();
        // The range of changes, widened at both ends by the longest distance at which one event can
        // affect another.
        let after = format!("b.event_time <= u.last + INTERVAL '{window} microseconds'");
        let old = format!(
            "SELECT {columns} FROM b_interactions b JOIN u ON b.user_id = u.user_id AND \
             b.event_time >= u.first AND {after}{} \
             UNION ALL SELECT {columns} FROM o_interactions b WHERE b.user_id IS NULL",
            self.within("b.event_time", 0, window).await?
        );
        self.keep("i_old", &old, Some(interactions.clone())).await?;
        let new = "SELECT b.* FROM i_old b LEFT ANTI JOIN o_interactions o ON b.event_key = o.event_key \
                   UNION ALL SELECT * FROM n_interactions";
        self.keep("i_new", new, Some(interactions)).await?;
        let touched = "SELECT u.* FROM u LEFT SEMI JOIN i_new i ON u.user_id = i.user_id";
        self.keep("uw", touched, None).await?;
        let before = format!("b.event_time >= u.first - INTERVAL '{window} microseconds'");
        let dates = self.within("b.event_time", window, window).await?;
        let impressions = columns_of(EventKind::Impression, "b");
        let impressions = format!(
            "SELECT {impressions} FROM (SELECT b.* FROM {}) b \
             JOIN uw u ON b.user_id = u.user_id AND {before} AND {after}{dates} \
             UNION ALL SELECT {} FROM n_impressions n LEFT SEMI JOIN uw u ON n.user_id = u.user_id",
            self.without_replaced("b_impressions", "impressions"),
            columns_of(EventKind::Impression, "n"),
        );
        let context = format!(
            "SELECT {columns} FROM (SELECT b.* FROM {}) b \
             JOIN uw u ON b.user_id = u.user_id AND {before} AND b.event_time < u.first{dates}",
            self.without_replaced("b_interactions", "interactions"),
        );
        let wanted = "SELECT * FROM i_new WHERE user_id IS NOT NULL";
        let inputs =
            [impression_input(&impressions), interaction_input(&context, false), interaction_input(wanted, true)];
        let stream = self.plans.attribute(&inputs).await?;
        let kept = keep(self.plans.context(), stream, attributions_schema()).await?;
        self.keep_rows("a_new", kept)?;
        let old = "SELECT a.* FROM b_attributions a LEFT SEMI JOIN i_old i ON a.interaction_key = i.event_key";
        let dates = self.within("a.interaction_time", 0, window).await?;
        self.keep("a_old", &format!("{old}{dates}"), Some(attributions_schema())).await?;
        let published = if self.has_rows("a_old") {
            "SELECT b.* FROM b_attributions b LEFT ANTI JOIN i_old i ON b.interaction_key = i.event_key"
        } else {
            "SELECT * FROM b_attributions"
        };
        let merged = if self.has_rows("a_new") {
            format!("{published} UNION ALL SELECT * FROM a_new")
        } else {
            published.into()
        };
        self.plans.define("m_attributions", &merged).await?;
        Ok(())
    }

    /// The longest distance at which one event can affect another, in microseconds.
    fn window(&self) -> i64 {
        let rules = &self.plans.meaning().attribution;
        let through_clicks =
            micros(rules.click_through_window).saturating_add(micros(rules.click_to_impression_window));
        through_clicks.max(micros(rules.view_through_window)).min(365_000 * MICROS_PER_DAY / 10)
    }

    /// SQL: a condition that prunes files to the dates from the oldest change to the newest,
    /// widened.
    async fn within(&self, column: &str, before: i64, after: i64) -> Result<String, LakeError> {
        let batches = self.plans.sql("SELECT min(first), max(last) FROM u").await?.collect().await?;
        let bounds = batches.iter().find(|batch| batch.num_rows() > 0).and_then(|batch| {
            let time = |place: usize| {
                let times = batch.column(place).as_primitive_opt::<TimestampMicrosecondType>()?;
                times.is_valid(0).then(|| times.value(0))
            };
            Some((time(0)?, time(1)?))
        });
        let Some((first, last)) = bounds else { return Ok(" WHERE false".to_string()) };
        let date = column.replace("event_time", "event_date").replace("interaction_time", "event_date");
        let day = |micros: i64| date_literal(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(0));
        Ok(format!(
            " WHERE {date} BETWEEN {} AND {}",
            day(first.saturating_sub(before)),
            day(last.saturating_add(after))
        ))
    }

    async fn hourly(&self) -> Result<(), LakeError> {
        self.published("b_hourly", catalogue::CAMPAIGN_HOURLY, campaign_hourly_schema()).await?;
        let new = Contributors {
            impressions: "n_impressions",
            interactions: "i_new",
            attributions: "a_new",
            bid_requests: "n_bid_requests",
        };
        let old = Contributors {
            impressions: "o_impressions",
            interactions: "i_old",
            attributions: "a_old",
            bid_requests: "o_bid_requests",
        };
        let contributions = format!("{} UNION ALL {}", cubes::contributions(&new, 1), cubes::contributions(&old, -1));
        let changed = self.keep("dh", &cubes::hourly(&contributions, false), Some(campaign_hourly_schema())).await?;
        let merged =
            if changed { "SELECT * FROM b_hourly UNION ALL SELECT * FROM dh" } else { "SELECT * FROM b_hourly" };
        self.plans.define("m_hourly", merged).await?;
        Ok(())
    }

    async fn reach(&self) -> Result<(), LakeError> {
        self.published("b_reach", catalogue::CAMPAIGN_REACH, campaign_reach_schema()).await?;
        let schema = Some(campaign_reach_schema());
        self.keep("rn", &cubes::reach("n_impressions"), schema.clone()).await?;
        if !self.has_rows("o_impressions") {
            let merged = if self.has_rows("rn") {
                "SELECT * FROM b_reach UNION ALL SELECT * FROM rn"
            } else {
                "SELECT * FROM b_reach"
            };
            self.plans.define("m_reach", merged).await?;
            return Ok(());
        }
        // Nothing can be removed from a sketch. If an impression was removed, its sketch is
        // computed anew.
        let groups = "SELECT DISTINCT report_day(event_time) AS day, campaign_id FROM o_impressions";
        self.keep("rg", groups, None).await?;
        let day = "CAST(event_time AS DATE)";
        let dates = format!(
            "SELECT DISTINCT d FROM (SELECT {day} - INTERVAL '1 day' AS d FROM o_impressions \
             UNION ALL SELECT {day} FROM o_impressions \
             UNION ALL SELECT {day} + INTERVAL '1 day' FROM o_impressions)"
        );
        let dates = self.on_dates("b.event_date", &format!("SELECT CAST(d AS DATE) FROM ({dates})")).await?;
        let impressions = format!(
            "SELECT event_time, campaign_id, user_id FROM (SELECT b.event_time, b.campaign_id, b.user_id, \
             b.event_key FROM b_impressions b{dates}) b \
             LEFT ANTI JOIN o_impressions o ON b.event_key = o.event_key \
             UNION ALL SELECT event_time, campaign_id, user_id FROM n_impressions"
        );
        let anew = format!(
            "SELECT r.* FROM ({}) r LEFT SEMI JOIN rg g ON r.day = g.day AND \
             (r.campaign_id IS NOT DISTINCT FROM g.campaign_id)",
            cubes::reach(&format!("({impressions})"))
        );
        self.keep("rr", &anew, schema).await?;
        let kept = |table: &str| {
            format!(
                "SELECT r.* FROM {table} r LEFT ANTI JOIN rg g \
                 ON r.day = g.day AND (r.campaign_id IS NOT DISTINCT FROM g.campaign_id)"
            )
        };
        let merged = format!("{} UNION ALL {} UNION ALL SELECT * FROM rr", kept("b_reach"), kept("rn"));
        self.plans.define("m_reach", &merged).await?;
        Ok(())
    }
}

/// SQL: `w` and `f` are the same event, won by the same rows.
fn same_winner(kind: EventKind) -> String {
    let same = |source: &str| {
        format!(
            "(w.{source}['topic'] IS NOT DISTINCT FROM f.{source}['topic']) \
             AND (w.{source}['partition'] IS NOT DISTINCT FROM f.{source}['partition']) \
             AND (w.{source}['offset'] IS NOT DISTINCT FROM f.{source}['offset'])"
        )
    };
    let mut condition = format!("w.event_key = f.event_key AND {}", same("source"));
    if kind == EventKind::BidRequest {
        condition = format!("{condition} AND {}", same("bid_source"));
    }
    condition
}

fn date_literal(days: i32) -> String {
    let date = chrono::DateTime::UNIX_EPOCH + chrono::Duration::days(i64::from(days));
    format!("DATE '{}'", date.format("%Y-%m-%d"))
}

/// All columns are nullable: rows that are read back later may not meet a stricter schema.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), plain(field.data_type()), true)).collect();
    std::sync::Arc::new(Schema::new(fields))
}

fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}
