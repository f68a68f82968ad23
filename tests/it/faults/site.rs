//! One lake under faults, in a folder or on S3. The built program feeds it from a topic of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use adlake_lake::{Lake, StorageSettings};
use adlake_tests::adlake::Adlake;
use adlake_tests::kafka::{Broker, unique};
use adlake_tests::process::Process;
use adlake_tests::s3::S3Server;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use tempfile::TempDir;

use super::DEADLINE;
use crate::raw::Raw;

pub const IMPRESSIONS: &str = "raw/impressions";
pub const DEAD_LETTERS: &str = "raw/dead_letters";
pub const PARTITIONS: i32 = 4;

/// The place of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Folder,
    S3,
}

/// A lake, a topic, and a way to start workers on them.
pub struct Site {
    pub broker: &'static Broker,
    pub topic: String,
    pub group: String,
    pub raw: Raw,
    pub s3: Option<S3Server>,
    uri: String,
    environment: BTreeMap<String, String>,
}

impl Site {
    pub async fn new(place: Place) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        match place {
            Place::Folder => {
                let uri = folder.path().join("lake").display().to_string();
                Site::at(folder, uri, None, BTreeMap::new()).await
            }
            Place::S3 => {
                let server = S3Server::start()?;
                let environment = server.storage_options().into_iter().collect();
                let uri = server.uri("lake");
                Site::at(folder, uri, Some(server), environment).await
            }
        }
    }

    /// A site at an existing place. Workers get `environment`; the test itself reads from `s3`
    /// directly.
    pub async fn at(
        folder: TempDir,
        uri: String,
        s3: Option<S3Server>,
        environment: BTreeMap<String, String>,
    ) -> Result<Site> {
        let broker = Broker::shared();
        let topic = unique("faults");
        broker.create_topic(&topic, PARTITIONS)?;
        let options = s3.iter().flat_map(S3Server::storage_options).collect();
        let storage = StorageSettings { uri: uri.clone(), options, ..StorageSettings::default() };
        let lake = Lake::open(&storage).await?;
        Ok(Site { broker, topic, group: unique("group"), raw: Raw { folder, lake }, s3, uri, environment })
    }

    /// The program as a worker with this name, which is a static member of the group. So a worker
    /// that returns gets its partitions at once, and the group does not wait until its session
    /// expires. Commits are as small as the broker's answers.
    pub fn worker(&self, name: &str) -> Result<Adlake> {
        self.program(name, &self.group, &format!("\"group.instance.id\" = \"{name}\""))
    }

    /// The same as a dynamic member, without an instance id: it leaves the group when it is
    /// stopped.
    pub fn dynamic_worker(&self, name: &str) -> Result<Adlake> {
        self.program(name, &self.group, "")
    }

    fn program(&self, name: &str, group: &str, membership: &str) -> Result<Adlake> {
        let directory = self.raw.path().join(name);
        fs::create_dir_all(&directory)?;
        let (uri, topic, brokers) = (&self.uri, &self.topic, self.broker.bootstrap());
        let adlake = Adlake::in_dir(&directory).config(&format!(
            r#"
            [lake]
            uri = "{uri}"
            [kafka]
            brokers = "{brokers}"
            group = "{group}"
            [kafka.properties]
            "session.timeout.ms" = "6000"
            "heartbeat.interval.ms" = "500"
            {membership}
            [ingest]
            flush_interval = "20ms"
            retry_pause_max = "500ms"
            [sources.impressions]
            topic = "{topic}"
            [sources.interactions]
            topic = ""
            [sources.bid_requests]
            topic = ""
            "#
        ));
        Ok(self.environment.iter().fold(adlake, |adlake, (key, value)| adlake.env(key, value)))
    }

    /// The store under the lake's root, to examine what is there.
    pub fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        Ok(match &self.s3 {
            Some(server) => Arc::new(PrefixStore::new(server.store()?, "lake")),
            None => Arc::new(LocalFileSystem::new_with_prefix(Path::new(&self.uri))?),
        })
    }

    /// Waits until `process`, or any other process, has made `more` commits to the impressions.
    pub async fn commits(&self, more: u64, process: &mut Process) -> Result<()> {
        let before = self.raw.lake.newest_version(IMPRESSIONS).await?.unwrap_or(0);
        let committed = wait::until_async(DEADLINE, format!("{more} commits after version {before}"), async || {
            ensure!(process.exited()?.is_none(), "ingest has ended");
            Ok(self.raw.lake.newest_version(IMPRESSIONS).await?.unwrap_or(0) >= before + more)
        });
        committed.await.with_context(|| process.logs())
    }

    /// Reads what is left, in another group. Reading resumes from the positions in the lake alone,
    /// and nothing waits for workers that were killed.
    pub fn finish(&self) -> Result<()> {
        let last = self.program("last", &unique("group"), "")?;
        let report = last.ok(["ingest", "kafka", "--until-end", "--format", "json"]);
        ensure!(report.contains("commits"), "{report}");
        Ok(())
    }
}
