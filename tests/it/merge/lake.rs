//! A lake in a temporary folder. The appender fills it, and the query engine reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_batch_layer::{BatchSettings, RunReport, Silent};
use adlake_domain::event::EventKind;
use adlake_domain::settings::{Display, Meaning};
use adlake_lake::manifest::Manifest;
use adlake_lake::session::SessionSettings;
use adlake_lake::{Advance, Appended, Lake, LoadMode, ReferenceKind, StorageSettings, WriterSettings};
use adlake_serving::{QueryEngine, QuerySettings};
use adlake_tests::history::batches::table;
use adlake_tests::history::{ReferenceData, Rows};
use adlake_tests::oracle::compare::Answer;
use adlake_tests::oracle::value::Row;
use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::api::{self, Api};

/// A lake that one test owns.
pub struct TestLake {
    folder: tempfile::TempDir,
    lake: Lake,
    engine: QueryEngine,
    meaning: Meaning,
    display: Display,
    session: SessionSettings,
    appended: i64,
    /// A server over the lake, once it was asked.
    api: Option<Api>,
    /// Whether that server's sums fit into its memory. Each server is another than the one before.
    api_memory: bool,
}

impl TestLake {
    /// An empty lake.
    pub async fn create(meaning: &Meaning) -> Result<TestLake> {
        Self::create_in(tempfile::tempdir()?, meaning).await
    }

    /// An empty lake whose batch runs and queries have these limits.
    pub async fn create_limited(meaning: &Meaning, session: SessionSettings) -> Result<TestLake> {
        let mut lake = Self::create(meaning).await?;
        lake.limit(session).await?;
        Ok(lake)
    }

    /// A lake in a folder that may hold tables already.
    pub async fn create_in(folder: tempfile::TempDir, meaning: &Meaning) -> Result<TestLake> {
        let lake = open(&folder).await?;
        lake.create_tables().await?;
        let display = Display::default();
        let session = SessionSettings::default();
        let engine = engine(&lake, meaning, &display, &session).await?;
        let (meaning, appended, api, api_memory) = (meaning.clone(), 0, None, true);
        Ok(TestLake { folder, lake, engine, meaning, display, session, appended, api, api_memory })
    }

    /// Gives batch runs and queries other limits from now on.
    pub async fn limit(&mut self, session: SessionSettings) -> Result<()> {
        self.session = session;
        self.restart().await
    }

    /// The lake itself.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Drops everything that a process holds in memory.
    pub async fn restart(&mut self) -> Result<()> {
        self.lake = open(&self.folder).await?;
        self.engine = engine(&self.lake, &self.meaning, &self.display, &self.session).await?;
        self.api = None;
        self.api_memory = !self.api_memory;
        Ok(())
    }

    /// Configures another meaning from now on.
    pub async fn mean(&mut self, meaning: &Meaning) -> Result<()> {
        self.meaning = meaning.clone();
        self.restart().await
    }

    /// Rewrites the raw tables' small files into large ones, as any Delta writer may.
    pub async fn compact(&self) -> Result<()> {
        for kind in EventKind::ALL {
            let table = deltalake::open_table(self.lake.table_url(kind.raw_table())?).await?;
            table.optimize().await?;
        }
        Ok(())
    }

    /// Configures another display from now on.
    pub async fn show(&mut self, display: &Display) -> Result<()> {
        self.display = display.clone();
        self.restart().await
    }

    /// Replaces the reference data.
    pub async fn load(&self, reference: &ReferenceData) -> Result<()> {
        let pairs = |names: [&'static str; 2], pairs: &BTreeMap<String, String>| {
            let keys: ArrayRef = Arc::new(pairs.keys().map(Some).collect::<StringArray>());
            let values: ArrayRef = Arc::new(pairs.values().map(Some).collect::<StringArray>());
            RecordBatch::try_from_iter(names.into_iter().zip([keys, values]))
        };
        let creatives = pairs(["ad_creative_id", "campaign_id"], &reference.creatives)?;
        let campaigns = pairs(["campaign_id", "advertiser_id"], &reference.advertisers)?;
        self.lake.load_reference(ReferenceKind::Creatives, vec![creatives], LoadMode::Replace).await?;
        self.lake.load_reference(ReferenceKind::Campaigns, vec![campaigns], LoadMode::Replace).await?;
        Ok(())
    }

    /// Appends rows, each table in one commit.
    pub async fn append(&mut self, rows: &Rows) -> Result<()> {
        self.appended += 1;
        append(&self.lake, rows, self.appended).await
    }

