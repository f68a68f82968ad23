//! Reads what another writer has committed from its entry in the log.

use adlake_telemetry::SpanContext;
use serde_json::Value;

use super::{COMMIT_ID, TRACE};
use crate::error::LakeError;

/// What a writer needs to know of one commit in the log.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) commit_id: Option<String>,
    pub(crate) positions: Vec<(String, i64)>,
    /// The table's metadata, if the commit changes it.
    pub(crate) metadata: Option<Value>,
    pub(crate) protocol: Option<Value>,
    /// Whether the commit removes files.
    pub(crate) removes: bool,
    /// The span that made the commit, if its writer exports traces.
    pub(crate) trace: Option<SpanContext>,
}

impl Entry {
    /// Whether the commit changes the table's metadata or protocol.
    pub(crate) fn is_change(&self) -> bool {
        self.metadata.is_some() || self.protocol.is_some()
    }

    pub(crate) fn parse(table: &str, version: u64, bytes: &[u8]) -> Result<Entry, LakeError> {
        let wrong =
            |detail: &dyn std::fmt::Display| LakeError::Corrupt(format!("{table}: log version {version}: {detail}"));
        let mut entry = Entry::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Most lines, and the longest, are `add` actions. Nothing in them is needed here.
            if line.starts_with(b"{\"add\"") {
                continue;
            }
            let mut action: Value = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
            if let Some(metadata) = action.get_mut("metaData") {
                entry.metadata = Some(metadata.take());
            } else if let Some(protocol) = action.get_mut("protocol") {
                entry.protocol = Some(protocol.take());
            } else if action.get("remove").is_some() {
                entry.removes = true;
            } else if let Some(info) = action.get("commitInfo") {
                entry.commit_id = info.get(COMMIT_ID).and_then(Value::as_str).map(String::from);
                entry.trace = info.get(TRACE).and_then(Value::as_str).and_then(SpanContext::parse);
            } else if let Some(transaction) = action.get("txn") {
                let application = transaction.get("appId").and_then(Value::as_str);
                let position = transaction.get("version").and_then(Value::as_i64);
                match (application, position) {
                    (Some(application), Some(position)) => entry.positions.push((application.to_string(), position)),
                    _ => return Err(wrong(&"its txn action has no appId or no version")),
                }
            }
        }
        Ok(entry)
    }
}
