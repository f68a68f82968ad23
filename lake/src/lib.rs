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

pub mod append;
mod commit;
pub mod error;
mod evolve;
pub mod failpoint;
pub mod letters;
pub mod log;
pub mod manifest;
pub mod patience;
mod pushdown;
pub mod reference;
pub mod replace;
mod rewrite;
pub mod session;
mod shape;
pub mod snapshot;
mod statistics;
pub mod storage;
pub mod tables;
pub mod views;
pub mod write;

pub use append::{Advance, Appended, Appender};
pub use error::LakeError;
pub use log::{LogSettings, LogState};
pub use reference::{Campaign, Creative, LoadMode, LoadReport, Reference, ReferenceKind};
pub use storage::{Lake, StorageSettings, StoreOptions};
pub use write::{DataFile, TableWriter, WriterSettings};
