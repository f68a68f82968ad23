//! `adlake check-lake`. A lake that has been through runs, compaction and vacuum is sound. Then it
//! is damaged in one way after the other: the damage is found, named, and nothing else is reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use adlake_domain::catalogue::{ATTRIBUTIONS, CAMPAIGN_HOURLY, CAMPAIGN_ROLLUP, CAMPAIGNS, MANIFEST, USER_SEGMENTS};
use adlake_lake::manifest::Manifest;
use adlake_lake::{Lake, StorageSettings, WriterSettings};
use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

/// The folder of a lake, with the program that works on it.
struct TestLake {
    folder: tempfile::TempDir,
    adlake: Adlake,
}

impl TestLake {
    fn new() -> Result<TestLake> {
        let folder = tempfile::tempdir()?;
        let config = "[lake]\nuri = \"lake\"\n[batch]\nvacuum_retention = \"0s\"\n";
        let adlake = Adlake::in_dir(folder.path()).config(config);
        Ok(TestLake { folder, adlake })
    }

    /// A copy of the lake, to be damaged.
    fn copy(&self) -> Result<TestLake> {
        let copy = Self::new()?;
        copy_folder(&self.path(""), &copy.path(""))?;
        Ok(copy)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("lake").join(file)
    }

    /// Takes in one part of the traffic.
    fn ingest(&self, seed: u64) {
        let seed = seed.to_string();
        let traffic =
            ["--events", "3000", "--days", "3", "--duplicates", "0.05", "--conflicts", "0.02", "--late", "0.1"];
        self.adlake.ok([&["generate", "--to-files", &seed, "--seed", &seed, "--quiet"][..], &traffic[..]].concat());
        if !self.path(CAMPAIGNS).exists() {
            for table in ["creatives", "campaigns"] {
                self.adlake.ok(["ref", "load", table, &format!("{seed}/{table}.csv"), "--quiet"]);
            }
        }
        self.adlake.ok(["ingest", "files", &format!("{seed}/events"), "--quiet"]);
    }

    /// The report of a check, and its exit code.
    fn check(&self, options: &[&str]) -> Result<(Value, Option<i32>)> {
        let output = self.adlake.run([&["check-lake", "--format", "json"], options].concat());
        let report = serde_json::from_str(&output.stdout);
        Ok((report.with_context(|| format!("{options:?}: {}", output.stderr))?, output.status.code()))
    }

    /// Checks that nothing is wrong. Returns the report.
    fn is_sound(&self, options: &[&str]) -> Result<Value> {
        let (report, code) = self.check(options)?;
        let nothing = |key: &str| report[key].as_array().is_some_and(Vec::is_empty);
        ensure!(code == Some(0) && report["is_sound"] == true && nothing("findings"), "{options:?}: {report:#}");
        ensure!(nothing("skipped"), "something was left out: {report:#}");
        Ok(report)
    }

