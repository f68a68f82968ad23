//! The thread that decodes and encodes a table's rows.
//!
//! It is always the same thread. The memory that it frees with one batch is available to it at once
//! for the next. On the idle threads of a pool, the memory of every batch would come from another
//! heap.

use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::error::SpeedError;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after another. It ends when this handle is dropped.
#[derive(Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts a thread with this name.
    pub fn spawn(name: &str) -> Result<Worker, SpeedError> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || jobs.iter().for_each(|job| job()));
        spawned.map_err(|error| SpeedError::thread(name, error))?;
        Ok(Worker { jobs: sender })
    }

    /// Returns the result of the work, or an error if it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, SpeedError> {
        let (done, answer) = oneshot::channel();
        let job = Box::new(move || {
            // The receiver may be gone.
            let _ = done.send(work());
        });
        let ended = || SpeedError::Ended("decoding");
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_one_thread_and_a_panic_is_told() {
        let worker = Worker::spawn("worker").unwrap();
        let on = || (thread::current().id(), thread::current().name().map(str::to_owned));
        let first = worker.run(on).await.unwrap();
        assert_eq!(first.1.as_deref(), Some("worker"));
        assert_ne!(first.0, thread::current().id());
        assert_eq!(worker.run(on).await.unwrap(), first);
        assert!(matches!(worker.run(|| panic!("as it should")).await, Err(SpeedError::Ended("decoding"))));
        assert!(worker.run(on).await.is_err());
    }
}
