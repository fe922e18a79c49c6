//! Threads that ask the store. The store blocks, so the threads that serve connections never call
//! it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use firmcast_manager::clock::unix_micros;
use tokio::sync::oneshot;

use super::limits::{STORE_QUEUE_MAX, STORE_THREADS};
use super::trouble::Trouble;
use crate::model::Stamp;
use crate::store::{Store, StoreError};

/// Opens the store. It is called again by each thread, and whenever it failed before.
pub type OpenStore = Arc<dyn Fn() -> Result<Box<dyn Store>, StoreError> + Send + Sync>;

/// What a thread does with the store, or with why it cannot be opened.
type Job = Box<dyn FnOnce(Result<&mut dyn Store, StoreError>) + Send>;

/// The threads. They end when the last copy of this is gone.
#[derive(Clone)]
pub struct StorePool {
    jobs: SyncSender<Job>,
    answered_at: Arc<AtomicI64>,
}

impl fmt::Debug for StorePool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered_at = self.answered_at();
        formatter.debug_struct("StorePool").field("answered_at", &answered_at).finish()
    }
}

impl StorePool {
    /// Starts the threads. The store is opened at the first question.
    pub fn start(open: &OpenStore) -> Self {
        let (jobs, queue) = sync_channel(STORE_QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..STORE_THREADS {
            let (open, queue) = (Arc::clone(open), Arc::clone(&queue));
            std::thread::spawn(move || work(&open, &queue));
        }
        Self { jobs, answered_at: Arc::default() }
    }

    /// When the store answered last.
    pub fn answered_at(&self) -> Option<Stamp> {
        match self.answered_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(at),
        }
    }

    /// Asks the store, in one of the threads. A question whose asker has gone is left out.
    ///
    /// # Errors
    /// When too many wait already, the store does not answer, or the question panics.
    pub async fn ask<T, Q>(&self, question: Q) -> Result<T, Trouble>
    where
        T: Send + 'static,
        Q: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            if !reply.is_closed() {
                let _ = reply.send(store.and_then(question));
            }
        });
        self.jobs.try_send(job).map_err(|_| Trouble::Busy)?;
        // The thread goes on; what went wrong is in the program's log.
        let answer = answer.await.map_err(|_| Trouble::Fault)?;
        let answer = answer.map_err(|error| Trouble::of(error, self.answered_at()))?;
        self.answered_at.store(now(), Ordering::Relaxed);
        Ok(answer)
    }
}

fn work(open: &OpenStore, queue: &Mutex<Receiver<Job>>) {
    let mut store = None;
    loop {
        // Nobody panics while the queue is held.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if store.is_none() {
            match open() {
                Ok(opened) => store = Some(opened),
                Err(error) => {
                    job(Err(error));
                    continue;
                }
            }
        }
        let Some(opened) = &mut store else { continue };
        // A question that panics is a fault of its own, and others are answered still. What it left
        // of a transaction goes with its connection.
        if catch_unwind(AssertUnwindSafe(|| job(Ok(opened.as_mut())))).is_err() {
            store = None;
        }
    }
}

/// Now, as the store keeps it.
pub(super) fn now() -> Stamp {
    i64::try_from(unix_micros(SystemTime::now())).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_question_that_panics_ends_no_thread_and_no_connection_of_others() {
        let opened = Arc::new(AtomicI64::new(0));
        let count = Arc::clone(&opened);
        let open: OpenStore = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(MemoryStore::default()))
        });
        let pool = StorePool::start(&open);
        let panics = 3 * STORE_THREADS;
        for _ in 0..panics {
            let answer = pool.ask(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
            assert!(matches!(answer, Err(Trouble::Fault)), "{answer:?}");
        }
        for _ in 0..2 * STORE_THREADS {
            assert_eq!(pool.ask(|store| store.hosts("", 1)).await.unwrap(), []);
        }
        // Each panic costs the connection that it may have left in the middle of something.
        let opened = usize::try_from(opened.load(Ordering::Relaxed)).unwrap();
        assert!((panics + 1..=panics + STORE_THREADS).contains(&opened), "{opened}");
    }
}
