//! The last part of a trial: a new version answers calls of other days, without consequences.
//!
//! The file is one that `capture` on a route has written, or one written by hand (`docs/replay.md`). Samples for other guests, and those that
//! lack a secret that was not written down, are passed over; a trial in which nothing is left to ask is a refusal, for it would try nothing.

use std::path::{Path, PathBuf};

use crate::{
    config,
    guest::{Beneath, Guest, Numbered, SampleError, Samples},
};

/// Samples of one trial.
const MAX_SAMPLES: usize = 100_000;
/// What they may take in memory together, bytes.
const MAX_BYTES: usize = 256 << 20;

/// Why a version did not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    /// The file cannot be read, or a line of it.
    #[error("its samples cannot be read: {0}")]
    File(String),
    /// There is more than a trial reads.
    #[error("{path} has more than {MAX_SAMPLES} samples, or more than {MAX_BYTES} bytes of them", path = .0.display())]
    TooMany(PathBuf),
    /// Nothing would be tried.
    #[error("none of the {samples} samples of {path} can be asked of this guest", path = .path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What is in it.
        samples: usize,
    },
    /// It gave no verdict.
    #[error("the sample at {path}:{line} failed: {words}", path = .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// How it failed.
        words: String,
    },
    /// It answered something else.
    #[error("the sample at {path}:{line} is answered another way: {words}", path = .path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What differs.
        words: String,
    },
}

impl TrialError {
    /// What to do about it.
    pub(super) fn help(&self) -> String {
        match self {
            TrialError::File(_) => "trial.samples names a file as capture on a route writes it; docs/replay.md describes a line".to_owned(),
            TrialError::TooMany(_) => "keep a part of them; a smaller capture.sample writes fewer".to_owned(),
            TrialError::Nothing { .. } => {
                "a sample's `guest` must be this one's name or absent, and none of its secrets withheld".to_owned()
            }
            TrialError::Failed { line, .. } | TrialError::Differs { line, .. } => {
                format!("try it by hand: hookgate replay FILE --guest NEW.wasm; or take line {line} out, if that is how it should be now")
            }
        }
    }
}

/// Asks every sample of `trial`; how many were asked.
pub(super) async fn run(trial: &config::Trial, guest: &Guest) -> Result<usize, TrialError> {
    let path = &trial.samples.value;
    let samples = read(path).await?;
    let mut asked = 0;
    for Numbered { line, sample } in samples.iter().filter(|numbered| is_for(guest, numbered)) {
        let Some(rehearsed) = guest.rehearse(sample, Beneath::Nothing).await else { continue };
        asked += 1;
        let differs = || rehearsed.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let (path, line) = (path.clone(), *line);
        match (&rehearsed.outcome, &sample.outcome) {
            // What failed the same way then is an answer like others.
            (Err(_), Some(Err(_))) if rehearsed.differences.is_empty() => {}
            (Err(failed), _) => return Err(TrialError::Failed { path, line, words: failed.to_string() }),
            _ if trial.same_verdicts && !rehearsed.differences.is_empty() => {
                return Err(TrialError::Differs { path, line, words: differs() });
            }
            _ => {}
        }
    }
    if asked == 0 { Err(TrialError::Nothing { path: path.clone(), samples: samples.len() }) } else { Ok(asked) }
}

fn is_for(guest: &Guest, Numbered { sample, .. }: &Numbered) -> bool {
    sample.guest.as_ref().is_none_or(|name| **name == *guest.name())
}

async fn read(path: &Path) -> Result<Vec<Numbered>, TrialError> {
    let path = path.to_owned();
    let unreadable = |error: SampleError| TrialError::File(error.to_string());
    let reading = tokio::task::spawn_blocking(move || {
        let (mut samples, mut bytes) = (Vec::new(), 0);
        for numbered in Samples::open(&path).map_err(unreadable)? {
            let numbered = numbered.map_err(unreadable)?;
            bytes += numbered.sample.bytes();
            samples.push(numbered);
            if samples.len() > MAX_SAMPLES || bytes > MAX_BYTES {
                return Err(TrialError::TooMany(path));
            }
        }
        Ok(samples)
    });
    reading.await.unwrap_or_else(|error| Err(TrialError::File(error.to_string())))
}
