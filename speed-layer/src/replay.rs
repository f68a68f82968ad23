//! Replay decodes dead letters again with the current configuration and reference data. Those that
//! are good now become rows.
//!
//! Each letter becomes rows at most once, and is marked if and only if it did. This holds whatever
//! is killed, and however many replays run at the same time. It takes three commits, which
//! [`adlake_lake::letters::claims`] describes and `docs/exactly-once.md` argues for.
//!
//! A row keeps the `source` of its letter; `ingested_at` is the time of the replay. A letter whose
//! record is rejected again stays a dead letter, with the new reason.

mod again;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use adlake_domain::event::EventKind;
use adlake_lake::letters::claims::{CALLED_OFF, LetterClaims, PickLimits, Picked, ROWS_ARE_IN, Verdict, transaction};
use adlake_lake::letters::{LetterFilter, LetterState};
use adlake_lake::{Advance, Appended, Appender, Lake, LakeError, TableWriter};
use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionContext, col, lit};
use futures::StreamExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::again::{DecodedAgain, Headers, decode_again};
use crate::clock::now_micros;
use crate::error::SpeedError;
use crate::plans::{self, DecodePlans};
use crate::settings::SpeedSettings;

/// What to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Which letters to replay. Letters that are rows already are never replayed.
    pub filter: LetterFilter,
    /// The greatest number of letters.
    pub limit: Option<usize>,
    /// Whether to decode only, and change nothing.
    pub dry_run: bool,
}

/// The result of a replay, or of a dry run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Letters decoded again.
    pub letters: u64,
    /// Letters that have become rows.
    pub replayed: u64,
    /// Rows committed, by table.
    pub rows: BTreeMap<String, u64>,
    /// Letters rejected again, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Letters whose rows an interrupted replay had committed. They are marked now.
    pub finished: u64,
    /// Letters that an interrupted replay had claimed. They were released.
    pub released: u64,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// The duration of the replay.
    pub seconds: f64,
}

