//! How the events are stored, and what they mean.
//!
//! The storage is Delta tables under one URI ([`storage`], [`tables`]). Rows are appended exactly
//! once ([`mod@write`], [`append`]). Whole tables are replaced ([`replace`]), and dead letters are
//! marked ([`letters`]). Logs are kept short ([`log`]). Readers read the tables at versions that
//! belong together ([`snapshot`], [`manifest`]).
//!
//! The meaning is in [`views`]. It defines dedupe, attribution, aggregation, and the merge of the
//! batch view with newer rows, each once, as DataFusion plans. The layers meet in this crate and
//! nowhere else.

pub mod storage;
pub mod tables;

pub mod append;
mod live;
mod rewrite;
pub mod replace;
mod evolve;
pub mod compact;
pub mod vacuum;
mod commit;
pub mod write;

pub mod letters;
pub mod log;
mod upkeep;

pub mod manifest;
mod publish;
pub mod lease;
pub mod job_notes;
pub mod reference;
pub mod snapshot;
pub mod verify;
pub mod probe;
mod traces;
mod scan;
pub mod views;

pub mod session;
mod pushdown;
mod operators;
mod shape;
mod statistics;
pub mod retry;
pub mod error;
pub mod failpoint;

pub use append::{Advance, Appended, Appender};
pub use error::LakeError;
pub use live::{LiveFile, OpenFile};
pub use log::LogState;
pub use operators::codec::OperatorCodec;
pub use reference::{Campaign, Creative, LoadMode, LoadReport, Reference, ReferenceKind};
pub use scan::StoredColumns;
pub use storage::{Lake, LogSettings, StorageSettings, StoreOptions};
pub use write::{DataFile, Encoder, TableWriter, WriterSettings};
