//! The meaning of the lake: dedupe, attribution, aggregation, and the merge of the batch view with
//! newer rows. Each is defined once, here.
//!
//! - [`plans`]: `Q`, from raw rows to events, attributions, sums and sketches. The batch layer
//!   writes its results.
//! - [`merge`]: what newer rows change of a published `Q`: replaced events, replaced attributions,
//!   signed sums, sketches.
//! - [`sums`]: stored sums and sketches by chosen columns.
//! - [`surface`]: the SQL views over both. They define nothing but names and ratios. Only
//!   `freshness` is about the tables themselves.
//!
//! `docs/merge.md` argues why a merged result equals a recomputed one.

pub mod plans;
mod attributed_days;
mod events;
mod winners;
mod invalid;
mod cubes;
mod batch_table;
mod slice;
pub mod merge;
pub mod sums;
pub mod surface;
mod segments;
mod freshness;

mod materialize;
mod functions;
mod bid_events;
mod content_order;
mod arguments;

pub(crate) use materialize::conform;
pub use plans::{Copies, Plans};
pub use slice::{Day, Slice, Volume};
pub use surface::{VIEWS, Views};

use adlake_domain::batch_schema::event_schema;
use adlake_domain::event::EventKind;

/// The columns of a table of events.
fn event_columns(kind: EventKind) -> Vec<String> {
    event_schema(kind).fields().iter().map(|field| field.name().clone()).collect()
}

#[cfg(test)]
mod tests;