/// Replays letters until none is left or it is cancelled. It stops between two batches, so nothing
/// is left half done.
pub async fn replay(
    lake: &Lake,
    settings: &SpeedSettings,
    options: ReplayOptions,
    progress: &(dyn Fn(&ReplayReport) + Sync),
    cancel: CancellationToken,
) -> Result<ReplayReport, SpeedError> {
    plans::check(settings)?;
    let started = Instant::now();
    let mut report = ReplayReport { dry_run: options.dry_run, ..ReplayReport::default() };
    let Some(letters) = lake.letter_claims().await? else { return Ok(report) };
    let plans = Arc::new(DecodePlans::open(lake, settings).await?);
    let filter = LetterFilter { state: Some(LetterState::Open), ..options.filter };
    if options.dry_run {
        dry_run(lake, &plans, settings, &filter, options.limit, &mut report, progress, &cancel).await?;
    } else {
        let run = Uuid::new_v4().to_string();
        let mut replay = Replay {
            lake,
            settings,
            plans,
            letters,
            appenders: BTreeMap::new(),
            headers: BTreeMap::new(),
            run,
            claims: 0,
        };
        let mut left = options.limit.unwrap_or(usize::MAX);
        let mut budget = lake.retry_budget();
        // Another replay may have been interrupted. So may this one, by an outage.
        let mut interrupted = true;
        while left > 0 && !cancel.is_cancelled() {
            match lake.watch(replay.round(&filter, left, &mut interrupted, &mut report)).await {
                Ok(None) => break,
                Ok(Some(done)) => left -= done,
                Err(error) => {
                    budget.wait(error).await?;
                    interrupted = true;
                    continue;
                }
            }
            budget.succeeded();
            progress(&report);
        }
        replay.close().await;
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// The state of one replay.
struct Replay<'a> {
    lake: &'a Lake,
    settings: &'a SpeedSettings,
    plans: Arc<DecodePlans>,
    letters: LetterClaims,
    appenders: BTreeMap<&'static str, Appender>,
    /// The headers by kind, loaded once letters of the kind are picked.
    headers: BTreeMap<&'static str, Arc<Headers>>,
    run: String,
    claims: u64,
}

impl Replay<'_> {
    /// Finishes what was interrupted, if anything was. Then replays one batch of letters.
    async fn round(
        &mut self,
        filter: &LetterFilter,
        left: usize,
        interrupted: &mut bool,
        report: &mut ReplayReport,
    ) -> Result<Option<usize>, SpeedError> {
        if *interrupted {
            self.finish_interrupted(report).await?;
            *interrupted = false;
        }
        self.batch(filter, left, report).await
    }

    /// Finishes what interrupted replays have left. If a claim's rows are committed, its letters
    /// are marked. Otherwise the claim is called off.
    async fn finish_interrupted(&mut self, report: &mut ReplayReport) -> Result<(), SpeedError> {
        for claim in self.letters.open().await? {
            let replayed = self.decide(claim.kind, &claim.id, None).await?;
            let letters = self.letters.settle(&claim.id, replayed, now_micros()).await? as u64;
            tracing::info!(claim = claim.id, letters, replayed, "finished what an interrupted replay left");
            if replayed {
                report.finished += letters;
            } else {
                report.released += letters;
            }
        }
        Ok(())
    }

    /// Decodes, claims, commits and marks a batch of letters. Returns how many. `None` means that
    /// none are left.
    async fn batch(
        &mut self,
        filter: &LetterFilter,
        left: usize,
        report: &mut ReplayReport,
    ) -> Result<Option<usize>, SpeedError> {
        let ingest = &self.settings.ingest;
        let limits = PickLimits { rows: ingest.flush_rows.min(left), bytes: ingest.flush_bytes };
        let Some(picked) = self.letters.pick(filter, &self.run, limits).await? else { return Ok(None) };
        let kind = picked.kind;
        let writer = self.appender(kind).await?.writer(&ingest.writer());
        let headers = self.headers(kind).await?;
        let (picked, again) = decode(&self.plans, self.settings, headers, picked).await?;
        let rows = again.rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let files = if rows > 0 { Some(upload(writer, again.rows).await?) } else { None };

        self.claims += 1;
        let claim = format!("{}-{}", self.run, self.claims);
        let letters = picked.len();
        if !self.letters.claim(picked, &claim, &again.verdicts, now_micros()).await? {
            // Another process has changed these files. The letters are picked again in the next
            // round.
            return Ok(Some(0));
        }
        let mut replayed = 0;
        if let Some(files) = files {
            let is_in = self.decide(kind, &claim, Some(files)).await?;
            self.letters.settle(&claim, is_in, now_micros()).await?;
            if !is_in {
                // Another replay took this one for dead and released its letters.
                return Ok(Some(0));
            }
            replayed = again.verdicts.iter().filter(|verdict| **verdict == Verdict::Row).count() as u64;
            *report.rows.entry(kind.raw_table().to_owned()).or_default() += rows;
        }
        count(report, letters as u64, replayed, &again.verdicts);
        Ok(Some(letters))
    }

    /// Advances a claim's transaction: to [`ROWS_ARE_IN`] with files, to [`CALLED_OFF`] without.
    /// The first commit decides the claim. Returns whether the rows are in.
    async fn decide(
        &mut self,
        kind: EventKind,
        claim: &str,
        files: Option<Vec<adlake_lake::DataFile>>,
    ) -> Result<bool, SpeedError> {
        let to = if files.is_some() { ROWS_ARE_IN } else { CALLED_OFF };
        let advance = Advance { application: transaction(claim), from: None, to };
        let appender = self.appender(kind).await?;
        match appender.commit(files.unwrap_or_default(), vec![advance]).await? {
            Appended::Committed { .. } => Ok(to == ROWS_ARE_IN),
            Appended::Superseded { stored } => Ok(stored.iter().any(|(_, position)| *position == Some(ROWS_ARE_IN))),
        }
    }

    async fn headers(&mut self, kind: EventKind) -> Result<Arc<Headers>, SpeedError> {
        if let Some(headers) = self.headers.get(kind.table()) {
            return Ok(headers.clone());
        }
        let headers = headers(self.lake, self.settings, kind).await?;
        self.headers.insert(kind.table(), headers.clone());
        Ok(headers)
    }

    async fn appender(&mut self, kind: EventKind) -> Result<&mut Appender, SpeedError> {
        match self.appenders.entry(kind.raw_table()) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let columns = self.plans.added_columns(kind)?;
                Ok(entry.insert(self.lake.appender_with(kind.raw_table(), &columns).await?))
            }
        }
    }

    async fn close(self) {
        for (_, appender) in self.appenders {
            appender.close().await;
        }
    }
}

