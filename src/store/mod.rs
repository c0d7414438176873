//! What must outlive the process: sessions with their subscriptions, queues, flights and intents, retained messages, wills, guests' state.
//! The only place that names fjall.
//!
//! Memory comes first and the store is its durable mirror: while the process runs, [`Change`]s go in and nothing is ever read; when it
//! starts, whole [`StoredSession`]s come out. Changes are gathered while the disk is busy and committed as a group; a [`Ticket`] says
//! which commit something belongs to, and a share in a receipt is settled by it.
//!
//! Invariants: a group is durable as a whole or not at all, groups in their order. What cannot be read at the start is left out, logged
//! and counted. When the disk fails, nothing is acknowledged until it is well again; nothing is lost by it.
//!
//! Absent: what a change means to a session (`source::mqtt`), and what an operation means to a guest (`guest::state`).

mod change;
mod disk;
mod image;
mod queue;
mod record;
mod space;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, thread::JoinHandle};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    change::{
        Change, Intent, Parcel, Place, Restored, SessionState, StoredFlight, StoredLedger, StoredSession, StoredSubscription, StoredWill,
    },
    image::Image,
    queue::{Batch, Ticket},
    record::{Damage, Record, decode},
    space::{Owner, Pair, Space, StoredState},
};
use self::{
    disk::Disk,
    queue::{Next, Queue},
    writer::Writer,
};
use crate::{config, event::Outcome, metrics::Metrics};

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another Hookgate uses it.
    #[error("the store in {} is in use by another process; stop it, or give this one a `data_dir` of its own", .folder.display())]
    Locked {
        /// The store's folder.
        folder: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("the store's folder {} cannot be used; make it writable or change `data_dir`", .folder.display())]
    Folder {
        /// The store's folder.
        folder: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// What is in it is not what was written.
    #[error("the store in {} cannot be read; put a backup in its place, or move it away to begin without sessions", .folder.display())]
    Unreadable {
        /// The store's folder.
        folder: PathBuf,
        /// The engine's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another version of Hookgate wrote it.
    #[error("the store in {} has format {format}; run the version that wrote it, or change `data_dir`", .folder.display())]
    Foreign {
        /// The store's folder.
        folder: PathBuf,
        /// The format of its records.
        format: u8,
    },
    /// The system gives no thread.
    #[error("the store's thread did not start")]
    Thread(#[source] std::io::Error),
}

/// A running store; cheap to clone. It ends with the last clone, or with [`Store::close`].
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    fn end(&self) {
        self.queue.close();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread has panicked; what was not committed was not acknowledged");
        }
    }
}

impl Store {
    /// Opens a store, reads everything in it, and starts its writer. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; the disk is left as it was.
    pub fn open(config: &config::Store, metrics: &Arc<Metrics>) -> Result<(Self, Restored), StoreError> {
        let folder = config.folder.join("store");
        let mut disk = Disk::open(&folder)?;
        let restored = disk.restore(&folder)?;
        for what in &restored.damaged {
            metrics.store_damaged.inc();
            tracing::error!(folder = %folder.display(), what, "the store is damaged; this is left out");
        }
        metrics.store_writable.set(1);
        let queue = Arc::new(Queue::new(restored.commit));
        let writer = Writer {
            folder,
            sync: config.sync,
            disk: Some(disk),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(metrics),
            ended: VecDeque::new(),
            sync_due: None,
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(|| writer.run()).map_err(StoreError::Thread)?;
        Ok((Store { inner: Arc::new(Inner { queue, thread: Mutex::new(Some(thread)) }) }, restored))
    }

    /// A store without a disk and a thread, for simulations: [`Store::commit_into`] commits.
    pub fn detached() -> Self {
        Store { inner: Arc::new(Inner { queue: Arc::new(Queue::new(0)), thread: Mutex::new(None) }) }
    }

    /// Commits what has gathered in a detached store into `image`; whether there was anything.
    pub fn commit_into(&self, image: &mut Image) -> bool {
        let queue = &self.inner.queue;
        let Next::Group(group) = queue.next(Some(std::time::Instant::now())) else { return false };
        image.apply(&group.changes);
        group.receipts.into_iter().for_each(|receipt| receipt.settle(Outcome::Stored));
        queue.committed(group.number);
        true
    }

    /// Holds open what is gathered now; nothing is committed meanwhile.
    pub fn batch(&self) -> Batch<'_> {
        self.inner.queue.batch()
    }

    /// Adds one change; when it is durable.
    pub fn add(&self, change: Change) -> Ticket {
        let mut batch = self.batch();
        batch.add(change);
        batch.ticket()
    }

    /// The last commit, and those to come.
    pub fn commits(&self) -> watch::Receiver<Ticket> {
        self.inner.queue.commits()
    }

    /// Whether those who bring something new must wait, for [`Store::room`].
    pub fn is_full(&self) -> bool {
        self.inner.queue.is_full()
    }

    /// Whether everything up to `ticket` is durable.
    pub fn has_committed(&self, ticket: Ticket) -> bool {
        self.inner.queue.last() >= ticket
    }

    /// Waits until new messages may be added.
    pub async fn room(&self) {
        if !self.inner.queue.is_full() {
            return;
        }
        let mut commits = self.commits();
        while self.inner.queue.is_full() {
            if commits.changed().await.is_err() {
                return;
            }
        }
    }

    /// Commits what is left and ends the writer. Blocks until it has.
    pub fn close(&self) {
        self.inner.end();
    }
}
