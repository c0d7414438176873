//! The client's books over what it gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    event::{Bytes, Message, QoS, Text},
    source::mqtt::{
        forward,
        packet::{Ack, Alias, Forward},
        reason,
    },
    store::StoredSession,
};

/// A delivery that the client has not finished.
#[derive(Debug)]
struct Flight {
    serial: u64,
    qos: QoS,
    /// PUBREC was sent.
    received: bool,
    /// It was sent on this connection.
    sent: bool,
}

/// What the client has promised to bear on this connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) five: bool,
    pub(super) window: usize,
    pub(super) max_packet_bytes: usize,
    pub(super) alias_maximum: u16,
}

#[derive(Debug)]
pub(super) struct Deliveries {
    pub(super) terms: Terms,
    flights: BTreeMap<u16, Flight>,
    /// QoS 1 and 2 messages that the session took and the client does not have yet; and which of them a commit has made durable.
    alive: BTreeSet<u64>,
    durable: BTreeSet<u64>,
    /// What the session has defined on this connection.
    aliases: HashMap<u16, Text>,
    /// Serial of the next message that is posted.
    next: u64,
    /// Messages before this one were sent.
    fresh_from: u64,
    again_from: u64,
    /// Messages that the session took.
    pub(super) taken: u64,
    /// Messages of which the session has told the end.
    pub(super) ended: u64,
    /// First transmissions.
    pub(super) sent: u64,
    /// Those that were told.
    pub(super) delivered: u64,
}

impl Deliveries {
    pub(super) fn new(terms: Terms) -> Self {
        Deliveries {
            terms,
            flights: BTreeMap::new(),
            alive: BTreeSet::new(),
            durable: BTreeSet::new(),
            aliases: HashMap::new(),
            next: 0,
            fresh_from: 0,
            again_from: 0,
            taken: 0,
            ended: 0,
            sent: 0,
            delivered: 0,
        }
    }

    /// The payload of the next message that is posted.
    pub(super) fn payload(&mut self, size: usize) -> Bytes {
        let mut payload = self.next.to_be_bytes().to_vec();
        payload.resize(8 + size, b'x');
        self.next += 1;
        payload.into()
    }

    /// The session took the last message.
    pub(super) fn took(&mut self, qos: QoS) {
        self.taken += 1;
        if qos != QoS::AtMostOnce {
            self.alive.insert(self.next - 1);
        }
    }

    /// Everything so far is durable.
    pub(super) fn committed(&mut self) {
        self.durable = self.alive.clone();
    }

    /// The process died; this was stored.
    pub(super) fn crashed(&mut self, stored: &StoredSession) {
        let parcels =
            stored.flights.iter().filter_map(|flight| flight.parcel.as_ref()).chain(stored.queue.iter().map(|(_, parcel)| parcel));
        let left: BTreeSet<_> = parcels.map(|parcel| serial(&parcel.message)).collect();
        let lost: Vec<_> = self.durable.intersection(&self.alive).filter(|serial| !left.contains(serial)).collect();
        assert!(lost.is_empty(), "messages that were durable and are gone: {lost:?}");
        for (id, flight) in self.flights.iter().filter(|(_, flight)| flight.received) {
            let known = stored.flights.iter().any(|stored| stored.id == *id && stored.parcel.is_none());
            assert!(known, "{flight:?} was received, and the session does not know");
        }
        let flights = stored.flights.iter().map(|flight| {
            let (serial, qos) = flight.parcel.as_ref().map_or((u64::MAX, QoS::ExactlyOnce), |parcel| (serial(&parcel.message), parcel.qos));
            (flight.id, Flight { serial, qos, received: flight.parcel.is_none(), sent: false })
        });
        let flights = flights.collect();
        let taken = left.len() as u64;
        *self = Deliveries { flights, alive: left.clone(), durable: left, next: self.next, taken, ..Deliveries::new(self.terms) };
    }

    /// A connection begins.
    pub(super) fn attached(&mut self, terms: Terms) {
        self.terms = terms;
        self.again_from = 0;
        self.aliases.clear();
        self.flights.values_mut().for_each(|flight| flight.sent = false);
    }

