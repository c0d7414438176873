//! What must hold at any moment, and what is left: for simulations.

use super::Inbound;

impl Inbound {
    pub(in super::super) fn check(&self) {
        let counted = self.received.values().filter(|received| received.counted).count();
        assert!(self.outstanding >= counted, "{} outstanding publishes, but {counted} QoS 2 identifiers count", self.outstanding);
        for (id, received) in &self.received {
            let Some(number) = received.pending else { continue };
            let slot = self.slots.iter().any(|slot| slot.number == number && slot.id == *id);
            assert!(slot || self.carried.contains_key(&number), "QoS 2 identifier {id} waits for publish {number}, which nobody knows");
        }
    }

    pub(in super::super) fn unfinished(&self) -> [(&'static str, usize); 4] {
        [
            ("publishes that wait", self.slots.len()),
            ("QoS 2 identifiers of the client", self.received.len()),
            ("carried publishes", self.carried.len()),
            ("publishes against the receive maximum", self.outstanding),
        ]
    }
}
