//! The speed layer: streams and files into the raw tables, exactly once.
//!
//! Data walks one way: [`source`] -> [`decode`] -> [`validate`] -> [`enrich`] -> [`mod@write`]; [`pipeline`] shows the whole walk and
//! alone owns channels and order. [`run`] is what the program calls.
//!
//! What always holds: every record of a stream is in its raw table or in `raw/dead_letters` once, whatever crashes, restarts
//! and rebalances there were; a bad record never costs its neighbours; memory is bounded; an outage pauses.

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
#[doc(hidden)]
pub mod trial;
pub mod validate;
pub mod write;
