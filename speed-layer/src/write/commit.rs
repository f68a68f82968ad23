//! Uploads and commits what a builder has sealed, dead letters first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use adlake_domain::catalogue::DEAD_LETTERS;
use adlake_domain::event::EventKind;
use adlake_lake::{Advance, Appended, Appender, DataFile, Lake, LakeError, TableWriter, WriterSettings, failpoint};
use arrow::datatypes::Field;
use tokio::sync::Mutex;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::builder::Sealed;
use super::known_dead::{KnownDead, known_dead};
use crate::error::SpeedError;
use crate::record::Stream;
use crate::settings::IngestSettings;
use crate::source::TopicMarks;

/// What the lake has stored of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The position in the raw table.
    pub rows: Option<i64>,
    /// The position in the dead letters.
    pub dead_letters: Option<i64>,
    /// The dead letters between the two positions, if the dead letters' is ahead after a crash.
    pub known_dead: Option<Arc<KnownDead>>,
    /// The marks of the stream's topic.
    pub marks: TopicMarks,
}

/// The result of committing a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed {
        /// The total size of the files in bytes.
        bytes: u64,
        /// The number of files.
        files: usize,
        /// By table: how often another commit took the version that ours was meant for.
        conflicts: [(&'static str, u64); 2],
    },
    /// Its rows are not committed: another process has advanced one of the streams.
    Superseded,
}

/// Commits to one table, and to the dead letters, which all tables share.
#[derive(Debug)]
pub struct Committer {
    lake: Lake,
    rows: Appender,
    dead_letters: Arc<Mutex<Appender>>,
    writer_settings: WriterSettings,
}

impl Committer {
    /// A committer for the raw table of a kind, with the columns that the configuration adds.
    /// `dead_letters` appends to `raw/dead_letters`.
    pub async fn open(
        lake: &Lake,
        kind: EventKind,
        columns: &[Field],
        dead_letters: Arc<Mutex<Appender>>,
        settings: &IngestSettings,
    ) -> Result<Committer, SpeedError> {
        let rows = lake.appender_with(kind.raw_table(), columns).await?;
        let writer_settings = settings.writer();
        Ok(Committer { lake: lake.clone(), rows, dead_letters, writer_settings })
    }

    /// What the table and the dead letters have stored of these streams.
    pub async fn stored(&mut self, streams: &[Arc<Stream>]) -> Result<Vec<Stored>, LakeError> {
        let lake = self.lake.clone();
        lake.watch(self.look_up(streams)).await
    }

    async fn look_up(&mut self, streams: &[Arc<Stream>]) -> Result<Vec<Stored>, LakeError> {
        let applications: Vec<String> = streams.iter().map(|stream| stream.application.clone()).collect();
        let topics: BTreeSet<[String; 2]> = streams.iter().filter_map(|stream| stream.mark_applications()).collect();
        let with_marks: Vec<String> = applications.iter().chain(topics.iter().flatten()).cloned().collect();
        let rows = self.rows.stored_all(&with_marks).await?;
        let positions: HashMap<&String, Option<i64>> = with_marks.iter().zip(rows.iter().copied()).collect();
        let (dead, version) = {
            let mut dead_letters = self.dead_letters.lock().await;
            (dead_letters.stored_all(&applications).await?, dead_letters.version())
        };
        let mut stored = Vec::with_capacity(streams.len());
        for ((stream, rows), dead_letters) in streams.iter().zip(rows.iter().copied()).zip(dead) {
            // `None` (never stored) is less than any position.
            let known_dead = match dead_letters > rows {
                true => Some(Arc::new(known_dead(&self.lake, version, stream, rows).await?)),
                false => None,
            };
            let marks = stream.mark_applications().map_or_else(TopicMarks::default, |[id, partitions]| {
                let of = |application| positions.get(&application).copied().flatten();
                TopicMarks { id: of(id), partitions: of(partitions) }
            });
            stored.push(Stored { rows, dead_letters, known_dead, marks });
        }
        Ok(stored)
    }

