//! Turns the bytes of records into columns: decode, validate, enrich, hash. It does no I/O.
//!
//! Data flows one way: a [`record`] is read by [`json`], [`csv`] or [`avro`] into a [`row`]. Its
//! values are checked ([`judge`], [`validate`]), enriched ([`enrich`]) and appended to a [`batch`].
//! A bad record becomes a dead letter ([`dead_letters`]). [`decoder`] shows the whole flow, and
//! [`plan`] holds what it depends on.
//!
//! These invariants always hold:
//!
//! - Each record gives rows or a dead letter, and never neither.
//! - A bad record never affects its neighbours.
//! - Decoding depends on the bytes, the plan and the time of ingest alone.

pub mod decoder;
pub mod plan;
pub mod record;
pub mod settings;

pub mod avro;
pub mod csv;
mod json;

mod judge;
mod nested;
mod row;
mod validate;

pub mod enrich;

mod batch;
pub mod columns;
pub mod dead_letters;

pub mod header;
pub mod mapping;

mod attributes;
mod cell;
pub mod error;
mod json_text;
pub mod reject;
mod utf8;
mod value;

#[cfg(test)]
mod tests;
#[doc(hidden)]
pub mod trial;

pub use avro::bid_request_avro_schema;
pub use decoder::{Decoded, Decoder};
pub use error::DecodeError;
pub use plan::DecodePlan;
