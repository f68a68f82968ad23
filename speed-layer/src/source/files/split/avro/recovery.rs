//! What is done about damage: bytes are passed over until a place is found where reading goes on.
//!
//! Reading goes on at whichever comes first: a sync marker, wherever a block's head claims that the
//! block ends, or the header of another container. That container has its own schema, codec and
//! marker; [`Splitter::format`](super::super::Splitter::format) says which schema the datums have.
//! A whole block is not passed over with the damage before it: where a marker is found, the block
//! that ends with it is looked for ([`block_before`]).
//!
//! After the first damage in a file, blocks are looked at before they are taken
//! ([`Container::next_block_with_care`]). However many sizes are wrong, no byte is read again and
//! again.

use std::io;
use std::sync::Arc;

use adlake_decode::record::{Rejection, StreamFormat};
use memchr::memmem;

use super::header::{HEADER_BYTES_MAX, Header, MAGIC, SYNC_BYTES};
use super::skipper::NOTHINGS_MAX;
use super::{Container, HEAD_BYTES_MAX, HeaderAt, PART_BYTES_MAX, Piece, State, bad, head_of, header_at, may_be_head};

/// How many containers before the current one are remembered, in case one of them goes on.
const EARLIER_MAX: usize = 8;
/// How many candidates for a whole block within damaged data are unpacked and cut, for one sync
/// marker.
const TRIALS_MAX: usize = 16;

/// Bytes that cannot be cut into records.
#[derive(Debug)]
pub(super) struct Lost {
    rejection: Rejection,
    /// Records are missing even if no byte is passed over.
    records_missing: bool,
    /// The bytes are the rest of a block, which ends here with its marker. No whole block is looked
    /// for before that marker.
    block_end: Option<u64>,
    /// How many pieces the bytes have made so far.
    parts: usize,
}

impl Lost {
    /// The rejection of the next part. `goes_on` says what follows it.
    fn next_part(&mut self, goes_on: &str) -> Rejection {
        self.parts += 1;
        let Rejection { reason, detail } = &self.rejection;
        let part = if self.parts > 1 { format!(" (part {})", self.parts) } else { String::new() };
        let goes_on = if *reason == "truncated" { "" } else { goes_on };
        Rejection { reason, detail: format!("{detail}{part}{goes_on}") }
    }
}

/// A place where reading can go on.
enum Place {
    /// A sync marker of a container.
    Marker(Arc<Header>),
    /// A whole block of a container.
    Block(Arc<Header>),
    /// A container, and the length of its header.
    Header(Arc<Header>, usize),
}

impl Container {
    /// Looks at what comes next, and takes it if it is a whole block.
    pub(super) fn next_block_with_care(&mut self) -> io::Result<()> {
        let start = self.content.position();
        let ahead = self.content.peek(HEAD_BYTES_MAX)?;
        let Some((count, size, head_length)) = head_of(ahead) else {
            let is_header = MAGIC.starts_with(&ahead[..ahead.len().min(MAGIC.len())]);
            let is_head_cut = ahead.len() < HEAD_BYTES_MAX && may_be_head(ahead);
            let rejection = if is_header && self.ends_within_header()? {
                self.truncated("the file ends within the header of a further container".to_owned())
            } else if is_header {
                bad("the header of a further container is damaged, or it has a codec that is not known".to_owned())
            } else if is_head_cut {
                self.truncated("the file ends within the head of a block".to_owned())
            } else {
                bad("the head of a block is damaged".to_owned())
            };
            self.pass_over(rejection);
            return Ok(());
        };
        let data_end = head_length + size;
        let ahead = self.content.peek(data_end + SYNC_BYTES)?;
        let length = ahead.len();
        if length == data_end + SYNC_BYTES {
            if ahead[data_end..] == self.header.sync {
                let head = ahead[..head_length].to_vec();
                self.block.extend_from_slice(&ahead[head_length..data_end]);
                self.content.consume(length);
                self.take_block(start, &head, count);
            } else {
                let detail = format!("a block of {count} records in {size} bytes does not end with the sync marker");
                self.pass_over(bad(detail));
            }
            return Ok(());
        }
        if self.next_place(length)?.0.is_some() {
            let detail = format!("a block of {count} records in {size} bytes reaches beyond the end of the file");
            self.pass_over(bad(detail));
            return Ok(());
        }
        // The file ends within its last block. The datums that are there can be told apart.
        let data_end = data_end.min(length);
        let ahead = self.content.peek(length)?;
        self.block.extend_from_slice(&ahead[head_length.min(data_end)..data_end]);
        let is_whole = self.block.len() == size;
        if self.content.content.is_growing() {
            self.block.clear();
        } else if !self.is_packed() || (is_whole && self.header.codec.decompress(&mut self.block).is_ok()) {
            self.content.consume(data_end);
            self.data = start + head_length as u64..start + data_end as u64;
            self.at = 0;
            self.left = count.min(i64::try_from(self.block.len() + NOTHINGS_MAX).unwrap_or(i64::MAX));
            self.state = State::Block { cut: true };
            return Ok(());
        }
        let rejection = self.truncated(format!("the file ends within a block of {count} records"));
        self.pass_over(rejection);
        Ok(())
    }

