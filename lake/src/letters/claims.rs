//! Replays of dead letters: letters are picked, claimed, and marked with their outcome.
//!
//! A replay makes three commits. It may die before or after each of them:
//!
//! 1. [`LetterClaims::claim`], on `raw/dead_letters`: letters whose records can be decoded now are
//!    marked with the claim's id. Letters that are rejected again are marked with the reason, and
//!    are done.
//! 2. On the raw table: the rows of exactly the claimed letters. The same commit advances the
//!    application transaction [`transaction`] from nothing to [`ROWS_ARE_IN`].
//! 3. [`LetterClaims::settle`], on `raw/dead_letters`: the claimed letters are marked as replayed.
//!
//! A process that finds a claim without an outcome ([`LetterClaims::open`]) tries to advance the
//! same transaction from nothing to [`CALLED_OFF`]. Only one of the two can be in the table's log.
//! If the rows are in, the letters are marked as replayed. If the claim is called off, its rows can
//! never come in, and the letters become free again.

use std::collections::HashSet;
use std::sync::Arc;

use adlake_domain::catalogue::{self, Table};
use adlake_domain::event::EventKind;
use adlake_domain::schema::{REPLAYED, timestamp};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::ToDFSchema;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::Value;

use super::LetterFilter;
use crate::error::LakeError;
use crate::live::LiveFile;
use crate::rewrite::{Exchanged, Rewriter};
use crate::storage::Lake;
use crate::write::WriterSettings;

/// The position of a claim's transaction once its rows are committed.
pub const ROWS_ARE_IN: i64 = 1;
/// The position of a claim's transaction once the claim is called off.
pub const CALLED_OFF: i64 = 2;

/// The most bytes of files that one commit rewrites. The last file may exceed it.
const REWRITE_BYTES_MAX: u64 = 64 << 20;

/// The application transaction that decides a claim. It is in the raw table of the claim's kind.
pub fn transaction(claim: &str) -> String {
    format!("adlake:replay:{claim}")
}

/// The result of decoding a letter's payload again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is a row (or several) now.
    Row,
    /// It is rejected again.
    Dead {
        /// Machine-readable.
        reason: String,
        /// For people.
        detail: String,
    },
}

/// Letters of one kind, to be decoded and claimed.
#[derive(Debug)]
pub struct Picked {
    /// Their kind.
    pub kind: EventKind,
    /// Their rows in `raw/dead_letters`, with all columns.
    pub letters: Vec<RecordBatch>,
    rewriter: Rewriter,
    /// The files that hold the letters. For each file the numbers of their rows, in order.
    places: Vec<(LiveFile, Vec<u32>)>,
}

impl Picked {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.letters.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many letters are picked at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickLimits {
    /// The most letters.
    pub rows: usize,
    /// The most bytes of their payloads. At least one letter is picked.
    pub bytes: usize,
}

/// A claim without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// The kind of its letters.
    pub kind: EventKind,
}

/// Claims dead letters of a lake, and ends the claims.
pub struct LetterClaims {
    lake: Lake,
    table: Table,
    context: SessionContext,
    writer_settings: WriterSettings,
    /// Paths of files without letters to pick.
    passed: HashSet<String>,
}

impl std::fmt::Debug for LetterClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LetterClaims").field("lake", &self.lake).finish_non_exhaustive()
    }
}

impl Lake {
    /// The claims on the lake's dead letters. `None`: there is no table of them.
    pub async fn letter_claims(&self) -> Result<Option<LetterClaims>, LakeError> {
        let Some(table) = catalogue::table(catalogue::DEAD_LETTERS) else { return Ok(None) };
        if !self.table_exists(table.name).await? {
            return Ok(None);
        }
        Ok(Some(LetterClaims {
            lake: self.clone(),
            table,
            context: SessionContext::new(),
            writer_settings: WriterSettings::default(),
            passed: HashSet::new(),
        }))
    }
}