    /// Checks that one thing is wrong. Returns its detail.
    fn has(&self, options: &[&str], kind: &str, table: &str, file: Option<&str>, version: u64) -> Result<String> {
        let (report, code) = self.check(options)?;
        let findings = report["findings"].as_array().context("no findings")?;
        ensure!(findings.len() == 1 && code == Some(1), "{kind}: exit code {code:?}: {report:#}");
        ensure!(report["is_sound"] == false, "{report:#}");
        let found = &findings[0];
        ensure!(found["kind"] == kind && found["table"] == table, "not {kind} of {table}: {found:#}");
        ensure!(found["file"].as_str() == file && found["version"] == version, "{file:?} {version}: {found:#}");
        ensure!(found["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{found:#}");
        Ok(found["detail"].as_str().unwrap_or_default().to_owned())
    }

    async fn open(&self) -> Result<Lake> {
        let uri = self.path("").to_string_lossy().into_owned();
        Ok(Lake::open(&StorageSettings { uri, ..StorageSettings::default() }).await?)
    }

    async fn newest(&self, table: &str) -> Result<u64> {
        self.open().await?.newest_version(table).await?.context("there is no such table")
    }

    async fn manifest(&self) -> Result<Manifest> {
        Manifest::latest(&self.open().await?, &SessionContext::new()).await?.context("no run was published")
    }

    /// The version of a table that the last run names, and the path of its last file at that
    /// version.
    async fn published(&self, table: &str) -> Result<(u64, String)> {
        let version = self.manifest().await?.version(table).context("the run does not name the table")?;
        let files = self.open().await?.files_at(table, version).await?;
        Ok((version, files.last().context("the table has no files")?.path.clone()))
    }

    /// Publishes a run that names another version of a table.
    async fn publish(&self, table: &str, version: u64) -> Result<()> {
        let last = self.manifest().await?;
        let mut next = Manifest { run: last.run + 1, run_id: "damaged".to_owned(), ..last.clone() };
        next.versions.insert(table.to_owned(), version);
        Ok(next.publish(&self.open().await?, Some(last.run)).await?)
    }

    /// Writes the last file of a batch table that has several rows anew with other rows, and
    /// publishes that. Returns the new version, and the path of the new file.
    async fn rewrite(
        &self,
        table: &str,
        change: impl Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<(u64, String)> {
        let lake = self.open().await?;
        let (version, _) = self.published(table).await?;
        let replacer = lake.replacer_from(table, version).await?;
        let mut kept = replacer.base().to_vec();
        let place = kept.iter().rposition(|file| file.rows > Some(1)).context("no file has several rows")?;
        let last = kept.remove(place);
        let rows = replacer.open(&last).await?.rows()?.collect::<Result<Vec<_>, _>>()?;
        let rows = concat_batches(&rows[0].schema(), &rows)?;
        let mut writer = replacer.writer(&WriterSettings::default());
        writer.write(&change(&rows)?)?;
        let files = writer.finish().await?;
        let path = files.first().context("no file was written")?.path().to_owned();
        let version = replacer.commit_keeping(&kept, files).await?;
        self.publish(table, version).await?;
        Ok((version, path))
    }
}

pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// All files under a folder, and when they were changed.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, SystemTime>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        }
        found.insert(entry.path(), entry.metadata()?.modified()?);
    }
    Ok(found)
}

fn entry(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

/// The rows with one more in the first value of a column.
fn one_more(rows: &RecordBatch, column: &str) -> Result<RecordBatch> {
    let place = rows.schema().index_of(column)?;
    let values = rows.column(place).as_primitive_opt::<Int64Type>().context("no integers")?;
    let changed: Int64Array = values
        .iter()
        .enumerate()
        .map(|(row, value)| if row == 0 { Some(value.unwrap_or(0) + 1) } else { value })
        .collect();
    let mut columns = rows.columns().to_vec();
    columns[place] = Arc::new(changed) as ArrayRef;
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// A lake with runs, a compaction, a vacuum, and rows that no run covers yet. At each step it is
/// sound.
fn sound_lake() -> Result<TestLake> {
    let lake = TestLake::new()?;
    lake.ingest(1);
    let report = lake.is_sound(&["--all", "--deep"])?;
    ensure!(report["recomputed"]["run"].is_null(), "there is nothing to recompute: {report:#}");
    for seed in 2..=6 {
        lake.adlake.ok(["batch", "run", "--quiet"]);
        lake.ingest(seed);
    }
    lake.adlake.ok(["batch", "run", "--quiet"]);
    let report = lake.is_sound(&[])?;
    let runs = report["runs"].as_array().context("no runs")?;
    ensure!(runs.len() == 6 && runs.iter().all(|run| run["can_be_published_again"] == true), "{report:#}");
    ensure!(report["recomputed"]["dates"].as_array().map(Vec::len) == Some(2), "not a sample of 2 days: {report:#}");
    let done: Value = serde_json::from_str(&lake.adlake.ok(["batch", "compact", "--format", "json"]))?;
    for table in ["raw/impressions", "batch/impressions"] {
        ensure!(!done["tables"][table].is_null(), "{table} was not compacted: {done:#}");
    }
    lake.is_sound(&["--all"])?;
    lake.adlake.ok(["batch", "vacuum"]);
    lake.ingest(7);
    lake.adlake.ok(["batch", "checkpoint"]);
    lake.ingest(8);
    Ok(lake)
}

#[test]
fn damage_is_found_and_named() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let sound = sound_lake()?;
    let before = files(&sound.path(""))?;
    let report = sound.is_sound(&["--all", "--deep"])?;
    ensure!(files(&sound.path(""))? == before, "the check has changed the lake");
    let checked = |key: &str| report["checked"][key].as_u64().unwrap_or_default();
    ensure!(checked("tables") == 19, "{report:#}");
    for key in ["log_entries", "checkpoints", "files", "file_bytes", "decoded_rows", "runs"] {
        ensure!(checked(key) > 0, "{key}: {report:#}");
    }
    let rows = report["recomputed"]["rows"].as_object().context("nothing was compared")?;
    ensure!(rows.len() == 8 && rows.values().all(|rows| rows.as_u64() > Some(0)), "{report:#}");
    let told = sound.adlake.ok(["check-lake", "--all"]);
    ensure!(told.contains("the lake is sound"), "{told}");

    data_files(&runtime, &sound)?;
    logs(&runtime, &sound)?;
    published_rows(&runtime, &sound)?;
    let nowhere = TestLake::new()?;
    let refused = nowhere.adlake.run(["check-lake"]);
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("there is no lake at"), "{}", refused.stderr);
    Ok(())
}

