//! The parts of `adlake demo`: an in-process broker, the live table, the check at the end.

pub mod board;
pub mod broker;
pub mod check;
pub mod screen;
