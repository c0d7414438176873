//! A new version on its way into service, beside the one that everybody meets: the counts, and the switch that ends it at once.
//!
//! Invariant: once a canary is over, no call that begins later meets it, whatever plan it is made under.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::canary::{self, Figures, Reason, Side, Verdict};
use crate::{config, guest::Guest, metrics::Metrics};

/// How a call ended, as far as a version is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Fine,
    /// It denied or dropped.
    Refused,
    /// It gave no verdict.
    Failed,
}

/// Counts of one version's calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    refusals: AtomicU64,
}

impl Tally {
    pub(super) fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Fine => {}
            Outcome::Refused => drop(self.refusals.fetch_add(1, Ordering::Relaxed)),
            Outcome::Failed => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> Figures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures { calls: of(&self.calls), failures: of(&self.failures), refusals: of(&self.refusals) }
    }
}

/// A new version that a part of the clients meets.
#[derive(Debug)]
pub(super) struct Canary {
    pub(super) guest: Arc<Guest>,
    /// Its component, to be kept when it takes over.
    pub(super) bytes: Arc<[u8]>,
    pub(super) settings: config::Canary,
    pub(super) since_ms: u64,
    began: Instant,
    side: Side,
    new: Tally,
    running: Tally,
    over: OnceLock<Reason>,
    wake: Arc<Notify>,
    counted: Counted,
}

/// Handles of what is counted for every call, looked up once.
#[derive(Debug)]
struct Counted {
    calls: Counter,
    failures: Counter,
}

impl Canary {
    /// Begins now; `wake` is told when it is over before its time.
    pub(super) fn new(
        (guest, bytes): (Arc<Guest>, Arc<[u8]>),
        settings: config::Canary,
        since_ms: u64,
        wake: &Arc<Notify>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let label = guest.name().into();
        let counted = Counted {
            calls: metrics.guest_canary_calls.get_or_create_owned(&label),
            failures: metrics.guest_canary_failures.get_or_create_owned(&label),
        };
        Arc::new(Canary {
            side: Side::new(guest.digest(), settings.share),
            guest,
            bytes,
            settings,
            since_ms,
            began: Instant::now(),
            new: Tally::default(),
            running: Tally::default(),
            over: OnceLock::new(),
            wake: Arc::clone(wake),
            counted,
        })
    }

    /// Whether this client meets the new version.
    pub(super) fn takes(&self, client_id: &str) -> bool {
        self.side.takes(client_id) && self.over.get().is_none()
    }

    /// Counts a call, and ends the canary when it must go back.
    pub(super) fn note(&self, by: &Arc<Guest>, outcome: Outcome) {
        if !Arc::ptr_eq(by, &self.guest) {
            return self.running.note(outcome);
        }
        self.new.note(outcome);
        self.counted.calls.inc();
        if outcome == Outcome::Fine {
            return;
        }
        if outcome == Outcome::Failed {
            self.counted.failures.inc();
        }
        if let Verdict::RollBack(reason) = canary::verdict(&self.settings, self.figures(), self.running.figures(), Duration::ZERO)
            && self.over.set(reason).is_ok()
        {
            self.wake.notify_one();
        }
    }

    /// What becomes of it.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        match self.over.get() {
            Some(reason) => Verdict::RollBack(*reason),
            None => canary::verdict(&self.settings, self.figures(), self.running.figures(), now.saturating_duration_since(self.began)),
        }
    }

    /// When it is to be looked at, at the latest: its time is up, or it waits for calls.
    pub(super) fn due(&self, now: Instant) -> Instant {
        /// A canary whose time is up and that has not had enough calls.
        const AGAIN: Duration = Duration::from_millis(200);
        let end = self.began.checked_add(self.settings.for_).unwrap_or(now + AGAIN);
        if end > now { end } else { now + AGAIN }
    }

    /// What was counted of the new version.
    pub(super) fn figures(&self) -> Figures {
        self.new.figures()
    }

    /// What was counted of the running version meanwhile.
    pub(super) fn running(&self) -> Figures {
        self.running.figures()
    }
}
