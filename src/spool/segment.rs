//! A segment: one file of the log, named after the first sequence in it.
//!
//! ```text
//! 00000000000000000101.spool = header (64 bytes: the same 32 twice) · frames
//! ```
//! The header is durable before the first frame is written, so a file that is longer had a whole one. Within a file sequences increase;
//! from file to file they go on without a gap.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::frame::{self, HEAD_BYTES, Head};

/// Of the header.
pub(super) const HEADER_BYTES: usize = 64;
/// What every segment begins with; the last byte is the format's number.
const MAGIC: [u8; 8] = *b"hgspool\x01";
/// Of one of the two copies of the header.
const COPY_BYTES: usize = 32;
/// What is read at once when a file is looked through.
const BLOCK_BYTES: usize = 1 << 20;

/// The name of the segment that begins with `first`.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.spool")
}

/// The first sequence of the segment that is named so; `None`: not a segment.
pub(super) fn first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".spool")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// The segments of a folder, by their first sequence.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if let Some(first) = path.file_name().and_then(|name| first(name.to_str()?)) {
            segments.push((first, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// A header.
pub(super) fn header(salt: u32) -> Vec<u8> {
    let mut copy = [0; COPY_BYTES];
    let content = [&MAGIC[..], &salt.to_le_bytes()].concat();
    let checksum = crc32fast::hash(&content).to_le_bytes();
    copy.iter_mut().zip(content.into_iter().chain(checksum)).for_each(|(place, byte)| *place = byte);
    copy.repeat(HEADER_BYTES / COPY_BYTES)
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The salt of the frames' checksums.
    Salt(u32),
    /// Another version of Hookgate wrote it, in this format.
    Foreign(u8),
    /// Neither copy is what was written.
    Damaged,
}

impl Header {
    /// Reads the beginning of a file.
    pub(super) fn read(bytes: &[u8]) -> Self {
        bytes.chunks(COPY_BYTES).take(HEADER_BYTES / COPY_BYTES).find_map(Self::read_copy).unwrap_or(Header::Damaged)
    }

    fn read_copy(copy: &[u8]) -> Option<Self> {
        let (content, rest) = copy.split_at_checked(12)?;
        if crc32fast::hash(content).to_le_bytes() != *rest.get(..4)? {
            return None;
        }
        let (magic, salt) = content.split_at_checked(MAGIC.len())?;
        if magic == MAGIC {
            return Some(Header::Salt(u32::from_le_bytes(salt.try_into().ok()?)));
        }
        let (format, word) = magic.split_last()?;
        MAGIC.starts_with(word).then_some(Header::Foreign(*format))
    }
}

/// What is in a file.
#[derive(Debug)]
pub(super) struct Scan {
    /// The sequence of the last good frame before the end or the first bad one; of an empty file, the one before its first.
    pub(super) last: u64,
    /// Where that ends, bytes from the beginning.
    pub(super) end: u64,
    /// Of the file.
    pub(super) length: u64,
    /// When the first frame from the asked sequence on was appended.
    pub(super) oldest_ms: Option<u64>,
    /// What stands at `end`, when it is not the end of the file.
    pub(super) stop: Stop,
}

/// Why a scan ended where it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing comes after.
    End,
    /// Frames that the next segment has, too: a failure kept them from being cut off.
    Superseded,
    /// A bad frame, and the next good one after it.
    Bad(Option<Head>),
    /// The header is bad.
    NoHeader,
    /// The header is of another format.
    Foreign(u8),
}

/// Looks through a segment: up to the frame `limit` that the next segment begins with.
///
/// # Errors
/// The file cannot be read.
pub(super) fn scan(path: &Path, first: u64, limit: Option<u64>, asked: u64) -> io::Result<Scan> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    let mut scan = Scan { last: first.saturating_sub(1), end: HEADER_BYTES as u64, length, oldest_ms: None, stop: Stop::End };
    let salt = match Header::read(&bytes) {
        Header::Salt(salt) => salt,
        Header::Foreign(format) => return Ok(Scan { end: 0, stop: Stop::Foreign(format), ..scan }),
        Header::Damaged => return Ok(Scan { end: 0, stop: Stop::NoHeader, ..scan }),
    };
    bytes.clear();
    let mut at = 0; // in `bytes`, which begin at `scan.end - at`
    while scan.end < length {
        let rest = bytes.get(at..).unwrap_or_default();
        let wanted = Head::read(rest).map_or(HEAD_BYTES, |head| head.frame_bytes());
        if rest.len() < wanted && fill(&mut file, &mut bytes, &mut at, wanted)? {
            continue;
        }
        let good = bytes.get(at..).and_then(|rest| frame::check(salt, rest)).filter(|head| head.sequence > scan.last);
        match good {
            Some(head) if limit.is_some_and(|limit| head.sequence >= limit) => {
                scan.stop = Stop::Superseded;
                break;
            }
            Some(head) => {
                scan.last = head.sequence;
                scan.end += head.frame_bytes() as u64;
                at += head.frame_bytes();
                if head.sequence >= asked && head.length > 0 {
                    scan.oldest_ms.get_or_insert(head.time_ms);
                }
            }
            None => {
                scan.stop = Stop::Bad(next_good(&mut file, salt, scan.end, scan.last)?.map(|(_, head)| head));
                break;
            }
        }
    }
    Ok(scan)
}

