//! The SQL views: names, columns, decimals and ratios over the merged tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adlake_domain::batch_schema::{self, credit_column, revenue_column};
use adlake_domain::catalogue;
use adlake_domain::credit::Model;
use adlake_domain::event::EventKind;
use adlake_domain::schema;
use adlake_domain::settings::{Display, SpendSource};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{Expr, SessionContext};

use super::merge::{Merge, Merged, Part};
use super::plans::Plans;
use super::sums::{self, Grouping, Sketches};
use super::{cubes, event_columns, freshness, functions, segments};
use crate::error::LakeError;
use crate::snapshot::Snapshot;

/// The names of the views.
pub const VIEWS: [&str; 17] = [
    "impressions",
    "clicks",
    "conversions",
    "bid_requests",
    "attributions",
    "campaign_hourly",
    "campaign_daily",
    "campaign_kpis",
    "geo_daily",
    "site_daily",
    "funnel",
    "invalid_traffic",
    "user_segments",
    "dead_letters",
    "quality",
    "freshness",
    "alarms",
];

/// The most bytes of rows of one materialized plan that stay in memory.
const MATERIALIZED_BYTES_MAX: usize = 128 << 20;

/// The views of one snapshot, ready to be queried.
#[derive(Debug)]
pub struct Views {
    tables: BTreeMap<&'static str, Arc<dyn TableProvider>>,
    plans: Plans,
    /// The merge, whose tables the views read.
    _merged: Merged,
}

impl Views {
    /// Prepares the `wanted` views. They share the memory and disk limits of the session, as the
    /// queries will.
    pub async fn prepare(
        context: &SessionContext,
        snapshot: &Snapshot,
        display: &Display,
        wanted: &BTreeSet<String>,
    ) -> Result<Views, LakeError> {
        Views::prepare_within(context, snapshot, display, wanted, MATERIALIZED_BYTES_MAX).await
    }

    /// The same, with a limit for the rows of a materialized plan that stay in memory.
    pub(super) async fn prepare_within(
        context: &SessionContext,
        snapshot: &Snapshot,
        display: &Display,
        wanted: &BTreeSet<String>,
        memory_bytes_max: usize,
    ) -> Result<Views, LakeError> {
        let plans = Plans::new(separate_session(context), &snapshot.meaning, snapshot.reference.advertisers());
        let wanted: Vec<&'static str> = VIEWS.into_iter().filter(|view| wanted.contains(*view)).collect();
        let parts: BTreeSet<Part> = wanted.iter().flat_map(|view| parts(view)).collect();
        let merged = Merge::new(&plans, snapshot, memory_bytes_max).prepare(&parts).await?;
        let mut tables: BTreeMap<&'static str, Arc<dyn TableProvider>> = BTreeMap::new();
        for view in wanted {
            let sql = match view {
                "impressions" => impressions(),
                "clicks" => clicks(),
                "conversions" => conversions(),
                "bid_requests" => bid_requests(),
                "attributions" => attributions(),
                "campaign_hourly" => {
                    cubes::campaign_hourly(display, "merged_hourly", merged.has_rows("hourly_changes"))
                }
                "campaign_daily" => cubes::with_reach(display, "merged_rollup", "merged_reach", true),
                "campaign_kpis" => cubes::with_reach(display, "merged_rollup", "merged_reach", false),
                "geo_daily" => cubes::daily(display, "merged_hourly", &["campaign_id", "country", "region"]),
                "site_daily" => cubes::daily(display, "merged_hourly", &["campaign_id", "website"]),
                "funnel" => cubes::funnel("merged_rollup"),
                "invalid_traffic" => invalid_traffic(display),
                "user_segments" => segments::user_segments(&display.segments),
                "dead_letters" => dead_letters(&plans, snapshot).await?,
                "alarms" => alarms(&plans, snapshot).await?,
                "quality" => quality(&plans, snapshot).await?,
                _ => freshness_table(&plans, snapshot).await?,
            };
            tables.insert(view, plans.sql(&sql).await?.into_view());
        }
        Ok(Views { tables, plans, _merged: merged })
    }

