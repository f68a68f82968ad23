//! One column of texts or wide numbers of one row group, encoded with a dictionary. The Parquet
//! library does the same, but takes more time (docs/decisions/0008).
//!
//! Most columns of an event are short texts with few distinct values. Each text is looked up in a
//! hash table that holds the short texts themselves ([`Dictionary`]). Its code takes two bytes, and
//! eight codes are packed together ([`hybrid`]). When the dictionary is full, the texts that follow
//! are written without it.
//!
//! A number of 128 bits is treated like a text of 16 bytes, whose length is not written.

use std::io::{Chain, Read, Write};

use arrow::buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, PageType, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::dictionary::Dictionary;
use super::hybrid;
use super::texts::{Texts, WIDE_BYTES, one_text};

/// Rows that are checked together for one repeated text. Many columns have long runs of one text.
const RUN_ROWS: usize = 256;

/// Compresses pages. Reuses one page buffer for all pages and columns.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    page: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new(level: ZstdLevel) -> Result<Compressor> {
        Ok(Compressor { zstd: zstd::bulk::Compressor::new(level.compression_level())?, page: Vec::new() })
    }

    /// Bytes held in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.page.capacity()
    }

    /// Takes a page buffer back for reuse, unless the page was far longer than pages are.
    fn reuse(&mut self, page: Vec<u8>, page_bytes_max: usize) {
        if page.capacity() <= 2 * page_bytes_max {
            self.page = page;
        }
    }
}

/// A struct that contains a column: whether it may be NULL, and in which rows it is.
#[derive(Debug)]
pub(super) struct Parent<'a> {
    pub(super) is_nullable: bool,
    pub(super) nulls: Option<&'a NullBuffer>,
}

fn is_text(descriptor: &ColumnDescPtr) -> bool {
    descriptor.physical_type() == Type::BYTE_ARRAY && descriptor.logical_type_ref() == Some(&LogicalType::String)
}

fn is_wide(descriptor: &ColumnDescPtr) -> bool {
    descriptor.physical_type() == Type::FIXED_LEN_BYTE_ARRAY
        && descriptor.type_length() == WIDE_BYTES
        && matches!(descriptor.logical_type_ref(), Some(LogicalType::Decimal { .. }))
}

/// A column chunk that is being written.
pub(super) struct CodedColumn {
    descriptor: ColumnDescPtr,
    compression: Compression,
    page_rows_max: usize,
    page_bytes_max: usize,
    /// The definition level of a row that has a text.
    present: u16,
    dictionary: Dictionary,
    /// Whether the dictionary is full.
    is_plain: bool,
    /// Whether all texts have the same length, which is not written.
    is_fixed: bool,
    page: PageRows,
    /// The finished pages, without the dictionary page.
    pages: Vec<u8>,
    written: Written,
}

/// The page that is being written.
#[derive(Default)]
struct PageRows {
    rows: usize,
    /// Definition levels. Empty while all rows have a text.
    levels: Vec<u16>,
    codes: Vec<u16>,
    /// Texts that are encoded without the dictionary.
    plain: Vec<u8>,
    text_bytes: usize,
}

/// What the metadata tells of the finished pages.
#[derive(Default)]
struct Written {
    rows: usize,
    uncompressed: usize,
    compressed: usize,
    coded_pages: i32,
    plain_pages: i32,
    pages: Vec<WrittenPage>,
}

/// One page, as the offset index describes it.
struct WrittenPage {
    /// Counted from the end of the dictionary page.
    offset: usize,
    bytes: usize,
    rows: usize,
    text_bytes: usize,
}

impl std::fmt::Debug for CodedColumn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodedColumn").field("column", self.descriptor.path()).finish_non_exhaustive()
    }
}

impl CodedColumn {
    /// Whether a column is encoded here: texts or numbers of 128 bits outside of lists, with a
    /// dictionary, with zstd, and without bounds.
    pub(super) fn is_for(descriptor: &ColumnDescPtr, properties: &WriterProperties) -> bool {
        let path = descriptor.path();
        (is_text(descriptor) || is_wide(descriptor))
            && properties.dictionary_enabled(path)
            && properties.statistics_enabled(path) == EnabledStatistics::None
            && matches!(properties.compression(path), Compression::ZSTD(_))
            && descriptor.max_rep_level() == 0
    }

