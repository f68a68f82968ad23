//! Writes decoded rows as Parquet, and commits the files.
//!
//! [`Builder`] holds what has been taken for one table and is not sealed yet. It uses the CPU and
//! does no I/O. [`Committer`] uploads and commits what was sealed, dead letters first. If it fails
//! after the dead letters, their position is ahead of the rows'. The dead letters in between are
//! then looked up ([`KnownDead`]) and not written again.

mod builder;
mod commit;
mod dead_letters;
mod known_dead;

pub use self::builder::{Builder, Sealed};
pub use self::commit::{Committer, Outcome, Stored};
pub use self::dead_letters::count_dead_letters;
pub use self::known_dead::KnownDead;
