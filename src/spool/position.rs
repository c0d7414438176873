//! The small file that says how far the log was confirmed, and how far it was durable.
//!
//! Two slots are written in turn, so that one that is torn leaves the other. It is written often and synced seldom: before a segment is
//! removed, and at the end. What is lost of it is sent again, never skipped.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Between the beginnings of the slots.
const SLOT_BYTES: u64 = 512;
/// Number of the writing, confirmed, durable, checksum.
const CONTENT_BYTES: usize = 8 + 8 + 8 + 4;

/// How far the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first sequence that is not confirmed.
    pub(super) confirmed: u64,
    /// The first sequence that is not durable.
    pub(super) durable: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Position {
    file: File,
    /// Of the last writing.
    number: u64,
}

impl Position {
    /// Opens or makes it; with what it says, if that is what was written.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join("position"))?;
        let newest = [0, 1].into_iter().filter_map(|slot| read(&file, slot)).max_by_key(|(number, _)| *number);
        let number = newest.map_or(0, |(number, _)| number);
        Ok((Position { file, number }, newest.map(|(_, mark)| mark)))
    }

    /// Writes it; the death of the process does not lose it.
    ///
    /// # Errors
    /// The disk's; the former stays.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let number = self.number + 1;
        let content = [number, mark.confirmed, mark.durable].map(u64::to_le_bytes).concat();
        let bytes = [&content[..], &crc32fast::hash(&content).to_le_bytes()].concat();
        self.file.write_all_at(&bytes, (number % 2) * SLOT_BYTES)?;
        self.number = number;
        Ok(())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn read(file: &File, slot: u64) -> Option<(u64, Mark)> {
    let mut bytes = [0; CONTENT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES).ok()?;
    let (content, checksum) = bytes.split_at_checked(24)?;
    let word = |at: usize| content.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let is_true = crc32fast::hash(content).to_le_bytes() == *checksum;
    is_true.then_some(())?;
    Some((word(0)?, Mark { confirmed: word(8)?, durable: word(16)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_torn_slot_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let reopen = || Position::open(folder.path()).unwrap();
        assert_eq!(reopen().1, None);
        let mark = |number| Mark { confirmed: number, durable: number + 1 };
        for number in 1..=5 {
            let (mut position, _) = reopen();
            position.write(mark(number)).unwrap();
            assert_eq!(reopen().1, Some(mark(number)));
        }
        for (slot, left) in [(1, Some(mark(4))), (0, None)] {
            reopen().0.file.write_all_at(b"torn", slot * SLOT_BYTES + 3).unwrap();
            assert_eq!(reopen().1, left);
        }
    }
}
