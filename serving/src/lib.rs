//! The serving layer: answers over the merged views, exact at every moment.
//!
//! - [`query`]: SQL, from the command line.
//! - [`state`]: the live state, which follows the lake.
//! - [`question`] and [`answer`]: what is asked over HTTP, and what is answered, from one state.
//! - [`access`]: who asks, and what they may see.
//! - [`alarms`]: what is wrong, told in time and once.
//! - [`http`]: the API.

pub mod metrics;
pub mod question;
pub mod state;
pub mod access;
pub mod answer;
pub mod alarms;
pub mod settings;
pub mod http;
pub mod query;

pub use query::{QueryEngine, QueryError, QuerySettings};
pub use settings::ServeSettings;