fn data_files(runtime: &tokio::runtime::Runtime, sound: &TestLake) -> Result<()> {
    let whole = ["--all", "--deep"];
    for table in ["batch/impressions", "raw/interactions"] {
        let lake = sound.copy()?;
        let (version, file) = runtime.block_on(lake.published(table))?;
        // If the newest version has the file too, that is where it is found first.
        let newest = runtime.block_on(lake.newest(table))?;
        let is_in =
            runtime.block_on(async { Ok::<_, anyhow::Error>(lake.open().await?.files_at(table, newest).await?) })?;
        let found_at = if is_in.iter().any(|live| live.path == file) { newest } else { version };
        let path = lake.path(table).join(&file);
        let bytes = fs::read(&path)?;
        fs::remove_file(&path)?;
        lake.has(&whole, "file_missing", table, Some(&file), found_at)?;
        lake.has(&["--no-recompute"], "file_missing", table, Some(&file), found_at)?;
        fs::write(&path, &bytes[..bytes.len() - 10])?;
        let detail = lake.has(&whole, "file_size", table, Some(&file), found_at)?;
        ensure!(detail.contains(&format!("{} bytes, but the log says {}", bytes.len() - 10, bytes.len())), "{detail}");
        // A footer that is none.
        let mut wrong = bytes.clone();
        wrong.truncate(bytes.len() - 4);
        wrong.extend(b"NONE");
        fs::write(&path, &wrong)?;
        lake.has(&["--no-recompute"], "file_unreadable", table, Some(&file), found_at)?;
        // A byte of a page is another: the magic number of its compression.
        let column = SerializedFileReader::new(fs::File::open(sound.path(table).join(&file))?)?;
        let begin = column.metadata().row_group(0).column(0).byte_range().0 as usize;
        let magic = bytes[begin..].windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]);
        let mut wrong = bytes.clone();
        wrong[begin + magic.context("the page is not compressed")?] ^= 1;
        fs::write(&path, &wrong)?;
        lake.is_sound(&["--no-recompute"])?;
        lake.has(&whole, "file_unreadable", table, Some(&file), found_at)?;
        fs::write(&path, &bytes)?;
        lake.is_sound(&[])?;
    }
    Ok(())
}