    /// PUBLISH came.
    pub(super) fn came(&mut self, forward: &Forward) {
        let serial = serial(&forward.message);
        self.named(forward);
        let size = forward::size(forward, self.terms.five);
        assert!(!self.terms.five || size <= self.terms.max_packet_bytes, "{size} bytes exceed {:?}", self.terms);
        if forward.dup {
            assert!(serial >= self.again_from, "{serial} is sent again out of order");
            self.again_from = serial + 1;
            let flight = self.flights.get_mut(&forward.id).unwrap_or_else(|| panic!("{forward:?} was not sent before"));
            assert_eq!((flight.serial, flight.qos, flight.received, flight.sent), (serial, forward.qos, false, false), "{forward:?}");
            flight.sent = true;
        } else {
            let lived_long = forward.message.properties.as_ref().is_none_or(|properties| properties.expiry_s == Some(0));
            assert!(forward.expiry_s != Some(0) || lived_long, "{forward:?} has expired");
            assert!(serial >= self.fresh_from, "{serial} is sent out of order, or twice");
            self.fresh_from = serial + 1;
            self.sent += 1;
            let left = self.flights.values().find(|flight| !flight.sent && !flight.received);
            assert!(left.is_none(), "{forward:?} before {left:?} is sent again");
            assert_eq!(forward.id == 0, forward.qos == QoS::AtMostOnce, "{forward:?}");
            if forward.qos == QoS::AtMostOnce {
                self.ended += 1;
                return;
            }
            let flight = Flight { serial, qos: forward.qos, received: false, sent: true };
            let before = self.flights.insert(forward.id, flight);
            assert!(before.is_none(), "{forward:?} has the identifier of {before:?}");
        }
        let open = self.flights.values().filter(|flight| flight.sent).count();
        assert!(open <= self.terms.window, "{open} deliveries exceed {:?}", self.terms);
    }

    /// The topic, or what stands for it.
    fn named(&mut self, forward: &Forward) {
        let topic = &forward.message.topic;
        match forward.alias {
            None => {}
            Some(Alias::New(alias)) => {
                assert!((1..=self.terms.alias_maximum).contains(&alias), "{forward:?} exceeds {:?}", self.terms);
                self.aliases.insert(alias, topic.clone());
            }
            Some(Alias::Known(alias)) => assert_eq!(self.aliases.get(&alias), Some(topic), "{forward:?}"),
        }
    }

    /// The session has told the end of a message; of one that was sent before, when it cannot be sent again or was refused.
    pub(super) fn dropped(&mut self, message: &Message) {
        self.ended += 1;
        let serial = serial(message);
        self.flights.retain(|_, flight| flight.serial != serial);
        self.alive.remove(&serial);
    }

    /// PUBREL came.
    pub(super) fn released(&self, ack: &Ack) {
        let known = self.flights.get(&ack.id).is_some_and(|flight| flight.received);
        assert_eq!(known, ack.code == reason::SUCCESS, "{ack:?}");
    }

    /// The client has sent PUBACK and the connection lives.
    pub(super) fn acked(&mut self, id: u16) {
        self.finish(id);
    }

    /// The client sends PUBREC; a refusal ends the delivery.
    pub(super) fn received(&mut self, id: u16, positive: bool) {
        if !positive {
            self.finish(id);
        } else if let Some(flight) = self.flights.get_mut(&id) {
            flight.received = true;
            self.alive.remove(&flight.serial);
        }
    }

    /// The client has sent PUBCOMP and the connection lives.
    pub(super) fn completed(&mut self, id: u16) {
        self.finish(id);
    }

    /// A delivery with its next acknowledgement: identifier, QoS, whether PUBREC was sent.
    pub(super) fn nth(&self, which: u8) -> Option<(u16, QoS, bool)> {
        let index = usize::from(which).checked_rem(self.flights.len())?;
        self.flights.iter().nth(index).map(|(id, flight)| (*id, flight.qos, flight.received))
    }

    pub(super) fn qos(&self, id: u16) -> Option<QoS> {
        self.flights.get(&id).map(|flight| flight.qos)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    fn finish(&mut self, id: u16) {
        if let Some(flight) = self.flights.remove(&id) {
            self.alive.remove(&flight.serial);
        }
    }
}

/// The number in front of the payload.
fn serial(message: &Message) -> u64 {
    u64::from_be_bytes(*message.payload.first_chunk().expect("every message has its serial"))
}
