//! Avro object containers: a datum is a record. A file may hold several containers, one after
//! another.
//!
//! The datums of a block follow one another without lengths. [`Skipper`](skipper::Skipper) finds
//! their ends by the writer's schema, without decoding them. What cannot be cut into datums is
//! passed over, and kept whole in rejected pieces. That is a block that does not end with the sync
//! marker or cannot be unpacked, or the rest of a block from a damaged datum on.
//!
//! Reading goes on at whichever comes first: a sync marker, wherever a block's head claims that the
//! block ends, or the header of another container. That container has its own schema, codec and
//! marker; [`Splitter::format`] says which schema the datums have. A whole block is not passed over
//! with the damage before it: where a marker is found, the block that ends with it is looked for
//! ([`block_before`]).
//!
//! The end of a file may fall within a block, a block's head or a header. If a block is cut off,
//! its whole datums are taken. The exception is a file that may still grow: there the whole block
//! is taken later, once its marker shows that it is sound.
//!
//! After the first damage in a file, blocks are looked at before they are taken
//! ([`Container::next_block_with_care`]). However many sizes are wrong, no byte is read again and
//! again.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use apache_avro::Codec;
use memchr::memmem;

use self::header::{FIRST_LOOK_BYTES, HEADER_BYTES_MAX, Header, Parsed, SYNC_BYTES};
use self::skipper::{NOTHINGS_MAX, varint};
use super::{KEPT_BYTES, Piece, Rewound, Splitter, too_long};
use crate::record::{Rejection, StreamFormat};
use crate::source::files::open::Content;

mod header;
mod skipper;

pub use self::header::MAGIC;

/// The longest block as stored.
const BLOCK_BYTES_MAX: i64 = 256 << 20;
/// The longest block when unpacked. A longer one is a decompression bomb, and counts as damaged.
const UNPACKED_BYTES_MAX: usize = 128 << 20;
/// The longest head of a block, which is two numbers.
const HEAD_BYTES_MAX: usize = 20;
/// The longest rejected piece of passed-over bytes. More bytes become several pieces. The constant
/// does not depend on the settings, since the number of pieces must not depend on them.
const PART_BYTES_MAX: usize = 1 << 20;
/// How many containers before the current one are remembered, in case one of them goes on.
const EARLIER_MAX: usize = 8;
/// How many candidates for a whole block within damaged data are unpacked and cut, for one sync
/// marker.
const TRIALS_MAX: usize = 16;

/// Cuts containers into their datums.
pub struct Container {
    content: Rewound,
    limit: usize,
    /// The container whose blocks are read.
    header: Arc<Header>,
    /// The containers before it. A header that was found in damaged data may belong to a container
    /// that is stored within a datum.
    earlier: Vec<Arc<Header>>,
    /// The schema of the first container: the stream's.
    first_schema: String,
    /// How datums are written, if not like those of the first container.
    format: Option<Arc<StreamFormat>>,
    /// The block's datums.
    block: Vec<u8>,
    /// The block's data as stored, if it is compressed.
    stored: Vec<u8>,
    /// Where the block's data stands in the content.
    data: Range<u64>,
    /// The block is cut up to here.
    at: usize,
    /// How many datums of the block are left.
    left: i64,
    state: State,
    /// The bytes of the decompressed content that the last piece stands for. Headers, heads of
    /// blocks and sync markers lie between such spans. A datum of a compressed block has the span
    /// of the block's compressed data.
    span: Range<u64>,
    /// The end of the content cut off the last piece.
    is_cut: bool,
    /// What is passed over reaches the end of the content. With more content it could end
    /// elsewhere.
    is_lost_to_end: bool,
    /// Whether blocks are looked at before they are taken.
    careful: bool,
    /// Something was passed over. Once set, it stays set.
    damaged: bool,
    /// Whether a piece has said that the compressed data breaks off.
    break_told: bool,
}

