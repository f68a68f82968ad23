//! The end-to-end tests: one binary, so that the servers they share start once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: a failure is a failed test")]

mod cli;
mod files_watch;
mod harness;
mod ingest_files;
mod ingest_kafka;
mod log_upkeep;
mod merge;
mod raw;
mod whole_way;
