//! Puts a damaged segment in order: what can be read is copied, what cannot is replaced by a mark, and the damaged file is kept beside.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    frame::{self, Head},
    segment::{self, HEADER_BYTES, Header},
};

/// Writes a segment anew with every good frame of it below `limit`, where the next one begins. The original becomes `….damaged`. A mark says
/// that everything before `end` is accounted for, when no good frame says so. Returns how many sequences from `confirmed` on are lost.
///
/// # Errors
/// The disk's; then the original stands where it was.
pub(super) fn rewrite(path: &Path, first: u64, limit: Option<u64>, end: u64, confirmed: u64) -> io::Result<u64> {
    let damaged = fs::read(path)?;
    let salt = fastrand::u32(..);
    let mut healed = segment::header(salt);
    let (mut last, mut lost) = (first.saturating_sub(1), 0);
    let missing = |from: u64, to: u64| to.saturating_sub(from.max(confirmed));
    if let Header::Salt(old) = Header::read(&damaged) {
        let mut at = HEADER_BYTES;
        while let Some(rest) = damaged.get(at..).filter(|rest| !rest.is_empty()) {
            let good = frame::check(old, rest).filter(|head| head.sequence > last);
            let Some((skipped, head)) = good.map(|head| (0, head)).or_else(|| segment::find(rest, old, last)) else { break };
            if limit.is_some_and(|limit| head.sequence >= limit) {
                break;
            }
            let from = at + skipped;
            copy(&mut healed, salt, &head, damaged.get(from..from + head.frame_bytes()).unwrap_or_default());
            lost += missing(last + 1, head.sequence);
            last = head.sequence;
            at = from + head.frame_bytes();
        }
    }
    if last + 1 < end {
        lost += missing(last + 1, end);
        add_mark(&mut healed, salt, end - 1);
    }
    let beside = path.with_extension("spool.healed");
    write(&beside, &healed)?;
    let kept = free_name(path);
    fs::hard_link(path, &kept).or_else(|_| fs::copy(path, &kept).map(drop))?; // so that the segment is never missing
    fs::rename(&beside, path)?;
    Ok(lost)
}

/// Makes a segment that says that `first` up to before `limit` are accounted for; its first sequence and its length.
///
/// # Errors
/// The disk's.
pub(super) fn mark(folder: &Path, first: u64, limit: u64) -> io::Result<(u64, u64)> {
    let salt = fastrand::u32(..);
    let mut bytes = segment::header(salt);
    add_mark(&mut bytes, salt, limit.saturating_sub(1));
    write(&folder.join(segment::name(first)), &bytes)?;
    Ok((first, bytes.len() as u64))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn copy(into: &mut Vec<u8>, salt: u32, head: &Head, frame: &[u8]) {
    let begin = into.len();
    into.extend_from_slice(frame);
    frame::seal(into.get_mut(begin..).unwrap_or_default(), salt, head.sequence, head.durable);
}

fn add_mark(into: &mut Vec<u8>, salt: u32, sequence: u64) {
    let begin = into.len();
    frame::begin(into, 0, &[]);
    frame::seal(into.get_mut(begin..).unwrap_or_default(), salt, sequence, sequence);
}

/// A name beside for the damaged file that none has.
fn free_name(path: &Path) -> PathBuf {
    let names = (0..)
        .map(|number: u32| path.with_extension(if number == 0 { "spool.damaged".to_owned() } else { format!("spool.damaged{number}") }));
    names.take(1_000).find(|name| !name.exists()).unwrap_or_else(|| path.with_extension("spool.damaged"))
}
