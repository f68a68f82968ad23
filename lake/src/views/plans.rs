//! `Q` over tables that are registered by name: from raw rows to events, from events to
//! attributions, and from both to sums and sketches.
//!
//! The batch layer runs these plans over the whole raw tables. The merge runs them over the newer
//! rows and over what those affect.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use adlake_domain::attribution::Rules;
use adlake_domain::batch_schema::{
    attributions_schema, campaign_hourly_schema, campaign_reach_schema, campaign_rollup_schema, event_schema,
    user_segments_schema,
};
use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use arrow::array::{Array, ArrayBuilder, AsArray};
use arrow::datatypes::{Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::StreamExt;
use hashbrown::HashMap;

pub use super::batch_table::BatchTable;
use super::cubes::{self, Contributors};
use super::functions::Functions;
use super::materialize::Materialized;
use super::slice::{Day, Slice, Volume, on_days, within};
use super::winners::Unclear;
use super::{event_columns, events, invalid, materialize, winners};
use crate::operators::copies::{Prefixes, Values, Winners};
use crate::operators::take::{self, Taken};
use crate::operators::{attribute, attribution, explode, repeated};

/// The most bytes of winners of copies that stay in memory.
const WINNERS_BYTES_MAX: usize = 256 << 20;

/// The copies among the rows of a kind of event, and their winners.
#[derive(Debug)]
pub struct Copies {
    prefixes: Arc<Prefixes>,
    winners: Vec<Materialized>,
}

/// The plans, in a session with their functions and tables.
#[derive(Clone)]
pub struct Plans {
    context: SessionContext,
    meaning: Meaning,
    functions: Functions,
    /// The registered tables.
    tables: Arc<Mutex<BTreeMap<String, Arc<dyn TableProvider>>>>,
    /// What [`Plans::prepare_events`] has made, while it is kept.
    copies: Arc<Mutex<BTreeMap<&'static str, Weak<Copies>>>>,
    /// How many plans and tables were named.
    named: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plans").field("meaning", &self.meaning).finish_non_exhaustive()
    }
}

impl Plans {
    /// Plans for a meaning and the advertisers of the campaigns, in a session of their own.
    pub fn new(context: SessionContext, meaning: &Meaning, advertisers: Arc<HashMap<String, String>>) -> Plans {
        let functions = Functions::new(meaning, advertisers);
        functions.register(&context);
        let (tables, copies, named) = Default::default();
        Plans { context, meaning: meaning.clone(), functions, tables, copies, named }
    }

    /// The same plans and tables in a session of their own, whose plans have one partition. It
    /// shares the memory and the disk space of the first session. So several parts of the work can
    /// run beside each other, each in one thread.
    pub fn sequential(&self) -> Result<Plans> {
        let mut config = self.context.copied_config().with_target_partitions(1);
        // A union would be sorted part by part and then merged, which copies each row twice.
        config.options_mut().optimizer.repartition_sorts = false;
        // Rows that come in the order of their groups need no hash table.
        config.options_mut().sql_parser.enable_subquery_sort_elimination = false;
        self.in_session(config)
    }

    /// The same plans and tables in a session of their own, which shares memory and disk space.
    /// Tables that are registered there are gone with it.
    fn in_session(&self, config: SessionConfig) -> Result<Plans> {
        let context = crate::session::context(config, self.context.runtime_env());
        self.functions.register(&context);
        let tables = self.tables.lock().map(|tables| tables.clone()).unwrap_or_default();
        for (name, table) in &tables {
            context.register_table(name, table.clone())?;
        }
        let tables = Arc::new(Mutex::new(tables));
        let (meaning, functions) = (self.meaning.clone(), self.functions.clone());
        let (copies, named) = (self.copies.clone(), self.named.clone());
        Ok(Plans { context, meaning, functions, tables, copies, named })
    }

    /// The session.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The meaning of the plans.
    pub fn meaning(&self) -> &Meaning {
        &self.meaning
    }

    /// Registers a table under a name, in place of an earlier one. So a step that an outage
    /// interrupted can be planned again.
    pub fn register(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.context.deregister_table(name)?;
        self.context.register_table(name, table.clone())?;
        if let Ok(mut tables) = self.tables.lock() {
            tables.insert(name.to_string(), table);
        }
        Ok(())
    }

    /// Registers a table without rows under a name.
    pub fn register_empty(&self, name: &str, schema: SchemaRef) -> Result<()> {
        self.register(name, Arc::new(EmptyTable::new(schema)))
    }

