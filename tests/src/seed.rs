//! The seed and the lengths of randomised tests. Each run draws a new seed and prints it at once,
//! so that any run can be repeated.

use std::sync::OnceLock;

use anyhow::{Context, Result};

/// The variable that repeats a run.
pub const VARIABLE: &str = "ADLAKE_TEST_SEED";

/// The seed of this process: the environment's, or a new one.
pub fn seed() -> Result<u64> {
    static DRAWN: OnceLock<u32> = OnceLock::new();
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{VARIABLE} is {text:?}, not a number"))?,
        // Short enough to type, with room for what tests add to it.
        Err(_) => u64::from(*DRAWN.get_or_init(rand::random)),
    };
    println!("{VARIABLE}={seed}");
    Ok(seed)
}

/// A number from the environment that makes a test longer or shorter, or the default of
/// `make test`.
pub fn knob(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}, not a number")),
        Err(_) => Ok(default),
    }
}

#[test]
fn a_process_has_one_seed() {
    assert_eq!(seed().unwrap(), seed().unwrap());
}
