//! What one connection carries, counted without touching what other connections count, and added to the metrics at each wake-up.

use crate::metrics::Metrics;

/// Since the last [`Tally::flush`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) packets_in: u64,
    pub(super) packets_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Of PUBLISH packets.
    pub(super) payload_in: u64,
    pub(super) payload_out: u64,
}

impl Tally {
    /// A packet of so many bytes is on its way to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.packets_out += 1;
        self.bytes_out += bytes as u64;
    }

    /// Adds it to the metrics.
    pub(super) fn flush(&mut self, metrics: &Metrics) {
        let Tally { packets_in, packets_out, bytes_in, bytes_out, payload_in, payload_out } = std::mem::take(self);
        for (counter, more) in [
            (&metrics.packets_received, packets_in),
            (&metrics.packets_sent, packets_out),
            (&metrics.bytes_received, bytes_in),
            (&metrics.bytes_sent, bytes_out),
            (&metrics.payload_bytes_received, payload_in),
            (&metrics.payload_bytes_sent, payload_out),
        ] {
            if more > 0 {
                counter.inc_by(more);
            }
        }
    }
}
