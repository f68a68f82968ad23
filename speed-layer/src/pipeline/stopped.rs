//! A lane whose table cannot be written any more: it does nothing, and holds nobody up, until the run ends. Then it says why.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_lake::error::chain;
use tokio::sync::{mpsc, oneshot};

use super::lane::Order;
use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::Stream;
use crate::source::{Command, Commander, Event};

/// What is left of a lane.
#[derive(Debug)]
pub struct Stopped {
    /// The kind of its table.
    pub kind: EventKind,
    /// Why it stopped.
    pub error: SpeedError,
    /// The source.
    pub commander: Commander,
    /// Where it counts.
    pub metrics: Metrics,
    /// Who is told that it stopped.
    pub notice: mpsc::UnboundedSender<EventKind>,
}

impl Stopped {
    /// Skips `streams` and whatever is assigned later, drops what is read, gives away what is revoked, and answers who waits for it, until there are no more orders.
    pub async fn run(
        self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        streams: Vec<Arc<Stream>>,
        drains: Vec<oneshot::Sender<()>>,
    ) -> Result<(), SpeedError> {
        let table = self.kind.raw_table();
        tracing::error!(table, error = chain(&self.error), "the table is stopped; the others go on");
        self.metrics.stopped(self.kind);
        // Who is gone need not know.
        let _ = self.notice.send(self.kind);
        self.commander.tell(Command::Skip(streams));
        for drain in drains {
            let _ = drain.send(());
        }
        while let Some(order) = orders.recv().await {
            match order {
                Order::Drain(drained) => _ = drained.send(()),
                Order::Event(Event::Assigned(streams)) => self.commander.tell(Command::Skip(streams)),
                Order::Event(Event::Revoked(streams)) => {
                    streams.iter().for_each(|stream| self.metrics.not_ours(stream));
                    self.commander.tell(Command::Release(streams));
                }
                // Records make room by being dropped. They are not committed, and are read again once the table is mended.
                Order::Event(_) => {}
            }
        }
        Err(self.error)
    }
}
