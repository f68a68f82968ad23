//! Follows the lake: looks for commits, and makes a new state when there are any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_domain::catalogue;
use adlake_domain::settings::{Display, Meaning};
use adlake_lake::session::SessionSettings;
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::{VIEWS, Views};
use adlake_lake::{Lake, LakeError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

/// The newest versions: of the manifest, the raw and the reference tables.
type Versions = Vec<Option<u64>>;

impl Follower {
    /// Follows the lake until it is cancelled.
    pub async fn run(&self, live: watch::Sender<Live>, cancel: CancellationToken) {
        let mut seen: Option<Versions> = None;
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

    async fn look(&self, live: &watch::Sender<Live>, seen: &mut Option<Versions>) -> Result<(), LakeError> {
        let looked_at = now();
        let versions = self.versions().await?;
        if seen.as_ref() == Some(&versions) {
            live.send_if_modified(|live| {
                live.confirmed_at = looked_at;
                live.problem.take().is_some()
            });
            return Ok(());
        }
        let began = Instant::now();
        let former = live.borrow().state.clone();
        let state = Arc::new(self.state(former.as_deref()).await?);
        let took = began.elapsed();
        tracing::debug!(snapshot = %state.id, took = ?took, changes = state.change_rows(), "a new snapshot");
        *seen = Some(versions);
        live.send_modify(|live| {
            live.state = Some(state.clone());
            (live.confirmed_at, live.problem, live.took) = (looked_at, None, took);
            live.states += 1;
        });
        // The first answers need not wait for these.
        self.builder.complete(&state).await
    }

    /// The state as of now.
    pub async fn state(&self, former: Option<&State>) -> Result<State, LakeError> {
        let context = self.session.context()?;
        let as_of = now();
        let snapshot = Snapshot::take(self.lake(), &context, &self.meaning).await?;
        // Alarms follow from the state, so its view of them would always be an old one.
        let wanted = VIEWS.into_iter().filter(|view| *view != "alarms").map(String::from).collect();
        let views = Views::prepare(&context, &snapshot, &self.display, &wanted).await?;
        self.builder.build(snapshot, views, as_of, former).await
    }

    async fn versions(&self) -> Result<Versions, LakeError> {
        let mut versions = Vec::new();
        for table in [catalogue::MANIFEST].into_iter().chain(FOLLOWED) {
            versions.push(self.lake().newest_version(table).await?);
        }
        Ok(versions)
    }

    fn lake(&self) -> &Lake {
        &self.builder.lake
    }
}

/// Now, in microseconds.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
