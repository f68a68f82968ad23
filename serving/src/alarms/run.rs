//! The loop: take the lease, restore, evaluate, commit, let the sinks send.
//!
//! A server that does not hold the lease reads the table from time to time, so that it shows the
//! same alarms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::error::chain;
use adlake_lake::lease::Lease;
use adlake_lake::session::SessionSettings;
use adlake_lake::{Lake, LakeError};
use rand::Rng;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::board::{Board, SinkStates};
use super::cause;
use super::engine::{Engine, Row};
use super::journal::{Committed, Journal};
use super::rule::Rule;
use super::samples::{Facts, Sampler, facts, lake_error};
use super::settings::AlarmSettings;
use super::sinks::{self, SinkTask};
use crate::metrics::Catalogues;
use crate::state::State;
use crate::state::follow::{Live, now};
use crate::state::names::Names;

/// The most troubles of one evaluation whose cause is looked for.
const CAUSES_MAX: usize = 5;
/// The longest time that one cause is looked for.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What evaluates the rules.
#[derive(Debug)]
pub struct Evaluator {
    /// The lake.
    pub lake: Lake,
    /// The `[alarms]` section.
    pub settings: AlarmSettings,
    /// The rules.
    pub rules: Arc<Vec<Rule>>,
    /// The resources of what is read from the lake.
    pub session: SessionSettings,
    /// The names of all states.
    pub names: Arc<Names>,
    /// The metrics.
    pub catalogues: Catalogues,
    /// The states.
    pub live: watch::Receiver<Live>,
    /// What is shown.
    pub board: watch::Sender<Arc<Board>>,
    /// The states of the sinks.
    pub sinks: SinkStates,
}

/// Why a term as the leader has ended.
enum Ended {
    Cancelled,
    Lost,
}

