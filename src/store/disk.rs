//! The records on disk: the only file that names fjall.
//!
//! One keyspace holds everything, so that whatever is lost at the end of the journal is lost for all alike: a prefix of the history
//! survives, never a mixture. A small file beside it says which commit was the last, so that a shortened history is noticed.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{
    StoreError,
    change::Restored,
    image::{self, Operation},
    record,
};

/// Of fjall's block cache, bytes: records are read once, at the start.
const CACHE_BYTES: u64 = 4 << 20;
/// Of its memtable, bytes.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Of all its journals, bytes; the least that it takes.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Length of the file that names the last commit: its number and a checksum.
const WATERMARK_BYTES: usize = 12;

/// An open store.
pub(super) struct Disk {
    database: Database,
    records: Keyspace,
    watermark: File,
}

impl Disk {
    /// Opens or makes the store in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let fault = |error| fault(folder, error);
        let database = Database::builder(folder.join("records"))
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_BYTES)
            .journal_compression(CompressionType::None)
            .open()
            .map_err(fault)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let records = database.keyspace("records", options).map_err(fault)?;
        let watermark = folder.join("commits");
        let watermark = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(watermark).map_err(io)?;
        Ok(Disk { database, records, watermark })
    }

    /// Reads everything; what is damaged, or belongs to nothing any more, is removed.
    pub(super) fn restore(&mut self, folder: &Path) -> Result<Restored, StoreError> {
        let fault = |error| fault(folder, error);
        let mut failed = None;
        let records = self.records.iter().map_while(|guard| guard.into_inner().map_err(|error| failed = Some(error)).ok());
        let mut restored = image::restore(records);
        if let Some(error) = failed {
            return Err(fault(error));
        }
        if let Some(format) = restored.foreign {
            return Err(StoreError::Foreign { folder: folder.to_owned(), format });
        }
        if let Some(last) = self.last_commit().filter(|last| *last > restored.commit) {
            let lost = last - restored.commit;
            restored.damaged.push(format!("the last {lost} commits of {last} are missing"));
            restored.commit = last; // numbers are not used twice
        }
        let leftovers = std::mem::take(&mut restored.leftovers);
        self.commit(leftovers.into_iter().map(|key| (key, None)), PersistMode::SyncData).map_err(fault)?;
        Ok(restored)
    }

    /// Makes operations durable, all or none.
    pub(super) fn commit(&mut self, operations: impl IntoIterator<Item = Operation>, mode: PersistMode) -> Result<(), fjall::Error> {
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in operations {
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => batch.remove(&self.records, key),
            }
        }
        batch.commit()
    }

    /// Notes the last commit; not synced, because it only serves to notice what is missing.
    pub(super) fn note(&mut self, commit: u64) {
        let number = commit.to_le_bytes();
        let bytes = [&number[..], &crc32fast::hash(&number).to_le_bytes()].concat();
        if let Err(error) = self.watermark.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "the number of the last commit could not be noted");
        }
    }

    /// Syncs what was committed before.
    pub(super) fn sync(&mut self) -> Result<(), fjall::Error> {
        self.database.persist(PersistMode::SyncData)
    }

    /// Removes up to `count` records from `from` on of what an ended session had; where to go on, if there may be more.
    pub(super) fn purge(&mut self, session: u64, from: &[u8], count: usize) -> Result<Option<Vec<u8>>, fjall::Error> {
        let end = record::session_prefix(session.saturating_add(1));
        let found = self.records.range(from.to_vec()..end).take(count);
        let keys = found.map(|guard| guard.key().map(|key| key.to_vec())).collect::<Result<Vec<_>, _>>()?;
        let next = keys.last().filter(|_| keys.len() == count).cloned();
        self.commit(keys.into_iter().map(|key| (key, None)), PersistMode::Buffer)?;
        Ok(next)
    }

    fn last_commit(&self) -> Option<u64> {
        let mut bytes = [0; WATERMARK_BYTES];
        self.watermark.read_exact_at(&mut bytes, 0).ok()?;
        let (number, crc) = bytes.split_first_chunk::<8>()?;
        (crc == crc32fast::hash(number).to_le_bytes()).then(|| u64::from_le_bytes(*number))
    }
}

fn fault(folder: &Path, error: fjall::Error) -> StoreError {
    let folder: PathBuf = folder.to_owned();
    match error {
        fjall::Error::Locked => StoreError::Locked { folder },
        error => StoreError::Unreadable { folder, source: Box::new(error) },
    }
}
