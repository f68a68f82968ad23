//! What the consumer group tells: partitions that come and go, and librdkafka's own log.
//!
//! The callback only notes what happened; [`super::KafkaSource`] acts on it, since the answer to an assignment (where to begin) has to
//! be asked of the lake first. Only while closing is a revocation granted on the spot.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// A topic and a partition.
pub type Place = (String, i32);

/// A change of what is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Partitions come; the group waits for the assignment to be made.
    Assigned(Vec<Place>),
    /// Partitions go; the group waits for them to be unassigned.
    Revoked(Vec<Place>),
}

/// The consumer's callbacks.
#[derive(Debug, Default)]
pub struct Group {
    changes: Mutex<VecDeque<Change>>,
    closing: AtomicBool,
}

impl Group {
    /// The oldest change that has not been taken.
    pub fn next_change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on revocations are granted on the spot.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

/// Whether partitions come and go one by one, or all at once.
pub fn is_cooperative(consumer: &BaseConsumer<Group>) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Gives partitions back.
pub fn unassign(consumer: &BaseConsumer<Group>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let places = partitions
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect::<Vec<_>>();
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            let result = if assigned { Ok(()) } else { unassign(consumer, partitions) };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot give partitions back while leaving the group");
            }
            return;
        }
        let change = if assigned { Change::Assigned(places) } else { Change::Revoked(places) };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            // Nothing depends on these offsets but the lag that others show.
            tracing::debug!(%error, "the consumer group's offsets were not committed");
        }
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, "kafka: {reason}");
    }
}
