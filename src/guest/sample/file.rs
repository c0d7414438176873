//! A file of samples: JSON, one to a line, after a first line that says which format it is.
//!
//! Files are captured (the first line is there) or written by hand (it need not be). A last line without its end is what a process leaves that
//! was killed while writing: it is noted and passed over. Any other line that cannot be read is an error with its number.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Sample, wire::Line};

/// The longest line that is read, bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// The first line of a captured file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the lines below: [`Header::FORMAT`].
    pub hookgate_capture: u32,
    /// The route whose calls these are.
    pub route: String,
    /// The node that they were made on.
    pub node: String,
    /// The Hookgate that wrote them.
    pub hookgate: String,
}

impl Header {
    /// The format that this Hookgate writes and reads.
    pub const FORMAT: u32 = 1;

    /// For a file of this route's calls, written now.
    pub fn new(route: &str, node: &str) -> Self {
        let hookgate = env!("CARGO_PKG_VERSION").to_owned();
        Header { hookgate_capture: Self::FORMAT, route: route.to_owned(), node: node.to_owned(), hookgate }
    }
}

/// A file of samples that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The system says no.
    #[error("{}: {error}; name a readable file of samples", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A line is no sample.
    #[error("{}:{line}: {what}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it, and what should be there.
        what: String,
    },
}

/// A sample and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// Its line, from 1.
    pub line: usize,
    /// The call.
    pub sample: Sample,
}

/// Reads the samples of one file, one after the other; it ends after the first error.
#[derive(Debug)]
pub struct Samples<R = BufReader<File>> {
    file: PathBuf,
    from: R,
    line: usize,
    cut_off: Option<usize>,
    ended: bool,
}

impl Samples {
    /// Opens a file.
    ///
    /// # Errors
    /// The system says no.
    pub fn open(file: &Path) -> Result<Self, SampleError> {
        match File::open(file) {
            Ok(opened) => Ok(Samples::read(file, BufReader::new(opened))),
            Err(error) => Err(SampleError::Unreadable { file: file.to_owned(), error }),
        }
    }
}

impl<R: BufRead> Samples<R> {
    /// Reads what `file` names from somewhere.
    pub fn read(file: &Path, from: R) -> Self {
        Samples { file: file.to_owned(), from, line: 0, cut_off: None, ended: false }
    }

    /// After the end: the number of a last line that a killed process left unfinished.
    pub fn cut_off(&self) -> Option<usize> {
        self.cut_off
    }

    fn step(&mut self) -> Result<Option<Numbered>, SampleError> {
        loop {
            let mut bytes = Vec::new();
            let read = self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
            read.map_err(|error| SampleError::Unreadable { file: self.file.clone(), error })?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            let is_whole = bytes.last() == Some(&b'\n');
            if !is_whole && bytes.len() as u64 == MAX_LINE_BYTES {
                return Err(self.wrong(format!("the line is longer than {MAX_LINE_BYTES} bytes")));
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match self.understand(&bytes) {
                Ok(Some(sample)) => return Ok(Some(Numbered { line: self.line, sample })),
                Ok(None) => {}
                Err(_) if !is_whole => {
                    self.cut_off = Some(self.line);
                    return Ok(None);
                }
                Err(what) => return Err(self.wrong(what)),
            }
        }
    }

    /// The sample of a line; `None`: it is the header.
    fn understand(&self, bytes: &[u8]) -> Result<Option<Sample>, String> {
        if self.line == 1
            && let Ok(header) = serde_json::from_slice::<Header>(bytes)
        {
            return match header.hookgate_capture {
                Header::FORMAT => Ok(None),
                other => Err(format!("this capture has the format {other}, and this Hookgate reads {}", Header::FORMAT)),
            };
        }
        let line: Line = serde_json::from_slice(bytes).map_err(|error| format!("this is no sample: {error}"))?;
        line.sample().map(Some)
    }

    fn wrong(&self, what: String) -> SampleError {
        SampleError::Line { file: self.file.clone(), line: self.line, what }
    }
}

impl<R: BufRead> Iterator for Samples<R> {
    type Item = Result<Numbered, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.step().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