fn count(report: &mut ReplayReport, letters: u64, replayed: u64, verdicts: &[Verdict]) {
    report.letters += letters;
    report.replayed += replayed;
    for verdict in verdicts {
        if let Verdict::Dead { reason, .. } = verdict {
            *report.rejected.entry(reason.clone()).or_default() += 1;
        }
    }
}

/// The headers of files among all dead letters of a kind. The other letters of a file may be in
/// other batches, and the filter of a replay may exclude the header.
async fn headers(lake: &Lake, settings: &SpeedSettings, kind: EventKind) -> Result<Arc<Headers>, SpeedError> {
    let mut headers = Headers::new(&settings.sources, kind)?;
    if headers.are_looked_for() {
        let first = LetterFilter { kinds: vec![kind], offset: Some(0), ..LetterFilter::default() };
        let letters = lake.dead_letters(&SessionContext::new(), &first).await?;
        let mut batches = letters.execute_stream().await.map_err(query)?;
        while let Some(batch) = batches.next().await {
            headers.gather(&batch.map_err(query)?)?;
        }
    }
    Ok(Arc::new(headers))
}

fn query(error: DataFusionError) -> SpeedError {
    SpeedError::Lake(LakeError::Query(error))
}

/// Decodes on a thread for blocking work.
async fn decode(
    plans: &Arc<DecodePlans>,
    settings: &SpeedSettings,
    headers: Arc<Headers>,
    picked: Picked,
) -> Result<(Picked, DecodedAgain), SpeedError> {
    let (plans, sources) = (plans.clone(), settings.sources.clone());
    let work = tokio::task::spawn_blocking(move || {
        let again = decode_again(&plans, &sources, picked.kind, &headers, &picked.letters, now_micros());
        (picked, again)
    });
    let (picked, again) = work.await.map_err(|_| SpeedError::Ended("decoding"))?;
    Ok((picked, again?))
}

async fn upload(writer: TableWriter, rows: Vec<RecordBatch>) -> Result<Vec<adlake_lake::DataFile>, SpeedError> {
    let runtime = tokio::runtime::Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = writer;
        rows.iter().try_for_each(|batch| writer.write(batch))?;
        runtime.block_on(writer.finish())
    });
    Ok(work.await.map_err(|_| SpeedError::Ended("writing files"))??)
}

/// Decodes letters again and changes nothing.
#[allow(clippy::too_many_arguments, reason = "one caller; the parts of one run")]
async fn dry_run(
    lake: &Lake,
    plans: &Arc<DecodePlans>,
    settings: &SpeedSettings,
    filter: &LetterFilter,
    limit: Option<usize>,
    report: &mut ReplayReport,
    progress: &(dyn Fn(&ReplayReport) + Sync),
    cancel: &CancellationToken,
) -> Result<(), SpeedError> {
    let context = SessionContext::new();
    for kind in EventKind::ALL {
        let letters = lake.dead_letters(&context, filter).await?;
        let left = limit.map(|limit| limit.saturating_sub(report.letters as usize));
        let letters = letters.filter(col("kind").eq(lit(kind.table()))).map_err(query)?;
        let letters = letters.limit(0, left).map_err(query)?;
        let mut batches = letters.execute_stream().await.map_err(query)?;
        let headers = headers(lake, settings, kind).await?;
        while let Some(batch) = batches.next().await {
            if cancel.is_cancelled() {
                return Ok(());
            }
            let letters = vec![batch.map_err(query)?];
            let (plans, sources, headers) = (plans.clone(), settings.sources.clone(), headers.clone());
            let work = tokio::task::spawn_blocking(move || {
                decode_again(&plans, &sources, kind, &headers, &letters, now_micros())
            });
            let again = work.await.map_err(|_| SpeedError::Ended("decoding"))??;
            let rows: usize = again.rows.iter().map(RecordBatch::num_rows).sum();
            let replayed = again.verdicts.iter().filter(|verdict| **verdict == Verdict::Row).count() as u64;
            if rows > 0 {
                *report.rows.entry(kind.raw_table().to_owned()).or_default() += rows as u64;
            }
            count(report, again.verdicts.len() as u64, replayed, &again.verdicts);
            progress(report);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
