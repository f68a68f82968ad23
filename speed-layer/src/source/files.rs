//! Local files as a source: each file is a stream, each record in it has a position, counted from 0.
//!
//! A file's application is named by its canonical path, so that a file that was read before is not read twice, and one that has grown
//! is read on. Position `n` is stored when `n` records are in. To go on at a position the file is cut again from its
//! beginning, which costs little beside decoding. Refused: a file with fewer records than are stored for it (it was
//! replaced by another one under its name).
//!
//! Files are read one after another, in the order of their paths, decompressed as they are read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SpeedError;
use crate::record::{Chunk, Stream};
use crate::settings::SpeedSettings;
use crate::source::{CHUNK_BYTES, Command, Event, Next, Port, Source, Start};

mod discover;
mod open;
mod split;

pub use discover::{FileFormat, FilesWanted};
use discover::{Input, failed};
use split::Piece;

/// The most records of a chunk.
const CHUNK_RECORDS: usize = 8192;
const WAIT: Duration = Duration::from_millis(100);

/// Files, in order.
#[derive(Debug)]
pub struct FilesSource {
    inputs: Vec<Input>,
    record_bytes_max: usize,
    queue: VecDeque<Start>,
    /// Streams that were never started.
    unstarted: Vec<Arc<Stream>>,
    stopped: bool,
}

/// Why reading a file was left off.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    AtItsEnd,
    /// It is started again, or everything is stopped.
    Before,
    Closed,
}

impl FilesSource {
    /// Finds the files and looks at how they are written. Blocks.
    pub fn open(wanted: &FilesWanted, settings: &SpeedSettings) -> Result<FilesSource, SpeedError> {
        let inputs = discover::discover(wanted, settings)?;
        let unstarted = inputs.iter().map(|input| input.stream.clone()).collect();
        let record_bytes_max = settings.ingest.record_bytes_max;
        Ok(FilesSource { inputs, record_bytes_max, queue: VecDeque::new(), unstarted, stopped: false })
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.inputs.len()
    }

    /// Their bytes as stored.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    fn obey(&mut self, command: Command, port: &Port) {
        match command {
            Command::Start(starts) => {
                for start in starts {
                    self.unstarted.retain(|stream| *stream != start.stream);
                    self.queue.retain(|waiting| waiting.stream != start.stream);
                    self.queue.push_back(start);
                }
            }
            Command::Stop => {
                self.stopped = true;
                self.queue.clear();
                port.tell_done();
            }
            // One that is being read is read to its end; what it hands on is dropped.
            Command::Skip(streams) => {
                self.unstarted.retain(|stream| !streams.contains(stream));
                self.queue.retain(|start| !streams.contains(&start.stream));
            }
            // Nobody else reads these files, and nobody looks at how far they are.
            Command::Release(_) | Command::Acknowledge(_) => {}
        }
    }

    /// Takes commands, and waits for room unless there is nothing to hand on. Says why reading should be left off, if it should.
    fn attend(&mut self, stream: &Arc<Stream>, port: &mut Port) -> Option<Left> {
        loop {
            match port.next_command(Duration::ZERO) {
                Next::Command(command) => self.obey(command, port),
                Next::Closed => return Some(Left::Closed),
                Next::Nothing => {
                    if self.stopped || self.queue.iter().any(|start| start.stream == *stream) {
                        return Some(Left::Before);
                    }
                    if port.has_room(WAIT) {
                        return None;
                    }
                }
            }
        }
    }

    fn read(&mut self, start: Start, port: &mut Port) -> Result<Left, SpeedError> {
        let Some(input) = self.inputs.iter().find(|input| input.stream == start.stream).cloned() else {
            return Ok(Left::AtItsEnd);
        };
        let from = start.stored.unwrap_or(0);
        port.tell(Event::Started { stream: start.stream.clone(), generation: start.generation, position: from });
        let unreadable = |error| failed(&input.path, "cannot be read", Some(error));
        let mut splitter = input.split(self.record_bytes_max).map_err(unreadable)?;
        let mut piece = Vec::new();
        let mut chunk = Chunk::new(0);
        let mut position = 0;
        let mut consumed = 0;
        loop {
            let cut = splitter.next(&mut piece).map_err(unreadable)?;
            let ended = cut == Piece::End;
            if position >= from {
                let fits = match cut {
                    Piece::Record => chunk.push(position, input.time, None, &piece),
                    Piece::Rejected(rejection) => chunk.push_rejected(position, input.time, &piece, rejection),
                    Piece::End => true,
                };
                debug_assert!(fits, "a chunk is handed on long before it is full");
            }
            position += i64::from(!ended);
            let full = chunk.bytes() >= CHUNK_BYTES || chunk.len() >= CHUNK_RECORDS;
            // While the beginning is passed over, commands are attended to as well.
            if ended || full || position % CHUNK_RECORDS as i64 == 0 {
                let now = splitter.content().consumed();
                port.tell(Event::Consumed(now - consumed));
                consumed = now;
                port.hand_on(&start.stream, start.generation, std::mem::take(&mut chunk));
                if !ended && let Some(left) = self.attend(&start.stream, port) {
                    return Ok(left);
                }
            }
            if ended {
                break;
            }
        }
        if position < from {
            let message = format!(
                "has {position} records, but {from} were ingested from it before: another file has taken its place. \
                 Give it another name to ingest it"
            );
            return Err(failed(&input.path, message, None));
        }
        port.tell(Event::CaughtUp { stream: start.stream, generation: start.generation });
        Ok(Left::AtItsEnd)
    }
}

