//! Files as a source. Each file is a stream, and each record in it has a position, counted from 0.
//!
//! A file's application is named by its canonical path or its URI. So a file that was read before
//! is not read twice, and one that has grown is read on. Position `n` is stored when `n` records
//! are in the lake. To go on at a position, the file is cut again from its beginning, which costs
//! little beside decoding. Three kinds of changed files are reported and not read: a file that no
//! longer begins with what was ingested of it, one that has fewer records than that, and one that
//! goes on within the last of them ([`done`]).
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
//! fails half-way is set aside, too: what was handed on before stays taken, and the next run goes
//! on after it.
//!
//! Files are read one after another, in the order of their names, and decompressed as they are
//! read. A limited number is assigned at a time, and files are given back when they are done. So
//! the memory in use does not grow with the number of files.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adlake_lake::Lake;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::{Chunk, Stream};
use crate::settings::SpeedSettings;
use crate::source::{Command, Event, Next, Port, Source, Start};

mod admission;
mod csv_file;
mod discover;
mod done;
mod folder;
mod kind;
pub(crate) mod open;
mod passed_over;
mod pieces;
mod place;
mod preview;
mod s3;
pub(crate) mod split;

use admission::{CutFile, Refused};
pub use discover::{FileFormat, FilesWanted};
use discover::{Input, Mappings, failed};
use done::{Done, Whole};
pub use open::Compression;
pub use passed_over::{PassedOverFiles, PassedOverReason};
use pieces::{CutOff, DoesNotFit, Numbered};
use place::{Found, Places};
pub use preview::{First, KindFrom, NamesFrom, Preview, Reading as ReadingPreview, preview};
use split::Piece;

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
pub struct Surroundings {
    /// The lake that holds the list of finished files. `None`: no list is kept.
    pub lake: Option<Lake>,
    /// What runs requests to the lake and to S3.
    pub runtime: Option<Handle>,
    /// How S3 is reached: the lake's storage options.
    pub store_options: HashMap<String, String>,
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
    done: Done,
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
    /// The position that has been handed on.
    handed_on: i64,
    /// What was read of the file. Known once its end is reached.
    end: Option<Whole>,
    done: bool,
    /// The file may still grow: when it was last read, its end did not count as final.
    is_growing: bool,
    /// Whether the lines before its header have been counted.
    preamble_told: bool,
}

