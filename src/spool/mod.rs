//! The spool: an append-only log on this machine's disk for records that are acknowledged before Kafka has them.
//!
//! Bodies go in by [`Spool::append`] from everywhere; one thread writes what has gathered while the disk was busy and makes it durable with
//! one `fdatasync` for all, and then settles their receipts. One [`Reader`] takes them out in order and confirms how far it is done;
//! segments that are confirmed as a whole are removed. It knows nothing of Kafka: a body is bytes.
//!
//! Invariants:
//! - A receipt is settled as stored only when its record is durable, and every record before it.
//! - What was durable comes out in the order in which it went in, at least once, until it is confirmed; damage is never passed over
//!   without a word ([`recovery`]).
//! - A failed write or sync ends its segment ([`disk`]); a full disk delays, and everything goes on by itself when there is room.
//! - Memory is bounded whatever waits on the disk: a group, the newest 8 MiB and a block.
//!
//! Why not a crate: of the logs that were measured, `open-wal` has the same rules for tails and damage, and is good work. But its reader
//! borrows the log, so that nobody could append while an hour's backlog is read back; after a full disk it has to be opened anew, with a
//! scan of everything; it has no bound for its size. What would have been left of it is the framing. The others (okaywal, commitlog,
//! yaque, walrus, raft-engine, simd-r-drive) cut damage silently, are no longer kept up, or have no trimming by position.
//!
//! Absent: what a record means, where it goes, what happens when Kafka refuses it (the outbox's).

mod alarm;
mod disk;
mod figures;
mod frame;
mod group;
mod position;
mod queue;
mod reader;
mod recovery;
mod repair;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::reader::{Batch, Entry, Reader};
use self::{
    alarm::Alarm,
    disk::{Disk, Segments},
    figures::Figures,
    position::Position,
    queue::{Progress, Queue},
    recovery::Recovered,
    tail::Tail,
    writer::Writer,
};
use crate::{config, event::Receipt, metrics::Metrics};

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another Hookgate uses it.
    #[error("the spool in {} is in use by another process; stop it, or give this one a `data_dir` of its own", .folder.display())]
    Locked {
        /// The spool's folder.
        folder: PathBuf,
    },
    /// The folder cannot be read or written.
    #[error("the spool's folder {} cannot be used: {source}; make it writable or change `data_dir`", .folder.display())]
    Folder {
        /// The spool's folder.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A segment cannot be read.
    #[error("the spool's file {} cannot be read: {source}", .file.display())]
    Read {
        /// The segment.
        file: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Records were on the disk and cannot be read any more, although later ones can.
    #[error(
        "the spool's file {} is damaged at byte {offset}: records {from} to {last} cannot be read, and were acknowledged; put the file back \
         from a copy, or set on_damage = \"skip\" in [spool] to go on without them (the damaged file is kept beside)",
        .file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where, bytes from its beginning.
        offset: u64,
        /// The first sequence that is gone.
        from: u64,
        /// The last one.
        last: u64,
    },
    /// Another version of Hookgate wrote it.
    #[error("the spool's file {} has format {format}; run the version that wrote it until the spool is empty", .file.display())]
    Foreign {
        /// The segment.
        file: PathBuf,
        /// Its format.
        format: u8,
    },
    /// The system gives no thread.
    #[error("the spool's thread did not start: {0}")]
    Thread(#[source] io::Error),
}

/// What the writer, the reader and those who append have in common.
#[derive(Debug)]
struct Shared {
    /// For the log.
    name: String,
    folder: PathBuf,
    queue: Queue,
    tail: Mutex<Tail>,
    segments: Segments,
    /// The first sequence that is not durable.
    durable: watch::Sender<u64>,
    figures: Figures,
}

impl Shared {
    fn error(&self, source: io::Error) -> SpoolError {
        SpoolError::Folder { folder: self.folder.clone(), source }
    }
}

/// A running spool; cheap to clone. It ends with the last clone, or with [`Spool::close`].
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held until it is closed.
    lock: Mutex<Option<File>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    fn end(&self) {
        self.shared.queue.close();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(spool = self.shared.name, "the spool's thread has panicked; what was not durable was not acknowledged");
        }
        *self.lock.lock() = None;
    }
}

