//! The speed layer ingests streams and files into the raw tables, exactly once.
//!
//! Data flows one way: [`source`] -> [`decode`] -> [`validate`] -> [`enrich`] -> [`mod@write`].
//! [`pipeline`] shows the whole flow. It alone owns the channels and the order. [`run`] holds the
//! entry points.
//!
//! These invariants always hold:
//!
//! - Every record of a stream is in its raw table or in `raw/dead_letters` exactly once, whatever
//!   crashes, restarts and rebalances there were.
//! - A bad record never affects its neighbours.
//! - Memory is bounded.
//! - An outage pauses ingest.

pub mod dead_letter;
pub mod decode;
pub mod enrich;
pub mod error;
pub(crate) mod header;
pub mod mapping;
pub mod metrics;
pub mod pipeline;
pub mod plans;
pub mod record;
pub mod registry;
pub mod replay;
pub mod run;
pub mod settings;
pub mod source;
#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod trial;
pub mod validate;
pub mod write;