    /// Registers a plan under a name.
    pub async fn define(&self, name: &str, sql: &str) -> Result<()> {
        self.register(name, self.sql(sql).await?.into_view())
    }

    /// A plan from SQL.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        self.context.sql(sql).await
    }

    /// The raw rows of table `raw` with their identities.
    pub async fn keyed(&self, kind: EventKind, raw: &str) -> Result<DataFrame> {
        let sql = self.keyed_sql(kind, raw).await?;
        self.sql(&sql).await
    }

    /// SQL: the same. `raw` may be a query in parentheses.
    async fn keyed_sql(&self, kind: EventKind, raw: &str) -> Result<String> {
        if kind != EventKind::BidRequest {
            return Ok(events::keyed(kind, raw));
        }
        let records = self.sql(&events::with_events(raw)).await?;
        let plan = explode::plan(records.logical_plan().clone())?;
        Ok(events::keyed(kind, &self.name_plan("exploded", plan)?))
    }

    /// Registers a plan under a new name. Returns the name.
    fn name_plan(&self, what: &str, plan: LogicalPlan) -> Result<String> {
        self.name_table(what, DataFrame::new(self.context.state(), plan).into_view())
    }

    /// Registers a table under a new name. Returns the name.
    pub(super) fn name_table(&self, what: &str, table: Arc<dyn TableProvider>) -> Result<String> {
        let name = format!("{what}_{}", self.named.fetch_add(1, Ordering::Relaxed));
        self.register(&name, table)?;
        Ok(name)
    }

    /// One row for each event in the rows of table `keyed`, with the columns of the batch table.
    pub async fn deduplicated(&self, kind: EventKind, keyed: &str) -> Result<DataFrame> {
        let copies = self.find_copies(kind, keyed, None).await?;
        self.without_losers(kind, keyed, &copies, None).await
    }

    /// Prepares [`Plans::events_of`]: decides the winners of those identities that have several
    /// rows in `raw_<kind>`. The result must live as long as the events are read.
    pub async fn prepare_events(&self, kind: EventKind) -> Result<Arc<Copies>> {
        let raw = format!("raw_{}", kind.table());
        let keyed = self.keyed_sql(kind, &raw).await?;
        let found = Arc::new(self.find_copies(kind, &format!("({keyed})"), Some(&raw)).await?);
        if let Ok(mut copies) = self.copies.lock() {
            copies.insert(kind.table(), Arc::downgrade(&found));
        }
        Ok(found)
    }

    /// The events of a UTC day in the order of the batch table, after [`Plans::prepare_events`].
    pub async fn events_of(&self, kind: EventKind, day: Day) -> Result<DataFrame> {
        let copies = self.copies.lock().ok().and_then(|copies| copies.get(kind.table()).and_then(Weak::upgrade));
        let copies = copies.ok_or_else(|| internal_datafusion_err!("the {kind} events were not prepared"))?;
        let condition = format!("event_date = {}", day.literal());
        let rows = format!("(SELECT * FROM raw_{} WHERE {condition})", kind.table());
        let keyed = self.keyed_sql(kind, &rows).await?;
        let events = self.without_losers(kind, &format!("({keyed})"), &copies, Some(&condition)).await?;
        let mut name = self.name_table("events", events.into_view())?;
        if self.has_rates(kind) {
            name = format!("({})", self.rated(kind, &name, &name));
        }
        let columns: Vec<String> = event_columns(kind).iter().map(|column| format!("\"{column}\"")).collect();
        let order = BatchTable::Events(kind).order();
        self.sql(&format!("SELECT {} FROM {name} ORDER BY {order}", columns.join(", "))).await
    }

    /// The copies among the rows of `keyed`, with their winners. `raw` is the table that these rows
    /// come from, if it is registered.
    async fn find_copies(&self, kind: EventKind, keyed: &str, raw: Option<&str>) -> Result<Copies> {
        // What its tables hold is needed no longer than they are.
        let plans = self.in_session(self.context.copied_config())?;
        plans.find_copies_here(kind, keyed, raw).await
    }

    async fn find_copies_here(&self, kind: EventKind, keyed: &str, raw: Option<&str>) -> Result<Copies> {
        let prefixes = self.sql(&format!("SELECT key_prefix(event_key) AS prefix FROM {keyed}")).await?;
        let prefixes = repeated::repeated(&self.context, prefixes).await?;
        let prefixes = Arc::new(Prefixes::new(&prefixes, &self.context.runtime_env())?);
        let rows = self.sql(&events::with_bids(kind, keyed)).await?;
        let taken = take::plan(rows.logical_plan().clone(), Taken::Copies(prefixes.clone()))?;
        let rows = self.sql(&events::of_copies(kind, &self.name_plan("copies", taken)?, false)).await?;
        let unclear = Arc::new(Mutex::new(Unclear::default()));
        let decided = winners::winners(rows.execute_stream().await?, Some(unclear.clone()));
        let decided = self.materialize_winners(decided).await?;
        let unclear = unclear.lock().map(|mut unclear| std::mem::take(&mut *unclear)).unwrap_or_default();
        let (rows, is_spilled) = (decided.count, decided.kept.is_spilled());
        tracing::debug!(%kind, rows, is_spilled, unclear = unclear.keys.len(), "the winners of copies were decided");
        let mut winners = vec![decided];
        if !unclear.keys.is_empty() {
            winners.push(self.winners_by_content(kind, keyed, raw, unclear).await?);
        }
        Ok(Copies { prefixes, winners })
    }

    /// The winners of the keys for which contents are needed.
    async fn winners_by_content(
        &self,
        kind: EventKind,
        keyed: &str,
        raw: Option<&str>,
        mut unclear: Unclear,
    ) -> Result<Materialized> {
        let runtime = self.context.runtime_env();
        let hashes = Arc::new(Values::new(&unclear.hashes.finish(), &runtime)?);
        let rows = self.sql(&format!("SELECT * FROM {}", raw.unwrap_or(keyed))).await?;
        let taken = take::plan(rows.logical_plan().clone(), Taken::Having(take::CONTENT_HASH, hashes))?;
        let rows = self.name_plan("hashed", taken)?;
        let keyed = match raw {
            // So few rows get keys.
            Some(_) => format!("({})", self.keyed_sql(kind, &rows).await?),
            None => rows,
        };
        let keys = Arc::new(Values::new(&unclear.keys.finish(), &runtime)?);
        let rows = self.sql(&events::with_bids(kind, &keyed)).await?;
        let taken = take::plan(rows.logical_plan().clone(), Taken::Having(take::EVENT_KEY, keys))?;
        let rows = self.sql(&events::of_copies(kind, &self.name_plan("unclear", taken)?, true)).await?;
        self.materialize_winners(winners::winners(rows.execute_stream().await?, None)).await
    }

    async fn materialize_winners(&self, winners: SendableRecordBatchStream) -> Result<Materialized> {
        let schema = winners.schema();
        materialize::materialize(&self.context, winners, schema, WINNERS_BYTES_MAX).await
    }

    /// The events of those rows of `keyed` that are no copies, or win. `condition` restricts the
    /// winners to the rows of `keyed`.
    async fn without_losers(
        &self,
        kind: EventKind,
        keyed: &str,
        copies: &Copies,
        condition: Option<&str>,
    ) -> Result<DataFrame> {
        let mut rows = Vec::new();
        let mut schema = None;
        for winners in &copies.winners {
            schema.get_or_insert(winners.table.schema());
            let frame = self.context.read_table(winners.table.clone())?;
            let frame = match condition {
                Some(condition) => {
                    let condition = frame.parse_sql_expr(condition)?;
                    frame.filter(condition)?
                }
                None => frame,
            };
            rows.extend(frame.collect().await?);
        }
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        let runtime = self.context.runtime_env();
        let winners = Arc::new(Winners::new(copies.prefixes.clone(), &schema, &rows, &runtime)?);
        let rows = self.sql(&events::with_bids(kind, keyed)).await?;
        let taken = take::plan(rows.logical_plan().clone(), Taken::Winners(winners))?;
        self.sql(&events::of_winners(kind, &self.name_plan("winners", taken)?)).await
    }

    /// Whether events of a kind can be invalid by their number on a day.
    pub(super) fn has_rates(&self, kind: EventKind) -> bool {
        invalid::has_rates(kind, &self.meaning.invalid)
    }

    /// SQL: see [`invalid::rated`].
    pub(super) fn rated(&self, kind: EventKind, events: &str, whole: &str) -> String {
        invalid::rated(kind, &self.meaning.invalid, events, whole)
    }

    /// The attributions of all interactions, with the columns of `batch/attributions`. The
    /// arguments name tables of events.
    pub async fn attributions(&self, impressions: &str, interactions: &str) -> Result<DataFrame> {
        let touched = format!("SELECT DISTINCT user_id FROM {interactions} WHERE user_id IS NOT NULL");
        let impressions =
            format!("SELECT e.* FROM {impressions} e LEFT SEMI JOIN ({touched}) u ON e.user_id = u.user_id");
        let interactions = format!("SELECT * FROM {interactions} WHERE user_id IS NOT NULL");
        self.attribute(&[impression_input(&impressions), interaction_input(&interactions, true)]).await
    }

    /// Attributes the rows of several inputs, each made by [`impression_input`] or
    /// [`interaction_input`].
    pub(super) async fn attribute(&self, inputs: &[String]) -> Result<DataFrame> {
        let input = self.sql(&inputs.join(" UNION ALL ")).await?;
        let plan = attribution::plan(input.logical_plan().clone(), &Rules::of(&self.meaning))?;
        Ok(DataFrame::new(self.context.state(), plan))
    }

    /// How many events and credits of tables `impressions`, `interactions`, `attributions` and
    /// `bid_requests` there are in a range of time, by campaign and hour.
    pub async fn volumes(&self, range: Range<i64>) -> Result<Vec<Volume>> {
        let days = on_days("event_date", &range);
        let part = |table: &str, time: &str| {
            format!(
                "SELECT campaign_id, report_hour({time}) AS hour, count(*) AS events FROM {table} WHERE {days} AND {} \
                 GROUP BY campaign_id, report_hour({time})",
                within(time, &range)
            )
        };
        let parts = [
            part("impressions", "event_time"),
            part("interactions", "event_time"),
            part("attributions", "interaction_time"),
            part("bid_requests", "event_time"),
        ];
        self.volumes_of(&parts.join(" UNION ALL ")).await
    }

    /// How many rows of tables `published_hourly` and `hourly_changes` there are in a range of
    /// time, by campaign and hour.
    pub async fn hourly_volumes(&self, range: Range<i64>) -> Result<Vec<Volume>> {
        let condition = format!("{} AND {}", on_days("event_date", &range), within("hour", &range));
        let part = |table: &str| {
            format!(
                "SELECT campaign_id, hour, count(*) AS events FROM {table} WHERE {condition} \
                 GROUP BY campaign_id, hour"
            )
        };
        self.volumes_of(&format!("{} UNION ALL {}", part("published_hourly"), part("hourly_changes"))).await
    }

    async fn volumes_of(&self, parts: &str) -> Result<Vec<Volume>> {
        let sql = format!(
            "SELECT campaign_id, hour, sum(events) AS events FROM ({parts}) GROUP BY campaign_id, hour \
             ORDER BY campaign_id NULLS FIRST, hour"
        );
        let mut volumes = Vec::new();
        for batch in self.sql(&sql).await?.collect().await? {
            let wrong = || internal_datafusion_err!("the volumes have other types");
            let campaigns = batch.column(0).as_string_opt::<i32>().ok_or_else(wrong)?;
            let hours = batch.column(1).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
            let events = batch.column(2).as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
            volumes.extend((0..batch.num_rows()).map(|row| Volume {
                campaign: campaigns.is_valid(row).then(|| campaigns.value(row).to_string()),
                hour: hours.value(row),
                events: events.value(row).max(0) as u64,
            }));
        }
        Ok(volumes)
    }

    /// The rows of `campaign_hourly` for a slice, from tables `impressions`, `interactions`,
    /// `attributions` and `bid_requests`, in the order of the batch table.
    pub async fn hourly(&self, slice: &Slice) -> Result<DataFrame> {
        self.sql(&cubes::hourly_at_once(&Contributors::of_slice(slice), &BatchTable::Hourly.order_columns())).await
    }

    /// The rows of `campaign_hourly` for a slice, from tables `published_hourly` and
    /// `hourly_changes`, in the order of the batch table.
    pub async fn changed_hourly(&self, slice: &Slice) -> Result<DataFrame> {
        let condition = slice.condition("hour");
        let rows = format!(
            "SELECT * FROM published_hourly WHERE {condition} UNION ALL SELECT * FROM hourly_changes WHERE {condition}"
        );
        self.sql(&cubes::changed_hourly(&rows, &BatchTable::Hourly.order_columns())).await
    }

    /// The changes of the cube on a date, from table `hourly_changes`, in the order of the batch
    /// table.
    pub async fn changes_of(&self, day: Day) -> Result<DataFrame> {
        let (day, order) = (day.literal(), BatchTable::Hourly.order());
        self.sql(&format!("SELECT * FROM hourly_changes WHERE event_date = {day} ORDER BY {order}")).await
    }

    /// The rows of `campaign_rollup` for a date, from tables `published_rollup` and
    /// `hourly_changes`, in the order of the batch table.
    pub async fn changed_rollup(&self, day: Day) -> Result<DataFrame> {
        let rows = format!("(SELECT * FROM merged_rollup WHERE event_date = {})", day.literal());
        let order = BatchTable::Rollup.order();
        self.sql(&format!("{} HAVING sum(events) > 0 ORDER BY {order}", cubes::rollup(&rows))).await
    }

    /// The rows of `campaign_rollup` for a date, from a table with the columns of
    /// `campaign_hourly`.
    pub async fn rollup(&self, hourly: &str, day: Day) -> Result<DataFrame> {
        let rows = format!("(SELECT * FROM {hourly} WHERE event_date = {})", day.literal());
        self.sql(&format!("{} ORDER BY {}", cubes::rollup(&rows), BatchTable::Rollup.order())).await
    }

    /// The rows of `campaign_reach` for a slice, from table `impressions`.
    pub async fn reach(&self, slice: &Slice) -> Result<DataFrame> {
        let impressions = format!("(SELECT * FROM impressions WHERE {})", slice.condition("event_time"));
        self.sql(&format!("{} ORDER BY {}", cubes::reach(&impressions), BatchTable::Reach.order())).await
    }

    /// The rows of a plan with exactly the types of a table's schema.
    pub async fn stream(&self, frame: DataFrame, schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        let stream = frame.execute_stream().await?;
        let target = schema.clone();
        let conformed = stream.map(move |batch| materialize::conform(&batch?, &target));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, conformed)))
    }

    /// The schema of a batch table.
    pub fn schema_of(table: BatchTable) -> SchemaRef {
        match table {
            BatchTable::Events(kind) => event_schema(kind),
            BatchTable::Attributions => attributions_schema(),
            BatchTable::Hourly => campaign_hourly_schema(),
            BatchTable::Rollup => campaign_rollup_schema(),
            BatchTable::Reach => campaign_reach_schema(),
            BatchTable::Users => user_segments_schema(),
        }
    }
}

