//! What can go wrong with the lake, cut by what the caller does about it.

use datafusion::error::DataFusionError;
use delta_kernel::Error as KernelError;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;

/// An error of the lake. The subject is in the text, the cause is linked.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The settings are wrong: change them.
    #[error("{0}")]
    Configuration(String),
    /// The store does not answer, or not in time: wait and try again.
    #[error("{subject} is not reachable")]
    Unavailable {
        /// What was asked of the store.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store refuses: permissions, credentials, a bucket that is not there. Trying again does not help.
    #[error("{subject} was refused")]
    Refused {
        /// What was asked of the store.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored is not what adlake writes.
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
    /// Somebody has changed a table so that adlake cannot write it any more: that table stops, the others do not.
    #[error("table {table} was changed so that adlake cannot write it (version {version}): {detail}")]
    Schema {
        /// The table's name.
        table: String,
        /// The version at which this was seen.
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
    /// Whether waiting and trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            LakeError::Unavailable { .. } => true,
            LakeError::Table { source, .. } => is_outage(source),
            LakeError::Query(error) => match error.find_root() {
                DataFusionError::ObjectStore(error) => store_outage(error),
                _ => false,
            },
            _ => false,
        }
    }

    /// Wraps an error of a table, telling outages and refusals from the rest.
    pub fn table(table: &str, source: DeltaTableError) -> LakeError {
        let subject = format!("table {table}");
        match store_error(&source) {
            Some(error) if is_refusal(error) => LakeError::Refused { subject, source: Box::new(source) },
            Some(error) if store_outage(error) => LakeError::Unavailable { subject, source: Box::new(source) },
            _ => LakeError::Table { table: table.to_string(), source: Box::new(source) },
        }
    }

    /// Wraps an error of the object store.
    pub fn store(subject: impl Into<String>, source: object_store::Error) -> LakeError {
        let subject = subject.into();
        if store_outage(&source) {
            LakeError::Unavailable { subject, source: Box::new(source) }
        } else {
            LakeError::Refused { subject, source: Box::new(source) }
        }
    }

    pub(crate) fn schema(table: &str, version: u64, detail: String) -> LakeError {
        LakeError::Schema { table: table.to_string(), version, detail }
    }

    pub(crate) fn rows(table: &str, detail: impl ToString) -> LakeError {
        LakeError::Rows { table: table.to_string(), detail: detail.to_string() }
    }
}

/// The error of the store that an error of a table comes from. What loads a table wraps it in several ways; the kernel does not
/// even link it as a cause.
fn store_error(error: &DeltaTableError) -> Option<&object_store::Error> {
    if let DeltaTableError::Transaction { source: TransactionError::ObjectStore { source } } = error {
        return Some(source);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return Some(error);
        }
        cause = match error.downcast_ref::<KernelError>() {
            Some(KernelError::ObjectStore(error)) => return Some(error),
            Some(KernelError::Backtraced { source, .. }) => Some(source.as_ref()),
            _ => error.source(),
        };
    }
    None
}

/// Whether the store forbids: credentials or permissions have to be changed.
fn is_refusal(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => true,
        // Of a list request that is forbidden only the text says so.
        object_store::Error::Generic { source, .. } => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
            while let Some(error) = cause {
                let text = error.to_string();
                if ["status code: 401", "status code: 403"].iter().any(|status| text.contains(status)) {
                    return true;
                }
                cause = error.source();
            }
            false
        }
        _ => false,
    }
}

/// Whether a Delta error comes from a store that may answer later.
pub(crate) fn is_outage(error: &DeltaTableError) -> bool {
    store_error(error).is_some_and(store_outage)
}

/// The one place that says which errors of the object store may pass by themselves.
pub(crate) fn store_outage(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::Generic { .. } => !is_refusal(error),
        object_store::Error::JoinError { .. } => true,
        object_store::Error::NotFound { .. }
        | object_store::Error::InvalidPath { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::AlreadyExists { .. }
        | object_store::Error::Precondition { .. }
        | object_store::Error::NotModified { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => false,
        _ => true,
    }
}

/// An error with its causes, on one line: many libraries' own errors say little.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use parquet::errors::ParquetError;

    use super::*;

    fn out() -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: "503".into() }
    }

    fn forbidden() -> object_store::Error {
        object_store::Error::PermissionDenied { path: "log".to_string(), source: "403".into() }
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
