//! What must hold at any moment, and what is left: for simulations.

use super::Outbound;

impl Outbound {
    pub(in super::super) fn check(&self) {
        let counted = self.flights.values().filter(|flight| flight.counted).count();
        assert_eq!(self.in_use, counted, "deliveries in use");
        assert!(self.in_use <= self.limit, "{} deliveries exceed the client's {}", self.in_use, self.limit);
        assert_eq!(self.ids.len(), self.flights.len(), "packet identifiers");
    }

    pub(in super::super) fn unfinished(&self) -> [(&'static str, usize); 3] {
        [("deliveries", self.flights.len()), ("deliveries in use", self.in_use), ("deliveries to be sent again", self.again.len())]
    }
}
