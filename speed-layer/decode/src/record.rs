//! A record as it was sent, with its origin and its format.

use serde::{Deserialize, Serialize};

/// One record, as the decoder sees it.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The bytes that were sent.
    pub payload: &'a [u8],
    /// The Kafka record's key.
    pub key: Option<&'a [u8]>,
    /// The Kafka partition; 0 for files.
    pub partition: i32,
    /// The Kafka offset. For files, the index of the record in its file, from 0.
    pub offset: i64,
    /// The time of the Kafka record or of the file, in microseconds since the epoch.
    pub time: Option<i64>,
}

/// The format of a stream's records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamFormat {
    /// One JSON object per record.
    Json,
    /// One CSV row per record, without the header. `header` holds the column names if the stream
    /// itself names them.
    Csv {
        /// The columns named by the file's header. `None` means that the configuration names them.
        header: Option<Vec<String>>,
        /// The header line as it stands in the file. Another delimiter would split it into other
        /// names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header_line: Option<String>,
        /// The delimiter that the file itself names. It overrides the configuration's.
        delimiter: Option<u8>,
    },
    /// One bare Avro datum per record, without framing, written with `schema` (an Avro container's
    /// own, as JSON text).
    AvroDatum {
        /// The writer's schema.
        schema: String,
    },
    /// One Avro message per record. The configuration describes its framing.
    AvroMessage,
}

impl StreamFormat {
    /// CSV with the columns and the delimiter of the configuration.
    pub const CSV: StreamFormat = StreamFormat::Csv { header: None, header_line: None, delimiter: None };
}

/// Why bytes were rejected before decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason, for programs.
    pub reason: &'static str,
    /// The detail, for people.
    pub detail: String,
}
