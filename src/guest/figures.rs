//! What is counted about one guest, at hand for calls.

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::metrics::{Metrics, ReasonLabel};

/// The families' members of one guest; its versions count together.
pub(super) struct Figures {
    guest: String,
    calls: Counter,
    nanoseconds: Counter,
    pub(super) cpu_nanoseconds: Counter,
    pub(super) overruns: Counter,
    pub(super) throttled: Counter,
    pub(super) waits: Counter,
    pub(super) instances: Gauge,
    pub(super) instances_idle: Gauge,
    pub(super) memory_bytes: Gauge,
    metrics: Arc<Metrics>,
}

impl Figures {
    pub(super) fn new(guest: &str, metrics: &Arc<Metrics>) -> Self {
        let name = guest.into();
        Figures {
            guest: guest.to_owned(),
            calls: metrics.guest_calls.get_or_create_owned(&name),
            nanoseconds: metrics.guest_call_nanoseconds.get_or_create_owned(&name),
            cpu_nanoseconds: metrics.guest_cpu_nanoseconds.get_or_create_owned(&name),
            overruns: metrics.guest_overruns.get_or_create_owned(&name),
            throttled: metrics.guest_throttled.get_or_create_owned(&name),
            waits: metrics.guest_waits.get_or_create_owned(&name),
            instances: metrics.guest_instances.get_or_create_owned(&name),
            instances_idle: metrics.guest_instances_idle.get_or_create_owned(&name),
            memory_bytes: metrics.guest_memory_bytes.get_or_create_owned(&name),
            metrics: Arc::clone(metrics),
        }
    }

    /// Counts a call.
    pub(super) fn called(&self, took: Duration) {
        self.calls.inc();
        self.nanoseconds.inc_by(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a call that gave no verdict.
    pub(super) fn failed(&self, reason: &str) {
        self.metrics.guest_failures.get_or_create(&self.reason(reason)).inc();
    }

    /// Counts an instance that makes way for a new one.
    pub(super) fn recycled(&self, reason: &str) {
        self.metrics.guest_instances_recycled.get_or_create(&self.reason(reason)).inc();
    }

    fn reason(&self, reason: &str) -> ReasonLabel {
        ReasonLabel { name: self.guest.clone(), reason: reason.to_owned() }
    }
}
