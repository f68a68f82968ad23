//! What a source passes to the decoder: records as they were sent, with their origin.
//!
//! A [`Chunk`] holds consecutive records of one [`Stream`] (a Kafka partition, a file) in one
//! allocation. Positions grow strictly within a chunk. They may have gaps where the stream has them
//! (compacted topics, transaction markers). All records of a chunk belong to one stream and to one
//! start of it (its `generation`), and have one format. Mostly that is the stream's format, but a
//! file may hold Avro containers of several schemas.

use std::sync::Arc;

use adlake_decode::record::{RecordRef, Rejection, StreamFormat};
use adlake_domain::event::EventKind;

const KAFKA_APPLICATION: &str = "adlake:kafka:";

/// An ordered stream of records. It has one Delta application transaction for each table it is
/// written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    /// The kind of its records.
    pub kind: EventKind,
    /// The topic or path. Its rows have it in `source.topic`.
    pub source: String,
    /// The Kafka partition; 0 for files.
    pub partition: i32,
    /// The name of its application transactions. Equal names mean equal streams.
    pub application: String,
    /// The format of its records.
    pub format: StreamFormat,
}

impl Stream {
    /// The application of a partition of a topic. `cluster` is the cluster's name in the lake.
    pub fn partition_application(cluster: &str, topic: &str, partition: i32) -> String {
        format!("{KAFKA_APPLICATION}{cluster}:{topic}:{partition}")
    }

    /// The prefix of the applications of all partitions of the stream's topic. Files have none.
    pub fn topic_application(&self) -> Option<&str> {
        let (topic, _partition) = self.application.rsplit_once(':')?;
        topic.starts_with(KAFKA_APPLICATION).then_some(topic)
    }

    /// The applications of the marks of the stream's topic: its id, and its number of partitions.
    /// Files have none.
    pub fn mark_applications(&self) -> Option<[String; 2]> {
        self.topic_application().map(|topic| [format!("{topic}:id"), format!("{topic}:partitions")])
    }

    /// The text that stores `format` with the stream's dead letters, if only the stream knows the
    /// format. The configuration knows the format of topics.
    pub fn stored_format(&self, format: &StreamFormat) -> Option<String> {
        if self.application.starts_with(KAFKA_APPLICATION) {
            return None;
        }
        // A format is plain data, so this cannot fail.
        serde_json::to_string(format).ok()
    }
}

/// The metadata of a record in a chunk. Its key and payload follow those of the record before it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    /// The record's time, or [`NO_TIME`].
    time: i64,
    /// The length of the key in bytes, or [`NO_KEY`].
    key: u32,
    /// Where the payload ends.
    end: u32,
}

const NO_TIME: i64 = i64::MIN;
const NO_KEY: u32 = u32::MAX;

/// Consecutive records of one stream.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    partition: i32,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    rejections: Vec<(usize, Rejection)>,
    format: Option<Arc<StreamFormat>>,
    cut: bool,
}

impl Chunk {
    /// The greatest number of bytes that a chunk can address.
    pub const BYTES_MAX: usize = NO_KEY as usize - 1;

    /// An empty chunk for records of a partition (0 for files).
    pub fn new(partition: i32) -> Chunk {
        Chunk { partition, ..Chunk::default() }
    }

    /// As [`Chunk::new`], with memory reserved for this many bytes and records.
    pub fn with_capacity(partition: i32, bytes: usize, records: usize) -> Chunk {
        Chunk {
            partition,
            bytes: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(records),
            rejections: Vec::new(),
            format: None,
            cut: false,
        }
    }

    /// Sets the format of its records, if it differs from the stream's.
    #[must_use]
    pub fn written_as(self, format: Option<Arc<StreamFormat>>) -> Chunk {
        Chunk { format, ..self }
    }

    /// The format of its records, if it differs from the stream's.
    pub fn format(&self) -> Option<&Arc<StreamFormat>> {
        self.format.as_ref()
    }

    /// Marks its records as cut off by the end of their stream. All of them are rejected. Once the
    /// stream is longer, other records will stand at their positions.
    #[must_use]
    pub fn cut_off(self) -> Chunk {
        Chunk { cut: true, ..self }
    }

    /// Whether its records are cut off by the end of their stream.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Adds a record. Returns `false` and adds nothing if the chunk cannot hold its bytes.
    #[must_use]
    pub fn push(&mut self, offset: i64, time: Option<i64>, key: Option<&[u8]>, payload: &[u8]) -> bool {
        let end = self.bytes.len() + key.map_or(0, <[u8]>::len) + payload.len();
        if end > Chunk::BYTES_MAX {
            return false;
        }
        if let Some(key) = key {
            self.bytes.extend_from_slice(key);
        }
        self.bytes.extend_from_slice(payload);
        // The casts are lossless: both are at most BYTES_MAX.
        let (key, end) = (key.map_or(NO_KEY, |key| key.len() as u32), end as u32);
        self.entries.push(Entry { offset, time: time.unwrap_or(NO_TIME), key, end });
        true
    }

