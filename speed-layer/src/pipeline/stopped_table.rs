//! The rest of a lane whose table cannot be written any more. It writes nothing and blocks nobody
//! until the run ends. Then it returns the error.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_lake::error::chain;
use tokio::sync::{mpsc, oneshot};

use super::LaneMessage;
use crate::error::SpeedError;
use crate::metrics::Metrics;
use crate::record::Stream;
use crate::source::{Command, Commander, Event};

/// A lane that is stopped.
#[derive(Debug)]
pub struct StoppedTable {
    /// The kind of event in its table.
    pub kind: EventKind,
    /// Why it is stopped.
    pub error: SpeedError,
    /// Sends commands to the source.
    pub commander: Commander,
    /// The metrics of the run.
    pub metrics: Metrics,
    /// Tells the pipeline that the table is stopped.
    pub notice: mpsc::UnboundedSender<EventKind>,
}

impl StoppedTable {
    /// Skips `streams` and all streams that are assigned later, drops records, releases revoked
    /// streams, and answers drains. It runs until there are no more messages.
    pub async fn run(
        self,
        mut messages: mpsc::UnboundedReceiver<LaneMessage>,
        streams: Vec<Arc<Stream>>,
        drains: Vec<oneshot::Sender<()>>,
    ) -> Result<(), SpeedError> {
        let table = self.kind.raw_table();
        tracing::error!(table, error = chain(&self.error), "the table is stopped; the others go on");
        self.metrics.stopped(self.kind);
        // The pipeline may have ended already. It need not know then.
        let _ = self.notice.send(self.kind);
        self.commander.tell(Command::Skip(streams));
        for drain in drains {
            let _ = drain.send(());
        }
        while let Some(message) = messages.recv().await {
            match message {
                LaneMessage::Drain(drained) => _ = drained.send(()),
                LaneMessage::Event(Event::Assigned(streams)) => self.commander.tell(Command::Skip(streams)),
                LaneMessage::Event(Event::Revoked(streams)) => self.commander.tell(Command::Release(streams)),
                // Dropping records frees their room in the queue. They are not committed, so they
                // are read again once the table is repaired.
                LaneMessage::Event(_) => {}
            }
        }
        Err(self.error)
    }
}