impl Evaluator {
    /// Evaluates until it is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            match self.term(&cancel).await {
                Ok(Ended::Cancelled) => return,
                Ok(Ended::Lost) => {}
                Err(error) => {
                    let detail = chain(&error);
                    tracing::warn!(error = detail, "alarms are not evaluated; this is tried again");
                    self.show(|board| board.problem = Some(detail));
                }
            }
            self.show(|board| board.is_leader = false);
            // Several servers should not try at the same moment.
            let pause = self.settings.interval.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    /// One term as the leader, or one look as another.
    async fn term(&mut self, cancel: &CancellationToken) -> Result<Ended, LakeError> {
        let mut journal = Journal::open(&self.lake, &self.session).await?;
        let lease = match self.lake.alarms_lease(self.settings.lease_time).await {
            Ok(lease) => lease,
            Err(LakeError::Superseded(_)) => {
                let engine = Engine::restored(self.rules.clone(), journal.read().await?);
                self.show_engine(&engine, now());
                return Ok(Ended::Lost);
            }
            Err(error) => return Err(error),
        };
        let done = self.lead(journal, &lease, cancel).await;
        lease.release().await;
        done
    }

    async fn lead(
        &mut self,
        mut journal: Journal,
        lease: &Lease,
        cancel: &CancellationToken,
    ) -> Result<Ended, LakeError> {
        let rows = journal.read().await?;
        let mut sinks = sinks::sinks(&self.settings)?;
        let newest = rows.iter().filter_map(|row| row.sequence).max().unwrap_or_default();
        let mut positions = Vec::new();
        for sink in &mut sinks {
            let name = sink.name().to_owned();
            let position = match journal.position(&name).await? {
                Some(position) => position,
                // A sink that is new is not told of what is long over.
                None => {
                    if journal.advance(&name, None, newest).await? == Committed::Superseded {
                        return Ok(Ended::Lost);
                    }
                    newest
                }
            };
            self.sinks.change(&name, |state| state.position = position);
            positions.push(position);
        }
        let oldest = positions.iter().copied().min().unwrap_or(i64::MAX);
        let untold = |row: &Row| row.is_notice && row.sequence.is_some_and(|sequence| sequence > oldest);
        let mut notices: Vec<Row> = rows.iter().filter(|row| untold(row)).cloned().collect();
        notices.sort_by_key(|row| row.sequence);
        let mut engine = Engine::restored(self.rules.clone(), rows);
        self.show(|board| {
            (board.is_leader, board.notices) = (true, Arc::new(notices));
            board.rules = self.rules.iter().map(|rule| (rule.name.clone(), rule.severity.name())).collect();
        });
        self.show_engine(&engine, now());
        let journal = Arc::new(Mutex::new(journal));
        let (stop, mut tasks) = (cancel.child_token(), JoinSet::new());
        for (sink, position) in sinks.into_iter().zip(positions) {
            let task = SinkTask {
                sink,
                position,
                rules: self.rules.clone(),
                settings: self.settings.clone(),
                journal: journal.clone(),
                states: self.sinks.clone(),
                board: self.board.subscribe(),
            };
            tasks.spawn(task.run(stop.clone()));
        }
        let _stops = stop.clone().drop_guard();
        let done = loop {
            let began = Instant::now();
            tokio::select! {
                ticked = self.tick(&mut engine, &journal) => match ticked {
                    Ok(Committed::In) => {}
                    Ok(Committed::Superseded) => break Ok(Ended::Lost),
                    Err(error) if error.is_retryable() => {
                        let detail = chain(&error);
                        tracing::warn!(error = detail, "the rules could not be evaluated; alarms stay as they are");
                        self.show(|board| board.problem = Some(detail));
                        // It is not known whether the commit is in: read the table anew.
                        break Ok(Ended::Lost);
                    }
                    Err(error) => break Err(error),
                },
                () = lease.lost() => break Ok(Ended::Lost),
                () = cancel.cancelled() => break Ok(Ended::Cancelled),
            }
            let pause = self.settings.interval.saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lease.lost() => break Ok(Ended::Lost),
                () = cancel.cancelled() => break Ok(Ended::Cancelled),
            }
        };
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        done
    }

    /// Evaluates all rules once.
    async fn tick(&mut self, engine: &mut Engine, journal: &Mutex<Journal>) -> Result<Committed, LakeError> {
        let live = self.live.borrow().clone();
        let Some(state) = live.state.clone() else { return Ok(Committed::In) };
        let span = adlake_telemetry::span!(
            "evaluate alarms",
            adlake.rules = self.rules.len() as u64,
            adlake.notices = Empty,
            adlake.snapshot = %state.id,
        );
        if let Some(made) = &state.trace {
            adlake_telemetry::link(&span, made);
        }
        let done = self.evaluate(engine, journal, live, state).instrument(span.clone()).await;
        if let Err(error) = &done {
            adlake_telemetry::fail(&span, &chain(error));
        }
        done
    }

    async fn evaluate(
        &mut self,
        engine: &mut Engine,
        journal: &Mutex<Journal>,
        live: Live,
        state: Arc<State>,
    ) -> Result<Committed, LakeError> {
        let began = Instant::now();
        {
            let mut journal = journal.lock().await;
            // Somebody may have silenced something.
            if journal.has_changed().await? {
                let rows = journal.read().await?;
                if rows.iter().filter_map(|row| row.sequence).max().unwrap_or_default() > engine.sequence() {
                    return Ok(Committed::Superseded);
                }
                engine.take_by_hand(rows);
            }
        }
        let at = now();
        let mut facts = match live.problem {
            None => facts(&state, &self.session).await?,
            Some(_) => Facts::default(),
        };
        let failing = |(name, state): (String, super::board::SinkState)| {
            (name, state.failing_since.map_or(0.0, |since| (at - since).max(0) as f64 / 1e6))
        };
        facts.sinks = self.sinks.all().into_iter().map(failing).collect();
        let known_at = live.known_at(&state, at);
        let (names, catalogues) = (&self.names, &self.catalogues);
        let sampler = Sampler { state: &state, names, catalogues, now: known_at, has_running: true };
        let mut observations = Vec::with_capacity(self.rules.len());
        for (place, rule) in self.rules.iter().enumerate() {
            // While the lake cannot be read, nothing is known of it.
            observations.push(match live.problem {
                Some(_) => None,
                None => Some(sampler.observe(rule, place, engine, &facts).await.map_err(lake_error)?),
            });
        }
        let mut next = engine.clone();
        let mut rows = next.step(at, observations);
        self.find_causes(&sampler, &mut next, &mut rows).await;
        if !rows.is_empty() {
            let mut journal = journal.lock().await;
            if journal.commit(&rows, engine.sequence()).await? == Committed::Superseded {
                tracing::info!("another server has committed transitions of alarms; they are read anew");
                return Ok(Committed::Superseded);
            }
        }
        *engine = next;
        for row in rows.iter().filter(|row| row.is_notice) {
            tracing::info!(rule = row.rule, group = &*row.group, state = row.state.name(), why = row.why, "an alarm");
        }
        let oldest = self.sinks.all().values().map(|state| state.position).min().unwrap_or(i64::MAX);
        let took = began.elapsed();
        let notices = rows.iter().filter(|row| row.is_notice).count();
        Span::current().record("adlake.notices", notices as u64);
        self.show(|board| {
            if notices > 0 {
                board.trace = adlake_telemetry::current();
            }
            let notices = board.notices.iter().chain(rows.iter().filter(|row| row.is_notice));
            let notices = notices.filter(|row| row.sequence.is_some_and(|sequence| sequence > oldest));
            board.notices = Arc::new(notices.cloned().collect());
            (board.evaluated_at, board.took, board.problem) = (at, took, None);
        });
        self.show_engine(engine, at);
        Ok(Committed::In)
    }

    async fn find_causes(&self, sampler: &Sampler<'_>, engine: &mut Engine, rows: &mut [Row]) {
        let mut found = 0;
        for row in rows.iter_mut().filter(|row| row.is_notice && !row.is_resolved()) {
            let Some(rule) = self.rules.iter().find(|rule| rule.name == row.rule && rule.has_cause) else { continue };
            if found == CAUSES_MAX {
                return;
            }
            found += 1;
            match tokio::time::timeout(CAUSE_TIMEOUT, cause::find(sampler, rule, row)).await {
                Ok(Ok(Some(cause))) => engine.set_cause(row, cause),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(rule = row.rule, error = chain(&error), "no cause was found"),
                Err(_) => tracing::warn!(rule = row.rule, "the cause was looked for too long"),
            }
        }
    }

    fn show_engine(&self, engine: &Engine, at: i64) {
        self.show(|board| {
            board.alarms = Arc::new(engine.alarms(at));
            board.silences = Arc::new(engine.silences(at).cloned().collect());
            board.sequence = engine.sequence();
        });
    }

    fn show(&self, change: impl FnOnce(&mut Board)) {
        self.board.send_modify(|board| change(Arc::make_mut(board)));
    }
}
