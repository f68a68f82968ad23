//! The parts of `adlake demo`: a broker inside the process, the live table, the check at the end.

pub mod board;
pub mod broker;
pub mod check;
pub mod screen;