    /// Stored sums by some columns of the cube. A view of sums has to be among the prepared ones.
    pub async fn sums(&self, wanted: &Grouping<'_>) -> Result<SendableRecordBatchStream, LakeError> {
        sums::sums(&self.plans, wanted).await
    }

    /// Conversions by the time since their last touch: rows with `reached`, how many of `bounds`
    /// (microseconds) that is, and `conversions`. `condition` is one on the columns of
    /// `batch/attributions`. A view of attributions has to be among the prepared ones.
    pub async fn delays(&self, condition: Expr, bounds: &[i64]) -> Result<SendableRecordBatchStream, LakeError> {
        sums::delays(&self.plans, condition, bounds).await
    }

    /// Rows of the view `invalid_traffic`, added up by kind and reason: `kind`, `reason`, `events`
    /// and `cost`. `condition` is one on the columns of the view, which has to be among the
    /// prepared ones.
    pub async fn invalid(&self, condition: Expr) -> Result<SendableRecordBatchStream, LakeError> {
        let table = self.tables.get("invalid_traffic");
        let table = table.ok_or_else(|| LakeError::NotFound("the view invalid_traffic is not prepared".to_string()))?;
        sums::invalid(&self.plans, table.clone(), condition).await
    }

    /// Sketches by day and campaign. A view of reach has to be among the prepared ones.
    pub async fn sketches(&self, wanted: Sketches) -> Result<SendableRecordBatchStream, LakeError> {
        sums::sketches(&self.plans, wanted).await
    }

    /// Registers the views and the functions of the SQL surface in a session.
    pub fn register(&self, context: &SessionContext) -> Result<(), LakeError> {
        functions::register_public(context);
        for (name, table) in &self.tables {
            context.register_table(*name, table.clone())?;
        }
        Ok(())
    }
}

/// A session with the same limits, but with tables of its own.
fn separate_session(context: &SessionContext) -> SessionContext {
    crate::session::context(context.copied_config(), context.runtime_env())
}

fn parts(view: &str) -> Vec<Part> {
    match view {
        "impressions" => vec![Part::Events(EventKind::Impression)],
        "bid_requests" => vec![Part::Events(EventKind::BidRequest)],
        "clicks" | "conversions" | "attributions" | "invalid_traffic" => vec![Part::Attributions],
        "user_segments" => vec![Part::Users],
        "campaign_hourly" | "geo_daily" | "site_daily" => vec![Part::Hourly],
        "funnel" => vec![Part::Rollup],
        "campaign_daily" | "campaign_kpis" => vec![Part::Rollup, Part::Reach],
        _ => Vec::new(),
    }
}

/// Columns of event tables that the views do not show.
const HIDDEN: [&str; 9] = [
    "event_key",
    "content_hash",
    "scope_advertiser_id",
    "interaction_type",
    "invalid_reason",
    "bid_content_hash",
    "bid_source",
    "bid_event_date",
    "event_date",
];

fn shown(kind: EventKind) -> Vec<String> {
    let shown = event_columns(kind).into_iter().filter(|name| !HIDDEN.contains(&name.as_str()));
    let money = |name: String| match name.strip_suffix("_micros") {
        Some(shown) => format!("micros({name}) AS {shown}"),
        None => format!("\"{name}\""),
    };
    shown.map(money).chain(["event_date".to_string()]).collect()
}

fn impressions() -> String {
    format!("SELECT {} FROM merged_impressions WHERE invalid_reason IS NULL", shown(EventKind::Impression).join(", "))
}

fn bid_requests() -> String {
    format!("SELECT {} FROM merged_bid_requests", shown(EventKind::BidRequest).join(", "))
}

fn clicks() -> String {
    interactions(&[], "interaction_type = 'click'")
}

fn conversions() -> String {
    interactions(&["interaction_type = 'refund' AS is_refund"], "interaction_type IN ('conversion', 'refund')")
}