/// SQL: impressions as input of attribution. Invalid ones are no touchpoints.
pub(super) fn impression_input(impressions: &str) -> String {
    let columns = attribute::input_columns().map(|name| match name {
        "kind" => format!("CAST({} AS TINYINT) AS kind", attribute::IMPRESSION),
        "id" => "impression_id AS id".to_string(),
        "scope_advertiser_id" => "advertiser_of(campaign_id) AS scope_advertiser_id".to_string(),
        "impression_id" => "CAST(NULL AS VARCHAR) AS impression_id".to_string(),
        "is_primary" | "wanted" => format!("false AS {name}"),
        "is_valid" => "true AS is_valid".to_string(),
        "value_micros" => "CAST(NULL AS BIGINT) AS value_micros".to_string(),
        "conversion_type" | "interaction_type" | "order_id" => format!("CAST(NULL AS VARCHAR) AS {name}"),
        name => name.to_string(),
    });
    format!("SELECT {} FROM ({impressions}) WHERE invalid_reason IS NULL", columns.join(", "))
}

/// SQL: interactions as input of attribution. Those that are not `wanted` only serve as
/// touchpoints.
pub(super) fn interaction_input(interactions: &str, wanted: bool) -> String {
    let columns = attribute::input_columns().map(|name| match name {
        "kind" => format!(
            "CAST(CASE interaction_type WHEN 'click' THEN {} WHEN 'refund' THEN {} ELSE {} END AS TINYINT) AS kind",
            attribute::CLICK,
            attribute::REFUND,
            attribute::CONVERSION
        ),
        "id" => "interaction_id AS id".to_string(),
        "is_primary" => "is_primary(conversion_type) AS is_primary".to_string(),
        "wanted" => format!("{wanted} AS wanted"),
        "is_valid" => "invalid_reason IS NULL AS is_valid".to_string(),
        "website" => "CAST(NULL AS VARCHAR) AS website".to_string(),
        name => name.to_string(),
    });
    format!("SELECT {} FROM ({interactions})", columns.join(", "))
}

/// The columns of a table of events as a list for SELECT, qualified with `alias`.
pub(super) fn columns_of(kind: EventKind, alias: &str) -> String {
    event_columns(kind).iter().map(|name| format!("{alias}.\"{name}\"")).collect::<Vec<_>>().join(", ")
}
