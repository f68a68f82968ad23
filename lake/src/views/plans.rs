//! `Q` over tables that are registered by name: from raw rows to events, from events to
//! attributions, and from both to sums and sketches.
//!
//! The batch layer runs these plans over the whole raw tables. The merge runs them over the newer
//! rows and over what those affect.

use std::sync::Arc;

use adlake_domain::batch_schema::{attributions_schema, campaign_hourly_schema, campaign_reach_schema, event_schema};
use adlake_domain::event::EventKind;
use adlake_domain::settings::Meaning;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt;
use hashbrown::HashMap;

use super::cubes::{self, Contributors};
use super::functions::Functions;
use super::{attribute, event_columns, events, materialize};

/// The plans, in a session with their functions and tables.
#[derive(Clone)]
pub struct Plans {
    context: SessionContext,
    meaning: Meaning,
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plans").field("meaning", &self.meaning).finish_non_exhaustive()
    }
}

impl Plans {
    /// Plans for a meaning and the advertisers of the campaigns, in a session of their own.
    pub fn new(context: SessionContext, meaning: &Meaning, advertisers: Arc<HashMap<String, String>>) -> Plans {
        Functions::new(meaning, advertisers).register(&context);
        Plans { context, meaning: meaning.clone() }
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
        self.context.register_table(name, table)?;
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
        self.sql(&events::keyed(kind, raw)).await
    }

    /// One row for each event in the rows of table `keyed`, with the columns of the batch table.
    pub async fn deduplicated(&self, kind: EventKind, keyed: &str) -> Result<DataFrame> {
        self.sql(&events::deduplicated(kind, keyed)).await
    }

    /// One row for each event of the raw table `raw`.
    pub async fn events(&self, kind: EventKind, raw: &str) -> Result<DataFrame> {
        let keyed = format!("keyed_{}", kind.table());
        self.define(&keyed, &events::keyed(kind, raw)).await?;
        self.deduplicated(kind, &keyed).await
    }

    /// The attributions of all interactions, with the columns of `batch/attributions`. The
    /// arguments name tables of events.
    pub async fn attributions(&self, impressions: &str, interactions: &str) -> Result<SendableRecordBatchStream> {
        let touched = format!("SELECT DISTINCT user_id FROM {interactions} WHERE user_id IS NOT NULL");
        let impressions =
            format!("SELECT e.* FROM {impressions} e LEFT SEMI JOIN ({touched}) u ON e.user_id = u.user_id");
        let interactions = format!("SELECT * FROM {interactions} WHERE user_id IS NOT NULL");
        self.attribute(&[impression_input(&impressions), interaction_input(&interactions, true)]).await
    }

    /// Attributes the rows of several inputs, each made by [`impression_input`] or
    /// [`interaction_input`].
    pub(super) async fn attribute(&self, inputs: &[String]) -> Result<SendableRecordBatchStream> {
        let sql = format!("SELECT * FROM ({}) ORDER BY user_id", inputs.join(" UNION ALL "));
        let stream = self.sql(&sql).await?.execute_stream().await?;
        Ok(attribute::attribute(stream, self.meaning.attribution.clone()))
    }

    /// `campaign_hourly` from events and attributions.
    pub async fn hourly(
        &self,
        impressions: &str,
        interactions: &str,
        attributions: &str,
        bid_requests: &str,
    ) -> Result<DataFrame> {
        let contributors = Contributors { impressions, interactions, attributions, bid_requests };
        self.sql(&cubes::hourly(&cubes::contributions(&contributors, 1), true)).await
    }

    /// `campaign_reach` from impressions.
    pub async fn reach(&self, impressions: &str) -> Result<DataFrame> {
        self.sql(&cubes::reach(impressions)).await
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
            BatchTable::Reach => campaign_reach_schema(),
        }
    }
}

/// A table that the batch layer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchTable {
    /// Deduplicated events.
    Events(EventKind),
    /// Interactions and their touchpoints.
    Attributions,
    /// The hourly cube.
    Hourly,
    /// The sketches.
    Reach,
}

impl BatchTable {
    /// Its name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            BatchTable::Events(kind) => kind.batch_table(),
            BatchTable::Attributions => adlake_domain::catalogue::ATTRIBUTIONS,
            BatchTable::Hourly => adlake_domain::catalogue::CAMPAIGN_HOURLY,
            BatchTable::Reach => adlake_domain::catalogue::CAMPAIGN_REACH,
        }
    }
}

/// SQL: impressions as input of attribution.
pub(super) fn impression_input(impressions: &str) -> String {
    let columns = attribute::input_columns().map(|name| match name {
        "kind" => format!("CAST({} AS TINYINT) AS kind", attribute::IMPRESSION),
        "id" => "impression_id AS id".to_string(),
        "scope_advertiser_id" => "advertiser_of(campaign_id) AS scope_advertiser_id".to_string(),
        "impression_id" => "CAST(NULL AS VARCHAR) AS impression_id".to_string(),
        "is_primary" | "wanted" => format!("false AS {name}"),
        "value_micros" => "CAST(NULL AS BIGINT) AS value_micros".to_string(),
        "conversion_type" | "interaction_type" => format!("CAST(NULL AS VARCHAR) AS {name}"),
        name => name.to_string(),
    });
    format!("SELECT {} FROM ({impressions})", columns.join(", "))
}

/// SQL: interactions as input of attribution. Those that are not `wanted` only serve as
/// touchpoints.
pub(super) fn interaction_input(interactions: &str, wanted: bool) -> String {
    let columns = attribute::input_columns().map(|name| match name {
        "kind" => format!(
            "CAST(CASE WHEN interaction_type = 'click' THEN {} ELSE {} END AS TINYINT) AS kind",
            attribute::CLICK,
            attribute::CONVERSION
        ),
        "id" => "interaction_id AS id".to_string(),
        "is_primary" => "is_primary(conversion_type) AS is_primary".to_string(),
        "wanted" => format!("{wanted} AS wanted"),
        "website" => "CAST(NULL AS VARCHAR) AS website".to_string(),
        name => name.to_string(),
    });
    format!("SELECT {} FROM ({interactions})", columns.join(", "))
}

/// The columns of a table of events as a list for SELECT, qualified with `alias`.
pub(super) fn columns_of(kind: EventKind, alias: &str) -> String {
    event_columns(kind).iter().map(|name| format!("{alias}.\"{name}\"")).collect::<Vec<_>>().join(", ")
}
