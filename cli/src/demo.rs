//! The parts of `adlake demo`: a history, an in-process broker, the live table, the check at the
//! end.

pub mod broker;
pub mod dashboard;
pub mod screen;
pub mod check;
pub mod history;
