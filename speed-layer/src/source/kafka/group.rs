//! What the client reports: assignments and revocations, brokers that refuse this client,
//! librdkafka's log, and requests for a token.
//!
//! The group's callback only notes what happened, and [`super::KafkaSource`] acts on it: the lake
//! must first be asked where an assigned partition begins. Only while closing are revocations
//! granted in the callback.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use adlake_domain::secret::SecretList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::msk_iam::MskIam;
use super::repeats::{Admitted, Repeats};
use super::token;
use crate::clock::now_micros;

/// How long a token may take. Meanwhile the group is not polled.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How the client's error begins if there was no token.
pub const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

/// A topic and a partition.
pub type Place = (String, i32);

/// A change of this consumer's assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Partitions were assigned. The group waits for the assignment to be made.
    Assigned(Vec<Place>),
    /// Partitions were revoked. The group waits for them to be unassigned.
    Revoked(Vec<Place>),
}

/// The consumer's callbacks.
#[derive(Debug, Default)]
pub struct Group {
    changes: Mutex<VecDeque<Change>>,
    closing: AtomicBool,
    /// The group has refused to commit an offset, and nobody has taken note.
    refused: AtomicBool,
    /// How many commits of offsets the group has not answered.
    open_commits: AtomicI64,
    repeats: Repeats,
    tokens: Tokens,
    complaints: Mutex<Complaints>,
}

/// Where tokens come from, where the client needs any.
#[derive(Debug)]
pub enum Tokens {
    /// A program prints them.
    Command(SecretList),
    /// They are signed with AWS credentials.
    MskIam(MskIam),
}

impl Tokens {
    /// Whether anything makes tokens.
    fn are_made(&self) -> bool {
        match self {
            Tokens::Command(command) => !command.as_slice().is_empty(),
            Tokens::MskIam(_) => true,
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens::Command(SecretList::default())
    }
}

/// The errors that brokers, or connections to them, have reported since the beginning.
#[derive(Debug, Clone, Default)]
pub struct Complaints {
    /// How often the credentials were refused, or a token was wanted and nothing makes any.
    pub refused: u32,
    /// How often a secure connection failed.
    pub insecure: u32,
    /// The last reason given, of any kind of error.
    pub last: Option<String>,
}

impl Group {
    /// The callbacks of a client.
    pub fn new(tokens: Tokens) -> Group {
        Group { tokens, ..Group::default() }
    }

    /// The errors reported so far.
    pub fn complaints(&self) -> Complaints {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the oldest change that nobody has taken.
    pub fn next_change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether the group has refused to commit offsets since this was last asked.
    pub fn take_refusal(&self) -> bool {
        self.refused.swap(false, Ordering::SeqCst)
    }

    /// Offsets were sent to be committed.
    pub fn commit_sent(&self) {
        self.open_commits.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the group has not answered all commits of offsets.
    pub fn has_open_commits(&self) -> bool {
        self.open_commits.load(Ordering::SeqCst) > 0
    }

    /// Whether a line of this sort is to be logged now.
    pub fn admit_line(&self, sort: &str) -> Option<Admitted> {
        self.repeats.admit(sort, Instant::now())
    }

    /// From now on revocations are granted on the spot.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

/// Whether the group assigns and revokes partitions incrementally (cooperatively) instead of all at
/// once.
pub fn is_cooperative(consumer: &BaseConsumer<Group>) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Gives revoked partitions back to the group.
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
                tracing::warn!(%error, "cannot unassign partitions while leaving the group");
            }
            return;
        }
        let change = if assigned { Change::Assigned(places) } else { Change::Revoked(places) };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.open_commits.fetch_sub(1, Ordering::SeqCst);
        let of_each = || offsets.elements().iter().try_for_each(|element| element.error());
        if let Err(error) = result.and_then(|()| of_each()) {
            // They are committed again later. The lag that other tools show depends on them, and so
            // does the end of other workers that run until the end.
            self.refused.store(true, Ordering::SeqCst);
            tracing::debug!(%error, "the consumer group's offsets were not committed");
        }
    }
}

impl ClientContext for Group {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        // The client asks again before the token expires, and soon after a failure. A failure comes
        // back through `error`.
        Ok(match &self.tokens {
            Tokens::Command(command) => token::from_command(command.as_slice(), TOKEN_TIMEOUT, now_micros() / 1_000)?,
            Tokens::MskIam(signer) => signer.token(TOKEN_TIMEOUT)?,
        })
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let Some(Admitted { left_out }) = self.admit_line(facility) else { return };
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(facility, left_out, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, left_out, "librdkafka: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, left_out, "librdkafka: {message}")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, left_out, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let sort = error.rdkafka_error_code().map_or_else(String::new, |code| format!("{code:?}"));
        if let Some(Admitted { left_out }) = self.admit_line(&sort) {
            tracing::warn!(%error, left_out, "kafka: {reason}");
        }
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            // The source of the credentials may answer again soon. No broker has refused anything.
            Some(RDKafkaErrorCode::Authentication) if reason.contains(NO_TOKEN) && self.tokens.are_made() => {}
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                complaints.refused += 1
            }
            Some(RDKafkaErrorCode::SSL) => complaints.insecure += 1,
            // A broker that rejects the client's certificate says so after the handshake, and cuts
            // the connection.
            Some(_) if reason.contains("SSL routines") => complaints.insecure += 1,
            // This error only sums up earlier ones.
            Some(RDKafkaErrorCode::AllBrokersDown) => return,
            _ => {}
        }
        complaints.last = Some(reason.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_made_is_no_refusal() {
        let check = |command: &[&str], code, reason: &str, refused| {
            let group = Group::new(Tokens::Command(command.iter().copied().collect()));
            group.error(KafkaError::Global(code), reason);
            let complaints = group.complaints();
            assert_eq!((complaints.refused, complaints.last.as_deref()), (refused, Some(reason)));
        };
        let no_token = format!("{NO_TOKEN}: no answer");
        check(&["sh"], RDKafkaErrorCode::Authentication, &no_token, 0);
        check(&["sh"], RDKafkaErrorCode::Authentication, "SASL authentication error", 1);
        check(&["sh"], RDKafkaErrorCode::SaslAuthenticationFailed, "denied", 1);
        // Without a command there will never be a token.
        check(&[], RDKafkaErrorCode::Authentication, &no_token, 1);
    }
}
