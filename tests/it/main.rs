//! The end-to-end tests. They are one binary, so that the servers they share start only once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: a failure is a failed test")]

// The whole system, and the servers and readers that the tests rely on.
mod harness;
mod raw;
mod whole_way;

// Ingest from Kafka.
mod ingest_kafka;
mod kafka_security;
mod kafka_start;
mod kafka_transactions;
mod kafka_workers;

// Ingest from files.
mod avro_files;
mod dry_run;
mod files_aside;
mod files_growth;
mod files_passed_over;
mod files_watch;
mod ingest_files;

// What becomes of a record: its fields, its schema, or the dead letters.
mod accounting;
mod deadletters;
mod hostile;
mod ingest_fields;
mod schema_change;
mod schemas;

// The tables and the answers.
mod batch_jobs;
mod check_lake;
mod batch_schedule;
mod log_upkeep;
mod quality;
mod merge;
mod sums;
mod serve;
mod alarms;
mod serve_access;
mod serve_load;
mod serve_periods;
mod serve_schemathesis;
mod serve_scope;
mod serve_tls;
mod dashboard;

// The command line, the rules of the house, and faults.
mod cli;
mod doctor;
mod traces;
mod status;
mod house_rules;
mod faults;
