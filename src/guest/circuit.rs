//! The circuit to one version as the rest of Hookgate meets it: a [`Breaker`] with a clock, and what is told of its changes.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::sync::watch;

use super::{
    breaker::{Admission, Breaker, Change, Circuit},
    failure::Failure,
};
use crate::{
    config,
    metrics::{Metrics, ReasonLabel},
};

/// The circuit of one version of a guest.
pub(super) struct Fuse {
    breaker: Breaker,
    settings: config::Breaker,
    guest: String,
    digest: String,
    changes: watch::Sender<Circuit>,
    level: Gauge,
    openings: Counter,
    refused: Counter,
}

impl Fuse {
    pub(super) fn new(guest: &str, digest: &str, settings: config::Breaker, metrics: &Metrics) -> Self {
        let refused = ReasonLabel { name: guest.to_owned(), reason: Failure::BreakerOpen { for_ms: 0 }.reason().to_owned() };
        Fuse {
            breaker: Breaker::new(settings),
            settings,
            guest: guest.to_owned(),
            digest: digest.to_owned(),
            changes: watch::Sender::new(Circuit::Closed),
            level: metrics.guest_circuit.get_or_create_owned(&guest.into()),
            openings: metrics.guest_circuit_openings.get_or_create_owned(&guest.into()),
            refused: metrics.guest_failures.get_or_create_owned(&refused),
        }
    }

    pub(super) fn circuit(&self) -> Circuit {
        self.breaker.circuit()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Circuit> {
        self.changes.subscribe()
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// The circuit is open; counted here.
    pub(super) fn admit(&self) -> Result<Passage<'_>, Failure> {
        if self.circuit() == Circuit::Closed {
            return Ok(Passage { fuse: self, admission: Admission::Free });
        }
        match self.breaker.admit(now_ms()) {
            Ok((admission, change)) => {
                self.tell(change);
                Ok(Passage { fuse: self, admission })
            }
            Err(for_ms) => {
                self.refused.inc();
                Err(Failure::BreakerOpen { for_ms })
            }
        }
    }

    /// Tells of a change: whoever tells last tells how it is.
    fn tell(&self, change: Option<Change>) {
        let Some(change) = change else { return };
        self.changes.send_modify(|told| {
            let circuit = self.circuit();
            self.level.inc_by(level(circuit) - level(*told));
            *told = circuit;
        });
        let (guest, digest, open_for) = (&self.guest, &self.digest, self.settings.open_for);
        match change {
            Change::Opened { calls, failures } => {
                self.openings.inc();
                tracing::error!(
                    guest, digest, calls, failures, window = ?self.settings.window,
                    "circuit opened: this version fails too often and is not asked for {open_for:?}, on_failure decides; its failures are in \
                     the log above; `hookgate guest rollback {guest}` brings the version before it back"
                );
            }
            Change::OpenedAgain => {
                self.openings.inc();
                tracing::warn!(guest, digest, "circuit stays open: this version still fails; tried again in {open_for:?}");
            }
            Change::Tried => tracing::info!(guest, digest, calls = self.settings.probes, "circuit half-open: a few calls are tried"),
            Change::Closed => tracing::info!(guest, digest, "circuit closed: this version answers again"),
        }
    }
}

/// A version that is gone is no longer open.
impl Drop for Fuse {
    fn drop(&mut self) {
        self.level.dec_by(level(*self.changes.borrow()));
    }
}

/// As the metric says it.
fn level(circuit: Circuit) -> i64 {
    match circuit {
        Circuit::Closed => 0,
        Circuit::HalfOpen => 1,
        Circuit::Open => 2,
    }
}

/// A call on its way; one that is dropped without an end was given up.
pub(super) struct Passage<'a> {
    fuse: &'a Fuse,
    admission: Admission,
}

impl Passage<'_> {
    /// The call ended so.
    pub(super) fn end<T>(mut self, verdict: &Result<T, Failure>) {
        if self.fuse.settings.max_failure_ratio >= 1.0 {
            return; // it never opens
        }
        let failed = verdict.as_ref().is_err_and(Failure::is_against_the_guest);
        let admission = std::mem::replace(&mut self.admission, Admission::Free);
        let change = self.fuse.breaker.note(&admission, failed, now_ms());
        self.fuse.tell(change);
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.fuse.breaker.give_up(&self.admission);
    }
}

/// Milliseconds that never go back, a few too few: the kernel's own last look at the clock, because this is read at every call.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn now_ms() -> u64 {
    static BEGINNING: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX)
}
