//! What is found when a log is opened, and what is done about damage.
//!
//! - What stands behind the last good frame of the last segment, with nothing good after it, was being written when the process or the
//!   machine died: it is cut off and reported. So is a run of frames in which a bad one comes first, when nothing shows that the bad one
//!   was ever durable: a loss of power may leave the end of one group and not its beginning.
//! - A bad frame with good ones after it that was durable, a gap between segments, a segment without its header: records were lost that
//!   somebody was told are safe. The log does not open, unless `on_damage = "skip"`: then [`repair`] leaves a mark in their
//!   place, and keeps the damaged file beside.
//!
//! Damage to what was confirmed before is repaired without a question: nobody needs it any more.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::Path,
};

use super::{
    SpoolError,
    position::Mark,
    repair,
    segment::{self, HEADER_BYTES, Scan, Stop},
};
use crate::config::OnDamage;

/// A log that can go on.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The length of every segment by its first sequence.
    pub(super) segments: BTreeMap<u64, u64>,
    /// The first sequence that is not confirmed.
    pub(super) confirmed: u64,
    /// The first sequence that is not taken.
    pub(super) next: u64,
    /// When the oldest record that is not confirmed was appended.
    pub(super) oldest_ms: Option<u64>,
    /// Tails that were cut off.
    pub(super) cut: u64,
    /// Sequences that were durable and are lost.
    pub(super) lost: u64,
}

/// Reads a log through and puts its end in order.
///
/// # Errors
/// [`SpoolError`]; damage leaves the disk as it was.
pub(super) fn recover(folder: &Path, mark: Option<Mark>, on_damage: OnDamage) -> Result<Recovered, SpoolError> {
    let io = |source| SpoolError::Folder { folder: folder.to_owned(), source };
    let mut segments = segment::list(folder).map_err(io)?;
    let confirmed = mark.map_or_else(|| segments.first().map_or(1, |(first, _)| *first), |mark| mark.confirmed).max(1);
    if mark.is_none() && !segments.is_empty() {
        tracing::warn!(folder = %folder.display(), "the spool's position is not known: what is in it is sent again from its beginning");
    }
    while let [(_, path), (second, _), ..] = segments.as_slice()
        && *second <= confirmed
    {
        fs::remove_file(path).map_err(io)?; // confirmed as a whole
        segments.remove(0);
    }
    let mut recovery = Recovery { folder, mark, on_damage, found: Recovered { confirmed, next: confirmed, ..Recovered::default() } };
    for (index, (first, path)) in segments.iter().enumerate() {
        recovery.take(*first, path, segments.get(index + 1).map(|(first, _)| *first))?;
    }
    recovery.end()?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(recovery.found)
}

/// How many records wait in a log that nobody opens.
///
/// # Errors
/// It cannot be read.
pub(super) fn count(folder: &Path, mark: Option<Mark>) -> std::io::Result<u64> {
    let segments = segment::list(folder)?;
    let confirmed = mark.map_or(1, |mark| mark.confirmed);
    let Some((first, path)) = segments.last() else { return Ok(0) };
    let last = segment::scan(path, *first, None, confirmed)?.last;
    let begin = segments.first().map_or(confirmed, |(first, _)| confirmed.max(*first));
    Ok((last + 1).saturating_sub(begin))
}

struct Recovery<'a> {
    folder: &'a Path,
    mark: Option<Mark>,
    on_damage: OnDamage,
    found: Recovered,
}