/// What comes next, once a block has no datum left.
#[derive(Debug)]
enum State {
    /// The end of a block. `cut`: the file ends within it.
    Block {
        cut: bool,
    },
    /// A block, another container, or the end.
    Between,
    /// The rest of a decompressed block, in which no more datums can be found.
    Rest(Lost),
    /// Bytes that are passed over until reading can go on.
    Lost(Lost),
    End,
}

/// Bytes that cannot be cut into records.
#[derive(Debug)]
struct Lost {
    rejection: Rejection,
    /// Records are missing even if no byte is passed over.
    records_missing: bool,
    /// The bytes are the rest of a block, which ends here with its marker. No whole block is looked
    /// for before that marker.
    block_end: Option<u64>,
    /// How many pieces the bytes have made so far.
    parts: usize,
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

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("codec", &self.header.codec)
            .field("left", &self.left)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// Reads the header. A wrong header is an `InvalidData` error.
    pub fn open(content: Content, limit: usize) -> io::Result<Container> {
        // This setting holds for the whole program. Only the first call has an effect.
        apache_avro::util::max_allocation_bytes(UNPACKED_BYTES_MAX);
        let mut content = Rewound::new(content);
        let (header, length) = match header_at(&mut content, 0)? {
            HeaderAt::Header(header, length) => (header, length),
            HeaderAt::CutOff => return Err(io::Error::new(io::ErrorKind::InvalidData, header::DAMAGED)),
            HeaderAt::None(why) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        };
        content.consume(length);
        Ok(Container {
            content,
            limit,
            first_schema: header.schema.clone(),
            header,
            earlier: Vec::new(),
            format: None,
            block: Vec::new(),
            stored: Vec::new(),
            data: 0..0,
            at: 0,
            left: 0,
            state: State::Between,
            span: 0..0,
            is_cut: false,
            is_lost_to_end: false,
            careful: false,
            damaged: false,
            break_told: false,
        })
    }

    /// The writer's schema of the first container, JSON text.
    pub fn schema(&self) -> &str {
        &self.first_schema
    }

    fn is_packed(&self) -> bool {
        self.header.codec != Codec::Null
    }

    /// Reads the next block. Once something was wrong, blocks are read with care.
    fn next_block(&mut self) -> io::Result<()> {
        self.block.clear();
        if self.content.fill()?.is_empty() {
            self.state = State::End;
            return Ok(());
        }
        if self.careful {
            return self.next_block_with_care();
        }
        let start = self.content.position();
        let mut head = Vec::new();
        let mut sync = Vec::new();
        if let Some(count) = long(&mut self.content, &mut head)?
            && let Some(size) = long(&mut self.content, &mut head)?
            && let Some((count, size)) = counts(count, size)
            // Nothing is reserved in advance: a damaged size must not cost the memory that it asks
            // for.
            && self.content.append(&mut self.block, size)?
            && self.content.append(&mut sync, SYNC_BYTES)?
            && sync == self.header.sync
        {
            self.take_block(start, &head, count);
            return Ok(());
        }
        head.append(&mut self.block);
        head.append(&mut sync);
        self.content.put_back(&head);
        self.careful = true;
        self.next_block_with_care()
    }

