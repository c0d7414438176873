//! Keep alive: half as much again as granted, and never because of our own pausing [MQTT-3.1.2-22].

use std::time::{Duration, Instant};

/// When a silent client is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    patience: Option<Duration>,
    heard: Instant,
    paused: bool,
}

impl KeepAlive {
    /// 0 seconds: never.
    pub(crate) fn new(granted_s: u16, now: Instant) -> Self {
        let patience = (granted_s > 0).then(|| Duration::from_millis(u64::from(granted_s) * 1500));
        KeepAlive { patience, heard: now, paused: false }
    }

    /// Something arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// While we do not read, the client cannot be heard; the time starts again afterwards.
    pub(crate) fn pause(&mut self, paused: bool, now: Instant) {
        if self.paused && !paused {
            self.heard = now;
        }
        self.paused = paused;
    }

    /// When to look whether it has expired; the answer may change until then.
    pub(crate) fn next_look(&self, now: Instant) -> Instant {
        /// No keep alive: nothing to see, but a timer wants a time.
        const NEVER: Duration = Duration::from_secs(24 * 3600);
        self.deadline().unwrap_or_else(|| now + self.patience.unwrap_or(NEVER))
    }

    fn deadline(&self) -> Option<Instant> {
        if self.paused { None } else { self.patience.map(|patience| self.heard + patience) }
    }

    /// Whether the client was silent for too long.
    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_times_and_not_while_paused() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut keep_alive = KeepAlive::new(10, start);
        assert_eq!(keep_alive.deadline(), Some(after(15)));
        assert!(!keep_alive.expired(after(14)) && keep_alive.expired(after(15)));
        keep_alive.heard(after(14));
        assert!(!keep_alive.expired(after(28)));
        keep_alive.pause(true, after(20));
        assert!(!keep_alive.expired(after(1000)));
        keep_alive.pause(false, after(1000));
        assert_eq!(keep_alive.deadline(), Some(after(1015)));
        assert_eq!(KeepAlive::new(0, start).deadline(), None);
    }
}