    /// Runs the batch layer.
    pub async fn batch(&mut self, full: bool) -> Result<()> {
        self.batch_during(full, &Rows::default()).await
    }

    /// Runs the batch layer while these rows are appended.
    pub async fn batch_during(&mut self, full: bool, during: &Rows) -> Result<()> {
        self.run_during(full, during).await.map(|_| ())
    }

    /// Runs the batch layer with slices of so many events: each is a file of the cube.
    pub async fn batch_in_slices(&mut self, slice_events: u64) -> Result<()> {
        self.run(false, &Rows::default(), slice_events).await.map(|_| ())
    }

    /// Runs the batch layer while these rows are appended. Tells what was done.
    pub async fn run_during(&mut self, full: bool, during: &Rows) -> Result<RunReport> {
        // With small slices a day of the cube has many files.
        let slices = [BatchSettings::default().slice_events, 1, 20];
        self.run(full, during, slices[(self.appended % 3) as usize]).await
    }

    async fn run(&mut self, full: bool, during: &Rows, slice_events: u64) -> Result<RunReport> {
        self.appended += 1;
        let settings = BatchSettings { session: self.session.clone(), slice_events, ..BatchSettings::default() };
        let cancel = CancellationToken::new();
        let run = adlake_batch_layer::run(&self.lake, &self.meaning, &settings, full, Arc::new(Silent), &cancel);
        let (ran, appended) = tokio::join!(run, append(&self.lake, during, self.appended));
        appended?;
        ran.context("the batch run failed")
    }

    /// All rows of a batch table as the last run has published it.
    pub async fn table(&self, table: &str) -> Result<Answer> {
        let context = self.session.context()?;
        let manifest = Manifest::latest(&self.lake, &context).await?.context("no run was published")?;
        let version = manifest.version(table).with_context(|| format!("the manifest does not name {table}"))?;
        let rows = context.read_table(self.lake.known_columns(table, version).await?)?;
        let batches = rows.clone().collect().await?;
        Answer::of_batches(&Arc::new(rows.schema().as_arrow().clone()), &batches)
    }

    /// Compares what a server over the lake answers with these views of the oracle.
    pub async fn check_api(&mut self, expected: &BTreeMap<&'static str, Vec<Row>>, views: &[&str]) -> Result<()> {
        let snapshot = api::snapshot(&self.lake, &self.meaning, &self.session).await?;
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::start(&self.lake, &self.meaning, &self.display, &self.session, self.api_memory).await?,
        };
        let checked = api::check(&api, expected, &snapshot, views).await;
        self.api = Some(api);
        checked.context(if self.api_memory { "from memory" } else { "from the lake" })
    }

    /// All rows of a view.
    pub async fn answer(&self, view: &str) -> Result<Answer> {
        self.query(&format!("SELECT * FROM {view}")).await
    }

    /// The rows of a query.
    pub async fn query(&self, sql: &str) -> Result<Answer> {
        let stream = self.engine.query(sql).await.with_context(|| sql.to_string())?;
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await.with_context(|| sql.to_string())?;
        Answer::of_batches(&schema, &batches)
    }
}

async fn open(folder: &tempfile::TempDir) -> Result<Lake> {
    let uri = folder.path().to_string_lossy().into_owned();
    Ok(Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await?)
}

async fn engine(lake: &Lake, meaning: &Meaning, display: &Display, session: &SessionSettings) -> Result<QueryEngine> {
    let settings = QuerySettings { session: session.clone() };
    Ok(QueryEngine::open(lake, &settings, meaning, display).await?)
}

async fn append(lake: &Lake, rows: &Rows, number: i64) -> Result<()> {
    let batches = [
        (EventKind::Impression, table(EventKind::Impression, &rows.impressions)?),
        (EventKind::Interaction, table(EventKind::Interaction, &rows.interactions)?),
        (EventKind::BidRequest, table(EventKind::BidRequest, &rows.bid_requests)?),
    ];
    for (kind, batch) in batches {
        if batch.num_rows() == 0 {
            continue;
        }
        let mut appender = lake.appender(kind.raw_table()).await?;
        let mut writer = appender.writer(&WriterSettings::default());
        writer.write(&batch)?;
        let files = writer.finish().await?;
        let application = format!("test:{number}");
        let advance = Advance { application, from: None, to: 1 };
        match appender.commit(files, vec![advance]).await? {
            Appended::Committed { .. } => {}
            Appended::Superseded { stored } => bail!("{kind}: superseded by {stored:?}"),
        }
    }
    Ok(())
}
