//! Why a record is a dead letter.

use std::fmt;

/// Why a record is a dead letter. It is the column `reason` of `raw/dead_letters`, and a label of
/// the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The payload is empty. In Kafka this may be a tombstone.
    EmptyRecord,
    /// JSON or CSV is not UTF-8.
    InvalidUtf8,
    /// Not JSON by RFC 8259, or nested too deeply.
    InvalidJson,
    /// JSON or Avro that is not an object (a record), but a scalar or a list without any object.
    NotAnObject,
    /// A message holds more records than `records_max`.
    TooManyRecords,
    /// CSV in which a quote is never closed.
    InvalidCsv,
    /// A CSV row has more cells than there are columns.
    TooManyColumns,
    /// The bytes are not a datum of the writer's schema, or not a valid container.
    InvalidAvro,
    /// The schema of an Avro datum is neither known to the registry nor configured.
    UnknownSchema,
    /// The registry's schema is not an Avro schema, or cannot be read with the configured reader's
    /// schema.
    UnusableSchema,
    /// More bytes follow the record in its message.
    TrailingData,
    /// A required field is missing or null. For a time or the type of an interaction, empty counts
    /// as missing.
    MissingField,
    /// A value does not have its field's type.
    BadType,
    /// A time is in none of the accepted formats, or does not exist.
    BadTimestamp,
    /// A number or digits give, read as an epoch, a time before `ingest.event_time_min`.
    ImplausibleTimestamp,
    /// A number or time does not fit its field, or is too large for one event.
    OutOfRange,
    /// A negative number in a field that cannot be negative.
    NegativeNumber,
    /// The event is further ahead of the clock than the configuration allows.
    TooFarInFuture,
    /// An amount is in a currency that has no rate on the event's day.
    NoFxRate,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 19] = [
        Reason::EmptyRecord,
        Reason::InvalidUtf8,
        Reason::InvalidJson,
        Reason::NotAnObject,
        Reason::TooManyRecords,
        Reason::InvalidCsv,
        Reason::TooManyColumns,
        Reason::InvalidAvro,
        Reason::UnknownSchema,
        Reason::UnusableSchema,
        Reason::TrailingData,
        Reason::MissingField,
        Reason::BadType,
        Reason::BadTimestamp,
        Reason::ImplausibleTimestamp,
        Reason::OutOfRange,
        Reason::NegativeNumber,
        Reason::TooFarInFuture,
        Reason::NoFxRate,
    ];

    /// The name in the table and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::EmptyRecord => "empty_record",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::InvalidJson => "invalid_json",
            Reason::NotAnObject => "not_an_object",
            Reason::TooManyRecords => "too_many_records",
            Reason::InvalidCsv => "invalid_csv",
            Reason::TooManyColumns => "too_many_columns",
            Reason::InvalidAvro => "invalid_avro",
            Reason::UnknownSchema => "unknown_schema",
            Reason::UnusableSchema => "unusable_schema",
            Reason::TrailingData => "trailing_data",
            Reason::MissingField => "missing_field",
            Reason::BadType => "bad_type",
            Reason::BadTimestamp => "bad_timestamp",
            Reason::ImplausibleTimestamp => "implausible_timestamp",
            Reason::OutOfRange => "out_of_range",
            Reason::NegativeNumber => "negative_number",
            Reason::TooFarInFuture => "too_far_in_future",
            Reason::NoFxRate => "no_fx_rate",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a record is a dead letter, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The reason, for programs.
    pub reason: Reason,
    /// The detail, for people.
    pub detail: String,
}

impl Reject {
    /// A rejection of a record.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Reject {
        Reject { reason, detail: detail.into() }
    }

    /// Whether the bytes are not a datum of the schema at all.
    pub fn is_not_a_datum(&self) -> bool {
        matches!(self.reason, Reason::InvalidAvro | Reason::TrailingData)
    }

    /// The same reject, with the place before the detail.
    pub fn at(self, place: impl fmt::Display) -> Reject {
        Reject { detail: format!("{place}: {}", self.detail), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
