//! Tests files against the contract of sources.

use std::collections::HashMap;
use std::fs;
use std::io::Write;

use super::discover::failed;
use super::*;
use crate::source::conformance::{Fixture, suite};
use crate::source::{Handle, TopicMarks};

struct Folder {
    folder: tempfile::TempDir,
    records: HashMap<&'static str, Vec<Vec<u8>>>,
}

impl Folder {
    /// The same records in several formats, enough of them for several chunks.
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let records: Vec<Vec<u8>> =
            (0..20_000).map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n % 50)).into_bytes()).collect();
        let array = [b"[", &records.join(&b",\n"[..])[..], b"]"].concat();
        let lines = records.join(&b'\n');
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("impressions-array.json", &array);
        write("impressions-lines.ndjson.zst", &zstd::encode_all(&lines[..], 1).unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let header = "timestamp,user_id,campaign_id,conversion_type";
        gzip.write_all(format!("a report\n{header}\n1,\"two\nlines\"\n\n3,4\n5,6\n").as_bytes()).unwrap();
        write("clicks.csv.gz", &gzip.finish().unwrap());
        let rows = ["1,\"two\nlines\"", "3,4", "5,6"].map(|row| row.as_bytes().to_vec()).to_vec();
        let records = HashMap::from([
            ("impressions-array.json", records.clone()),
            ("impressions-lines.ndjson.zst", records),
            ("clicks.csv.gz", rows),
        ]);
        Folder { folder, records }
    }

    fn source(&self) -> FilesSource {
        let paths = vec![self.folder.path().to_string_lossy().into_owned()];
        let wanted = FilesWanted { paths, ..FilesWanted::default() };
        FilesSource::open(&wanted, &SpeedSettings::default(), &SourceContext::default()).unwrap()
    }
}

impl Fixture for Folder {
    fn open(&self) -> Result<Box<dyn Source>, SpeedError> {
        Ok(Box::new(self.source()))
    }

    fn expected(&self) -> HashMap<String, Vec<Vec<u8>>> {
        let waiting = self.source().waiting;
        let records = |found: &Found| self.records[found.file_name()].clone();
        waiting.iter().map(|found| (discover::application(&found.name), records(found))).collect()
    }
}

#[tokio::test]
async fn conforms() {
    let folder = Folder::new();
    assert_eq!(folder.expected().len(), 3);
    suite(&folder).await.unwrap();
}

#[test]
fn finds_each_file_once_and_refuses_what_is_not_there() {
    let folder = Folder::new();
    fs::create_dir(folder.folder.path().join("inner")).unwrap();
    fs::write(folder.folder.path().join("inner/bids.json"), "{}").unwrap();
    fs::write(folder.folder.path().join("inner/_SUCCESS"), "").unwrap();
    fs::write(folder.folder.path().join("inner/notes.txt"), "").unwrap();
    let root = folder.folder.path().to_string_lossy().into_owned();
    let found = |paths: &[&str]| {
        let paths = paths.iter().map(|path| format!("{root}/{path}")).collect();
        let wanted = FilesWanted { paths, ..FilesWanted::default() };
        FilesSource::open(&wanted, &SpeedSettings::default(), &SourceContext::default()).map(|source| source.files())
    };
    assert_eq!(found(&["."]).unwrap(), 4);
    assert_eq!(found(&[".", "inner", "./inner/bids.json", "*.json"]).unwrap(), 4);
    assert_eq!(found(&["*.json"]).unwrap(), 1);
    assert_eq!(found(&["**/*.json"]).unwrap(), 2);
    assert_eq!(found(&["inner/notes.txt"]).unwrap(), 1, "a file that is named is read whatever its name");
    assert!(found(&["nothing.json"]).unwrap_err().to_string().contains("nothing.json"));
    assert!(found(&["*.nothing"]).is_err());
}

#[test]
fn a_path_names_its_file_for_ever() {
    let folder = Folder::new();
    let applications = || {
        let waiting = folder.source().waiting;
        waiting.iter().map(|found| discover::application(&found.name)).collect::<Vec<_>>()
    };
    assert_eq!(applications(), applications());
    assert!(applications().iter().all(|application| application.starts_with("adlake:file:")));
}

