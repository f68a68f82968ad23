//! The end-to-end tests. They are one binary, so that the servers they share start only once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: a failure is a failed test")]

mod accounting;
mod avro_files;
mod cli;
mod deadletters;
mod dry_run;
mod faults;
mod files_aside;
mod files_growth;
mod files_passed_over;
mod files_watch;
mod harness;
mod hostile;
mod house_rules;
mod ingest_fields;
mod ingest_files;
mod ingest_kafka;
mod kafka_security;
mod kafka_start;
mod kafka_transactions;
mod kafka_workers;
mod log_upkeep;
mod merge;
mod raw;
mod schema_change;
mod schemas;
mod sums;
mod whole_way;
