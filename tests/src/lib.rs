//! The basis of the end-to-end tests: real servers that a test owns, the built program, independent
//! readers, and an oracle.
//!
//! Nothing here is part of adlake. `tests/setup/setup.sh` fetches what these modules start. If it
//! is missing, each module fails and names that script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: a failure is a failed test")]

pub mod adlake;
pub mod history;
pub mod kafka;
pub mod oracle;
pub mod process;
pub mod proxy;
pub mod readers;
pub mod registry;
pub mod s3;
pub mod seed;
pub mod setup;
pub mod shim;
pub mod spark;
pub mod wait;