#[test]
fn a_watched_file_that_cannot_be_read_is_left_for_longer_and_longer() {
    let folder = Folder::new();
    let mut source = folder.source();
    let found = source.waiting.pop_front().unwrap();
    source.waiting_names.remove(&found.name);
    let refusal = failed(found.path(), "cannot be read", Some(std::io::ErrorKind::PermissionDenied.into()));
    source.wanted.watch = true;
    let mut pauses = Vec::new();
    for _ in 0..11 {
        source.leave(&found, &refusal, 0);
        pauses.push(source.refused[&found.name].pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let is_taken = |source: &mut FilesSource, found: &Found| {
        source.admit(found.clone());
        source.waiting_names.contains(&found.name)
    };
    assert!(!is_taken(&mut source, &found), "its pause is not over");
    source.refused.get_mut(&found.name).unwrap().until = Instant::now();
    assert!(is_taken(&mut source, &found), "its pause is over");
    source.waiting.clear();
    source.waiting_names.clear();
    // When it is written again meanwhile, it counts as another file.
    source.leave(&found, &refusal, 0);
    let written = Found { tag: "another".to_owned(), ..found };
    assert!(is_taken(&mut source, &written), "it was written anew");
    assert!(source.aside.is_empty() && source.metrics.report().set_aside.is_empty());
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_until_it_is_written_anew() {
    for watch in [false, true] {
        let folder = Folder::new();
        let mut source = folder.source();
        source.wanted.watch = watch;
        let found = source.waiting.pop_front().unwrap();
        source.waiting_names.remove(&found.name);
        source.leave(&found, &failed(found.path(), "not an Avro object container", None), 0);
        let expected = [(found.name.clone(), "not an Avro object container".to_owned())];
        assert_eq!(source.metrics.report().set_aside, expected.into());
        source.admit(found.clone());
        assert!(!source.waiting_names.contains(&found.name), "nothing has changed");
        let written = Found { tag: "another".to_owned(), ..found };
        source.admit(written.clone());
        assert!(source.waiting_names.contains(&written.name), "it was written anew");
        source.is_usable(&written);
        assert!(source.metrics.report().set_aside.is_empty());
    }
}

#[test]
fn without_watching_a_file_that_cannot_be_read_is_set_aside_with_what_the_system_says() {
    let folder = Folder::new();
    let mut source = folder.source();
    let found = source.waiting.pop_front().unwrap();
    source.leave(&found, &failed(found.path(), "cannot be read", Some(std::io::Error::other("permission denied"))), 0);
    assert_eq!(source.metrics.report().set_aside[&found.name], "cannot be read: permission denied");
}

#[tokio::test]
async fn of_a_file_that_fails_half_way_it_is_told_how_much_is_taken() {
    for (share, taken) in [(0.9, 16_384), (0.6, 8192), (0.1, 0)] {
        let folder = Folder::new();
        let mut source = folder.source();
        source.waiting.retain(|found| found.file_name() == "impressions-array.json");
        let bytes = fs::read(folder.folder.path().join("impressions-array.json")).unwrap();
        let found = &mut source.waiting[0];
        let name = found.name.clone();
        found.at = place::At::Breaks(bytes[..(bytes.len() as f64 * share) as usize].to_vec());
        let metrics = source.metrics.clone();
        let mut handle = Handle::spawn(Box::new(source), 64 << 20).unwrap();
        let mut delivered = 0;
        loop {
            match handle.next().await.unwrap() {
                Event::Assigned(streams) => {
                    let start = |stream| Start { stream, stored: None, marks: TopicMarks::default(), generation: 1 };
                    handle.commander().tell(Command::Start(streams.into_iter().map(start).collect()));
                }
                Event::Records(records) => delivered = records.chunk.next().unwrap(),
                Event::Done { starts: 1 } => break,
                _ => {}
            }
        }
        handle.close().await.unwrap();
        assert_eq!(delivered, taken);
        let reason = metrics.report().set_aside[&name].clone();
        let told = format!("; its first {taken} records are taken, and the next run goes on after them");
        assert_eq!(
            reason.strip_prefix("cannot be read: Input/output error (os error 5)").unwrap(),
            if taken > 0 { &told } else { "" }
        );
    }
}
