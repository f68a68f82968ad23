//! Follows the lake: looks for commits, and makes a new state when there are any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue;
use adlake_domain::settings::{Display, Meaning};
use adlake_lake::error::chain;
use adlake_lake::session::SessionSettings;
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::{VIEWS, Views};
use adlake_lake::{Lake, LakeError};
use futures::future::try_join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::{Builder, FOLLOWED, State};

/// How the follower is doing.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The newest state. `None`: there is none yet.
    pub state: Option<Arc<State>>,
    /// When the lake was last found to hold nothing newer, in microseconds.
    pub confirmed_at: i64,
    /// Since when the lake cannot be read, in microseconds, and why.
    pub problem: Option<(i64, String)>,
    /// How long the newest state took to make.
    pub took: Duration,
    /// How many states were made.
    pub states: u64,
}

impl Live {
    /// Up to when everything that was committed is in the answers: now, or when the lake could
    /// still be read.
    pub fn known_at(&self, state: &State, now: i64) -> i64 {
        if self.problem.is_none() { now } else { self.confirmed_at.max(state.as_of) }
    }
}

/// What is followed, and how.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Makes the states.
    pub builder: Builder,
    /// The resources of one state.
    pub session: SessionSettings,
    /// The meaning until a batch run is published.
    pub meaning: Meaning,
    /// What is shown.
    pub display: Display,
    /// How often the lake is looked at.
    pub interval: Duration,
}

/// The newest versions of the tables of [`looked_at`].
type Versions = Vec<Option<u64>>;

/// How often the logs are listed, even if no entry follows those that were seen. An entry could be
/// missed only if newer ones came and it was removed, all since the last look.
const LIST_INTERVAL: Duration = Duration::from_secs(60);

/// What was found by a look.
#[derive(Debug)]
struct Seen {
    versions: Versions,
    listed: Instant,
}

/// The tables whose commits make a new state.
fn looked_at() -> impl Iterator<Item = &'static str> {
    [catalogue::MANIFEST].into_iter().chain(FOLLOWED)
}

/// By table: its version.
fn by_table(versions: &Versions) -> BTreeMap<String, u64> {
    looked_at().zip(versions).filter_map(|(table, version)| Some((table.to_owned(), (*version)?))).collect()
}

/// The span in which a state is made.
fn state_span() -> Span {
    adlake_telemetry::span!("make state", adlake.snapshot = Empty, adlake.run = Empty, adlake.change_rows = Empty)
}

/// Does a phase of making a state.
async fn phase<T>(name: &str, work: impl Future<Output = Result<T, LakeError>>) -> Result<T, LakeError> {
    work.instrument(adlake_telemetry::span!("state phase", otel.name = name)).await
}

async fn newest_versions(lake: &Lake) -> Result<Versions, LakeError> {
    try_join_all(looked_at().map(|table| lake.newest_version(table))).await
}

/// Whether a table has an entry after its version. One request asks for each, and of a store that
/// is paid by the request, such a request is a tenth of one that lists.
async fn has_newer(lake: &Lake, versions: &Versions) -> Result<bool, LakeError> {
    let next = looked_at().zip(versions).map(|(table, version)| (table, version.map_or(0, |version| version + 1)));
    let has = try_join_all(next.map(|(table, version)| lake.has_entry(table, version))).await?;
    Ok(has.contains(&true))
}

