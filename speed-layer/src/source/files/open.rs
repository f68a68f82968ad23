//! The content of a file, decompressed while it is read, in bounded memory.
//!
//! The first bytes tell the compression, not the name. Where compressed data breaks off or is
//! damaged, the content ends and says so ([`Content::broken`]). What came before is good.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use super::s3::Broken;

const BUFFER_BYTES: usize = 256 << 10;
/// The largest window that a zstd frame may ask for, as a power of two: 128 MiB, zstd's own limit.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The most memory that an xz stream may ask for: its strongest preset asks for 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

/// How a file's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// Detects the compression by the first bytes.
    fn of(start: &[u8]) -> Compression {
        // A text may begin with "BZh", too. In a bzip2 stream the marker of a block follows, or
        // that of the end of an empty stream.
        let is_bzip2 = |blocks: &[u8]| {
            matches!(blocks, [b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..])
                || matches!(blocks, [b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..])
        };
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', blocks @ ..] if is_bzip2(blocks) => Compression::Bzip2,
            _ => Compression::None,
        }
    }
}

/// The bytes of a file, decompressed.
pub struct Content {
    reader: Box<dyn BufRead + Send>,
    compression: Compression,
    consumed: Arc<Mutex<Consumed>>,
    position: u64,
    broken: Option<String>,
    is_growing: bool,
}

/// The digest of what was read of a file, as stored.
#[derive(Default)]
struct Consumed {
    bytes: u64,
    hash: Xxh3Default,
}

/// A digest of the bytes at the beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes.
    pub bytes: u64,
    /// Their XXH3-128 hash.
    pub hash: u128,
}

impl Digest {
    /// The digest of no bytes.
    pub fn nothing() -> Digest {
        Consumed::default().digest()
    }

    /// The digest of the first `bytes` bytes, or of all if there are fewer.
    pub fn of(mut reader: impl Read, bytes: u64) -> io::Result<Digest> {
        let mut consumed = Consumed::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        while consumed.bytes < bytes {
            let most = usize::try_from(bytes - consumed.bytes).unwrap_or(usize::MAX).min(buffer.len());
            match reader.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(read) => consumed.take(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(consumed.digest())
    }
}

impl Consumed {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn digest(&self) -> Digest {
        Digest { bytes: self.bytes, hash: self.hash.digest128() }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("consumed", &self.consumed())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// Reads a content from the beginning of `reader`.
    pub fn over(reader: impl Read + Send + 'static) -> io::Result<Content> {
        let consumed = Arc::<Mutex<Consumed>>::default();
        let counted = Counted { reader, consumed: consumed.clone() };
        Content::new(BufReader::with_capacity(BUFFER_BYTES, counted), consumed)
    }

    /// A content of bytes at hand, without compression.
    pub fn from_bytes(bytes: Vec<u8>) -> Content {
        Content::plain(io::Cursor::new(bytes))
    }

    fn plain(reader: impl BufRead + Send + 'static) -> Content {
        Content {
            reader: Box::new(reader),
            compression: Compression::None,
            consumed: Arc::default(),
            position: 0,
            broken: None,
            is_growing: false,
        }
    }

    /// The same, read `piece_bytes` bytes at a time.
    pub fn in_pieces(bytes: Vec<u8>, piece_bytes: usize) -> Content {
        Content::plain(BufReader::with_capacity(piece_bytes, io::Cursor::new(bytes)))
    }

    #[cfg(test)]
    pub fn of(bytes: &[u8]) -> Content {
        // Reads are small, so that records straddle the buffer's end.
        Content::in_pieces(bytes.to_vec(), 7)
    }

    fn new(mut file: impl BufRead + Send + 'static, consumed: Arc<Mutex<Consumed>>) -> io::Result<Content> {
        let compression = Compression::of(file.fill_buf()?);
        let buffered = |decoder: Box<dyn Read + Send>| Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder));
        let reader: Box<dyn BufRead + Send> = match compression {
            Compression::None => Box::new(file),
            Compression::Gzip => buffered(Box::new(MultiGzDecoder::new(file))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                buffered(Box::new(decoder))
            }
            Compression::Bzip2 => buffered(Box::new(MultiBzDecoder::new(file))),
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, CONCATENATED)?;
                buffered(Box::new(XzDecoder::new_stream(file, stream)))
            }
        };
        Ok(Content { reader, compression, consumed, position: 0, broken: None, is_growing: false })
    }

    /// How the file is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The next bytes. There are none at the end, or where the compressed data breaks off.
    pub fn fill(&mut self) -> io::Result<&[u8]> {
        if self.broken.is_some() {
            return Ok(&[]);
        }
        let broken = loop {
            match self.reader.fill_buf() {
                Ok(_) => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.compression != Compression::None && is_of_decoder(&error) => {
                    break Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        };
        if broken.is_some() {
            self.broken = broken;
            return Ok(&[]);
        }
        // The loop has filled the buffer, so this reads nothing.
        self.reader.fill_buf()
    }

    /// Takes bytes that [`Content::fill`] has shown.
    pub fn consume(&mut self, bytes: usize) {
        self.position += bytes as u64;
        self.reader.consume(bytes);
    }

    /// How many bytes of the decompressed content have been taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Skips `bytes` bytes, or as many as there are.
    pub fn skip(&mut self, bytes: usize) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let taken = self.fill()?.len().min(left);
            if taken == 0 {
                break;
            }
            self.consume(taken);
            left -= taken;
        }
        Ok(())
    }

    /// What is wrong with the compressed data, once [`Content::fill`] has reached its end.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Sets whether the file may still grow, so that its end is not final.
    pub fn growing(mut self, is_growing: bool) -> Content {
        self.is_growing = is_growing;
        self
    }

    /// Whether the file may still grow.
    pub fn is_growing(&self) -> bool {
        self.is_growing
    }

    /// Whether more may follow the end that [`Content::fill`] has reached: the file may still grow,
    /// or its compressed data is broken. In both cases nothing is decided by this end.
    pub fn may_go_on(&self) -> bool {
        self.is_growing || self.broken.is_some()
    }

    /// How many bytes of the stored file have been read.
    pub fn consumed(&self) -> u64 {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// The digest of the stored file's bytes that have been read.
    pub fn digest(&self) -> Digest {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).digest()
    }

    /// Reads as many bytes as there is room for, or as there are. Returns how many.
    pub fn read_up_to(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                break;
            }
            let take = buffer.len().min(into.len() - filled);
            into[filled..filled + take].copy_from_slice(&buffer[..take]);
            self.consume(take);
            filled += take;
        }
        Ok(filled)
    }
}

