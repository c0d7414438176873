//! `metrics`: what a guest counts and observes, under its own name on the metrics page.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use crate::{
    guest::{bindings::imported::metrics, host::Host},
    metrics::{GuestLabel, Metrics, Sum},
};

/// Names that one guest may use; what it gives under further names is counted under [`OVERFLOW`].
const MAX_NAMES: usize = 100;
/// The longest name, bytes; longer ones go to [`OVERFLOW`].
const MAX_NAME_BYTES: usize = 100;
/// The name that takes the rest.
const OVERFLOW: &str = "other";

/// The counters of one guest.
#[derive(Debug)]
pub(in crate::guest) struct Counts {
    guest: String,
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<String, Handles>>,
}

#[derive(Clone, Debug)]
struct Handles {
    count: Counter,
    observations: Counter,
    sum: Sum,
}

impl Counts {
    pub(in crate::guest) fn new(guest: &str, metrics: &Arc<Metrics>) -> Self {
        Counts { guest: guest.to_owned(), metrics: Arc::clone(metrics), known: Mutex::default() }
    }

    fn count(&self, name: &str, delta: u32) {
        self.with(name, |handles| {
            handles.count.inc_by(u64::from(delta));
        });
    }

    fn observe(&self, name: &str, value: f64) {
        if value.is_finite() {
            self.with(name, |handles| {
                handles.observations.inc();
                handles.sum.inc_by(value);
            });
        }
    }

    fn with(&self, name: &str, record: impl FnOnce(&Handles)) {
        let mut known = self.known.lock();
        if let Some(handles) = known.get(name) {
            return record(handles);
        }
        let name = if known.len() >= MAX_NAMES || name.len() > MAX_NAME_BYTES { OVERFLOW } else { name };
        let handles = known.entry(name.to_owned()).or_insert_with(|| self.handles(name));
        record(handles);
    }

    fn handles(&self, name: &str) -> Handles {
        let label = GuestLabel { guest: self.guest.clone(), name: name.to_owned() };
        Handles {
            count: self.metrics.guest_counts.get_or_create_owned(&label),
            observations: self.metrics.guest_observations.get_or_create_owned(&label),
            sum: self.metrics.guest_observations_sum.get_or_create_owned(&label),
        }
    }
}

impl metrics::Host for Host {
    fn count(&mut self, name: String, delta: u32) {
        if !self.circumstances.is_staged() {
            self.capabilities.counts.count(&name, delta);
        }
    }

    fn observe(&mut self, name: String, value: f64) {
        if !self.circumstances.is_staged() {
            self.capabilities.counts.observe(&name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_nothing_is_lost() {
        let metrics = Metrics::new();
        let counts = Counts::new("verify", &metrics);
        for name in 0..2 * MAX_NAMES {
            counts.count(&format!("n{name}"), 1);
        }
        counts.count(&"x".repeat(MAX_NAME_BYTES + 1), 5);
        counts.observe("age_s", 1.5);
        counts.observe("age_s", -0.5);
        counts.observe("age_s", f64::NAN);
        let known = counts.known.lock();
        assert_eq!(known.len(), MAX_NAMES + 1);
        assert_eq!(known.values().map(|handles| handles.count.get()).sum::<u64>(), 2 * MAX_NAMES as u64 + 5);
        let page = metrics.render();
        assert!(page.contains("hookgate_guest_counts_total{guest=\"verify\",name=\"n1\"} 1"), "{page}");
        assert!(page.contains("hookgate_guest_observations_sum{guest=\"verify\",name=\"other\"} 1.0"), "{page}");
    }
}
