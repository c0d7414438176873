//! Reads a log in order from a position: close to its end from memory, else from the disk, a megabyte at a time.
//!
//! Only what is durable is read, so that nothing is read that a failure cuts off again.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Shared, SpoolError,
    frame::{self, HEAD_BYTES, Head},
    segment::{self, HEADER_BYTES, Header},
};
use crate::event::Bytes;

/// What is read at once; a longer frame is read alone.
const BLOCK_BYTES: usize = 1 << 20;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was appended, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What was appended; a slice of what was read with it.
    pub body: Bytes,
}

/// Records that were read at once.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Bytes,
}

impl Iterator for Batch {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let head = Head::read(&self.frames).filter(|head| head.frame_bytes() <= self.frames.len())?;
            let frame = self.frames.split_to(head.frame_bytes());
            if head.length > 0 {
                return Some(Entry { sequence: head.sequence, time_ms: head.time_ms, body: frame.slice(HEAD_BYTES..) });
            }
        }
    }
}

/// The one reader of a log.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<u64>,
    next: u64,
    cursor: Option<Cursor>,
}

/// A place on the disk.
#[derive(Debug)]
struct Cursor {
    file: File,
    path: PathBuf,
    /// Of the segment.
    first: u64,
    salt: u32,
    offset: u64,
    /// The least that the frame at `offset` can have.
    sequence: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, next: u64) -> Self {
        let durable = shared.durable.subscribe();
        Reader { shared, durable, next, cursor: None }
    }

    /// The sequence from which on nothing was read.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Goes on reading at `sequence`, which is not confirmed.
    pub fn rewind(&mut self, sequence: u64) {
        self.next = sequence;
        self.cursor = None;
    }

    /// Waits until there is something to read; cancel-safe.
    pub async fn ready(&mut self) {
        let next = self.next;
        // Cannot fail: `shared` holds the sender.
        let _ = self.durable.wait_for(|durable| *durable > next).await;
    }

    /// Reads on; the batch may be empty. Not cancel-safe only in that what was read is read again.
    ///
    /// # Errors
    /// The disk's, or damage; the position stays.
    pub async fn read(&mut self) -> Result<Batch, SpoolError> {
        let durable = *self.durable.borrow_and_update();
        if durable <= self.next {
            return Ok(Batch::default());
        }
        let found = self.shared.tail.lock().find(self.next);
        if let Some((first, last, mut frames)) = found {
            for _ in first..self.next {
                let skipped = Head::read(&frames).map_or(0, |head| head.frame_bytes());
                drop(frames.split_to(skipped.min(frames.len())));
            }
            self.next = last + 1;
            self.cursor = None;
            return Ok(Batch { frames });
        }
        let (shared, cursor, next) = (Arc::clone(&self.shared), self.cursor.take(), self.next);
        let read = tokio::task::spawn_blocking(move || read(&shared.folder, &shared.segments, cursor, next, durable)).await;
        let (cursor, frames) = read.unwrap_or_else(|error| Err(self.shared.error(io::Error::other(error))))?;
        self.next = cursor.sequence.max(next);
        self.cursor = Some(cursor);
        Ok(Batch { frames })
    }
}

/// The frames from `next` on that one block holds, none at or after `durable`.
fn read(
    folder: &Path,
    segments: &Mutex<BTreeMap<u64, u64>>,
    cursor: Option<Cursor>,
    next: u64,
    durable: u64,
) -> Result<(Cursor, Bytes), SpoolError> {
    let begin = || segments.lock().range(..=next).next_back().map(|(first, _)| *first);
    let mut cursor = match cursor {
        Some(cursor) => cursor,
        None => Cursor::open(folder, begin().unwrap_or(next))?,
    };
    loop {
        let block = cursor.block()?;
        let (skipped, taken) = cursor.take(&block, next, durable)?;
        if taken > skipped {
            return Ok((cursor, Bytes::from(block).slice(skipped..taken)));
        }
        if cursor.sequence >= durable {
            return Ok((cursor, Bytes::new()));
        }
        if taken == 0 {
            let following = segments.lock().range(cursor.first + 1..).next().map(|(first, _)| *first);
            let Some(following) = following.filter(|following| *following <= cursor.sequence) else {
                return Err(SpoolError::Damaged { file: cursor.path, offset: cursor.offset, from: cursor.sequence, last: durable - 1 });
            };
            cursor = Cursor::open(folder, following)?;
        }
    }
}

impl Cursor {
    fn open(folder: &Path, first: u64) -> Result<Self, SpoolError> {
        let path = folder.join(segment::name(first));
        let opened = File::open(&path).and_then(|file| {
            let mut header = [0; HEADER_BYTES];
            file.read_exact_at(&mut header, 0)?;
            Ok((file, Header::read(&header)))
        });
        match opened {
            Ok((file, Header::Salt(salt))) => Ok(Cursor { file, path, first, salt, offset: HEADER_BYTES as u64, sequence: first }),
            Ok((_, Header::Foreign(format))) => Err(SpoolError::Foreign { file: path, format }),
            Ok((_, Header::Damaged)) => Err(SpoolError::Damaged { file: path, offset: 0, from: first, last: first }),
            Err(source) => Err(SpoolError::Read { file: path, source }),
        }
    }

    /// What stands here: a block of whole frames and part of one, or one whole frame that is longer; nothing at the end of the file.
    fn block(&self) -> Result<Vec<u8>, SpoolError> {
        let block = self.bytes(BLOCK_BYTES)?;
        match Head::read(&block).map(|head| head.frame_bytes()) {
            Some(wanted) if wanted > block.len() && block.len() == BLOCK_BYTES => self.bytes(wanted),
            _ => Ok(block),
        }
    }

    fn bytes(&self, wanted: usize) -> Result<Vec<u8>, SpoolError> {
        let mut block = vec![0; wanted];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(SpoolError::Read { file: self.path.clone(), source }),
            }
        }
        block.truncate(filled);
        Ok(block)
    }

    /// Goes over the durable frames at the beginning of a block; where those before `next` end, and where all end.
    fn take(&mut self, block: &[u8], next: u64, durable: u64) -> Result<(usize, usize), SpoolError> {
        let (mut skipped, mut at) = (0, 0);
        while self.sequence < durable {
            let rest = block.get(at..).unwrap_or_default();
            let Some(head) = frame::check(self.salt, rest).filter(|head| head.sequence >= self.sequence) else {
                let is_part = Head::read(rest).map_or(rest.len() < HEAD_BYTES, |head| rest.len() < head.frame_bytes());
                if is_part && (at > 0 || rest.is_empty()) {
                    break;
                }
                return Err(SpoolError::Damaged { file: self.path.clone(), offset: self.offset, from: self.sequence, last: self.sequence });
            };
            at += head.frame_bytes();
            self.offset += head.frame_bytes() as u64;
            self.sequence = head.sequence + 1;
            if head.sequence < next {
                skipped = at;
            }
        }
        Ok((skipped, at))
    }
}