/// Whether a decoder made the error. An error of the system has a code, and a store's error has a
/// type of its own; a decoder's error has neither.
fn is_of_decoder(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && !error.get_ref().is_some_and(|error| error.is::<Broken>())
}

struct Counted<R> {
    reader: R,
    consumed: Arc<Mutex<Consumed>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).take(&into[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut content = Content::new(io::Cursor::new(bytes.to_vec()), Arc::default()).unwrap();
        let mut into = vec![0; 8 << 20];
        let length = content.read_up_to(&mut into).unwrap();
        into.truncate(length);
        (into, content.broken().map(str::to_owned))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(bytes, 1).unwrap()
    }

    /// A compression function. The tests run over every kind of compression.
    type Compress = fn(&[u8]) -> Vec<u8>;
    const COMPRESSIONS: [Compress; 4] = [gzip, zstd, bzip2, xz];

    #[test]
    fn decompresses_by_the_first_bytes() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|number| number.to_le_bytes()).collect();
        for compress in COMPRESSIONS {
            assert_eq!(read(&compress(&text)), (text.clone(), None));
            assert_eq!(read(&compress(b"")), (Vec::new(), None));
        }
        for plain in [&text[..], b"", b"BZh9,a,b\n", b"BZh91A", b"\xfd7zX"] {
            assert_eq!(read(plain), (plain.to_vec(), None));
        }
    }

    #[test]
    fn reads_members_and_frames_in_a_row() {
        for compress in COMPRESSIONS {
            let files = [compress(b"one "), compress(b""), compress(b"two")].concat();
            assert_eq!(read(&files), (b"one two".to_vec(), None));
        }
    }

    #[test]
    fn ends_where_compressed_data_breaks_off() {
        let text: Vec<u8> =
            (0..1_000_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compress in COMPRESSIONS {
            let compressed = compress(&text);
            let (good, broken) = read(&compressed[..compressed.len() / 2]);
            assert!(!good.is_empty() && text.starts_with(&good));
            assert!(broken.is_some());
        }
        // Zstandard does not check anything by default.
        for compress in [gzip, bzip2, xz] {
            let mut damaged = compress(&text);
            let middle = damaged.len() / 2;
            damaged[middle..middle + 64].fill(0xaa);
            assert!(read(&damaged).1.is_some());
        }
    }
}
