//! Notes on the jobs of the batch layer: when each was done last, and how it ended.
//!
//! A note is a file in `batch/manifest/_jobs`, one for each kind of job, and each overwrites the
//! one before. Notes are for people and for the schedule. No result depends on them.

use adlake_domain::catalogue::MANIFEST;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::storage::Lake;

const FOLDER: &str = "_jobs";

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done, or there was nothing to do.
    Done,
    /// It failed.
    Failed,
    /// A signal has stopped it.
    Stopped,
}

/// The note on the last job of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNote {
    /// The kind, like `run`.
    pub job: String,
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// The error, if it failed.
    pub error: Option<String>,
}

impl Lake {
    /// Writes a note. A note that cannot be written is no failure of the job: a warning is logged.
    pub async fn note_job(&self, note: &JobNote) {
        if let Err(error) = self.put_note(note).await {
            tracing::warn!(job = note.job, %error, "the note on the job was not written");
        }
    }

    async fn put_note(&self, note: &JobNote) -> Result<(), LakeError> {
        let store = self.log_store(MANIFEST)?.object_store(None);
        let bytes = serde_json::to_vec(note).map_err(|error| LakeError::rows(MANIFEST, error))?;
        let path = Path::from(format!("{FOLDER}/{}.json", note.job));
        let put = store.put(&path, bytes.into()).await;
        put.map(|_| ()).map_err(|error| LakeError::store(format!("{MANIFEST}/{path}"), error))
    }

    /// The notes on all kinds of jobs, by their names. A note that cannot be read is left out.
    pub async fn job_notes(&self) -> Result<Vec<JobNote>, LakeError> {
        let store = self.log_store(MANIFEST)?.object_store(None);
        let wrong = |error| LakeError::store(format!("{MANIFEST}/{FOLDER}"), error);
        let list = || async { store.list(Some(&Path::from(FOLDER))).try_collect::<Vec<_>>().await.map_err(wrong) };
        let mut notes = Vec::new();
        for file in self.retry(list).await? {
            let get = || async { store.get(&file.location).await.map_err(wrong)?.bytes().await.map_err(wrong) };
            match serde_json::from_slice::<JobNote>(&self.retry(get).await?) {
                Ok(note) => notes.push(note),
                Err(error) => tracing::warn!(file = %file.location, %error, "this note on a job cannot be read"),
            }
        }
        notes.sort_by(|a, b| a.job.cmp(&b.job));
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageSettings;

    #[tokio::test]
    async fn the_last_note_of_each_job_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        assert_eq!(lake.job_notes().await.unwrap(), []);
        let note = |job: &str, outcome| JobNote {
            job: job.to_string(),
            began: DateTime::UNIX_EPOCH,
            ended: DateTime::UNIX_EPOCH,
            outcome,
            error: (outcome == Outcome::Failed).then(|| "no room".to_string()),
        };
        lake.note_job(&note("vacuum", Outcome::Done)).await;
        lake.note_job(&note("run", Outcome::Failed)).await;
        lake.note_job(&note("run", Outcome::Done)).await;
        let expected = [note("run", Outcome::Done), note("vacuum", Outcome::Done)];
        assert_eq!(lake.job_notes().await.unwrap(), expected);
        std::fs::write(folder.path().join("batch/manifest/_jobs/run.json"), "{").unwrap();
        assert_eq!(lake.job_notes().await.unwrap(), expected[1..]);
    }
}