impl LetterClaims {
    /// Picks letters of one kind that the filter selects, that no other replay has claimed, and
    /// that the run with this id has not tried. `None`: there are no more. Nothing is changed.
    pub async fn pick(
        &mut self,
        filter: &LetterFilter,
        run: &str,
        limits: PickLimits,
    ) -> Result<Option<Picked>, LakeError> {
        let rewriter = self.lake.rewriter(&self.table).await?;
        let condition = filter.condition().and(unclaimed()).and(not_of(run));
        let mut kind = None;
        let (mut letters, mut places) = (Vec::new(), Vec::new());
        let (mut rows, mut bytes, mut file_bytes) = (0, 0, 0);
        for file in rewriter.files() {
            if rows >= limits.rows || bytes >= limits.bytes || file_bytes >= REWRITE_BYTES_MAX {
                break;
            }
            if self.passed.contains(&file.path) || !in_range(file, filter) {
                continue;
            }
            let (mut place, mut taken, mut matched) = (0u32, Vec::new(), false);
            for batch in rewriter.read(file).await? {
                let batch = batch?;
                let mask = self.matching(&condition, &batch)?;
                let mut own = Vec::new();
                for row in (0..batch.num_rows()).filter(|&row| mask.value(row)) {
                    matched = true;
                    let this = kind_of(&batch, row)?;
                    if *kind.get_or_insert(this) == this && rows < limits.rows && bytes < limits.bytes {
                        own.push(row as u32);
                        rows += 1;
                        bytes += payload_bytes(&batch, row);
                    }
                }
                taken.extend(own.iter().map(|row| place + row));
                if !own.is_empty() {
                    letters.push(take_record_batch(&batch, &UInt32Array::from(own)).map_err(corrupt)?);
                }
                place += batch.num_rows() as u32;
            }
            if !matched {
                self.passed.insert(file.path.clone());
            }
            if !taken.is_empty() {
                file_bytes += file.bytes;
                places.push((file.clone(), taken));
            }
        }
        Ok(kind.map(|kind| Picked { kind, letters, rewriter, places }))
    }

    /// Claims the picked letters whose verdict is [`Verdict::Row`], and marks the others. If
    /// another writer has changed one of their files meanwhile, returns `false` and changes
    /// nothing. The letters must then be picked again. `now` is in microseconds since the epoch.
    pub async fn claim(&self, picked: Picked, claim: &str, verdicts: &[Verdict], now: i64) -> Result<bool, LakeError> {
        let Picked { rewriter, places, .. } = picked;
        let mut verdicts = verdicts.iter();
        let mut writer = rewriter.writer(&self.writer_settings);
        for (file, rows) in &places {
            let (mut place, mut rows) = (0u32, rows.iter().peekable());
            for batch in rewriter.read(file).await? {
                let mut batch = Marks::new(batch?)?;
                for row in 0..batch.len() {
                    if rows.next_if(|next| **next == place + row as u32).is_none() {
                        continue;
                    }
                    let verdict = verdicts.next().ok_or_else(|| {
                        LakeError::rows(self.table.name, "there are fewer verdicts than picked letters")
                    })?;
                    batch.id[row] = Some(claim.to_owned());
                    (batch.outcome[row], batch.detail[row], batch.at[row]) = match verdict {
                        Verdict::Row => (None, None, None),
                        Verdict::Dead { reason, detail } => (Some(reason.clone()), Some(detail.clone()), Some(now)),
                    };
                }
                place += batch.len() as u32;
                writer.write(&batch.finish()?)?;
            }
        }
        let new = writer.finish().await?;
        let old: Vec<LiveFile> = places.into_iter().map(|(file, _)| file).collect();
        Ok(rewriter.exchange(&old, new, true).await? != Exchanged::Stale)
    }

    /// Ends a claim: marks its letters as replayed, or sets them free. Returns how many there were,
    /// or 0 if another process has done it already.
    pub async fn settle(&self, claim: &str, replayed: bool, now: i64) -> Result<usize, LakeError> {
        loop {
            let rewriter = self.lake.rewriter(&self.table).await?;
            let mut writer = rewriter.writer(&self.writer_settings);
            let (mut old, mut settled) = (Vec::new(), 0);
            for file in rewriter.files().iter().filter(|file| may_hold(file, claim)) {
                let mut batches = Vec::new();
                let mut found = 0;
                for batch in rewriter.read(file).await? {
                    let mut batch = Marks::new(batch?)?;
                    for row in 0..batch.len() {
                        if batch.id[row].as_deref() != Some(claim) || batch.outcome[row].is_some() {
                            continue;
                        }
                        found += 1;
                        if replayed {
                            batch.outcome[row] = Some(REPLAYED.to_owned());
                            batch.at[row] = Some(now);
                        } else {
                            batch.id[row] = None;
                        }
                    }
                    batches.push(batch.finish()?);
                }
                if found > 0 {
                    settled += found;
                    old.push(file.clone());
                    batches.iter().try_for_each(|batch| writer.write(batch))?;
                }
            }
            if old.is_empty() {
                return Ok(0);
            }
            let new = writer.finish().await?;
            if rewriter.exchange(&old, new, true).await? != Exchanged::Stale {
                return Ok(settled);
            }
        }
    }

    /// The claims without an outcome.
    pub async fn open(&self) -> Result<Vec<Claim>, LakeError> {
        let claimed = col("replay_id").is_not_null().and(col("replay_outcome").is_null());
        let letters = self.lake.dead_letters(&self.context, &LetterFilter::default()).await?;
        let found = letters
            .filter(claimed)?
            .select_columns(&["replay_id", "kind"])?
            .distinct()?
            .sort_by(vec![col("replay_id")])?
            .collect()
            .await?;
        let mut claims = Vec::new();
        for batch in &found {
            let ids = text(batch, "replay_id")?;
            for row in 0..batch.num_rows() {
                claims.push(Claim { id: ids.value(row).to_owned(), kind: kind_of(batch, row)? });
            }
        }
        Ok(claims)
    }