impl Source for FilesSource {
    fn name(&self) -> &'static str {
        "adlake-files"
    }

    fn run(mut self: Box<Self>, port: &mut Port) -> Result<(), SpeedError> {
        port.tell(Event::Assigned(self.unstarted.clone()));
        let mut told = self.unstarted.is_empty();
        if told {
            port.tell_done();
        }
        loop {
            let wait = if self.queue.is_empty() { WAIT } else { Duration::ZERO };
            match port.next_command(wait) {
                Next::Command(command) => {
                    told = matches!(command, Command::Stop) || (told && !matches!(command, Command::Start(_)));
                    self.obey(command, port);
                }
                Next::Closed => return Ok(()),
                Next::Nothing => {
                    if let Some(start) = self.queue.pop_front() {
                        if self.read(start, port)? == Left::Closed {
                            return Ok(());
                        }
                        told &= self.stopped;
                    } else if !told && self.unstarted.is_empty() {
                        port.tell_done();
                        told = true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::source::conformance::{Fixture, suite};

    struct Folder {
        folder: tempfile::TempDir,
        records: HashMap<&'static str, Vec<Vec<u8>>>,
    }

    impl Folder {
        /// The same records in several formats; enough of them for several chunks.
        fn new() -> Folder {
            let folder = tempfile::tempdir().unwrap();
            let records: Vec<Vec<u8>> = (0..20_000)
                .map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n % 50)).into_bytes())
                .collect();
            let array = [b"[", &records.join(&b",\n"[..])[..], b"]"].concat();
            let lines = records.join(&b'\n');
            let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
            write("impressions-array.json", &array);
            write("impressions-lines.ndjson.zst", &zstd::encode_all(&lines[..], 1).unwrap());
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(b"a,b\n1,\"two\nlines\"\n\n3,4\n5,6\n").unwrap();
            write("clicks.csv.gz", &gzip.finish().unwrap());
            let rows = ["a,b", "1,\"two\nlines\"", "3,4", "5,6"].map(|row| row.as_bytes().to_vec()).to_vec();
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
            FilesSource::open(&wanted, &SpeedSettings::default()).unwrap()
        }
    }

    impl Fixture for Folder {
        fn open(&self) -> Result<Box<dyn Source>, SpeedError> {
            Ok(Box::new(self.source()))
        }

        fn expected(&self) -> HashMap<String, Vec<Vec<u8>>> {
            let inputs = self.source().inputs;
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            inputs
                .iter()
                .map(|input| (input.stream.application.clone(), self.records[name(&input.path).as_str()].clone()))
                .collect()
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
            FilesSource::open(&wanted, &SpeedSettings::default()).map(|source| source.files())
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
            let inputs = folder.source().inputs;
            inputs.into_iter().map(|input| input.stream.application.clone()).collect::<Vec<_>>()
        };
        assert_eq!(applications(), applications());
        assert!(applications().iter().all(|application| application.starts_with("adlake:file:")));
    }
}
