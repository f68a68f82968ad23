//! An in-process broker of the Kafka protocol: librdkafka's mock cluster.
//!
//! It keeps at most 5 MB or 100,000 messages per partition, in memory. It serves a demonstration at
//! a limited rate, and nothing else.

use anyhow::{Context, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A running broker. Dropping it stops it.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts the broker on a free port.
    pub fn start() -> Result<Broker> {
        Ok(Broker { cluster: MockCluster::new(1).context("cannot start the in-process broker")? })
    }

    /// The address that it listens on.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.cluster
            .create_topic(name, partitions, 1)
            .with_context(|| format!("cannot create the topic {name} on the in-process broker"))
    }
}