    fn matching(&self, condition: &Expr, batch: &RecordBatch) -> Result<BooleanArray, LakeError> {
        let schema = batch.schema().to_dfschema()?;
        let compiled = self.context.create_physical_expr(condition.clone(), &schema)?;
        let value = match compiled.evaluate(batch)? {
            ColumnarValue::Array(array) => array,
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(batch.num_rows())?,
        };
        let mask = value.as_boolean();
        // NULL is no match.
        Ok((0..mask.len()).map(|row| Some(mask.is_valid(row) && mask.value(row))).collect())
    }
}

fn unclaimed() -> Expr {
    col("replay_id").is_null().or(col("replay_outcome").is_not_null())
}

fn not_of(run: &str) -> Expr {
    let others = col("replay_id").like(lit(format!("{run}%")));
    col("replay_id").is_null().or(Expr::Not(Box::new(others)))
}

/// Whether a file may hold letters of the filter's time range. Files are partitioned by the day of
/// the rejection.
fn in_range(file: &LiveFile, filter: &LetterFilter) -> bool {
    let day =
        |micros: i64| chrono::DateTime::from_timestamp_micros(micros).map(|time| time.format("%Y-%m-%d").to_string());
    let Some(date) = &file.date else { return true };
    let after = filter.since.and_then(day).is_none_or(|since| *date >= since);
    let before = filter.until.and_then(day).is_none_or(|until| *date <= until);
    after && before
}

/// Whether a file may hold letters of a claim, according to its statistics.
fn may_hold(file: &LiveFile, claim: &str) -> bool {
    let Some(stats) = file.stats.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return true;
    };
    if stats["numRecords"].is_i64() && stats["nullCount"]["replay_id"] == stats["numRecords"] {
        return false;
    }
    let bound = |key: &str| stats[key]["replay_id"].as_str();
    // Both bounds may be cut off. Then the upper one may be rounded up.
    let above = bound("minValues").is_none_or(|min| min <= claim);
    let below = bound("maxValues").is_none_or(|max| max >= claim || claim.starts_with(max));
    above && below
}

fn corrupt(error: arrow::error::ArrowError) -> LakeError {
    LakeError::Corrupt(format!("{}: {error}", catalogue::DEAD_LETTERS))
}

fn lacks(column: &str) -> LakeError {
    LakeError::Corrupt(format!("{} has no column {column} of adlake's type", catalogue::DEAD_LETTERS))
}

fn text<'b>(batch: &'b RecordBatch, column: &str) -> Result<&'b StringArray, LakeError> {
    batch.column_by_name(column).and_then(|array| array.as_string_opt()).ok_or_else(|| lacks(column))
}

fn kind_of(batch: &RecordBatch, row: usize) -> Result<EventKind, LakeError> {
    let name = text(batch, "kind")?.value(row);
    let kind = EventKind::ALL.into_iter().find(|kind| kind.table() == name);
    kind.ok_or_else(|| LakeError::Corrupt(format!("{}: no kind of event is called {name:?}", catalogue::DEAD_LETTERS)))
}

fn payload_bytes(batch: &RecordBatch, row: usize) -> usize {
    let payload = batch.column_by_name("payload").and_then(|array| array.as_binary_opt::<i32>());
    payload.map_or(0, |payload| payload.value_length(row).max(0) as usize)
}

/// The columns of a batch of dead letters that a replay changes.
struct Marks {
    batch: RecordBatch,
    id: Vec<Option<String>>,
    outcome: Vec<Option<String>>,
    detail: Vec<Option<String>>,
    at: Vec<Option<i64>>,
}

impl Marks {
    fn new(batch: RecordBatch) -> Result<Marks, LakeError> {
        let texts = |column: &str| {
            text(&batch, column).map(|array| array.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>())
        };
        let at = batch
            .column_by_name("replayed_at")
            .and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or_else(|| lacks("replayed_at"))?;
        let at = at.iter().collect();
        let (id, outcome, detail) = (texts("replay_id")?, texts("replay_outcome")?, texts("replay_detail")?);
        Ok(Marks { batch, id, outcome, detail, at })
    }

    fn len(&self) -> usize {
        self.batch.num_rows()
    }

    fn finish(self) -> Result<RecordBatch, LakeError> {
        let schema = self.batch.schema();
        let texts = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let at = TimestampMicrosecondArray::from(self.at).with_data_type(timestamp());
        let mut columns = self.batch.columns().to_vec();
        let new = [
            ("replay_id", texts(self.id)),
            ("replay_outcome", texts(self.outcome)),
            ("replay_detail", texts(self.detail)),
            ("replayed_at", Arc::new(at) as ArrayRef),
        ];
        for (name, values) in new {
            columns[schema.index_of(name).map_err(corrupt)?] = values;
        }
        RecordBatch::try_new(schema, columns).map_err(corrupt)
    }
}