    /// Looks at what comes next, and takes it if it is a whole block.
    fn next_block_with_care(&mut self) -> io::Result<()> {
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

    /// Takes a block that ends with the sync marker. All its bytes have been taken from the
    /// content, and its data is in `self.block`.
    fn take_block(&mut self, start: u64, head: &[u8], count: i64) {
        let data_start = start + head.len() as u64;
        self.data = data_start..data_start + self.block.len() as u64;
        let mut problem = None;
        if self.is_packed() {
            self.stored.clear();
            self.stored.extend_from_slice(&self.block);
            match self.header.codec.decompress(&mut self.block) {
                Err(error) => problem = Some(format!("a block of {count} records cannot be decompressed: {error}")),
                Ok(()) if ends_by_itself(&self.header.codec) => {
                    let inner = memmem::find(&self.stored, &self.header.sync);
                    problem = inner.map(|_| format!("a block of {count} records has a sync marker within it"));
                }
                Ok(()) => {}
            }
        }
        if problem.is_none() && usize::try_from(count).is_ok_and(|count| count > self.block.len() + NOTHINGS_MAX) {
            problem = Some(format!("a block of {} bytes that promises {count} records", self.block.len()));
        }
        match problem {
            None => {
                self.at = 0;
                self.left = count;
                self.state = State::Block { cut: false };
            }
            Some(problem) => {
                let data = if self.is_packed() { &self.stored } else { &self.block };
                let whole = [head, data, &self.header.sync].concat();
                self.content.put_back(&whole);
                self.careful = true;
                self.pass_over(bad(problem));
            }
        }
    }

    fn pass_over(&mut self, rejection: Rejection) {
        self.state = State::Lost(Lost { rejection, records_missing: false, block_end: None, parts: 0 });
    }

    /// Gives up the rest of the block, which is no datum.
    fn give_up_block(&mut self, problem: &str, cut: bool) {
        let left = std::mem::take(&mut self.left);
        let rejection = match (cut, left) {
            (true, 0) => self.truncated(format!("the file ends within a block; {problem}")),
            (true, _) => self.truncated(format!("the file ends within a block; {left} of its records are missing")),
            (false, 0) => bad(problem.to_owned()),
            (false, _) => bad(format!("{problem}; with this record the {left} last ones of its block are lost")),
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

    /// Ends a block all of whose datums are cut off.
    fn end_block(&mut self, cut: bool) -> io::Result<()> {
        if self.at < self.block.len() {
            self.give_up_block("bytes follow the last record of a block", cut);
            return Ok(());
        }
        if cut {
            // The beginning of a marker belongs to no record.
            let ahead = self.content.peek(SYNC_BYTES)?;
            let length = ahead.len();
            if self.header.sync.starts_with(ahead) {
                self.content.consume(length);
            }
        }
        self.state = State::Between;
        Ok(())
    }

    /// Takes the next part of the rest of a decompressed block.
    fn next_rest(&mut self, mut lost: Lost, piece: &mut Vec<u8>) -> Piece {
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
    fn next_lost(&mut self, mut lost: Lost, piece: &mut Vec<u8>) -> io::Result<Option<Piece>> {
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

    /// A rejection that says that the file ends too early. If the compressed data ends too early,
    /// that is the reason given.
    fn truncated(&mut self, detail: String) -> Rejection {
        let broken = self.content.content.broken().map(broken_detail);
        self.break_told |= broken.is_some();
        Rejection { reason: "truncated", detail: broken.unwrap_or(detail) }
    }

    /// Ends the content. A break in the compressed data is reported once.
    fn end(&mut self) -> Piece {
        let at = self.content.position();
        self.span = at..at;
        if self.break_told || self.content.content.broken().is_none() {
            return Piece::End;
        }
        Piece::Rejected(self.truncated(String::new()))
    }
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

impl Container {
    fn next_piece(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        piece.clear();
        loop {
            if self.left > 0 {
                let start = self.at;
                match self.header.skipper.skip(&self.block, start) {
                    Ok(end) => {
                        self.at = end;
                        self.left -= 1;
                        self.span = match self.header.codec {
                            Codec::Null => self.data.start + start as u64..self.data.start + end as u64,
                            _ => self.data.clone(),
                        };
                        let datum = &self.block[start..end];
                        if datum.len() > self.limit {
                            piece.extend_from_slice(&datum[..datum.len().min(KEPT_BYTES)]);
                            return Ok(Piece::Rejected(too_long(datum.len(), self.limit)));
                        }
                        piece.extend_from_slice(datum);
                        return Ok(Piece::Record);
                    }
                    Err(problem) => {
                        let cut = matches!(self.state, State::Block { cut: true });
                        self.give_up_block(problem, cut);
                    }
                }
            }
            match std::mem::replace(&mut self.state, State::End) {
                State::Block { cut } => self.end_block(cut)?,
                State::Between => self.next_block()?,
                State::Rest(lost) => return Ok(self.next_rest(lost, piece)),
                State::Lost(lost) => {
                    if let Some(piece) = self.next_lost(lost, piece)? {
                        return Ok(piece);
                    }
                }
                State::End => return Ok(self.end()),
            }
        }
    }
}

impl Splitter for Container {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<Piece> {
        self.is_lost_to_end = false;
        let found = self.next_piece(piece)?;
        let is_truncated = matches!(&found, Piece::Rejected(rejection) if rejection.reason == "truncated");
        self.is_cut = is_truncated || self.is_lost_to_end;
        Ok(found)
    }

    fn span(&self) -> Range<u64> {
        self.span.clone()
    }

    fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn content(&self) -> &Content {
        &self.content.content
    }

    fn format(&self) -> Option<&Arc<StreamFormat>> {
        self.format.as_ref()
    }
}

/// What was found where a header may be.
enum HeaderAt {
    /// A header, and its length.
    Header(Arc<Header>, usize),
    /// What may be the beginning of a header, cut off by the content's end.
    CutOff,
    /// No header, and why.
    None(String),
}

/// Looks for a header `at` bytes ahead.
fn header_at(content: &mut Rewound, at: usize) -> io::Result<HeaderAt> {
    let mut needed = FIRST_LOOK_BYTES;
    loop {
        let ahead = content.peek(at + needed)?.get(at..).unwrap_or_default();
        match header::parse(ahead) {
            Parsed::Header(header, length) => return Ok(HeaderAt::Header(Arc::new(*header), length)),
            Parsed::Invalid(why) => return Ok(HeaderAt::None(why)),
            Parsed::Short(_) if ahead.len() < needed => return Ok(HeaderAt::CutOff),
            Parsed::Short(more) => needed = more.max(needed * 2),
        }
    }
}

/// Whether the codec's data marks its own end. Unpacking then ignores what follows, so a block head
/// with too large a size would go unnoticed.
fn ends_by_itself(codec: &Codec) -> bool {
    matches!(codec, Codec::Deflate(_) | Codec::Bzip2(_) | Codec::Xz(_))
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

/// Checks a block's count of records and its size in bytes. `None`: they cannot be right.
fn counts(count: i64, size: i64) -> Option<(i64, usize)> {
    let size = (0..=BLOCK_BYTES_MAX).contains(&size).then_some(size)?;
    Some((Some(count).filter(|count| *count >= 0)?, usize::try_from(size).ok()?))
}

/// The count, the size, and the length of the head that holds them.
fn head_of(bytes: &[u8]) -> Option<(i64, usize, usize)> {
    let (count, at) = varint(bytes, 0)?;
    let (size, at) = varint(bytes, at)?;
    let (count, size) = counts(count, size)?;
    Some((count, size, at))
}

/// Whether more bytes could make a block's head of these: a number in it is not ended.
fn may_be_head(bytes: &[u8]) -> bool {
    let is_open = |bytes: &[u8]| bytes.len() < 10 && bytes.iter().all(|byte| *byte >= 0x80);
    match varint(bytes, 0) {
        None => is_open(bytes),
        Some((count, at)) => count >= 0 && varint(bytes, at).is_none() && is_open(&bytes[at..]),
    }
}

/// Reads a variable-length long from the content. Its bytes are also appended to `read`. `None`:
/// the content ends, or the bytes are no such number.
fn long(content: &mut Rewound, read: &mut Vec<u8>) -> io::Result<Option<i64>> {
    let start = read.len();
    while read.len() - start < 10 {
        if !content.append(read, 1)? {
            return Ok(None);
        }
        if read.last().is_some_and(|byte| *byte < 0x80) {
            return Ok(varint(read, start).map(|(value, _)| value));
        }
    }
    Ok(None)
}

fn bad(detail: String) -> Rejection {
    Rejection { reason: "invalid_avro", detail }
}

fn broken_detail(detail: &str) -> String {
    format!("the compressed data is damaged or cut off: {detail}")
}

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod tests;
