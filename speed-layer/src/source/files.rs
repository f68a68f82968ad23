//! Files as a source. Each file is a stream, and each record in it has a position, counted from 0.
//!
//! A file's application is named by its canonical path or its URI. So a file that was read before
//! is not read twice, and one that has grown is read on. Position `n` is stored when `n` records
//! are in the lake. To go on at a position, the file is cut again from its beginning, which costs
//! little beside decoding. Three kinds of changed files are reported and not read: a file that no
//! longer begins with what was ingested of it, one that has fewer records than that, and one that
//! goes on within the last of them ([`file_list`]).
//!
//! A record that the end of its file cuts off is taken when it is whole, or when the file is final.
//! A watched file becomes final when it is left alone for long (`files.final_after`,
//! [`admission`]). Until then such a record is left for later, and stands at the next position when
//! the file has grown. In a final file it becomes a dead letter in a chunk of its own. The stored
//! position stays before it (see the contract in [`super`]), and the whole record is taken when it
//! comes.
//!
//! A file that cannot be used (no container, no known header, not readable at all) is set aside.
//! Nothing of it is taken, the other files go on, and the next run tries it again. A file that
//! fails half-way is set aside, too: what was delivered before stays taken, and the next run goes
//! on after it.
//!
//! Files are read one after another, in the order of their names, and decompressed as they are
//! read. A limited number is assigned at a time, and files are given back when they are done. So
//! the memory in use does not grow with the number of files.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::{Lake, StoreOptions};
use tokio::runtime::Handle;

use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::Stream;
use crate::settings::SpeedSettings;
use crate::source::{Command, Event, Next, Port, Source, Start};

mod place;
mod folder;
mod s3;
mod passed_over;
mod discover;
mod kind;
mod csv_file;
mod admission;
mod file_list;
mod reading;
pub(crate) mod open;
pub(crate) mod split;
mod pieces;
mod preview;

use admission::{CutFile, Refused};
pub use discover::{FileFormat, FilesWanted};
use discover::{Input, Mappings};
use file_list::{FileList, WholeFile};
pub use open::Compression;
use place::{Found, Places};
pub use preview::{FirstRecord, KindFrom, NamesFrom, Preview, Reading as ReadingPreview, preview};

/// The most records in a chunk.
const CHUNK_RECORDS: usize = 8192;
/// How many files are assigned at a time.
const ASSIGNED_AT_ONCE: usize = 64;
/// How many finished files are kept assigned, in case they are started again. When there are more,
/// they are given back.
const KEPT_MAX: usize = 512;
const WAIT: Duration = Duration::from_millis(100);

/// What a source of files needs beside its settings.
#[derive(Debug, Clone, Default)]
pub struct SourceContext {
    /// The lake that holds the list of finished files. `None`: no list is kept.
    pub lake: Option<Lake>,
    /// What runs requests to the lake and to S3.
    pub runtime: Option<Handle>,
    /// How S3 is reached: the lake's storage options.
    pub store_options: StoreOptions,
    /// The metrics that the source updates.
    pub metrics: Metrics,
}

/// Files, in order.
#[derive(Debug)]
pub struct FilesSource {
    wanted: FilesWanted,
    settings: SpeedSettings,
    mappings: Mappings,
    metrics: Metrics,
    places: Places,
    file_list: FileList,
    /// Files that were found and are not assigned yet.
    waiting: VecDeque<Found>,
    /// Their names.
    waiting_names: HashSet<String>,
    /// Assigned files, by application.
    inputs: HashMap<String, Reading>,
    queue: VecDeque<Start>,
    /// Streams that were never started.
    unstarted: Vec<Arc<Stream>>,
    /// Applications of finished files. The first one finished comes first.
    kept: VecDeque<String>,
    /// Names of files that were reported as changed.
    reported: HashSet<String>,
    /// Names of files that do not begin as they did when they were begun. They count as changed if
    /// anything of them is in the lake.
    replaced: HashSet<String>,
    /// Files that could not be read, by name.
    refused: HashMap<String, Refused>,
    /// Files that cannot be used, by name, each with the tag that it had when that was found.
    aside: HashMap<String, String>,
    /// Watched files that end within a record, by name. They may still grow, or have become final.
    cut: HashMap<String, CutFile>,
    polled: Instant,
    stopped: bool,
    files: usize,
    bytes: u64,
}