    pub(super) fn new(descriptor: ColumnDescPtr, properties: &WriterProperties) -> CodedColumn {
        let path = descriptor.path();
        CodedColumn {
            compression: properties.compression(path),
            page_rows_max: properties.data_page_row_count_limit().max(1),
            page_bytes_max: properties.column_data_page_size_limit(path).max(1),
            present: descriptor.max_def_level().unsigned_abs(),
            dictionary: Dictionary::new(properties.column_dictionary_page_size_limit(path), !is_wide(&descriptor)),
            is_plain: false,
            is_fixed: is_wide(&descriptor),
            page: PageRows::default(),
            pages: Vec::new(),
            written: Written::default(),
            descriptor,
        }
    }

    /// Bytes held in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let PageRows { levels, codes, plain, .. } = &self.page;
        let page = (levels.capacity() + codes.capacity()) * size_of::<u16>() + plain.capacity();
        self.pages.capacity() + page + self.dictionary.memory_bytes()
    }

    /// The bytes that the column would take in the file, approximately.
    pub(super) fn encoded_bytes(&self) -> usize {
        let PageRows { codes, plain, .. } = &self.page;
        let codes = codes.len() * hybrid::width(self.dictionary.len().saturating_sub(1)) as usize / 8;
        self.pages.len() + self.dictionary.page().len() + codes + plain.len()
    }

    /// Appends texts. `parents` are the structs that contain them, the outermost first.
    pub(super) fn write(
        &mut self,
        texts: &Texts<'_>,
        is_nullable: bool,
        parents: &[Parent<'_>],
        compressor: &mut Compressor,
    ) -> Result<()> {
        let absent = |nulls: &&NullBuffer| nulls.null_count() > 0;
        let within = parents.iter().filter_map(|parent| parent.nulls.filter(absent));
        let within = within.fold(None, |all: Option<NullBuffer>, nulls| NullBuffer::union(all.as_ref(), Some(nulls)));
        let valid = NullBuffer::union(within.as_ref(), texts.nulls.filter(absent));
        let nulls = |valid: &Option<NullBuffer>| valid.as_ref().map_or(0, NullBuffer::null_count);
        if !is_nullable && nulls(&valid) > nulls(&within) {
            return Err(ParquetError::General(format!("{} is NULL, which it may not be", self.descriptor.path())));
        }
        let leaf = Parent { is_nullable, nulls: texts.nulls };
        let mut row = 0;
        while row < texts.len() {
            let end = texts.len().min(row.saturating_add(self.page_rows_max - self.page.rows));
            let end = self.add_texts(texts, valid.as_ref(), row, end);
            match &valid {
                None => self.page.add_present(end - row, self.present),
                Some(_) => self.add_levels(parents, &leaf, row, end),
            }
            let is_full = self.page.rows >= self.page_rows_max || self.page.plain.len() >= self.page_bytes_max;
            if is_full || end == row {
                self.end_page(compressor)?;
                self.is_plain |= end == row;
            }
            row = end;
        }
        Ok(())
    }

    /// Appends the texts of some rows to the page. Stops before the first row that the page or the
    /// dictionary has no room for, and returns that row, or `end`.
    fn add_texts(&mut self, texts: &Texts<'_>, valid: Option<&NullBuffer>, first: usize, end: usize) -> usize {
        let (offsets, bytes) = (&texts.offsets[first..=end], texts.bytes);
        let text = |ends: &[i32]| &bytes[ends[0] as usize..ends[1] as usize];
        if let Some(valid) = valid {
            let valid = valid.slice(first, end - first);
            let added = self.add(valid.valid_indices().map(|row| text(&offsets[row..row + 2])));
            return valid.valid_indices().nth(added).map_or(end, |refused| first + refused);
        }
        let mut row = 0;
        while row < end - first {
            let part = &offsets[row..offsets.len().min(row + RUN_ROWS + 1)];
            let rows = part.len() - 1;
            let added = match one_text(part, bytes) {
                Some(text) if !self.is_plain => self.add_times(text, rows),
                _ => self.add(part.windows(2).map(text)),
            };
            row += added;
            if added < rows {
                break;
            }
        }
        first + row
    }

    /// Appends texts to the page. Returns how many had room.
    #[inline(always)]
    fn add<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) -> usize {
        let PageRows { codes, plain, text_bytes, .. } = &mut self.page;
        let mut added = 0;
        for text in texts {
            if self.is_plain {
                if plain.len() >= self.page_bytes_max {
                    break;
                }
                if !self.is_fixed {
                    plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
                }
                plain.extend_from_slice(text);
            } else {
                let Some(code) = self.dictionary.code(text) else { break };
                codes.push(code);
            }
            *text_bytes += text.len();
            added += 1;
        }
        added
    }

    /// Appends one text `times` times, or not at all. Returns how often.
    fn add_times(&mut self, text: &[u8], times: usize) -> usize {
        let Some(code) = self.dictionary.code(text) else { return 0 };
        self.page.codes.resize(self.page.codes.len() + times, code);
        self.page.text_bytes += text.len() * times;
        times
    }

    fn add_levels(&mut self, parents: &[Parent<'_>], leaf: &Parent<'_>, first: usize, end: usize) {
        let rows = end - first;
        let levels = &mut self.page.levels;
        levels.resize(self.page.rows, self.present);
        self.page.rows += rows;
        match leaf.nulls {
            Some(nulls) if parents.iter().all(|parent| parent.nulls.is_none_or(|nulls| nulls.null_count() == 0)) => {
                let absent = self.present.saturating_sub(1);
                let valid = nulls.inner().slice(first, rows);
                if valid.count_set_bits() == 0 {
                    levels.resize(self.page.rows, absent);
                    return;
                }
                let words = valid.bit_chunks();
                for word in words.iter_padded() {
                    levels.extend((0..u64::BITS).map(|bit| absent + (word >> bit & 1) as u16));
                }
                levels.truncate(self.page.rows);
            }
            _ => levels.extend((first..end).map(|row| {
                let is_there = |parent: &&Parent<'_>| parent.nulls.is_none_or(|nulls| nulls.is_valid(row));
                let there = parents.iter().chain([leaf]).take_while(is_there);
                there.map(|parent| u16::from(parent.is_nullable)).sum::<u16>()
            })),
        }
    }

    fn end_page(&mut self, compressor: &mut Compressor) -> Result<()> {
        if self.page.rows == 0 {
            return Ok(());
        }
        let mut body = std::mem::take(&mut compressor.page);
        body.clear();
        self.page.encode(self.present, self.is_plain, self.dictionary.len(), &mut body);
        let encoding = if self.is_plain { Encoding::PLAIN } else { Encoding::RLE_DICTIONARY };
        let page = Page::DataPage {
            buf: compressor.zstd.compress(&body)?.into(),
            num_values: u32::try_from(self.page.rows)?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, body.len());
        compressor.reuse(body, self.page_bytes_max);
        let offset = self.pages.len();
        let place = append(page, &mut self.pages)?;
        let pages = if self.is_plain { &mut self.written.plain_pages } else { &mut self.written.coded_pages };
        *pages += 1;
        self.written.uncompressed += place.uncompressed_size;
        self.written.compressed += place.compressed_size;
        let PageRows { rows, text_bytes, .. } = self.page;
        self.written.pages.push(WrittenPage { offset, bytes: place.compressed_size, rows, text_bytes });
        self.written.rows += rows;
        self.page.clear(self.page_bytes_max);
        Ok(())
    }

    /// Appends the column to a row group, the dictionary first. Rows that are written afterwards
    /// belong to the next row group.
    pub(super) fn append_to<W: Write + Send>(
        &mut self,
        row_group: &mut SerializedRowGroupWriter<'_, W>,
        compressor: &mut Compressor,
    ) -> Result<()> {
        self.end_page(compressor)?;
        let mut first = std::mem::take(&mut compressor.page);
        first.clear();
        let mut dictionary = PageWriteSpec::new();
        // A dictionary that no page uses is left out. A column without texts has an empty one: its
        // pages count as coded.
        let is_coded = self.written.plain_pages == 0 || self.written.coded_pages > 0;
        if is_coded {
            let page = Page::DictionaryPage {
                buf: compressor.zstd.compress(self.dictionary.page())?.into(),
                num_values: u32::try_from(self.dictionary.len())?,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            dictionary = append(CompressedPage::new(page, self.dictionary.page().len()), &mut first)?;
        }
        let close = self.close_result(is_coded, &dictionary)?;
        row_group.append_column(&Chunk { dictionary: &first, pages: &self.pages }, close)?;
        compressor.reuse(first, self.page_bytes_max);
        self.pages.clear();
        self.pages.shrink_to(2 * self.page_bytes_max);
        self.dictionary.clear();
        self.is_plain = false;
        self.written = Written::default();
        Ok(())
    }

    /// The column's metadata: its pages and its dictionary.
    fn close_result(&self, is_coded: bool, dictionary: &PageWriteSpec) -> Result<ColumnCloseResult> {
        let written = &self.written;
        let page_stats = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut stats = vec![
            page_stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN, is_coded.into()),
            page_stats(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, written.coded_pages),
            page_stats(PageType::DATA_PAGE, Encoding::PLAIN, written.plain_pages),
        ];
        stats.retain(|stats| stats.count > 0);
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        encodings.extend(is_coded.then_some(Encoding::RLE_DICTIONARY));
        let shift = dictionary.compressed_size as i64;
        let metadata = ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(self.compression)
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_num_values(written.rows as i64)
            .set_total_uncompressed_size((written.uncompressed + dictionary.uncompressed_size) as i64)
            .set_total_compressed_size((written.compressed + dictionary.compressed_size) as i64)
            .set_dictionary_page_offset(is_coded.then_some(0))
            .set_data_page_offset(shift)
            .build()?;
        let mut offsets = OffsetIndexBuilder::new();
        for page in &written.pages {
            offsets.append_row_count(page.rows as i64);
            offsets.append_offset_and_size(page.offset as i64 + shift, i32::try_from(page.bytes)?);
            offsets.append_unencoded_byte_array_data_bytes((!self.is_fixed).then_some(page.text_bytes as i64));
        }
        Ok(ColumnCloseResult {
            bytes_written: (written.compressed + dictionary.compressed_size) as u64,
            rows_written: written.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        })
    }
}

