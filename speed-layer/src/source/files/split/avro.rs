//! Avro object containers: a datum is a record. A file may hold several containers, one after
//! another.
//!
//! The datums of a block follow one another without lengths. [`Skipper`](skipper::Skipper) finds
//! their ends by the writer's schema, without decoding them. What cannot be cut into datums is
//! passed over, and kept whole in rejected pieces. That is a block that does not end with the sync
//! marker or cannot be unpacked, or the rest of a block from a damaged datum on. [`recovery`] finds
//! the place where reading goes on.
//!
//! The end of a file may fall within a block, a block's head or a header. If a block is cut off,
//! its whole datums are taken. The exception is a file that may still grow: there the whole block
//! is taken later, once its marker shows that it is sound.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use adlake_decode::record::{Rejection, StreamFormat};
use apache_avro::Codec;
use memchr::memmem;

use self::header::{FIRST_LOOK_BYTES, Header, Parsed, SYNC_BYTES};
use self::recovery::Lost;
use self::skipper::{NOTHINGS_MAX, varint};
use super::{KEPT_BYTES, Piece, Rewound, Splitter, too_long};
use crate::source::files::open::Content;

mod header;
mod recovery;
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
            problem = Some(format!("a block of {} bytes cannot hold {count} records", self.block.len()));
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
