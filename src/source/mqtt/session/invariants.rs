//! What must hold in a session at any moment, and what is left in it when everything is quiet: for simulations.

use super::Session;

impl Session {
    /// Checks the counters against what they count.
    pub(in crate::source::mqtt) fn check(&self) {
        self.inbound.check();
        self.outbound.check();
    }

    /// What is not finished, in words; empty when everything is.
    pub(in crate::source::mqtt) fn unfinished(&self) -> Vec<String> {
        let mut parcels = Vec::new();
        self.mailbox.take(usize::MAX, usize::MAX, &mut parcels);
        let counts = self.inbound.unfinished().into_iter().chain(self.outbound.unfinished()).chain([("in the mailbox", parcels.len())]);
        counts.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect()
    }
}