/// A file that is assigned.
#[derive(Debug)]
struct Reading {
    input: Input,
    /// The position that the lake has stored.
    stored: i64,
    /// The position that has been delivered.
    delivered: i64,
    /// What was read of the file. Known once its end is reached.
    end: Option<WholeFile>,
    done: bool,
    /// The file may still grow: when it was last read, its end did not count as final.
    is_growing: bool,
    /// Whether the lines before its header have been counted.
    is_preamble_counted: bool,
}

/// Why reading a file stopped.
#[derive(Debug, PartialEq, Eq)]
enum ReadEnd {
    AtItsEnd,
    /// The file is started again, or everything is stopped.
    Before,
    Closed,
}

impl FilesSource {
    /// Finds the files. Blocks.
    pub fn open(
        wanted: &FilesWanted,
        settings: &SpeedSettings,
        context: &SourceContext,
    ) -> Result<FilesSource, SpeedError> {
        let file_list = FileList::open(context.lake.as_ref(), context.runtime.as_ref())?;
        let (places, found) = Places::open(wanted, settings, context)?;
        let mut source = FilesSource {
            wanted: wanted.clone(),
            settings: settings.clone(),
            mappings: Mappings::new(settings)?,
            metrics: context.metrics.clone(),
            places,
            file_list,
            waiting: VecDeque::new(),
            waiting_names: HashSet::new(),
            inputs: HashMap::new(),
            queue: VecDeque::new(),
            unstarted: Vec::new(),
            kept: VecDeque::new(),
            reported: HashSet::new(),
            replaced: HashSet::new(),
            refused: HashMap::new(),
            aside: HashMap::new(),
            cut: HashMap::new(),
            polled: Instant::now(),
            stopped: false,
            files: found.len(),
            bytes: found.iter().map(|file| file.bytes).sum(),
        };
        for problem in source.places.take_problems() {
            source.cannot_look_at(&problem);
        }
        for file in found {
            source.admit(file);
        }
        Ok(source)
    }