/// Appends a page and its header.
fn append(page: CompressedPage, to: &mut Vec<u8>) -> Result<PageWriteSpec> {
    let mut to = TrackedWrite::new(to);
    let mut writer = SerializedPageWriter::new(&mut to);
    let place = writer.write_page(page)?;
    writer.close()?;
    Ok(place)
}

/// A column's pages, in the form in which the library reads them.
struct Chunk<'a> {
    dictionary: &'a [u8],
    pages: &'a [u8],
}

impl Length for Chunk<'_> {
    fn len(&self) -> u64 {
        (self.dictionary.len() + self.pages.len()) as u64
    }
}

impl<'a> ChunkReader for Chunk<'a> {
    type T = Chain<&'a [u8], &'a [u8]>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let start = usize::try_from(start)?;
        let of_pages = start.saturating_sub(self.dictionary.len());
        let part = |bytes: &'a [u8], from: usize| bytes.get(from..).unwrap_or_default();
        Ok(part(self.dictionary, start).chain(part(self.pages, of_pages)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(length);
        self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl PageRows {
    /// Adds rows that all have a text.
    fn add_present(&mut self, rows: usize, present: u16) {
        self.rows += rows;
        if !self.levels.is_empty() {
            self.levels.resize(self.rows, present);
        }
    }

    fn encode(&mut self, present: u16, is_plain: bool, texts: usize, out: &mut Vec<u8>) {
        if present > 0 {
            // The length of the levels in bytes comes before them.
            out.extend_from_slice(&[0; 4]);
            self.levels.resize(self.rows, present);
            hybrid::encode(&self.levels, hybrid::width(present.into()), out);
            let bytes = (out.len() - 4) as u32;
            out[..4].copy_from_slice(&bytes.to_le_bytes());
        }
        if is_plain {
            out.extend_from_slice(&self.plain);
        } else {
            let width = hybrid::width(texts.saturating_sub(1));
            out.push(width as u8);
            hybrid::encode(&self.codes, width, out);
        }
    }

    /// Drops the rows. Keeps buffers of the size that pages need.
    fn clear(&mut self, page_bytes_max: usize) {
        (self.rows, self.text_bytes) = (0, 0);
        self.levels.clear();
        self.codes.clear();
        self.plain.clear();
        self.plain.shrink_to(2 * page_bytes_max);
    }
}
