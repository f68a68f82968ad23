//! Alarms: what is wrong with the campaigns or with the lake, told in time and once.
//!
//! Data walks one way:
//!
//! 1. [`samples`] asks the live state for the sums of each rule's window and of its baseline. They
//!    are the answers of the API, so they are exact.
//! 2. [`engine`] judges them ([`detect`]) and moves the state of each group ([`track`]). It decides
//!    what is told. It has no I/O, no clock and no randomness.
//! 3. [`journal`] commits the transitions to `batch/alarms`, before anything is sent.
//! 4. [`sinks`] send what the journal holds behind the position that is stored for each sink.
//!
//! [`run`] is the loop. What always holds:
//!
//! - A transition is sent only after it is committed, and it is sent with an id that is committed
//!   with it. So a server that is killed in between sends the same again, or for the first time.
//! - Every commit advances the stream of the evaluator from exactly the position that the server
//!   knows. Of two servers that believe to be the leader, one is refused. It reads the table anew.
//! - A rule that sees the same values is in the same state, whatever snapshot they come from.

pub mod rule;
pub mod detect;
pub mod track;
pub mod engine;
pub mod rule_test;
pub mod samples;
pub mod cause;
pub mod journal;
pub mod history;
pub mod board;
pub mod settings;
pub mod sinks;
pub mod run;
pub mod replay;
pub mod prometheus;