    /// Whether a header begins here that the file's end cuts off, and nothing follows at which
    /// reading can go on.
    fn ends_within_header(&mut self) -> io::Result<bool> {
        // In that case everything that is left has been looked at.
        let is_cut = matches!(header_at(&mut self.content, 0)?, HeaderAt::CutOff);
        let left = self.content.peek(HEADER_BYTES_MAX)?.len();
        Ok(is_cut && self.next_place(left)?.0.is_none())
    }

    pub(super) fn pass_over(&mut self, rejection: Rejection) {
        self.state = State::Lost(Lost { rejection, records_missing: false, block_end: None, parts: 0 });
    }

    /// Gives up the rest of the block, which is no datum.
    pub(super) fn give_up_block(&mut self, problem: &str, cut: bool) {
        let left = std::mem::take(&mut self.left);
        let rejection = match (cut, left) {
            (true, 0) => self.truncated(format!("the file ends within a block; {problem}")),
            (true, _) => self.truncated(format!("the file ends within a block; {left} of its records are missing")),
            (false, 0) => bad(problem.to_owned()),
            (false, _) => bad(format!("{problem}; this record and the rest of its block are lost ({left} records)")),
        };
        let lost = Lost { rejection, records_missing: left > 0, block_end: (!cut).then_some(self.data.end), parts: 0 };
        if self.is_packed() {
            self.state = State::Rest(lost);
            return;
        }
        // The rest may hold a marker, and good blocks after that.
        let mut rest = self.block.split_off(self.at);
        if !cut {
            rest.extend_from_slice(&self.header.sync);
        }
        self.content.put_back(&rest);
        self.careful = true;
        self.state = State::Lost(lost);
    }

    /// Takes the next part of the rest of a decompressed block.
    pub(super) fn next_rest(&mut self, mut lost: Lost, piece: &mut Vec<u8>) -> Piece {
        let end = self.block.len().min(self.at + PART_BYTES_MAX);
        piece.extend_from_slice(&self.block[self.at..end]);
        self.at = end;
        self.span = self.data.clone();
        let rejection = lost.next_part("");
        // The next block is read like any other: the sync marker of this one has been taken.
        self.state = if end < self.block.len() { State::Rest(lost) } else { State::Between };
        Piece::Rejected(rejection)
    }

    /// Takes the next part of what is passed over. `None`: reading goes on at once.
    pub(super) fn next_lost(&mut self, mut lost: Lost, piece: &mut Vec<u8>) -> io::Result<Option<Piece>> {
        let (mut place, is_certain) = self.next_place(PART_BYTES_MAX)?;
        if !is_certain && self.content.content.is_growing() {
            place = None;
        }
        if let Some((at, Place::Marker(header))) = &place
            && lost.block_end != Some(self.content.position() + *at as u64)
        {
            // The first bytes have already been looked at, as a block of the current container.
            let from = usize::from(lost.parts == 0 && Arc::ptr_eq(header, &self.header));
            let block = block_before(self.content.peek(*at)?, from, header).map(|from| (from, header.clone()));
            place = block.map(|(from, header)| (from, Place::Block(header))).or(place);
        }
        let start = self.content.position();
        let ahead = self.content.peek(PART_BYTES_MAX + SYNC_BYTES)?.len();
        let length = place.as_ref().map_or(ahead.min(PART_BYTES_MAX), |(at, _)| *at);
        // The last bytes may be the beginning of a marker or a header.
        self.is_lost_to_end = place.is_none() && (ahead < PART_BYTES_MAX + SYNC_BYTES || !is_certain);
        self.content.append(piece, length)?;
        self.span = start..start + length as u64;
        let is_told = length > 0 || (lost.records_missing && lost.parts == 0);
        self.damaged |= is_told;
        let (goes_on, state) = match place {
            Some((_, Place::Marker(header))) => {
                self.content.consume(SYNC_BYTES);
                self.enter(header);
                ("; reading goes on behind the next sync marker", State::Between)
            }
            Some((_, Place::Block(header))) => {
                self.enter(header);
                ("; reading goes on at the next whole block", State::Between)
            }
            Some((_, Place::Header(header, length))) => {
                self.content.consume(length);
                self.enter(header);
                self.careful = self.damaged;
                ("; reading goes on at the next container", State::Between)
            }
            None if ahead <= PART_BYTES_MAX => ("; neither a sync marker nor a container follows", State::Between),
            None => ("", State::End),
        };
        let rejection = is_told.then(|| lost.next_part(goes_on));
        self.state = if matches!(state, State::End) { State::Lost(lost) } else { state };
        Ok(rejection.map(Piece::Rejected))
    }

