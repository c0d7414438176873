//! Deliveries to the client: packet identifiers, the window of unacknowledged ones, redelivery in the original order with DUP.
//!
//! Absent: the queue before the window; it is the session's mailbox, which others fill.

#[cfg(test)]
mod invariants;

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{
    event::QoS,
    source::mqtt::{
        mailbox::{Parcel, Queued},
        reason::Fault,
    },
    store::StoredFlight,
};

/// Unfinished deliveries that a session may pile up over many connections; it keeps packet identifiers free.
const MAX_FLIGHTS: usize = 65_000;

/// A delivery that the client has not finished.
#[derive(Debug)]
struct Flight {
    id: u16,
    qos: QoS,
    /// Gone once a QoS 2 delivery was received: only PUBREL and PUBCOMP are left.
    parcel: Option<Parcel>,
    /// Whether it counts against the client's receive maximum of this connection.
    counted: bool,
}

/// What is sent again after the client came back.
#[derive(Debug)]
pub(super) enum Again {
    /// PUBLISH with DUP.
    Publish(u16, Parcel),
    /// PUBREL.
    Release(u16),
}

/// What a PUBREC means.
#[derive(Debug)]
pub(super) enum PubRec {
    /// The delivery with this sequence was received (`Some` the first time), or refused.
    Known(u64, Option<Parcel>),
    /// No delivery has this identifier.
    Unknown,
}

/// The sending half of a session.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// By their sequence in the mailbox.
    flights: BTreeMap<u64, Flight>,
    ids: HashMap<u16, u64>,
    last_id: u16,
    again: VecDeque<u64>,
    in_use: usize,
    limit: usize,
}

impl Outbound {
    /// What a stored session had under way.
    pub(super) fn restore(flights: Vec<StoredFlight>) -> Self {
        let mut outbound = Outbound::default();
        for StoredFlight { sequence, id, parcel } in flights {
            let qos = parcel.as_ref().map_or(QoS::ExactlyOnce, |parcel| parcel.qos);
            outbound.ids.insert(id, sequence);
            outbound.last_id = id;
            outbound.flights.insert(sequence, Flight { id, qos, parcel: parcel.map(Parcel::from), counted: false });
        }
        outbound
    }

    /// A connection begins: everything unfinished goes out again, as far as `limit` deliveries allow.
    pub(super) fn attach(&mut self, limit: usize) {
        self.limit = limit;
        self.in_use = 0;
        self.again = self.flights.keys().copied().collect();
        self.flights.values_mut().for_each(|flight| flight.counted = false);
    }

    /// Deliveries that the client has not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// How many deliveries may start now.
    pub(super) fn room(&self) -> usize {
        if !self.again.is_empty() {
            return 0;
        }
        self.limit.saturating_sub(self.in_use).min(MAX_FLIGHTS.saturating_sub(self.flights.len()))
    }

    /// Whether there is something to send again now.
    pub(super) fn has_again(&self) -> bool {
        let next = self.again.front().and_then(|sequence| self.flights.get(sequence));
        next.is_some_and(|flight| flight.parcel.is_none() || self.in_use < self.limit)
    }

    /// The next packet to send again, in the original order.
    pub(super) fn next_again(&mut self) -> Option<Again> {
        while let Some(sequence) = self.again.front() {
            if let Some(flight) = self.flights.get_mut(sequence) {
                let again = match &flight.parcel {
                    Some(_) if self.in_use >= self.limit => return None,
                    Some(parcel) => {
                        flight.counted = true;
                        self.in_use += 1;
                        Again::Publish(flight.id, parcel.clone())
                    }
                    None => Again::Release(flight.id),
                };
                self.again.pop_front();
                return Some(again);
            }
            self.again.pop_front();
        }
        None
    }

    /// Takes a QoS 1 or 2 delivery into the window; its packet identifier. The caller has seen [`Outbound::room`].
    pub(super) fn start(&mut self, Queued { sequence, parcel }: Queued) -> u16 {
        let id = self.free_id();
        self.in_use += 1;
        self.ids.insert(id, sequence);
        self.flights.insert(sequence, Flight { id, qos: parcel.qos, parcel: Some(parcel), counted: true });
        id
    }

    /// PUBACK: the delivery, unless nobody waits for it.
    pub(super) fn puback(&mut self, id: u16) -> Result<Option<Queued>, Fault> {
        match self.flight(id) {
            None => Ok(None),
            Some((_, flight)) if flight.qos != QoS::AtLeastOnce => Err(Fault::protocol("PUBACK for a QoS 2 delivery")),
            Some(_) => Ok(self.finish(id).and_then(|(sequence, flight)| Some(Queued { sequence, parcel: flight.parcel? }))),
        }
    }

    /// PUBREC, positive or not.
    pub(super) fn pubrec(&mut self, id: u16, positive: bool) -> Result<PubRec, Fault> {
        match self.flight(id) {
            None => Ok(PubRec::Unknown),
            Some((_, flight)) if flight.qos != QoS::ExactlyOnce => Err(Fault::protocol("PUBREC for a QoS 1 delivery")),
            Some((sequence, flight)) if positive => Ok(PubRec::Known(sequence, flight.parcel.take())),
            Some((sequence, _)) => Ok(PubRec::Known(sequence, self.finish(id).and_then(|(_, flight)| flight.parcel))),
        }
    }

    /// PUBCOMP: the sequence of the delivery that it ends; one that nobody waits for is ignored.
    pub(super) fn pubcomp(&mut self, id: u16) -> Result<Option<u64>, Fault> {
        match self.flight(id) {
            Some((_, flight)) if flight.qos != QoS::ExactlyOnce || flight.parcel.is_some() => Err(Fault::protocol("PUBCOMP before PUBREC")),
            Some(_) => Ok(self.finish(id).map(|(sequence, _)| sequence)),
            None => Ok(None),
        }
    }

    /// Ends a delivery that cannot be sent again.
    pub(super) fn give_up(&mut self, id: u16) -> Option<u64> {
        self.finish(id).map(|(sequence, _)| sequence)
    }

    /// Ends everything; the deliveries that the client never received.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Parcel> + use<> {
        self.ids.clear();
        self.again.clear();
        std::mem::take(&mut self.flights).into_values().filter_map(|flight| flight.parcel)
    }

    fn flight(&mut self, id: u16) -> Option<(u64, &mut Flight)> {
        let sequence = *self.ids.get(&id)?;
        Some((sequence, self.flights.get_mut(&sequence)?))
    }

    fn finish(&mut self, id: u16) -> Option<(u64, Flight)> {
        let sequence = self.ids.remove(&id)?;
        let flight = self.flights.remove(&sequence)?;
        if self.again.front() == Some(&sequence) {
            self.again.pop_front();
        }
        self.in_use -= usize::from(flight.counted);
        Some((sequence, flight))
    }

    /// [`Outbound::room`] keeps the window below [`MAX_FLIGHTS`], so a free identifier exists.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.ids.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
