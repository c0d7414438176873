//! The segments on the disk, as the writer sees them.
//!
//! A write or a sync that failed ends its segment: it is opened anew, cut back to what was durable, and never written again; what was to be
//! written goes to another. After a failed `fdatasync` the system may have forgotten the pages that it could not write, so that syncing
//! once more would succeed without them.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    group::Group,
    position::{Mark, Position},
    recovery::Recovered,
    segment::{self, HEADER_BYTES},
};

/// What is written at once after a failure: a little may have room where much has none.
const CAREFUL_BYTES: u64 = 32 << 10;

/// The length of every segment by its first sequence; shared with the reader.
pub(super) type Segments = Arc<Mutex<BTreeMap<u64, u64>>>;

/// The log's files.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// For what happens to names in it.
    handle: File,
    segment_bytes: u64,
    segments: Segments,
    /// Where frames go now; `None`: to a new segment.
    active: Option<Active>,
    /// A segment whose end cannot be trusted.
    broken: Option<Active>,
    /// Something failed, and no group was written since.
    careful: bool,
    position: Position,
    /// The first sequence that is not durable.
    next: u64,
}

#[derive(Debug)]
struct Active {
    file: File,
    path: PathBuf,
    first: u64,
    salt: u32,
    /// Of what is durable.
    bytes: u64,
}

impl Disk {
    /// The files of a log that is in order.
    ///
    /// # Errors
    /// The position cannot be written.
    pub(super) fn new(folder: &Path, segment_bytes: u64, recovered: &Recovered, mut position: Position) -> io::Result<Self> {
        let mark = Mark { confirmed: recovered.confirmed, durable: recovered.next };
        position.write(mark)?; // both slots have room from now on, also on a full disk
        position.write(mark)?;
        position.sync()?;
        Ok(Disk {
            folder: folder.to_owned(),
            handle: File::open(folder)?,
            segment_bytes,
            segments: Arc::new(Mutex::new(recovered.segments.clone())),
            active: None,
            broken: None,
            careful: false,
            position,
            next: recovered.next,
        })
    }

    pub(super) fn segments(&self) -> Segments {
        Arc::clone(&self.segments)
    }

    /// The first sequence that is not durable.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Of all frames on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.lock().values().map(|bytes| bytes.saturating_sub(HEADER_BYTES as u64)).sum()
    }

    /// Makes a group durable, one sync for each segment that it goes to. After an error, what is durable of it is not written again.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn write(&mut self, group: &mut Group) -> io::Result<()> {
        let written = self.try_write(group);
        self.careful = written.is_err();
        written
    }

    fn try_write(&mut self, group: &mut Group) -> io::Result<()> {
        self.mend()?;
        let most = if self.careful { CAREFUL_BYTES } else { u64::MAX };
        while let Some(next) = group.next() {
            let mut active = match self.active.take().filter(|active| self.has_room(active, group.next_bytes())) {
                Some(active) => active,
                None => self.create(next)?,
            };
            let (count, frames) = group.seal(self.segment_bytes.saturating_sub(active.bytes).min(most), active.salt);
            let written = active.file.write_all_at(frames, active.bytes).and_then(|()| active.file.sync_data());
            let length = frames.len() as u64;
            if let Err(error) = written {
                self.broken = Some(active);
                return Err(error);
            }
            active.bytes += length;
            self.segments.lock().insert(active.first, active.bytes);
            self.active = Some(active);
            group.advance(count);
            self.next = next + count as u64;
        }
        Ok(())
    }

    /// Whether a frame goes to the segment; an empty one takes any.
    fn has_room(&self, active: &Active, bytes: usize) -> bool {
        active.bytes == HEADER_BYTES as u64 || active.bytes + bytes as u64 <= self.segment_bytes
    }

    /// Makes a segment; its name is durable before anything is in it.
    fn create(&mut self, first: u64) -> io::Result<Active> {
        let path = self.folder.join(segment::name(first));
        let salt = fastrand::u32(..);
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|file| {
            file.write_all_at(&segment::header(salt), 0)?;
            file.sync_all()?;
            self.handle.sync_all()?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.segments.lock().insert(first, HEADER_BYTES as u64);
                Ok(Active { file, path, first, salt, bytes: HEADER_BYTES as u64 })
            }
            Err(error) => {
                let _ = fs::remove_file(&path); // what is left of it is no segment, and the next attempt takes its name
                Err(error)
            }
        }
    }

    /// Cuts a segment that failed back to what was durable, over a handle that has seen no error.
    fn mend(&mut self) -> io::Result<()> {
        let Some(broken) = &self.broken else { return Ok(()) };
        let file = OpenOptions::new().write(true).open(&broken.path)?;
        file.set_len(broken.bytes)?;
        file.sync_all()?;
        if broken.bytes == HEADER_BYTES as u64 {
            fs::remove_file(&broken.path)?;
            self.segments.lock().remove(&broken.first);
        }
        self.broken = None;
        Ok(())
    }

    /// Removes the segments that are confirmed as a whole; the bytes of their frames. `all`: also the one that is written to, if it is.
    ///
    /// # Errors
    /// The disk's; some may be gone.
    pub(super) fn trim(&mut self, confirmed: u64, all: bool) -> io::Result<u64> {
        let active = self.active.as_ref().filter(|active| !all || confirmed < self.next || active.bytes == HEADER_BYTES as u64);
        let kept = [active, self.broken.as_ref()].into_iter().flatten().map(|active| active.first).min();
        let removable: Vec<(u64, u64)> = {
            let segments = self.segments.lock();
            let ends = segments.keys().skip(1).copied().chain([self.next]);
            let whole =
                segments.iter().zip(ends).take_while(|((first, _), end)| *end <= confirmed && kept.is_none_or(|kept| **first < kept));
            whole.map(|((first, bytes), _)| (*first, *bytes)).collect()
        };
        if removable.is_empty() {
            return Ok(0);
        }
        self.note(confirmed)?;
        self.position.sync()?; // or records would seem to be missing
        let mut freed = 0;
        for (first, bytes) in removable {
            if self.active.as_ref().is_some_and(|active| active.first == first) {
                self.active = None;
            }
            fs::remove_file(self.folder.join(segment::name(first)))?;
            self.segments.lock().remove(&first);
            freed += bytes.saturating_sub(HEADER_BYTES as u64);
        }
        Ok(freed)
    }

    /// Writes down how far the log is; the death of the process does not lose it.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn note(&mut self, confirmed: u64) -> io::Result<()> {
        self.position.write(Mark { confirmed, durable: self.next })
    }

    /// The same for the death of the machine.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync_position(&self) -> io::Result<()> {
        self.position.sync()
    }
}
