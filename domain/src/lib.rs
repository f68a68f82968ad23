//! What an ad event and a metric are.
//!
//! This crate has the types, the Arrow schemas, the table catalogue, the formulas of the KPIs and
//! the rules of attribution. Everything is a pure function of its arguments: no I/O, no async, no
//! Delta, no Kafka, no clock. The other crates build on it. It depends on none of them.

#![forbid(unsafe_code)]

pub mod event;
pub mod schema;
pub mod content;
pub mod identity;

pub mod settings;
pub mod invalid;
pub mod attribution;
pub mod credit;
pub mod kpi;
pub mod reach;
pub mod segments;
pub mod batch_schema;
pub mod catalogue;

pub mod time;
pub mod money;
pub mod country;
pub mod device;
pub mod secret;
