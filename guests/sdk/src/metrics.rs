//! The guest's own metrics (grant `metrics`), on the host's metrics page under the guest's name.

use crate::host;

/// Adds to a counter.
pub fn count(name: &str, delta: u32) {
    host::metrics::count(name, delta);
}

/// Adds a value to a histogram.
pub fn observe(name: &str, value: f64) {
    host::metrics::observe(name, value);
}