impl Spool {
    /// Opens or makes the log in `folder`, reads it through, and starts its writer; with its reader, which begins at what was not confirmed.
    /// Blocks, about a second for each gigabyte that waits.
    ///
    /// # Errors
    /// [`SpoolError`]; damage leaves the disk as it was.
    pub fn open(name: &str, folder: &Path, config: &config::Spool, metrics: &Metrics) -> Result<(Self, Reader), SpoolError> {
        let io = |source| SpoolError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let lock = lock(folder)?;
        let (position, mark) = Position::open(folder).map_err(io)?;
        let recovered = recovery::recover(folder, mark, config.on_damage)?;
        let figures = Figures::new(name, metrics);
        figures.tails_cut.inc_by(recovered.cut);
        figures.lost.inc_by(recovered.lost);
        figures.writable.set(1);
        let disk = Disk::new(folder, config.segment_bytes, &recovered, position).map_err(io)?;
        let Recovered { confirmed, next, oldest_ms, .. } = recovered;
        let (used, most_bytes) = (disk.bytes(), config.max_bytes);
        let queue = Queue::new(next, Progress { confirmed, oldest_ms }, most_bytes.saturating_sub(used), most_bytes, config.when_full);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            folder: folder.to_owned(),
            queue,
            tail: Mutex::default(),
            segments: disk.segments(),
            durable: watch::Sender::new(next),
            figures,
        });
        let writer = Writer::new(Arc::clone(&shared), disk, used.saturating_sub(most_bytes), Alarm::new(config.alarm_age));
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(|| writer.run()).map_err(SpoolError::Thread)?;
        let reader = Reader::new(Arc::clone(&shared), confirmed);
        let inner = Inner { shared, thread: Mutex::new(Some(thread)), lock: Mutex::new(Some(lock)) };
        Ok((Spool { inner: Arc::new(inner) }, reader))
    }

    /// Appends a record that is not empty, after waiting for room. Its receipt is settled as stored when it is durable; as refused when it
    /// is too large, or when the spool is full and its settings say so. One caller's records keep the order of its calls.
    ///
    /// Cancel-safe while it waits: the record is not appended, and its receipt is settled as unknown.
    pub async fn append(&self, time_ms: u64, body: &[u8], receipt: Receipt) {
        self.inner.shared.queue.append(time_ms, body, receipt).await;
    }

    /// Everything before `sequence` is done with, and need not come out again; `oldest_ms`: when the record at `sequence` was appended.
    pub fn confirm(&self, sequence: u64, oldest_ms: Option<u64>) {
        self.inner.shared.queue.confirm(Progress { confirmed: sequence, oldest_ms });
    }

    /// Durable records that are not confirmed.
    pub fn waiting(&self) -> u64 {
        let durable = *self.inner.shared.durable.borrow();
        durable.saturating_sub(self.inner.shared.queue.progress().confirmed)
    }

    /// Writes what is left and ends the writer. Blocks until it has.
    pub fn close(&self) {
        self.inner.end();
    }
}

/// How many records wait in the log in `folder`, which nobody uses.
///
/// # Errors
/// It cannot be read.
pub fn count(folder: &Path) -> Result<u64, SpoolError> {
    let io = |source| SpoolError::Folder { folder: folder.to_owned(), source };
    let (_, mark) = Position::open(folder).map_err(io)?;
    recovery::count(folder, mark).map_err(io)
}

fn lock(folder: &Path) -> Result<File, SpoolError> {
    let io = |source| SpoolError::Folder { folder: folder.to_owned(), source };
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(folder.join("lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
