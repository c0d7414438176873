//! `log`: a guest's lines, with its name, no more of them per second than allowed.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use crate::{
    guest::{
        bindings::imported::log::{self, Level},
        failure::Failure,
        host::Host,
    },
    metrics::Metrics,
};

/// What is kept of one line, bytes.
const MAX_LINE_BYTES: usize = 8 << 10;

/// The log of one guest.
#[derive(Debug)]
pub(in crate::guest) struct Log {
    guest: String,
    allowance: Mutex<Allowance>,
    dropped: Counter,
}

/// Lines that may be written now; a second's worth at most.
#[derive(Debug)]
struct Allowance {
    lines_per_s: f64,
    lines: f64,
    counted_at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.counted_at).as_secs_f64() * self.lines_per_s;
        self.lines = (self.lines + gained).min(self.lines_per_s);
        self.counted_at = now;
        let allowed = self.lines >= 1.0;
        if allowed {
            self.lines -= 1.0;
        }
        allowed
    }
}

impl Log {
    pub(in crate::guest) fn new(guest: &str, lines_per_s: u32, metrics: &Arc<Metrics>) -> Self {
        let lines = f64::from(lines_per_s);
        Log {
            guest: guest.to_owned(),
            allowance: Mutex::new(Allowance { lines_per_s: lines, lines, counted_at: Instant::now() }),
            dropped: metrics.guest_log_lines_dropped.get_or_create_owned(&guest.into()),
        }
    }

    /// Writes a line, or counts it as dropped.
    fn write(&self, level: Level, context: &str, message: &str) {
        if !self.allowance.lock().take(Instant::now()) {
            self.dropped.inc();
            return;
        }
        let (guest, context, message) = (self.guest.as_str(), start(context, MAX_LINE_BYTES), start(message, MAX_LINE_BYTES));
        match level {
            Level::Trace => tracing::trace!(target: "guest", guest, context, "{message}"),
            Level::Debug => tracing::debug!(target: "guest", guest, context, "{message}"),
            Level::Info => tracing::info!(target: "guest", guest, context, "{message}"),
            Level::Warn => tracing::warn!(target: "guest", guest, context, "{message}"),
            Level::Error | Level::Critical => tracing::error!(target: "guest", guest, context, "{message}"),
        }
    }

    /// Writes why a call gave no verdict.
    pub(in crate::guest) fn failed(&self, failure: &Failure) {
        self.write(Level::Error, failure.reason(), &failure.to_string());
    }

    /// Writes a line of a call without consequences, whatever its level; it is none of the guest's allowance.
    fn rehearsed(&self, context: &str, message: &str) {
        let (context, message) = (start(context, MAX_LINE_BYTES), start(message, MAX_LINE_BYTES));
        tracing::debug!(target: "guest", guest = self.guest, rehearsal = true, context, "{message}");
    }
}

/// The first `bytes` bytes of a text, or a little less.
fn start(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

impl log::Host for Host {
    fn log(&mut self, level: Level, context: String, message: String) {
        if self.circumstances.is_staged() {
            self.capabilities.log.rehearsed(&context, &message);
        } else {
            self.capabilities.log.write(level, &context, &message);
        }
    }
}

impl Host {
    /// Writes what the guest printed during a call.
    pub(in crate::guest) fn log_printed(&self, text: &str) {
        if self.circumstances.is_staged() {
            self.capabilities.log.rehearsed("printed", text);
        } else {
            self.capabilities.log.write(Level::Warn, "printed", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_over_the_allowance_wait_for_its_return() {
        let now = Instant::now();
        let mut allowance = Allowance { lines_per_s: 2.0, lines: 2.0, counted_at: now };
        for (after_ms, expected) in
            [(0, true), (0, true), (0, false), (499, false), (500, true), (500, false), (9_000, true), (9_000, true)]
        {
            assert_eq!(allowance.take(now + Duration::from_millis(after_ms)), expected, "{after_ms}");
        }
        assert!(!allowance.take(now + Duration::from_millis(9_000)), "no more than one second's worth is saved up");
    }

    #[test]
    fn a_flood_is_counted() {
        let metrics = Metrics::new();
        let log = Log::new("noisy", 0, &metrics);
        (0..7).for_each(|_| log.write(Level::Info, "", "line"));
        assert_eq!(log.dropped.get(), 7);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(start("aä", 2), "a");
        assert_eq!(start("ab", 2), "ab");
    }
}
