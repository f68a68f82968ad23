//! The parts of `adlake demo`: an in-process broker, the live table, the check at the end.

pub mod broker;
pub mod dashboard;
pub mod screen;
pub mod check;
