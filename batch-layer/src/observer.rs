//! Who is told how far a run is.

use crate::plan::Plan;

/// An observer of a run.
pub trait BatchObserver: Send + Sync {
    /// A run begins to do what was planned.
    fn planned(&self, plan: &Plan);
    /// A step begins to write a table.
    fn begin(&self, table: &str);
    /// More rows were written to the table.
    fn rows(&self, table: &str, rows: u64);
    /// The table is finished.
    fn end(&self, table: &str, rows: u64);
}

/// An observer that does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl BatchObserver for Silent {
    fn planned(&self, _plan: &Plan) {}
    fn begin(&self, _table: &str) {}
    fn rows(&self, _table: &str, _rows: u64) {}
    fn end(&self, _table: &str, _rows: u64) {}
}
