//! The errors of the lake, one variant for each reaction of the caller.

use datafusion::error::DataFusionError;
use delta_kernel::Error as KernelError;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;

/// An error of the lake. Its text names the subject. The cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The settings are wrong: change them.
    #[error("{0}")]
    Configuration(String),
    /// The store does not answer, or not in time: wait and retry.
    #[error("{subject} is not reachable")]
    Unavailable {
        /// What the store was asked for.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store refuses: permissions, credentials, or a bucket that does not exist. A retry does
    /// not help.
    #[error("{subject} was refused")]
    Refused {
        /// What the store was asked for.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another writer was first. Nothing was written, unless the text says that it is not known.
    /// The same command may run again.
    #[error("{0}. Running it again is safe")]
    Superseded(String),
    /// The stored data is not what adlake writes.
    #[error("{0}")]
    Corrupt(String),
    /// There is no lake, or no such table, at the place that was named.
    #[error("{0}")]
    NotFound(String),
    /// A table could not be read or written.
    #[error("table {table}")]
    Table {
        /// The table's name.
        table: String,
        /// Why.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// Another writer has changed a table so that adlake cannot write it any more. Writes to this
    /// table stop, those to other tables continue.
    #[error("table {table} was changed so that adlake cannot write it (version {version}): {detail}")]
    Schema {
        /// The table's name.
        table: String,
        /// The version at which adlake found the change.
        version: u64,
        /// What does not fit: the column and both types.
        detail: String,
    },
    /// A query is wrong, or failed.
    #[error(transparent)]
    Query(#[from] DataFusionError),
    /// Rows do not have the shape of their table.
    #[error("rows of {table}: {detail}")]
    Rows {
        /// The table's name.
        table: String,
        /// What does not fit.
        detail: String,
    },
}

impl LakeError {
    /// Whether a retry after a wait may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            LakeError::Unavailable { .. } => true,
            LakeError::Table { source, .. } => is_outage(&**source),
            LakeError::Query(error) => is_outage(error),
            _ => false,
        }
    }

    /// Wraps an error of a table. Outages and refusals become variants of their own.
    pub fn table(table: &str, source: DeltaTableError) -> LakeError {
        let subject = format!("table {table}");
        match store_error(&source).map(Cause::of) {
            Some(Cause::Refused) => LakeError::Refused { subject, source: Box::new(source) },
            Some(Cause::Outage | Cause::Raced) => LakeError::Unavailable { subject, source: Box::new(source) },
            Some(Cause::Wrong) | None => LakeError::Table { table: table.to_string(), source: Box::new(source) },
        }
    }

    /// Wraps an error of the object store.
    pub fn store(subject: impl Into<String>, source: object_store::Error) -> LakeError {
        let (subject, cause) = (subject.into(), Cause::of(&source));
        match cause {
            Cause::Outage | Cause::Raced => LakeError::Unavailable { subject, source: Box::new(source) },
            Cause::Refused | Cause::Wrong => LakeError::Refused { subject, source: Box::new(source) },
        }
    }

    pub(crate) fn schema(table: &str, version: u64, detail: String) -> LakeError {
        LakeError::Schema { table: table.to_string(), version, detail }
    }

    pub(crate) fn rows(table: &str, detail: impl ToString) -> LakeError {
        LakeError::Rows { table: table.to_string(), detail: detail.to_string() }
    }
}

/// Why a request to the store failed, one variant for each reaction. This is the only place that
/// says which errors may pass by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The store did not answer, was too slow, broke off, or had an error of its own. Retry.
    Outage,
    /// Another writer has changed the object meanwhile. Read it again.
    Raced,
    /// Credentials or permissions must be changed.
    Refused,
    /// The object does not exist, or the request is not possible.
    Wrong,
}

impl Cause {
    pub(crate) fn of(error: &object_store::Error) -> Cause {
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Cause::Refused
            }
            object_store::Error::Generic { source, .. } if is_forbidden(source.as_ref()) => Cause::Refused,
            object_store::Error::Generic { source, .. } if is_no_folder(source.as_ref()) => Cause::Wrong,
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotModified { .. } => Cause::Raced,
            object_store::Error::NotFound { .. }
            | object_store::Error::InvalidPath { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. }
            | object_store::Error::UnknownConfigurationKey { .. } => Cause::Wrong,
            _ => Cause::Outage,
        }
    }
}

