//! When a version that fails too often is left alone: the circuit to it opens, is tried again after a while, and closes.
//!
//! A state machine without a clock: the time is an argument, in milliseconds that never go back. Invariants: while the circuit is closed
//! nothing is locked, neither to admit a call nor to count a success; while it is half-open at most `probes` calls are let through; a probe
//! that is given up makes room for another, so that no circuit stays half-open for want of an answer. Absent: metrics, the log and the clock
//! (see `circuit`), the way back to the version before (the registry).

mod window;

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use self::window::Window;
use crate::config;

/// Whether a guest's version is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// It is.
    Closed,
    /// A few calls are tried, the others fail at once.
    HalfOpen,
    /// Every call fails at once, until the first one after `open_for`.
    Open,
}

/// A change of the circuit, for those who tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It opened: too many calls of the window failed.
    Opened { calls: u64, failures: u64 },
    /// A probe failed.
    OpenedAgain,
    /// The first probe is on its way.
    Tried,
    /// All probes went well.
    Closed,
}

/// How a call was let through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As every call while the circuit is closed.
    Free,
    /// To see whether the guest is well again; the number tells this time of being half-open from others.
    Probe(u64),
}

/// The circuit of one version.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: config::Breaker,
    /// [`Circuit`] as a number; written under the lock of `trial`.
    circuit: AtomicU8,
    window: Window,
    trial: Mutex<Trial>,
}

/// What counts while the circuit is not closed.
#[derive(Debug, Default)]
struct Trial {
    /// When it may be tried again, milliseconds.
    until_ms: u64,
    /// Goes up each time that it becomes half-open.
    number: u64,
    /// Probes without an answer yet.
    out: u32,
    /// Probes that went well.
    well: u32,
}

impl Breaker {
    pub(super) fn new(settings: config::Breaker) -> Self {
        let window = Window::new(millis(settings.window));
        Breaker { settings, circuit: AtomicU8::new(Circuit::Closed as u8), window, trial: Mutex::default() }
    }

    /// As it is now; one that is open stays so until somebody calls.
    pub(super) fn circuit(&self) -> Circuit {
        match self.circuit.load(Ordering::Relaxed) {
            0 => Circuit::Closed,
            1 => Circuit::HalfOpen,
            _ => Circuit::Open,
        }
    }

    /// Whether a call may go through, in a circuit that is not closed (in a closed one it may).
    ///
    /// # Errors
    /// It may not, for so many milliseconds yet; 0 while probes are under way.
    pub(super) fn admit(&self, now_ms: u64) -> Result<(Admission, Option<Change>), u64> {
        let mut trial = self.trial.lock();
        match self.circuit() {
            Circuit::Closed => Ok((Admission::Free, None)),
            Circuit::Open if now_ms < trial.until_ms => Err(trial.until_ms - now_ms),
            Circuit::Open => {
                *trial = Trial { number: trial.number + 1, out: 1, ..Trial::default() };
                self.set(Circuit::HalfOpen);
                Ok((Admission::Probe(trial.number), Some(Change::Tried)))
            }
            Circuit::HalfOpen if trial.out + trial.well < self.settings.probes => {
                trial.out += 1;
                Ok((Admission::Probe(trial.number), None))
            }
            Circuit::HalfOpen => Err(0),
        }
    }

    /// Counts a call that has ended.
    pub(super) fn note(&self, admission: &Admission, failed: bool, now_ms: u64) -> Option<Change> {
        match admission {
            Admission::Probe(number) => self.note_probe(*number, failed, now_ms),
            Admission::Free if self.circuit() != Circuit::Closed => None, // it began before the circuit opened
            Admission::Free => {
                self.window.add(now_ms, failed);
                if failed { self.weigh(now_ms) } else { None }
            }
        }
    }

    /// A probe ended without an answer: its caller is gone.
    pub(super) fn give_up(&self, admission: &Admission) {
        let Admission::Probe(number) = admission else { return };
        let mut trial = self.trial.lock();
        if trial.number == *number && self.circuit() == Circuit::HalfOpen {
            trial.out -= 1;
        }
    }

    /// Opens the circuit if too many calls have failed.
    fn weigh(&self, now_ms: u64) -> Option<Change> {
        let (calls, failures) = self.window.sum(now_ms);
        if calls < u64::from(self.settings.min_calls) || failures as f64 <= self.settings.max_failure_ratio * calls as f64 {
            return None;
        }
        let mut trial = self.trial.lock();
        if self.circuit() != Circuit::Closed {
            return None; // another call was faster
        }
        self.open(&mut trial, now_ms);
        Some(Change::Opened { calls, failures })
    }

    fn note_probe(&self, number: u64, failed: bool, now_ms: u64) -> Option<Change> {
        let mut trial = self.trial.lock();
        if trial.number != number || self.circuit() != Circuit::HalfOpen {
            return None; // another probe has decided
        }
        trial.out -= 1;
        if failed {
            self.open(&mut trial, now_ms);
            return Some(Change::OpenedAgain);
        }
        trial.well += 1;
        if trial.well < self.settings.probes {
            return None;
        }
        self.window.clear();
        self.set(Circuit::Closed);
        Some(Change::Closed)
    }

    fn open(&self, trial: &mut Trial, now_ms: u64) {
        trial.until_ms = now_ms + millis(self.settings.open_for);
        self.set(Circuit::Open);
    }

    fn set(&self, circuit: Circuit) {
        self.circuit.store(circuit as u8, Ordering::Relaxed);
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
