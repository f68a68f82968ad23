//! The serving layer: SQL over the merged views, exact at every moment.

pub mod query;

pub use query::{QueryEngine, QueryError, QuerySettings};
