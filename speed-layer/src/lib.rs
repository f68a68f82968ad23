//! The speed layer ingests streams and files into the raw tables, exactly once.
//!
//! Data flows one way: [`source`] -> [`decode`] -> [`mod@write`]. [`pipeline`] shows the whole
//! flow. It alone owns the channels and the order. [`run`] holds the entry points. The decoders are
//! a crate of their own ([`decode`]).
//!
//! These invariants always hold:
//!
//! - Every record of a stream is in its raw table or in `raw/dead_letters` exactly once, whatever
//!   crashes, restarts and rebalances there were.
//! - A bad record never affects its neighbours.
//! - Memory is bounded.
//! - An outage pauses ingest.

pub mod run;
pub mod settings;

pub mod pipeline;
pub mod source;
pub mod record;
pub mod plans;
pub mod registry;
pub mod write;
pub mod replay;

pub mod report;
pub mod metrics;
pub mod error;
mod clock;

#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod trial;

pub use adlake_decode as decode;
