//! How the program fails: one line on stderr, and an exit code that says who has to act.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed: an outage, a refusal, wrong data, a wrong query, another process was first |
//! | 2 | the command line or the configuration has to be changed |
//! | 3 | an expectation of severity fail is not met; or `status --check` has found a problem |

use std::fmt;

use adlake_batch_layer::BatchError;
use adlake_lake::LakeError;
use adlake_serving::QueryError;
use adlake_speed_layer::error::SpeedError;
use adlake_traffic::error::TrafficError;
use anyhow::Error;

/// Exit code of failures.
pub const FAILURE: u8 = 1;
/// Exit code of a wrong command line or configuration.
pub const USAGE: u8 = 2;
/// Exit code of expectations that are not met, and of problems that `status --check` has found.
pub const NOT_MET: u8 = 3;

/// The lake is not as it has to be: expectations of severity fail are not met, or `status --check`
/// has found a problem.
#[derive(Debug)]
pub struct NotMet(pub String);

impl fmt::Display for NotMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotMet {}

/// Something that the user has to change before another try.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that the user has to change something about.
pub fn usage(message: impl Into<String>) -> Error {
    Error::new(Usage(message.into()))
}

/// Converts an error of the serving layer. An error of the lake inside it is returned unwrapped.
pub fn query_error(error: QueryError) -> Error {
    match error {
        QueryError::Lake(error) => Error::new(error),
        other => Error::new(other),
    }
}

/// Converts an error of the batch layer. An error of the lake inside it is returned unwrapped.
pub fn batch_error(error: BatchError) -> Error {
    match error {
        BatchError::Lake(error) => Error::new(error),
        refused @ (BatchError::Refused(_) | BatchError::NotMet(_)) => Error::new(NotMet(refused.to_string())),
        other => Error::new(other),
    }
}

/// Converts an error of the speed layer. An error of the settings becomes a usage error, because
/// the user has to fix it.
pub fn speed_error(error: SpeedError) -> Error {
    match error {
        SpeedError::Settings { .. } => usage(error.to_string()),
        other => Error::new(other),
    }
}

/// The exit code of an error.
pub fn exit_code(error: &Error) -> u8 {
    let is_usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || matches!(cause.downcast_ref::<LakeError>(), Some(LakeError::Configuration(_)))
            || matches!(cause.downcast_ref::<TrafficError>(), Some(TrafficError::Property { .. }))
    });
    match is_usage {
        true => USAGE,
        false if error.chain().any(|cause| cause.is::<NotMet>()) => NOT_MET,
        false => FAILURE,
    }
}

/// Whether the reader of the output has closed the pipe (`adlake query ... | head`).
pub fn is_broken_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The error and its causes on one line. Many errors already print their cause, so a cause that the
/// line already contains is left out.
pub fn line(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        if cause.is_empty() || text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_chained_once() {
        let error = anyhow!("no route to host").context("cannot connect: no route to host").context("table raw/x");
        assert_eq!(line(&error), "table raw/x: cannot connect: no route to host");
        assert_eq!(line(&anyhow!("two\n  lines")), "two lines");
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code(&anyhow!("no")), FAILURE);
        assert_eq!(exit_code(&Error::new(NotMet("no".into())).context("while checking")), NOT_MET);
        assert_eq!(exit_code(&usage("no").context("while reading")), USAGE);
        assert_eq!(exit_code(&Error::new(LakeError::Configuration("no".into()))), USAGE);
        assert_eq!(exit_code(&Error::new(LakeError::Superseded("another was first".into()))), FAILURE);
        assert!(is_broken_pipe(&Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("x")));
    }
}