fn logs(runtime: &tokio::runtime::Runtime, sound: &TestLake) -> Result<()> {
    let all = ["--all"];
    let newest = |table: &str| runtime.block_on(sound.newest(table));
    // The run covers an older version than that of the checkpoint: the entries before are needed.
    let covered = runtime.block_on(sound.published("raw/impressions"))?.0;
    let last = newest("raw/impressions")?;
    ensure!(covered > 0 && covered + 1 < last, "{covered} of {last}");
    for (table, version) in [("raw/impressions", covered + 1), ("raw/impressions", covered)] {
        let lake = sound.copy()?;
        fs::remove_file(lake.path(table).join(entry(version)))?;
        lake.has(&all, "log_entry_missing", table, Some(&entry(version)), version)?;
        fs::write(lake.path(table).join(entry(version)), "{\"add\": {\"path\"")?;
        lake.has(&all, "log_entry_unreadable", table, Some(&entry(version)), version)?;
    }
    let lake = sound.copy()?;
    let version = newest(CAMPAIGNS)?;
    let checkpoint = format!("_delta_log/{version:020}.checkpoint.parquet");
    let path = lake.path(CAMPAIGNS).join(&checkpoint);
    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() / 2])?;
    lake.has(&all, "checkpoint_unreadable", CAMPAIGNS, Some(&checkpoint), version)?;
    fs::remove_file(&path)?;
    lake.has(&all, "checkpoint_missing", CAMPAIGNS, Some(&checkpoint), version)?;
    fs::write(&path, &bytes)?;
    fs::write(lake.path(CAMPAIGNS).join("_delta_log/_last_checkpoint"), "none")?;
    lake.has(&all, "checkpoint_unreadable", CAMPAIGNS, Some("_delta_log/_last_checkpoint"), version)?;

    let lake = sound.copy()?;
    let version = newest(MANIFEST)?;
    fs::remove_file(lake.path(MANIFEST).join(entry(version - 1)))?;
    fs::remove_file(lake.path(MANIFEST).join("_delta_log/_last_checkpoint"))?;
    fs::remove_file(lake.path(MANIFEST).join(format!("_delta_log/{version:020}.checkpoint.parquet")))?;
    lake.has(&all, "log_entry_missing", MANIFEST, Some(&entry(version - 1)), version - 1)?;
    Ok(())
}

fn published_rows(runtime: &tokio::runtime::Runtime, sound: &TestLake) -> Result<()> {
    let lake = sound.copy()?;
    runtime.block_on(lake.publish(CAMPAIGN_HOURLY, 999))?;
    let detail = lake.has(&["--all"], "version_missing", CAMPAIGN_HOURLY, None, 999)?;
    ensure!(detail.contains("names version 999"), "{detail}");

    // A row with another value, in a file that the log describes as it is.
    // What a user did is of all days, so it is compared when all are.
    let both: &[&[&str]] = &[&[], &["--all", "--deep"]];
    for (table, column, compared) in [
        (CAMPAIGN_HOURLY, "impressions", both),
        (CAMPAIGN_ROLLUP, "clicks", both),
        ("batch/impressions", "cost_micros", both),
        (USER_SEGMENTS, "frequency", &both[1..]),
    ] {
        let lake = sound.copy()?;
        let (version, _) = runtime.block_on(lake.rewrite(table, |rows| one_more(rows, column)))?;
        lake.is_sound(&["--deep", "--no-recompute"])?;
        for options in compared {
            let detail = lake.has(options, "rows_differ", table, None, version)?;
            ensure!(detail.contains("(1 with other values)") && detail.contains(&format!("{column} is ")), "{detail}");
        }
        lake.adlake.ok(["batch", "run", "--full", "--quiet"]);
        lake.is_sound(&["--all", "--deep"])?;
    }
    let lake = sound.copy()?;
    let all_but_the_first = |rows: &RecordBatch| Ok(rows.slice(1, rows.num_rows() - 1));
    let (version, _) = runtime.block_on(lake.rewrite(ATTRIBUTIONS, all_but_the_first))?;
    let detail = lake.has(&["--all"], "rows_differ", ATTRIBUTIONS, None, version)?;
    ensure!(detail.contains("(1 missing)") && detail.contains("is missing"), "{detail}");

    // The same rows in another order.
    let lake = sound.copy()?;
    let reversed = |rows: &RecordBatch| {
        let places: Int64Array = (0..rows.num_rows() as i64).rev().collect();
        Ok(take_record_batch(rows, &places as &dyn Array)?)
    };
    let (version, file) = runtime.block_on(lake.rewrite(CAMPAIGN_HOURLY, reversed))?;
    lake.is_sound(&["--all"])?;
    lake.has(&["--all", "--deep"], "file_order", CAMPAIGN_HOURLY, Some(&file), version)?;
    Ok(())
}
