//! The capture files of one route: `<route>-<n>.jsonl`, a new one whenever an eighth of the room is full or the process starts, the oldest
//! gone when there is no more. Readable by their owner only: payloads and user names are personal data.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::guest::CaptureHeader;

/// Files that share the room of a route.
const FILES: u64 = 8;
/// Characters of a route's name that its files bear.
const MAX_STEM: usize = 80;

/// A sample that was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It is larger than all that the route may have.
    #[error("a call takes {bytes} bytes, more than capture.max_bytes of its route; raise it")]
    TooLarge {
        /// What it takes.
        bytes: u64,
    },
    /// The system says no.
    #[error("{}: {error}; make room, or name another capture.folder", .path.display())]
    Unwritable {
        /// What could not be written, made or removed.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

impl Refused {
    /// A stable word, for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refused::TooLarge { .. } => "too-large",
            Refused::Unwritable { .. } => "unwritable",
        }
    }
}

/// The files of one route.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    stem: String,
    header: Vec<u8>,
    /// Whole files, oldest first, with their sizes; `None`: nobody has looked yet.
    whole: Option<VecDeque<(PathBuf, u64)>>,
    open: Option<Open>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Files {
    pub(super) fn new(folder: &Path, route: &str, node: &str) -> Self {
        let mut header = serde_json::to_vec(&CaptureHeader::new(route, node)).unwrap_or_default(); // texts and numbers always are JSON
        header.push(b'\n');
        Files { folder: folder.to_owned(), stem: stem(route), header, whole: None, open: None, next: 1 }
    }

    /// Writes one line; all files together take `max_bytes` at most.
    ///
    /// # Errors
    /// It was not written. The next line goes to a new file, so that one cut off here is the last of its own.
    pub(super) fn write(&mut self, mut line: Vec<u8>, max_bytes: u64) -> Result<(), Refused> {
        line.push(b'\n');
        let (bytes, header) = (line.len() as u64, self.header.len() as u64);
        if bytes + header > max_bytes {
            return Err(Refused::TooLarge { bytes: bytes + header });
        }
        self.look()?;
        if self.open.as_ref().is_some_and(|open| open.bytes + bytes > max_bytes / FILES) {
            self.close()?;
        }
        let new = if self.open.is_some() { 0 } else { header };
        self.make_room(bytes + new, max_bytes)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let written = open.file.write_all(&line).map(|()| open.bytes += bytes);
        self.go_on(open, written)
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// Some of it is lost.
    pub(super) fn flush(&mut self) -> Result<(), Refused> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let flushed = open.file.flush();
        self.go_on(open, flushed)
    }

    /// Keeps a file open that took what it was given; one that did not is left as it is.
    fn go_on(&mut self, open: Open, taken: io::Result<()>) -> Result<(), Refused> {
        let Err(error) = taken else {
            self.open = Some(open);
            return Ok(());
        };
        let path = open.path.clone();
        self.keep(open);
        Err(Refused::Unwritable { path, error })
    }

    /// Finds the files of earlier processes.
    fn look(&mut self) -> Result<(), Refused> {
        if self.whole.is_some() {
            return Ok(());
        }
        let unwritable = |error| Refused::Unwritable { path: self.folder.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(unwritable)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unwritable)? {
            let entry = entry.map_err(unwritable)?;
            if let Some(number) = entry.file_name().to_str().and_then(|name| self.number(name)) {
                found.push((number, entry.path(), entry.metadata().map_or(0, |metadata| metadata.len())));
            }
        }
        found.sort();
        self.next = found.last().map_or(1, |(number, ..)| number.saturating_add(1));
        self.whole = Some(found.into_iter().map(|(_, path, bytes)| (path, bytes)).collect());
        Ok(())
    }

    /// The number of one of these files.
    fn number(&self, name: &str) -> Option<u64> {
        name.strip_prefix(&self.stem)?.strip_prefix('-')?.strip_suffix(".jsonl")?.parse().ok()
    }

    fn make_room(&mut self, bytes: u64, max_bytes: u64) -> Result<(), Refused> {
        let Some(whole) = &mut self.whole else { return Ok(()) };
        let mut all: u64 = whole.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.open.as_ref().map_or(0, |open| open.bytes);
        while all + bytes > max_bytes {
            let Some((path, freed)) = whole.pop_front() else { return Ok(()) };
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                whole.push_front((path.clone(), freed));
                return Err(Refused::Unwritable { path, error });
            }
            all = all.saturating_sub(freed);
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Open, Refused> {
        loop {
            let path = self.folder.join(format!("{}-{:06}.jsonl", self.stem, self.next));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    self.next = self.next.saturating_add(1);
                    let mut open = Open { path, file: BufWriter::new(file), bytes: self.header.len() as u64 };
                    return match open.file.write_all(&self.header) {
                        Ok(()) => Ok(open),
                        Err(error) => Err(Refused::Unwritable { path: open.path, error }),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.next < u64::MAX => self.next += 1, // another process's
                Err(error) => return Err(Refused::Unwritable { path, error }),
            }
        }
    }

    fn close(&mut self) -> Result<(), Refused> {
        self.flush()?;
        if let Some(open) = self.open.take() {
            self.keep(open);
        }
        Ok(())
    }

    /// Counts a file that nothing more is written to.
    fn keep(&mut self, open: Open) {
        if let Some(whole) = &mut self.whole {
            whole.push_back((open.path, open.bytes));
        }
    }
}

/// What the names of a route's files begin with: its own name, as far as every file system takes it, and then a checksum of it.
fn stem(route: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let stem: String = route.chars().take(MAX_STEM).map(|c| if plain(c) { c } else { '_' }).collect();
    if stem == route { stem } else { format!("{stem}-{:08x}", crc32fast::hash(route.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const MAX_BYTES: u64 = 8_000;

    fn held(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:0>99}").into_bytes()
    }

    #[test]
    fn the_room_holds_the_latest_lines() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        let mut next = 0;
        for process in 0..3 {
            let mut files = Files::new(&folder, "r", "n");
            for _ in 0..100 {
                files.write(line(next), MAX_BYTES).unwrap();
                files.flush().unwrap();
                next += 1;
                let files = held(&folder);
                let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
                assert!(bytes as u64 <= MAX_BYTES, "{bytes} in {process}");
                assert!(files.iter().all(|(_, text)| text.starts_with("{\"hookgate_capture\":1,\"route\":\"r\"")));
            }
        }
        let files = held(&folder);
        let lines: Vec<&str> = files.iter().flat_map(|(_, text)| text.lines().skip(1)).collect();
        let first = next - lines.len();
        assert!(lines.len() > 60, "{}", lines.len());
        assert!((first..next).zip(&lines).all(|(number, text)| text.as_bytes() == line(number)));
        let mode = fs::metadata(folder.join(&files[0].0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_written_is_refused_and_the_next_line_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let mut files = Files::new(place.path(), "r", "n");
        assert_eq!(files.write(vec![b'x'; MAX_BYTES as usize], MAX_BYTES).unwrap_err().reason(), "too-large");
        fs::write(place.path().join("file"), "").unwrap();
        let mut elsewhere = Files::new(&place.path().join("file/below"), "r", "n");
        assert_eq!(elsewhere.write(line(0), MAX_BYTES).unwrap_err().reason(), "unwritable");
        files.write(line(1), MAX_BYTES).unwrap();
        let mut other = Files::new(place.path(), "r", "n");
        other.write(line(2), MAX_BYTES).unwrap();
        let (first, second) = (files.open.as_ref().unwrap(), other.open.as_ref().unwrap());
        assert_ne!(first.path, second.path, "a file belongs to one writer");
    }

    #[test]
    fn names_of_routes_become_names_of_files() {
        for (route, expected) in
            [("commands", "commands"), ("message.publish devices/+/state", "message.publish_devices___state-"), ("../etc", ".._etc-")]
        {
            let found = stem(route);
            assert!(found.starts_with(expected) && !found.contains('/'), "{found}");
            assert_eq!(found == route, expected == route);
        }
        assert_ne!(stem("a/b"), stem("a+b"));
        assert!(stem(&"ä".repeat(1_000)).len() < 100);
    }
}