/// Whether an error comes from a request to the store that may succeed if it is retried.
fn is_outage(error: &(dyn std::error::Error + 'static)) -> bool {
    store_error(error).is_some_and(|error| matches!(Cause::of(error), Cause::Outage | Cause::Raced))
}

/// The store's error that caused another error. Loading a table wraps it in several ways. The
/// kernel does not even link it as a source.
fn store_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a object_store::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return Some(error);
        }
        if let Some(DeltaTableError::Transaction { source: TransactionError::ObjectStore { source } }) =
            error.downcast_ref()
        {
            return Some(source);
        }
        cause = match error.downcast_ref::<KernelError>() {
            Some(KernelError::ObjectStore(error)) => return Some(error),
            Some(KernelError::Backtraced { source, .. }) => Some(source.as_ref()),
            _ => error.source(),
        };
    }
    None
}

/// How errors of the store say that something is forbidden.
const FORBIDDEN: [&str; 3] = ["status code: 401", "status code: 403", "(code: AccessDenied)"];

/// Whether the store forbids a listing or a deletion. Only the text of the error says so. S3
/// answers 200 to a request to delete, with an error for each object.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).any(|text| FORBIDDEN.iter().any(|forbidden| text.contains(forbidden)))
}

/// Whether there is a file where the lake needs a folder. That does not pass by itself.
fn is_no_folder(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::NotADirectory)
}

/// An error and its causes on one line. The errors of many libraries say little without the causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use parquet::errors::ParquetError;

    use super::*;

    fn out() -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: "503".into() }
    }

    fn forbidden() -> object_store::Error {
        object_store::Error::PermissionDenied { path: "log".to_string(), source: "403".into() }
    }

    #[test]
    fn a_lost_race_is_looked_at_again_and_a_missing_object_is_not() {
        let exists = || object_store::Error::AlreadyExists { path: "log".to_string(), source: "409".into() };
        let changed = || object_store::Error::Precondition { path: "log".to_string(), source: "412".into() };
        let missing = || object_store::Error::NotFound { path: "log".to_string(), source: "404".into() };
        for (error, expected) in [(exists(), true), (changed(), true), (missing(), false), (out(), true)] {
            assert_eq!(LakeError::store("it", error).is_retryable(), expected);
        }
    }

    #[test]
    fn a_refused_deletion_is_a_refusal() {
        let check = |source: &str, is_refused: bool| {
            let error = object_store::Error::Generic { store: "S3", source: source.into() };
            assert_eq!(Cause::of(&error) == Cause::Refused, is_refused, "{source}");
        };
        check("DeleteObjects request failed for key a: Access Denied (code: AccessDenied)", true);
        check("DeleteObjects request failed for key a: We encountered an error (code: InternalError)", false);
    }

    #[test]
    fn an_outage_in_a_query_is_known_however_it_is_wrapped() {
        let wraps: [fn(object_store::Error) -> DataFusionError; 4] = [
            |error| DataFusionError::ObjectStore(Box::new(error)),
            |error| DataFusionError::External(Box::new(error)).context("scan"),
            |error| DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(error)))),
            |error| DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(error))), None),
        ];
        for wrap in wraps {
            assert!(LakeError::from(wrap(out())).is_retryable(), "{:?}", wrap(out()));
            assert!(!LakeError::from(wrap(forbidden())).is_retryable(), "{:?}", wrap(forbidden()));
        }
    }

    #[test]
    fn an_outage_is_known_however_it_is_wrapped() {
        let wraps: [fn(object_store::Error) -> DeltaTableError; 5] = [
            |source| DeltaTableError::ObjectStore { source },
            |source| DeltaTableError::Transaction { source: TransactionError::ObjectStore { source } },
            |source| KernelError::from(source).into(),
            |source| DeltaTableError::Parquet { source: ParquetError::External(Box::new(source)) },
            |source| KernelError::generic_err(source).into(),
        ];
        for wrap in wraps {
            let error = LakeError::table("t", wrap(out()));
            assert!(error.is_retryable() && matches!(error, LakeError::Unavailable { .. }), "{error:?}");
            let error = LakeError::table("t", wrap(forbidden()));
            assert!(!error.is_retryable() && matches!(error, LakeError::Refused { .. }), "{error:?}");
        }
        let other = LakeError::table("t", KernelError::generic("a broken checkpoint").into());
        assert!(!other.is_retryable() && matches!(other, LakeError::Table { .. }), "{other:?}");
    }
}
