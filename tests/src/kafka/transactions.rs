//! A transactional producer. Readers of committed records see what it commits, and never see what
//! it aborts.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::Broker;

const DEADLINE: Duration = Duration::from_secs(30);

/// A producer with at most one open transaction.
pub struct Transactions {
    producer: BaseProducer,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions").finish_non_exhaustive()
    }
}

impl Transactions {
    /// A producer with this transactional id. An open transaction of an earlier producer with the
    /// same id is aborted.
    pub fn of(broker: &Broker, id: &str) -> Result<Transactions> {
        let mut config = broker.client_config();
        config.set("transactional.id", id).set("transaction.timeout.ms", "60000").set("linger.ms", "0");
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(DEADLINE).context("cannot begin with transactions")?;
        Ok(Transactions { producer })
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<()> {
        self.producer.begin_transaction().context("cannot begin a transaction")
    }

    /// Sends records within the open transaction. Returns when the broker has them.
    pub fn send<P: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: i32,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<()> {
        for payload in payloads {
            let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload.as_ref());
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(DEADLINE).context("cannot send within a transaction")
    }

    /// Commits the open transaction.
    pub fn commit(&self) -> Result<()> {
        self.producer.commit_transaction(DEADLINE).context("cannot commit a transaction")
    }

    /// Aborts the open transaction.
    pub fn abort(&self) -> Result<()> {
        self.producer.abort_transaction(DEADLINE).context("cannot abort a transaction")
    }
}