    /// Adds bytes that are not a record, with the reason. They become a dead letter at the record's
    /// position.
    #[must_use]
    pub fn push_rejected(&mut self, offset: i64, time: Option<i64>, payload: &[u8], rejection: Rejection) -> bool {
        if !self.push(offset, time, None, payload) {
            return false;
        }
        self.rejections.push((self.entries.len() - 1, rejection));
        true
    }

    /// The number of its records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of keys and payloads.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The memory it holds, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The position of its first record.
    pub fn first(&self) -> Option<i64> {
        self.entries.first().map(|entry| entry.offset)
    }

    /// The position after its last record.
    pub fn next(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.offset + 1)
    }

    /// The time of its oldest record with a time, in microseconds since the epoch.
    pub fn oldest(&self) -> Option<i64> {
        self.entries.iter().map(|entry| entry.time).filter(|time| *time != NO_TIME).min()
    }

    /// Its records from position `from` on, in order, each with its rejection if it was rejected
    /// already.
    pub fn records_from(&self, from: i64) -> impl Iterator<Item = (RecordRef<'_>, Option<&Rejection>)> {
        let first = self.entries.partition_point(|entry| entry.offset < from);
        let mut rejections = self.rejections.iter().peekable();
        while rejections.next_if(|(index, _)| *index < first).is_some() {}
        let mut start = first.checked_sub(1).map_or(0, |before| self.entries[before].end);
        self.entries.iter().enumerate().skip(first).map(move |(index, entry)| {
            let rejection = rejections.next_if(|(at, _)| *at == index).map(|(_, rejection)| rejection);
            let bytes = &self.bytes[start as usize..entry.end as usize];
            start = entry.end;
            (self.record(entry, bytes), rejection)
        })
    }

    fn record<'a>(&self, entry: &Entry, bytes: &'a [u8]) -> RecordRef<'a> {
        let (key, payload) = match entry.key {
            NO_KEY => (None, bytes),
            length => {
                let (key, payload) = bytes.split_at(length as usize);
                (Some(key), payload)
            }
        };
        RecordRef {
            payload,
            key,
            partition: self.partition,
            offset: entry.offset,
            time: (entry.time != NO_TIME).then_some(entry.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection() -> Rejection {
        Rejection { reason: "truncated", detail: "cut".to_owned() }
    }

    #[test]
    fn keeps_records_in_order_with_their_parts() {
        let mut chunk = Chunk::new(3);
        assert!(chunk.push(5, Some(50), Some(b"k"), b"first"));
        assert!(chunk.push_rejected(7, None, b"cut", rejection()));
        assert!(chunk.push(8, Some(20), None, b""));
        assert_eq!((chunk.first(), chunk.next(), chunk.len(), chunk.oldest()), (Some(5), Some(9), 3, Some(20)));
        let seen: Vec<_> = chunk
            .records_from(0)
            .map(|(record, rejection)| {
                (record.offset, record.partition, record.key, record.payload, rejection.is_some())
            })
            .collect();
        assert_eq!(
            seen,
            [
                (5, 3, Some(&b"k"[..]), &b"first"[..], false),
                (7, 3, None, &b"cut"[..], true),
                (8, 3, None, &b""[..], false)
            ]
        );
    }

    #[test]
    fn trims_by_position() {
        let mut chunk = Chunk::new(0);
        for offset in [1, 2, 5, 9] {
            if offset == 2 || offset == 9 {
                assert!(chunk.push_rejected(offset, None, offset.to_string().as_bytes(), rejection()));
            } else {
                assert!(chunk.push(offset, None, Some(b"key"), offset.to_string().as_bytes()));
            }
        }
        let check = |from: i64, expected: &[(i64, bool)]| {
            let seen = chunk.records_from(from).map(|(record, rejection)| {
                assert_eq!(record.payload, record.offset.to_string().as_bytes());
                assert_eq!(record.key.is_some(), rejection.is_none());
                (record.offset, rejection.is_some())
            });
            assert_eq!(seen.collect::<Vec<_>>(), expected, "from {from}");
        };
        check(0, &[(1, false), (2, true), (5, false), (9, true)]);
        check(2, &[(2, true), (5, false), (9, true)]);
        check(3, &[(5, false), (9, true)]);
        check(9, &[(9, true)]);
        check(10, &[]);
    }
}