/// Drops what was read up to `at`, and reads on until there are `wanted` bytes; whether any came.
fn fill(file: &mut File, bytes: &mut Vec<u8>, at: &mut usize, wanted: usize) -> io::Result<bool> {
    bytes.drain(..*at);
    *at = 0;
    let before = bytes.len();
    file.take(wanted.max(BLOCK_BYTES) as u64).read_to_end(bytes)?;
    Ok(bytes.len() > before)
}

/// The first good frame behind the bad one at `bad`, with its place. Reads the rest of the file at once: this is rare, and files are small.
///
/// # Errors
/// The file cannot be read.
pub(super) fn next_good(file: &mut File, salt: u32, bad: u64, last: u64) -> io::Result<Option<(u64, Head)>> {
    let mut rest = Vec::new();
    file.seek(SeekFrom::Start(bad))?;
    file.read_to_end(&mut rest)?;
    Ok(find(&rest, salt, last).map(|(at, head)| (bad + at as u64, head)))
}

/// The first good frame in `bytes` but not at their beginning, whose sequence may follow on `last`.
pub(super) fn find(bytes: &[u8], salt: u32, last: u64) -> Option<(usize, Head)> {
    let most = last.saturating_add(1 + (bytes.len() / HEAD_BYTES) as u64);
    (1..bytes.len()).find_map(|at| {
        let rest = bytes.get(at..)?;
        let plausible = Head::read(rest).is_some_and(|head| head.sequence > last && head.sequence <= most);
        // A frame that marks what was given up may be far ahead, but nothing bad is before it in its own file.
        plausible.then(|| frame::check(salt, rest)).flatten().map(|head| (at, head))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_there_twice() {
        let whole = header(9);
        assert_eq!(whole.len(), HEADER_BYTES);
        assert_eq!(Header::read(&whole), Header::Salt(9));
        for at in 0..HEADER_BYTES {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert_eq!(Header::read(&flipped), Header::Salt(9), "{at}");
        }
        let mut both = whole.clone();
        both[10] ^= 1;
        both[COPY_BYTES + 2] ^= 1;
        assert_eq!(Header::read(&both), Header::Damaged);
        assert_eq!(Header::read(&whole[..15]), Header::Damaged);
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(first(&name(101)), Some(101));
        assert_eq!(first(&name(u64::MAX)), Some(u64::MAX));
        for other in ["position", "101.spool", "00000000000000000101.spool.damaged", ""] {
            assert_eq!(first(other), None, "{other}");
        }
    }
}
