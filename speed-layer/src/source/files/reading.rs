//! How one file is read: from its beginning to its end, past what is in the lake already.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::discover::failed;
use super::file_list::WholeFile;
use super::pieces::{self, CutOff, DoesNotFit, Numbered};
use super::split::Piece;
use super::{CHUNK_RECORDS, FilesSource, ReadEnd, WAIT};
use crate::error::SpeedError;
use crate::record::{Chunk, Stream};
use crate::source::{Event, Next, Port, Start};

impl FilesSource {
    /// Takes commands, and waits for room unless there is nothing to deliver. Returns why reading
    /// should stop, if it should.
    fn attend(&mut self, stream: &Arc<Stream>, port: &mut Port) -> Option<ReadEnd> {
        loop {
            match port.next_command(Duration::ZERO) {
                Next::Command(command) => self.execute(command, port),
                Next::Closed => return Some(ReadEnd::Closed),
                Next::Nothing => {
                    if self.stopped || self.queue.iter().any(|start| start.stream == *stream) {
                        return Some(ReadEnd::Before);
                    }
                    if port.has_room(WAIT) {
                        return None;
                    }
                }
            }
        }
    }

    /// Reads a file. A file that cannot be read is given back, and found again later.
    pub(super) fn read(&mut self, start: Start, port: &mut Port) -> Result<ReadEnd, SpeedError> {
        let stream = start.stream.clone();
        match self.read_to_its_end(start, port) {
            Err(error @ SpeedError::File { source: Some(_), .. }) => {
                if let Some(reading) = self.inputs.remove(&stream.application) {
                    self.leave(&reading.input.found, &error, reading.delivered);
                }
                port.tell(Event::Revoked(vec![stream]));
                Ok(ReadEnd::AtItsEnd)
            }
            result => result,
        }
    }

    /// Reports a file that took the name of another one that was ingested at least in part, and
    /// leaves it alone. `whole` is what was read of the file, if it was read to its end.
    fn leave_changed(&mut self, stream: Arc<Stream>, whole: Option<WholeFile>, port: &Port) {
        if let Some(reading) = self.inputs.remove(&stream.application) {
            let found = reading.input.found;
            match whole {
                Some(whole) => self.file_list.replaced(&found, stream.kind, whole),
                None => self.file_list.changed(&found),
            }
            self.report_changed(&found);
        }
        port.tell(Event::Revoked(vec![stream]));
    }

    /// Delivers records of a file, and notes how far it has come.
    fn deliver(&mut self, start: &Start, chunk: Chunk, port: &Port) {
        let reading = self.inputs.get_mut(&start.stream.application);
        if let (Some(reading), Some(next)) = (reading, chunk.next()) {
            reading.delivered = next;
        }
        port.deliver(&start.stream, start.generation, chunk);
    }

    fn read_to_its_end(&mut self, start: Start, port: &mut Port) -> Result<ReadEnd, SpeedError> {
        let Some(reading) = self.inputs.get_mut(&start.stream.application) else {
            return Ok(ReadEnd::AtItsEnd);
        };
        let from = start.stored.unwrap_or(0);
        (reading.stored, reading.delivered) = (from, from);
        let is_growing = reading.is_growing;
        // What the end cuts off may not be a dead letter yet, or not any more.
        let is_at_its_end = reading.done && reading.end.is_some_and(|whole| whole.records <= from && !whole.is_cut);
        let input = reading.input.clone();
        let is_preamble_counted = std::mem::replace(&mut reading.is_preamble_counted, true);
        let before = self.file_list.before(&input.found, input.stream.kind).filter(|before| before.records <= from);
        let was_numbered_otherwise =
            before.is_some_and(|before| !before.has_current_numbers) && input.was_cut_otherwise;
        let is_replaced = self.replaced.remove(&input.found.name);
        if from > 0 && (is_replaced || was_numbered_otherwise) {
            self.leave_changed(start.stream, None, port);
            return Ok(ReadEnd::AtItsEnd);
        }
        if is_replaced {
            self.file_list.begun(&input.found, input.stream.kind, input.head);
        }
        if input.preamble_lines > 0 && from == 0 && !is_preamble_counted {
            let (path, lines) = (&input.found.name, input.preamble_lines);
            tracing::info!(path, lines, "lines before the header are passed over");
            self.metrics.preamble(lines);
        }
        port.tell(Event::Started { stream: start.stream.clone(), generation: start.generation, position: from });
        if is_at_its_end {
            port.tell(Event::CaughtUp { stream: start.stream, generation: start.generation });
            return Ok(ReadEnd::AtItsEnd);
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
                    self.deliver(&start, std::mem::replace(&mut numbered.chunk, next), port);
                }
                is_same &= numbered.take(&piece, cut).map_err(unfit)?;
                std::mem::swap(&mut piece, &mut last);
            }
            if !is_same {
                self.leave_changed(start.stream, None, port);
                return Ok(ReadEnd::AtItsEnd);
            }
            // Commands are also handled while the beginning is passed over.
            if ended || numbered.is_full() || numbered.position % CHUNK_RECORDS as i64 == 0 {
                let now = splitter.content().consumed();
                port.tell(Event::Consumed(now - consumed));
                consumed = now;
                self.deliver(&start, std::mem::take(&mut numbered.chunk), port);
                if !ended && let Some(left) = self.attend(&start.stream, port) {
                    return Ok(left);
                }
            }
            if ended {
                break;
            }
        }
        let position = numbered.position;
        let whole = WholeFile {
            read: splitter.content().digest(),
            records: position,
            last: (position > 0).then(|| xxh3_64(&last)),
            is_cut: !cut_off.is_empty(),
        };
        // Older versions of adlake also counted the pieces that the end cuts off.
        let counted = position + cut_off.len();
        if counted < from && self.file_list.is_kept() {
            self.leave_changed(start.stream, Some(whole), port);
            return Ok(ReadEnd::AtItsEnd);
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
            port.deliver(&start.stream, start.generation, chunk);
        }
        port.tell(Event::CaughtUp { stream: start.stream.clone(), generation: start.generation });
        if let Some(reading) = self.inputs.get_mut(&start.stream.application) {
            reading.end = Some(whole);
        }
        self.finish(&start.stream.application);
        Ok(ReadEnd::AtItsEnd)
    }
}
