//! The one thread that writes: takes what has gathered while the disk was busy, and commits it as one group.
//!
//! When the disk fails, the group is kept: nothing in it is acknowledged, the store is closed and opened again until the commit succeeds.
//! Meanwhile new changes gather up to the bound of [`super::queue`], and then those who bring them wait.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fjall::PersistMode;

use super::{
    change::Change,
    disk::Disk,
    image,
    queue::{Group, Next, Queue},
    record,
};
use crate::{config::SyncPolicy, event::Outcome, metrics::Metrics};

/// Between attempts to open a store again that has failed.
const RECOVERY: Duration = Duration::from_secs(1);
/// The least time from one commit to the next: under load it makes large groups of many small ones. A change that comes alone does not
/// wait.
const PACE: Duration = Duration::from_micros(300);
/// Records of ended sessions that are removed at a time.
const PURGE_RECORDS: usize = 250;

/// The writer's side of a store.
pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) sync: SyncPolicy,
    pub(super) disk: Option<Disk>,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: Arc<Metrics>,
    /// Ended sessions whose records are still there, from this key on.
    pub(super) ended: VecDeque<(u64, Vec<u8>)>,
    /// When what was committed is to be synced.
    pub(super) sync_due: Option<Instant>,
}

impl Writer {
    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let patience = if self.ended.is_empty() { self.sync_due } else { Some(Instant::now()) };
            match self.queue.next(patience) {
                Next::Group(group) => {
                    let start = Instant::now();
                    self.take(group);
                    thread::sleep(PACE.saturating_sub(start.elapsed()));
                }
                Next::Later => {}
                Next::Closed => break,
            }
            self.purge();
            self.sync_when_due(false);
        }
        self.sync_when_due(true);
    }

    fn take(&mut self, group: Group) {
        while let Err(error) = self.commit(&group) {
            self.metrics.store_failures.inc();
            self.metrics.store_writable.set(0);
            tracing::error!(folder = %self.folder.display(), error, "the store cannot be written; nothing is acknowledged until it can");
            if self.queue.is_closed() {
                tracing::error!(changes = group.changes.len(), "given up; what these changes belong to was not acknowledged");
                return; // its receipts are dropped, which is no acknowledgement
            }
            thread::sleep(RECOVERY);
        }
        self.metrics.store_writable.set(1);
        self.metrics.store_commits.inc();
        self.metrics.store_changes.inc_by(group.changes.len() as u64);
        for receipt in group.receipts {
            receipt.settle(Outcome::Stored);
        }
        self.queue.committed(group.number);
        for change in &group.changes {
            if let Change::Ended(session) = change {
                self.ended.push_back((*session, record::session_prefix(*session)));
            }
        }
    }

    fn commit(&mut self, group: &Group) -> Result<(), String> {
        let mode = if self.sync == SyncPolicy::Always { PersistMode::SyncData } else { PersistMode::Buffer };
        let operations = image::write(&group.changes, group.number);
        let disk = match self.disk.take() {
            Some(disk) => disk,
            None => Disk::open(&self.folder).map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?,
        };
        let disk = self.disk.insert(disk);
        if let Err(error) = disk.commit(operations, mode) {
            self.disk = None; // a store whose commit failed takes nothing any more; it is opened anew
            return Err(error.to_string());
        }
        disk.note(group.number);
        if let SyncPolicy::Interval(interval_ms) = self.sync {
            self.sync_due.get_or_insert_with(|| Instant::now() + Duration::from_millis(interval_ms));
        }
        Ok(())
    }

    fn sync_when_due(&mut self, last: bool) {
        if !last && self.sync_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.sync_due = None;
        if let Some(Err(error)) = self.disk.as_mut().map(Disk::sync) {
            self.metrics.store_failures.inc();
            tracing::error!(folder = %self.folder.display(), %error, "the store could not be synced; it is opened anew");
            self.disk = None;
        }
    }

    fn purge(&mut self) {
        let Some((session, from)) = self.ended.front_mut() else { return };
        match self.disk.as_mut().map(|disk| disk.purge(*session, from, PURGE_RECORDS)) {
            Some(Ok(Some(next))) => *from = next,
            Some(Ok(None)) => drop(self.ended.pop_front()),
            Some(Err(error)) => {
                tracing::error!(%error, "records of an ended session could not be removed; the next start removes them");
                self.ended.clear();
                self.disk = None;
            }
            None => self.ended.clear(),
        }
    }
}