fn interactions(more: &[&str], condition: &str) -> String {
    let mut columns = shown(EventKind::Interaction);
    let after = |columns: &[String], name: &str| columns.iter().position(|other| other == name).map_or(0, |at| at + 1);
    columns.insert(after(&columns, "\"ad_creative_id\""), "website".to_string());
    let place = after(&columns, "\"conversion_type\"");
    columns.splice(place..place, more.iter().map(|column| column.to_string()));
    format!(
        "SELECT {} FROM ({}) WHERE {condition} AND invalid_reason IS NULL",
        columns.join(", "),
        cubes::inherited("merged_interactions", "merged_attributions")
    )
}

fn attributions() -> String {
    let mut columns: Vec<String> = [
        "user_id",
        "interaction_id",
        "interaction_type",
        "conversion_type",
        "interaction_time",
        "interaction_campaign_id",
        "touchpoint_id",
        "touchpoint_kind",
        "touchpoint_time",
        "touchpoint_campaign_id",
        "last_touch",
        "micros(seconds_between_micros) AS seconds_between",
    ]
    .map(String::from)
    .to_vec();
    for model in Model::ALL {
        columns.push(format!("nanos({}) AS credit_{}", credit_column(model), model.name()));
    }
    for model in Model::ALL {
        columns.push(format!("micros({}) AS revenue_{}", revenue_column(model), model.name()));
    }
    columns.push("event_date".to_string());
    format!(
        "SELECT {} FROM merged_attributions WHERE touchpoint_key IS NOT NULL AND invalid_reason IS NULL",
        columns.join(", ")
    )
}

/// What is invalid, by day, campaign, kind and reason. The cost is what it would add to the spend.
fn invalid_traffic(display: &Display) -> String {
    let cost = match display.spend_source {
        SpendSource::Impressions => "cost_micros",
        SpendSource::Bids => "0",
    };
    format!(
        "SELECT day, campaign_id, kind, reason, count(*) AS events, micros(coalesce(sum(cost), 0)) AS cost FROM (\
         SELECT report_day(event_time) AS day, campaign_id, 'impression' AS kind, invalid_reason AS reason, \
         CAST({cost} AS DECIMAL(38, 0)) AS cost FROM merged_impressions WHERE invalid_reason IS NOT NULL \
         UNION ALL SELECT report_day(event_time) AS day, campaign_id, interaction_type AS kind, \
         invalid_reason AS reason, CAST(0 AS DECIMAL(38, 0)) AS cost FROM ({}) WHERE invalid_reason IS NOT NULL) \
         GROUP BY day, campaign_id, kind, reason",
        cubes::inherited("merged_interactions", "merged_attributions")
    )
}

async fn dead_letters(plans: &Plans, snapshot: &Snapshot) -> Result<String, LakeError> {
    match snapshot.newest_table(catalogue::DEAD_LETTERS).await? {
        Some(table) => plans.register("newest_dead_letters", table)?,
        None => plans.register_empty("newest_dead_letters", schema::dead_letters_schema())?,
    }
    Ok("SELECT * FROM newest_dead_letters".to_string())
}

async fn alarms(plans: &Plans, snapshot: &Snapshot) -> Result<String, LakeError> {
    // Alarms are no part of the snapshot: they follow from it.
    match snapshot.lake.newest_version(catalogue::ALARMS).await? {
        Some(version) => {
            plans.register("newest_alarms", snapshot.lake.provider(catalogue::ALARMS, version).await?)?;
        }
        None => plans.register_empty("newest_alarms", batch_schema::alarms_schema())?,
    }
    Ok("SELECT * FROM newest_alarms".to_string())
}

/// The results of the expectations do not belong to a run: they also tell of refused ones.
async fn quality(plans: &Plans, snapshot: &Snapshot) -> Result<String, LakeError> {
    match snapshot.newest_table(catalogue::QUALITY).await? {
        Some(table) => plans.register("newest_quality", table)?,
        None => plans.register_empty("newest_quality", batch_schema::quality_schema())?,
    }
    Ok("SELECT * FROM newest_quality".to_string())
}

async fn freshness_table(plans: &Plans, snapshot: &Snapshot) -> Result<String, LakeError> {
    let rows = freshness::rows(plans.context(), snapshot).await?;
    plans.register("raw_freshness", Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))?;
    Ok("SELECT * FROM raw_freshness".to_string())
}