/// Why reading a file stopped.
#[derive(Debug, PartialEq, Eq)]
enum Left {
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
        surroundings: &Surroundings,
    ) -> Result<FilesSource, SpeedError> {
        let done = Done::open(surroundings.lake.as_ref(), surroundings.runtime.as_ref())?;
        let (places, found) = Places::open(wanted, settings, surroundings)?;
        let mut source = FilesSource {
            wanted: wanted.clone(),
            settings: settings.clone(),
            mappings: Mappings::new(settings)?,
            metrics: surroundings.metrics.clone(),
            places,
            done,
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
                self.done.begun(&found, input.stream.kind, input.head);
            }
            let (application, stream) = (input.stream.application.clone(), input.stream.clone());
            self.kept.retain(|kept| *kept != application);
            let is_growing = self.may_grow(&input.found);
            let reading =
                Reading { input, stored: 0, handed_on: 0, end: None, done: false, is_growing, preamble_told: false };
            let before = self.inputs.insert(application, reading);
            if let Some(before) = before.filter(|before| before.input.stream != stream) {
                // The file has grown and may have other columns, for example. Its positions are the
                // same.
                port.tell(Event::Revoked(vec![before.input.stream]));
            }
            self.unstarted.push(stream);
        }
        // Written before anything of the files is ingested.
        self.done.write();
        if !self.unstarted.is_empty() {
            port.tell(Event::Assigned(self.unstarted.clone()));
        }
        Ok(())
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
            // A file that is being read is read to its end. What it hands on is dropped.
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
        self.done.ingested(found, kind, whole);
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
                "the file ends within a record, which is taken when it is whole, or the file is final"
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

    /// Takes commands, and waits for room unless there is nothing to hand on. Returns why reading
    /// should stop, if it should.
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

    /// Reads a file. A file that cannot be read is given back, and found again later.
    fn read(&mut self, start: Start, port: &mut Port) -> Result<Left, SpeedError> {
        let stream = start.stream.clone();
        match self.read_to_its_end(start, port) {
            Err(error @ SpeedError::File { source: Some(_), .. }) => {
                if let Some(reading) = self.inputs.remove(&stream.application) {
                    self.leave(&reading.input.found, &error, reading.handed_on);
                }
                port.tell(Event::Revoked(vec![stream]));
                Ok(Left::AtItsEnd)
            }
            result => result,
        }
    }

    /// Reports a file that took the name of another one that was ingested at least in part, and
    /// leaves it alone. `whole` is what was read of the file, if it was read to its end.
    fn leave_changed(&mut self, stream: Arc<Stream>, whole: Option<Whole>, port: &Port) {
        if let Some(reading) = self.inputs.remove(&stream.application) {
            let found = reading.input.found;
            match whole {
                Some(whole) => self.done.replaced(&found, stream.kind, whole),
                None => self.done.changed(&found),
            }
            self.report_changed(&found);
        }
        port.tell(Event::Revoked(vec![stream]));
    }

    /// Hands on records of a file, and notes how far it has come.
    fn hand_on(&mut self, start: &Start, chunk: Chunk, port: &Port) {
        let reading = self.inputs.get_mut(&start.stream.application);
        if let (Some(reading), Some(next)) = (reading, chunk.next()) {
            reading.handed_on = next;
        }
        port.hand_on(&start.stream, start.generation, chunk);
    }

    fn read_to_its_end(&mut self, start: Start, port: &mut Port) -> Result<Left, SpeedError> {
        let Some(reading) = self.inputs.get_mut(&start.stream.application) else {
            return Ok(Left::AtItsEnd);
        };
        let from = start.stored.unwrap_or(0);
        (reading.stored, reading.handed_on) = (from, from);
        let is_growing = reading.is_growing;
        // What the end cuts off may not be a dead letter yet, or not any more.
        let is_at_its_end = reading.done && reading.end.is_some_and(|whole| whole.records <= from && !whole.is_cut);
        let input = reading.input.clone();
        let preamble_told = std::mem::replace(&mut reading.preamble_told, true);
        let before = self.done.before(&input.found, input.stream.kind).filter(|before| before.records <= from);
        let was_numbered_otherwise = before.is_some_and(|before| !before.is_numbered_so) && input.was_cut_otherwise;
        let is_replaced = self.replaced.remove(&input.found.name);
        if from > 0 && (is_replaced || was_numbered_otherwise) {
            self.leave_changed(start.stream, None, port);
            return Ok(Left::AtItsEnd);
        }
        if is_replaced {
            self.done.begun(&input.found, input.stream.kind, input.head);
        }
        if input.preamble_lines > 0 && from == 0 && !preamble_told {
            let (path, lines) = (&input.found.name, input.preamble_lines);
            tracing::info!(path, lines, "lines before the header are passed over");
            self.metrics.preamble(lines);
        }
        port.tell(Event::Started { stream: start.stream.clone(), generation: start.generation, position: from });
        if is_at_its_end {
            port.tell(Event::CaughtUp { stream: start.stream, generation: start.generation });
            return Ok(Left::AtItsEnd);
        }
        let path = input.found.path();
        // The last record that was read of the file before, if the file has grown since.
        let last_before = before.and_then(|before| Some((before.records - 1, before.last?)));
        let (time, chunk) = (input.found.modified, Chunk::new(0));
        let mut numbered = Numbered { position: 0, from, time, last_before, chunk };
        let unreadable = |error: io::Error| failed(path, "cannot be read", Some(error));
        let unfit = |error: DoesNotFit| unreadable(error.into());
        let mut splitter = input.split(self.settings.ingest.record_bytes_max, is_growing).map_err(unreadable)?;
        let (mut piece, mut last) = (Vec::new(), Vec::new());
        // Pieces that the end of the file cuts off, unless something follows them.
        let mut cut_off = CutOff::default();
        let mut consumed = 0;
        loop {
            let cut = splitter.next(&mut piece).map_err(unreadable)?;
            let ended = cut == Piece::End;
            // Where compressed data breaks off, the last piece is cut off, whatever the format.
            let is_cut = splitter.is_cut() || (pieces::is_truncated(&cut) && splitter.content().broken().is_some());
            if !ended && is_cut && cut_off.has_room() {
                cut_off.push(std::mem::take(&mut piece), cut);
                continue;
            }
            let mut is_same = true;
            if !ended {
                // Something follows the held pieces, so the end of the file does not cut them off.
                for (bytes, cut) in cut_off.take() {
                    is_same &= numbered.take(&bytes, cut).map_err(unfit)?;
                }
                if numbered.chunk.format().map(Arc::as_ptr) != splitter.format().map(Arc::as_ptr) {
                    // From here on the file has another schema, which needs a chunk of its own.
                    let next = Chunk::new(0).written_as(splitter.format().cloned());
                    self.hand_on(&start, std::mem::replace(&mut numbered.chunk, next), port);
                }
                is_same &= numbered.take(&piece, cut).map_err(unfit)?;
                std::mem::swap(&mut piece, &mut last);
            }
            if !is_same {
                self.leave_changed(start.stream, None, port);
                return Ok(Left::AtItsEnd);
            }
            // Commands are also handled while the beginning is passed over.
            if ended || numbered.is_full() || numbered.position % CHUNK_RECORDS as i64 == 0 {
                let now = splitter.content().consumed();
                port.tell(Event::Consumed(now - consumed));
                consumed = now;
                self.hand_on(&start, std::mem::take(&mut numbered.chunk), port);
                if !ended && let Some(left) = self.attend(&start.stream, port) {
                    return Ok(left);
                }
            }
            if ended {
                break;
            }
        }
        let position = numbered.position;
        let whole = Whole {
            read: splitter.content().digest(),
            records: position,
            last: (position > 0).then(|| xxh3_64(&last)),
            is_cut: !cut_off.is_empty(),
        };
        // Older versions of adlake also counted the pieces that the end cuts off.
        let counted = position + cut_off.len();
        if counted < from && self.done.is_kept() {
            self.leave_changed(start.stream, Some(whole), port);
            return Ok(Left::AtItsEnd);
        }
        if counted < from {
            let message = format!(
                "has {counted} records, but {from} were ingested from it before: another file has taken its place. \
                 Give it another name to ingest it"
            );
            return Err(failed(path, message, None));
        }
        if !is_growing {
            let chunk = cut_off.chunk(position, from, time).map_err(unfit)?;
            port.hand_on(&start.stream, start.generation, chunk);
        }
        port.tell(Event::CaughtUp { stream: start.stream.clone(), generation: start.generation });
        if let Some(reading) = self.inputs.get_mut(&start.stream.application) {
            reading.end = Some(whole);
        }
        self.finish(&start.stream.application);
        Ok(Left::AtItsEnd)
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
        let mut told = false;
        loop {
            let is_idle =
                self.queue.is_empty() && (self.stopped || self.waiting.is_empty() || !self.unstarted.is_empty());
            match port.next_command(if is_idle { WAIT } else { Duration::ZERO }) {
                Next::Command(command) => {
                    told = matches!(command, Command::Stop) || (told && !matches!(command, Command::Start(_)));
                    self.obey(command, port);
                }
                Next::Closed => {
                    self.done.write();
                    return Ok(());
                }
                Next::Nothing => {
                    self.give_back(port);
                    self.done.write_if_due();
                    if let Some(start) = self.queue.pop_front() {
                        if self.read(start, port)? == Left::Closed {
                            self.done.write();
                            return Ok(());
                        }
                        told &= self.stopped;
                    } else if self.stopped || !self.unstarted.is_empty() {
                        // There is nothing to do until a command comes.
                    } else if !self.waiting.is_empty() {
                        self.assign(port)?;
                    } else if self.wanted.watch {
                        self.poll();
                    } else if !told {
                        port.tell_done();
                        told = true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