    /// Uploads and commits: first the dead letters with their positions, if there are any, then the
    /// rows with theirs.
    pub async fn commit(
        &mut self,
        sealed: Sealed,
        advances: Vec<Advance>,
        dead_advances: Vec<Advance>,
    ) -> Result<Outcome, SpeedError> {
        let started = Instant::now();
        let (mut bytes, mut count, mut dead_conflicts) = (0, 0, 0);
        if !sealed.dead_letters.is_empty() {
            let mut appender = self.dead_letters.lock().await;
            let mut writer = appender.writer(&self.writer_settings);
            for batch in &sealed.dead_letters {
                writer.write(batch)?;
            }
            let files = finish(writer, DEAD_LETTERS).await?;
            bytes += files.iter().map(DataFile::bytes).sum::<u64>();
            count += files.len();
            // A process that commits only rows does not advance the dead letters' positions. So the
            // table's positions are checked here.
            let applications: Vec<String> = advances.iter().map(|advance| advance.application.clone()).collect();
            let stored = self.rows.stored_all(&applications).await?;
            if advances.iter().zip(&stored).any(|(advance, stored)| advance.from != *stored) {
                return Ok(Outcome::Superseded);
            }
            appender.refresh().await?;
            failpoint::hit(failpoint::BEFORE_DEAD_LETTERS);
            let put = commit_span(DEAD_LETTERS);
            if let Appended::Superseded { .. } = appender.commit(files, dead_advances).instrument(put).await? {
                return Ok(Outcome::Superseded);
            }
            dead_conflicts = appender.take_conflicts();
            failpoint::hit(failpoint::AFTER_DEAD_LETTERS);
        }
        let files = match sealed.writer {
            Some(writer) => finish(writer, self.rows.table()).await?,
            None => Vec::new(),
        };
        bytes += files.iter().map(DataFile::bytes).sum::<u64>();
        count += files.len();
        let uploaded = started.elapsed();
        // Others may have committed since. Reading that now avoids a PUT that fails.
        self.rows.refresh().await?;
        let put = commit_span(self.rows.table());
        match self.rows.commit(files, advances).instrument(put).await? {
            Appended::Committed { version } => {
                let cycle = Span::current();
                cycle.record("adlake.table.version", version);
                cycle.record("adlake.files", count as u64);
                cycle.record("adlake.bytes", bytes);
                failpoint::hit(failpoint::BEFORE_ACKNOWLEDGE);
                let (upload_ms, commit_ms) =
                    (uploaded.as_millis() as u64, (started.elapsed() - uploaded).as_millis() as u64);
                tracing::debug!(table = self.rows.table(), version, bytes, upload_ms, commit_ms, "committed");
                let conflicts = [(self.rows.table(), self.rows.take_conflicts()), (DEAD_LETTERS, dead_conflicts)];
                Ok(Outcome::Committed { bytes, files: count, conflicts })
            }
            Appended::Superseded { .. } => Ok(Outcome::Superseded),
        }
    }

    /// Waits for background work.
    pub async fn close(self) {
        self.rows.close().await;
    }
}

/// Finishes the files and uploads them. The last pages are compressed here, which would block the
/// runtime's threads.
async fn finish(writer: TableWriter, table: &str) -> Result<Vec<DataFile>, SpeedError> {
    let runtime = tokio::runtime::Handle::current();
    let span = adlake_telemetry::span!("write files", adlake.table = table, adlake.files = Empty, adlake.bytes = Empty);
    let finished = tokio::task::spawn_blocking(move || runtime.block_on(writer.finish())).await;
    let files = finished.map_err(|_| SpeedError::Ended("writing files"))??;
    span.record("adlake.files", files.len() as u64);
    span.record("adlake.bytes", files.iter().map(DataFile::bytes).sum::<u64>());
    Ok(files)
}

/// The span of a commit to the log of a table.
fn commit_span(table: &str) -> Span {
    adlake_telemetry::span!("commit", adlake.table = table)
}

#[cfg(test)]
mod tests {
    use adlake_decode::record::StreamFormat;
    use adlake_lake::StorageSettings;

    use super::super::dead_letters::tests::letters;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn dead_letters_ahead_of_the_rows_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        let appender = Arc::new(Mutex::new(lake.appender(DEAD_LETTERS).await.unwrap()));
        let settings = IngestSettings::default();
        let mut committer = Committer::open(&lake, EventKind::Impression, &[], appender, &settings).await.unwrap();
        let stream = |topic: &str, partition: i32| {
            Arc::new(Stream {
                kind: EventKind::Impression,
                source: topic.to_owned(),
                partition,
                application: format!("{topic} {partition}"),
                format: StreamFormat::Json,
            })
        };
        let streams = [stream("a", 0), stream("b", 0), stream("c", 0)];
        let advance = |application: &str, to: i64| Advance { application: application.to_owned(), from: None, to };
        let dead_letters = vec![letters("a", 0..10), letters("b", 0..10)];
        let sealed = Sealed { dead_letters, ..Sealed::default() };
        let dead = vec![advance("a 0", 20), advance("b 0", 20)];
        assert_eq!(committer.stored(&streams[2..]).await.unwrap(), [Stored::default()]);
        let outcome = committer.commit(sealed, vec![advance("a 0", 5), advance("b 0", 20)], dead).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed { files: 1, .. }), "{outcome:?}");

        let stored = committer.stored(&streams).await.unwrap();
        assert_eq!((stored[0].rows, stored[0].dead_letters), (Some(5), Some(20)));
        let known = stored[0].known_dead.clone().unwrap();
        assert_eq!(*known, [6, 8].into_iter().map(|offset| (offset, format!("payload {offset}"))).collect());
        assert!(known.contains(6, b"payload 6") && !known.contains(6, b"another cluster's"));
        assert_eq!(stored[1], Stored { rows: Some(20), dead_letters: Some(20), ..Stored::default() });
        assert_eq!(stored[2], Stored::default());
        // The file was first read as another kind of event. When it is read again, the dead letters
        // of that kind do not count.
        let clicks = Arc::new(Stream { kind: EventKind::Interaction, ..(*streams[0]).clone() });
        let appender = Arc::new(Mutex::new(lake.appender(DEAD_LETTERS).await.unwrap()));
        let mut committer = Committer::open(&lake, EventKind::Interaction, &[], appender, &settings).await.unwrap();
        let stored = committer.stored(&[clicks]).await.unwrap();
        assert_eq!((stored[0].rows, stored[0].dead_letters), (None, Some(20)));
        assert_eq!(stored[0].known_dead.as_deref(), Some(&KnownDead::default()));
    }
}
