//! Synthetic advertising traffic: seeded and realistic, together with the truth about it.
//!
//! ```text
//! plan -> world (campaigns, websites, users)
//!           |
//!        stream (opportunities -> events, in order of arrival)
//!           |
//!        encode (JSON, CSV, Avro), a malformed copy of some -> sink (files, Kafka)
//!           |
//!        truth (what a correct lake answers)
//! ```
//!
//! [`generator`] shows the whole walk. The program runs it as `adlake generate` and `adlake demo`.
//! The end-to-end tests run `adlake generate`, and compare the lake's answers with the truth that
//! it writes.
//!
//! These invariants always hold:
//!
//! - The records are a function of the plan alone, never of the rate, the clock or the machine.
//! - The truth counts exactly what was sent. It is counted without any code of the layers.

pub mod generator;
pub mod plan;
pub mod world;
pub mod stream;
pub mod event;
pub mod encode_text;
pub mod encode_avro;
pub mod malformed;
pub mod sink;
pub mod truth;
pub mod reference;

pub mod clock;
pub mod incident;
pub mod error;
pub mod places;
pub mod random;
pub mod text;