    /// How many files there were at the beginning.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Their size in bytes, as stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Assigns the next files.
    fn assign(&mut self, port: &Port) -> Result<(), SpeedError> {
        let mut files: Vec<Found> = self.waiting.drain(..self.waiting.len().min(ASSIGNED_AT_ONCE)).collect();
        self.places.fetch_small(&mut files);
        for found in files {
            self.waiting_names.remove(&found.name);
            let input = match discover::input(found.clone(), &self.wanted, &self.settings, &self.mappings) {
                Ok(input) => input,
                Err(error @ SpeedError::File { .. }) => {
                    self.leave(&found, &error, 0);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.is_usable(&found);
            if !self.replaced.contains(&found.name) {
                self.file_list.begun(&found, input.stream.kind, input.head);
            }
            let (application, stream) = (input.stream.application.clone(), input.stream.clone());
            self.kept.retain(|kept| *kept != application);
            let is_growing = self.may_grow(&input.found);
            let reading = Reading {
                input,
                stored: 0,
                delivered: 0,
                end: None,
                done: false,
                is_growing,
                is_preamble_counted: false,
            };
            let before = self.inputs.insert(application, reading);
            if let Some(before) = before.filter(|before| before.input.stream != stream) {
                // The file has grown and may have other columns, for example. Its positions are the
                // same.
                port.tell(Event::Revoked(vec![before.input.stream]));
            }
            self.unstarted.push(stream);
        }
        // Written before anything of the files is ingested.
        self.file_list.write();
        if !self.unstarted.is_empty() {
            port.tell(Event::Assigned(self.unstarted.clone()));
        }
        Ok(())
    }

    fn execute(&mut self, command: Command, port: &Port) {
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
            // A file that is being read is read to its end. What it delivers is dropped.
            Command::Skip(streams) => {
                self.unstarted.retain(|stream| !streams.contains(stream));
                self.queue.retain(|start| !streams.contains(&start.stream));
            }
            Command::Acknowledge(positions) => {
                for (stream, position) in positions {
                    if let Some(reading) = self.inputs.get_mut(&stream.application) {
                        reading.stored = reading.stored.max(position);
                        self.finish(&stream.application);
                    }
                }
            }
            // Nobody else reads these files.
            Command::Release(_) => {}
        }
    }

    /// Notes a file as done once it is read to its end and everything of it is committed.
    fn finish(&mut self, application: &str) {
        let Some(reading) = self.inputs.get_mut(application).filter(|reading| !reading.done) else { return };
        let Some(whole) = reading.end.filter(|whole| reading.stored >= whole.records) else { return };
        reading.done = true;
        reading.input.found.whole = None;
        let (found, kind) = (&reading.input.found, reading.input.stream.kind);
        self.file_list.ingested(found, kind, whole);
        self.metrics.file_done(&found.name, whole.is_cut && reading.is_growing);
        if !whole.is_cut {
            self.cut.remove(&found.name);
        } else if self.wanted.watch {
            self.cut.insert(found.name.clone(), CutFile::new(found, !reading.is_growing));
        }
        if whole.is_cut && reading.is_growing {
            let final_after = self.settings.files.final_after;
            tracing::warn!(
                path = found.name,
                records = whole.records,
                ?final_after,
                "the file ends within a record; the record is taken when it is whole, or when the file is final"
            );
        } else if whole.is_cut {
            tracing::warn!(path = found.name, records = whole.records, "the file ends within a record");
        }
        self.kept.push_back(application.to_owned());
    }

    /// Gives back files that are done, many at a time.
    fn give_back(&mut self, port: &Port) {
        if self.kept.len() >= 2 * KEPT_MAX {
            let given_back: Vec<String> = self.kept.drain(..KEPT_MAX).collect();
            let streams =
                given_back.iter().filter_map(|name| self.inputs.remove(name)).map(|reading| reading.input.stream);
            port.tell(Event::Revoked(streams.collect()));
        }
    }

    /// Looks for new files if it is time to.
    fn poll(&mut self) {
        if self.polled.elapsed() < place::poll_interval(&self.settings.files) {
            return;
        }
        self.polled = Instant::now();
        for found in self.places.poll() {
            self.admit(found);
        }
        self.admit_final();
    }
}

impl Source for FilesSource {
    fn name(&self) -> &'static str {
        "adlake-files"
    }

    fn run(mut self: Box<Self>, port: &mut Port) -> Result<(), SpeedError> {
        let mut is_done_sent = false;
        loop {
            let is_idle =
                self.queue.is_empty() && (self.stopped || self.waiting.is_empty() || !self.unstarted.is_empty());
            match port.next_command(if is_idle { WAIT } else { Duration::ZERO }) {
                Next::Command(command) => {
                    is_done_sent =
                        matches!(command, Command::Stop) || (is_done_sent && !matches!(command, Command::Start(_)));
                    self.execute(command, port);
                }
                Next::Closed => {
                    self.file_list.write();
                    return Ok(());
                }
                Next::Nothing => {
                    self.give_back(port);
                    self.file_list.write_if_due();
                    if let Some(start) = self.queue.pop_front() {
                        if self.read(start, port)? == ReadEnd::Closed {
                            self.file_list.write();
                            return Ok(());
                        }
                        is_done_sent &= self.stopped;
                    } else if self.stopped || !self.unstarted.is_empty() {
                        // There is nothing to do until a command comes.
                    } else if !self.waiting.is_empty() {
                        self.assign(port)?;
                    } else if self.wanted.watch {
                        self.poll();
                    } else if !is_done_sent {
                        port.tell_done();
                        is_done_sent = true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
