//! What the tests of several modules share.

use std::fs;
use std::path::PathBuf;

use adlake_lake::{Lake, StorageSettings};

use crate::settings::SpeedSettings;

/// A new lake in a temporary folder, next to a folder of input files.
pub(crate) struct Fixture {
    /// The folder that the lake and the input files are in.
    pub(crate) folder: tempfile::TempDir,
    pub(crate) lake: Lake,
    pub(crate) settings: SpeedSettings,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let uri = folder.path().join("lake").to_string_lossy().into_owned();
        let lake = Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await.unwrap();
        Fixture { folder, lake, settings: SpeedSettings::default() }
    }

    /// The path of an input file.
    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }
}