impl Recovery<'_> {
    fn io(&self, source: std::io::Error) -> SpoolError {
        SpoolError::Folder { folder: self.folder.to_owned(), source }
    }

    /// One segment; `limit` is where the next one begins.
    fn take(&mut self, first: u64, path: &Path, limit: Option<u64>) -> Result<(), SpoolError> {
        let scan = segment::scan(path, first, limit, self.found.confirmed).map_err(|source| self.io(source))?;
        if let Stop::Foreign(format) = scan.stop {
            return Err(SpoolError::Foreign { file: path.to_owned(), format });
        }
        if scan.stop == Stop::NoHeader && limit.is_none() && scan.length <= HEADER_BYTES as u64 {
            tracing::debug!(file = %path.display(), "a segment that was being made is removed");
            return fs::remove_file(path).map_err(|source| self.io(source));
        }
        if first > self.found.next {
            let loss = Loss { file: path, offset: 0, from: self.found.next, to: first };
            self.allow(&loss)?;
            let (made, length) = repair::mark(self.folder, self.found.next, first).map_err(|source| self.io(source))?;
            self.found.segments.insert(made, length);
            self.report(&loss, first - self.found.next);
        }
        let scan = match self.damage(path, &scan, limit) {
            Some(loss) => {
                self.allow(&loss)?;
                let end = limit.unwrap_or(loss.to);
                let lost = repair::rewrite(path, first, limit, end, self.found.confirmed).map_err(|source| self.io(source))?;
                self.report(&loss, lost);
                segment::scan(path, first, limit, self.found.confirmed).map_err(|source| self.io(source))?
            }
            None => scan,
        };
        if scan.end < scan.length {
            self.cut(path, &scan, limit.is_none())?;
        }
        self.found.segments.insert(first, scan.end);
        self.found.next = self.found.next.max(scan.last + 1);
        self.found.oldest_ms = self.found.oldest_ms.or(scan.oldest_ms);
        Ok(())
    }

    /// What is lost inside a segment that must not be lost without a word.
    fn damage<'a>(&self, path: &'a Path, scan: &Scan, limit: Option<u64>) -> Option<Loss<'a>> {
        let loss = |to| Some(Loss { file: path, offset: scan.end, from: scan.last + 1, to });
        match (scan.stop, limit) {
            (Stop::End | Stop::Superseded | Stop::Foreign(_), _) => None, // a gap to the next segment is found there
            (Stop::NoHeader, Some(limit)) => loss(limit),
            (Stop::NoHeader, None) => loss(self.mark.map_or(scan.last + 2, |mark| mark.durable.max(scan.last + 2))),
            (Stop::Bad(_), Some(limit)) if scan.last + 1 >= limit => None, // what is torn stands in the next one
            (Stop::Bad(next), Some(limit)) => loss(next.map_or(limit, |next| next.sequence.min(limit))),
            (Stop::Bad(None), None) => None,
            (Stop::Bad(Some(next)), None) => {
                let was_durable = next.durable > scan.last || self.mark.is_none_or(|mark| mark.durable > scan.last + 1);
                was_durable.then(|| loss(next.sequence)).flatten()
            }
        }
    }

    /// Whether to go on without records that are gone.
    fn allow(&self, loss: &Loss<'_>) -> Result<(), SpoolError> {
        let Loss { file, offset, from, to } = *loss;
        if self.on_damage == OnDamage::Skip || to <= self.found.confirmed {
            return Ok(());
        }
        Err(SpoolError::Damaged { file: file.to_owned(), offset, from, last: to.saturating_sub(1) })
    }

    /// Says what was lost, once everything is in order again.
    fn report(&mut self, loss: &Loss<'_>, lost: u64) {
        let (file, offset) = (loss.file.display(), loss.offset);
        self.found.lost += lost;
        if lost == 0 {
            tracing::warn!(%file, offset, "the spool was damaged where everything is confirmed: repaired, nothing is lost");
        } else {
            let from = loss.from;
            tracing::error!(%file, offset, from, lost, "the spool was damaged: going on without {lost} records (on_damage = \"skip\")");
        }
    }

    /// Cuts off what is behind the last good frame.
    fn cut(&mut self, path: &Path, scan: &Scan, is_last: bool) -> Result<(), SpoolError> {
        let file = OpenOptions::new().write(true).open(path).map_err(|source| self.io(source))?;
        file.set_len(scan.end).and_then(|()| file.sync_all()).map_err(|source| self.io(source))?;
        let (file, offset, bytes) = (path.display(), scan.end, scan.length - scan.end);
        if is_last {
            self.found.cut += 1;
            tracing::warn!(%file, offset, bytes, "the spool ended in the middle of a record; this end is cut off");
        } else {
            tracing::info!(%file, offset, bytes, "the end of a segment is cut off: its records stand in the next one");
        }
        Ok(())
    }

    /// What was durable and is not there any more, although everything that is there is whole.
    fn end(&mut self) -> Result<(), SpoolError> {
        let Some(mark) = self.mark else { return Ok(()) };
        let lost = mark.durable.saturating_sub(self.found.next);
        if lost > 0 {
            self.found.lost += lost;
            tracing::error!(
                folder = %self.folder.display(), from = self.found.next,
                "the last {lost} records of the spool are missing, although they were on the disk once"
            );
        }
        Ok(())
    }
}

/// Sequences that cannot be read, `from` to before `to`, and where that was noticed.
struct Loss<'a> {
    file: &'a Path,
    offset: u64,
    from: u64,
    to: u64,
}