    /// The first place at which reading can go on, if it is at most `within` bytes away. The flag
    /// says whether that is certain: no header that the content's end cuts off stands before it.
    fn next_place(&mut self, within: usize) -> io::Result<(Option<(usize, Place)>, bool)> {
        let mut is_certain = true;
        match header_at(&mut self.content, 0)? {
            HeaderAt::Header(header, length) => return Ok((Some((0, Place::Header(header, length))), true)),
            HeaderAt::CutOff => is_certain = false,
            HeaderAt::None(_) => {}
        }
        // Small windows first: a missing marker must not cost a look at everything each time.
        let (mut window, mut looked_at) = (256, 1);
        loop {
            let searched = within.min(window);
            let ahead = self.content.peek(searched + SYNC_BYTES)?;
            let mut found: Option<(usize, &Arc<Header>)> = None;
            for header in std::iter::once(&self.header).chain(&self.earlier) {
                let end = found.map_or(ahead.len(), |(at, _)| at + SYNC_BYTES - 1);
                if let Some(at) = memmem::find(&ahead[..end], &header.sync) {
                    found = Some((at, header));
                }
            }
            let found = found.map(|(at, header)| (at, Place::Marker(header.clone())));
            let end = found.as_ref().map_or(ahead.len(), |(at, _)| *at);
            while let Some(more) = memmem::find(self.content.peek(end)?.get(looked_at..).unwrap_or_default(), MAGIC) {
                let at = looked_at + more;
                match header_at(&mut self.content, at)? {
                    HeaderAt::Header(header, length) => {
                        return Ok(((at <= within).then_some((at, Place::Header(header, length))), is_certain));
                    }
                    HeaderAt::CutOff => is_certain &= at > within,
                    HeaderAt::None(_) => {}
                }
                looked_at = at + 1;
            }
            if found.is_some() || searched == within {
                return Ok((found.filter(|(at, _)| *at <= within), is_certain));
            }
            window = window.saturating_mul(4);
        }
    }

    /// Reads blocks of this container from here on.
    fn enter(&mut self, header: Arc<Header>) {
        if Arc::ptr_eq(&header, &self.header) {
            return;
        }
        let is_first = header.schema == self.first_schema;
        self.format = (!is_first).then(|| Arc::new(StreamFormat::AvroDatum { schema: header.schema.clone() }));
        self.earlier.retain(|earlier| earlier.sync != header.sync);
        let before = std::mem::replace(&mut self.header, header);
        if before.sync != self.header.sync {
            self.earlier.insert(0, before);
            self.earlier.truncate(EARLIER_MAX);
        }
    }
}

/// Finds the whole block that ends with these bytes, and returns where it begins. The bytes exclude
/// the sync marker. A block counts only if it can be unpacked, and cut into exactly as many datums
/// as its head says.
fn block_before(bytes: &[u8], from: usize, header: &Header) -> Option<usize> {
    // Heads that differ only in their counts have the same data, which is tried once.
    let mut trials: Vec<(usize, Option<i64>)> = Vec::new();
    for start in from..bytes.len() {
        let Some((count, size, length)) = head_of(&bytes[start..]) else { continue };
        let data = start + length;
        if count == 0 || data + size != bytes.len() {
            continue;
        }
        let known = trials.iter().find(|(tried, _)| *tried == data).map(|(_, datums)| *datums);
        let datums = match known {
            Some(datums) => datums,
            None if trials.len() == TRIALS_MAX => return None,
            None => {
                let datums = datums(&bytes[data..], header);
                trials.push((data, datums));
                datums
            }
        };
        if datums == Some(count) {
            return Some(start);
        }
    }
    None
}

/// How many datums the stored data of a block holds. `None`: it holds something else as well.
fn datums(stored: &[u8], header: &Header) -> Option<i64> {
    let mut data = stored.to_vec();
    header.codec.decompress(&mut data).ok()?;
    let (mut at, mut count) = (0, 0);
    while at < data.len() {
        // Datums without bytes prove nothing.
        at = header.skipper.skip(&data, at).ok().filter(|end| *end > at)?;
        count += 1;
    }
    Some(count)
}