impl Follower {
    /// Follows the lake until it is cancelled.
    pub async fn run(&self, live: watch::Sender<Live>, cancel: CancellationToken) {
        let mut seen: Option<Seen> = None;
        while !cancel.is_cancelled() {
            let began = Instant::now();
            let looked = tokio::select! {
                looked = self.look(&live, &mut seen) => looked,
                () = cancel.cancelled() => return,
            };
            if let Err(error) = looked {
                let detail = chain(&error);
                tracing::warn!(error = detail, "the lake could not be read; answers stay as they were");
                live.send_modify(|live| {
                    let since = live.problem.take().map_or_else(now, |(since, _)| since);
                    live.problem = Some((since, detail));
                });
                seen = None;
            }
            let pause = self.interval.saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    async fn look(&self, live: &watch::Sender<Live>, seen: &mut Option<Seen>) -> Result<(), LakeError> {
        let looked_at = now();
        let confirm = || {
            live.send_if_modified(|live| {
                live.confirmed_at = looked_at;
                live.problem.take().is_some()
            });
        };
        if let Some(seen) = seen.as_ref().filter(|seen| seen.listed.elapsed() < LIST_INTERVAL)
            && !has_newer(self.lake(), &seen.versions).await?
        {
            confirm();
            return Ok(());
        }
        let listed = Instant::now();
        let versions = newest_versions(self.lake()).await?;
        if let Some(seen) = seen.as_mut().filter(|seen| seen.versions == versions) {
            seen.listed = listed;
            confirm();
            return Ok(());
        }
        let covered = seen.as_ref().map(|seen| by_table(&seen.versions)).unwrap_or_default();
        let newest = by_table(&versions);
        let found = Seen { versions, listed };
        let span = state_span();
        let made = async {
            let state = self.renew(live, looked_at).await?;
            *seen = Some(found);
            // The first answers need not wait for these.
            self.lake().link_commits(&covered, &newest).await;
            phase("complete", self.builder.complete(&state)).await
        };
        let made = made.instrument(span.clone()).await;
        if let Err(error) = &made {
            adlake_telemetry::fail(&span, &chain(error));
        }
        made
    }

    /// Makes a state, and swaps it in.
    async fn renew(&self, live: &watch::Sender<Live>, looked_at: i64) -> Result<Arc<State>, LakeError> {
        let began = Instant::now();
        let former = live.borrow().state.clone();
        let state = Arc::new(self.state(former.as_deref()).await?);
        let took = began.elapsed();
        tracing::debug!(snapshot = %state.id, took = ?took, changes = state.change_rows(), "a new snapshot");
        let span = Span::current();
        span.record("adlake.snapshot", display(&state.id));
        span.record("adlake.change_rows", state.change_rows() as u64);
        if let Some(manifest) = &state.snapshot.manifest {
            span.record("adlake.run", manifest.run);
        }
        live.send_modify(|live| {
            live.state = Some(state.clone());
            (live.confirmed_at, live.problem, live.took) = (looked_at, None, took);
            live.states += 1;
        });
        Ok(state)
    }

    /// The state as of now.
    pub async fn state(&self, former: Option<&State>) -> Result<State, LakeError> {
        let context = self.session.context()?;
        let as_of = now();
        let snapshot = phase("take snapshot", Snapshot::take(self.lake(), &context, &self.meaning)).await?;
        // Alarms follow from the state, so its view of them would always be an old one.
        let wanted = VIEWS.into_iter().filter(|view| *view != "alarms").map(String::from).collect();
        let views = phase("merge", Views::prepare(&context, &snapshot, &self.display, &wanted)).await?;
        // The state is linked to as a whole, so this is no phase of its own.
        self.builder.build(snapshot, views, as_of, former).await
    }

    fn lake(&self) -> &Lake {
        &self.builder.lake
    }
}

/// Now, in microseconds.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use adlake_lake::StorageSettings;

    use super::*;

    #[tokio::test]
    async fn an_entry_after_those_that_were_seen_is_newer() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().display().to_string();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        let mut versions = newest_versions(&lake).await.unwrap();
        assert_eq!(versions, [None; FOLLOWED.len() + 1]);
        for (place, table) in looked_at().enumerate() {
            let log = folder.path().join(table).join("_delta_log");
            std::fs::create_dir_all(&log).unwrap();
            for version in 0..3u64 {
                assert!(!has_newer(&lake, &versions).await.unwrap(), "{table} {version}");
                std::fs::write(log.join(format!("{version:020}.json")), "{}").unwrap();
                assert!(has_newer(&lake, &versions).await.unwrap(), "{table} {version}");
                versions[place] = Some(version);
            }
        }
        assert_eq!(newest_versions(&lake).await.unwrap(), versions);
    }
}
