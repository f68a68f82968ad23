//! Publishes a batch run: the commit of its manifest.

use adlake_domain::catalogue::MANIFEST;
use datafusion::prelude::SessionContext;

use crate::append::{Advance, Appended};
use crate::error::LakeError;
use crate::manifest::Manifest;
use crate::storage::Lake;
use crate::write::WriterSettings;

/// The Delta application under which runs are numbered.
const APPLICATION: &str = "adlake:batch";

impl Manifest {
    /// Publishes the run as the one after `previous`. If another run was published meanwhile, the
    /// error is [`LakeError::Superseded`], and nothing is published.
    pub async fn publish(&self, lake: &Lake, previous: Option<i64>) -> Result<(), LakeError> {
        lake.retry(|| self.put(lake, previous)).await
    }

    async fn put(&self, lake: &Lake, previous: Option<i64>) -> Result<(), LakeError> {
        let mut appender = lake.appender(MANIFEST).await?;
        let mut writer = appender.writer(&WriterSettings::default());
        writer.write(&self.to_batch()?)?;
        let files = writer.finish().await?;
        let advance = Advance { application: APPLICATION.to_string(), from: previous, to: self.run };
        match appender.commit(files, vec![advance]).await? {
            Appended::Committed { .. } => Ok(()),
            // Our commit may be in, if an outage was so long that we never got the answer.
            Appended::Superseded { .. } => {
                let latest = Manifest::latest(lake, &SessionContext::new()).await?;
                if latest.is_some_and(|latest| latest.run_id == self.run_id) {
                    return Ok(());
                }
                Err(LakeError::Superseded(
                    "another batch run was published first; nothing of this run is visible".to_string(),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use adlake_domain::settings::{Meaning, REVISION};

    use super::*;
    use crate::StorageSettings;

    #[tokio::test]
    async fn of_two_runs_after_the_same_run_one_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        let manifest = |run_id: &str, run: i64| Manifest {
            run_id: run_id.to_string(),
            run,
            published_at: 0,
            versions: BTreeMap::new(),
            meaning: Meaning::default(),
            revision: REVISION,
        };
        manifest("first", 1).publish(&lake, None).await.unwrap();
        manifest("second", 2).publish(&lake, Some(1)).await.unwrap();
        // The answer to the second was lost, and it is published again.
        manifest("second", 2).publish(&lake, Some(1)).await.unwrap();
        let lost = manifest("third", 2).publish(&lake, Some(1)).await.unwrap_err();
        assert!(matches!(lost, LakeError::Superseded(_)) && !lost.is_retryable(), "{lost:?}");
        assert!(lost.to_string().contains("another batch run was published first"), "{lost}");
        assert!(lost.to_string().contains("Running it again is safe"), "{lost}");
        let latest = Manifest::latest(&lake, &SessionContext::new()).await.unwrap().unwrap();
        assert_eq!((latest.run_id.as_str(), latest.run), ("second", 2));
        // A reader of the newest run does not read the files of the others.
        let newest = lake.newest_version(MANIFEST).await.unwrap().unwrap();
        let first = lake.files_at(MANIFEST, 1).await.unwrap().remove(0).path;
        assert_eq!((lake.files_at(MANIFEST, newest).await.unwrap().len(), newest), (2, 2));
        std::fs::write(folder.path().join(MANIFEST).join(first), "no Parquet").unwrap();
        let latest = Manifest::latest(&lake, &SessionContext::new()).await.unwrap().unwrap();
        assert_eq!(latest.run, 2);
        assert!(Manifest::all(&lake, &SessionContext::new()).await.is_err());
    }
}
