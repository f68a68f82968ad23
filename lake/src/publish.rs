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
    /// Publishes the run as the one after `previous`. It is an error if another run was published
    /// meanwhile.
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
                Err(LakeError::Configuration(
                    "another batch run was published meanwhile; this one is dropped".to_string(),
                ))
            }
        }
    }
}
