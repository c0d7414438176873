//! A publisher's side of its session: what is open, what is sent again, what was acknowledged. No socket and no clock in it.
//!
//! After each CONNACK everything open is sent again in its order, as both versions of MQTT ask for: PUBLISH with DUP, or PUBREL where
//! PUBREC has come. A QoS 2 message counts as acknowledged with PUBREC: from there on the broker owns it.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use fastrand::Rng;

use crate::{
    books::Books,
    class::{ClassId, client_id},
    dice::dice,
    packet::{self, FIRST_REFUSAL, Packet},
    payload::Mark,
};

/// What a client is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) seed: u64,
    pub(crate) client: u32,
    /// Messages in flight.
    pub(crate) window: usize,
    pub(crate) classes: Vec<ClassId>,
}

/// One client's session.
pub(crate) struct Session {
    who: Identity,
    /// MQTT 5, or 3.1.1.
    five: bool,
    dice: Rng,
    /// In the order in which they were first sent.
    open: VecDeque<Open>,
    last_id: u16,
    known: bool,
    payload: Vec<u8>,
    pub(crate) books: Books,
}

struct Open {
    id: u16,
    class: ClassId,
    number: u64,
    /// PUBREC has come.
    released: bool,
}

/// What an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Connected,
    Acknowledged,
    Refused,
    Nothing,
}

impl Session {
    pub(crate) fn new(who: Identity) -> Self {
        Session {
            five: who.client.is_multiple_of(2),
            dice: dice(who.seed, "messages", who.client.into()),
            open: VecDeque::new(),
            last_id: 0,
            known: false,
            payload: Vec::new(),
            books: Books::new(who.client, &who.classes),
            who,
        }
    }

    /// Messages that are not answered.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < self.who.window
    }

    /// Appends CONNECT.
    pub(crate) fn connect(&self, out: &mut Vec<u8>) {
        packet::connect(self.five, &client_id(self.who.client), out);
    }

    /// Appends the next message; its class is drawn.
    pub(crate) fn publish(&mut self, out: &mut Vec<u8>) {
        let weights = self.who.classes.iter().map(|id| (*id, id.class().map_or(0, |class| class.weight)));
        let mut drawn = self.dice.u32(0..weights.clone().map(|(_, weight)| weight).sum::<u32>().max(1));
        let class = weights.into_iter().find_map(|(id, weight)| {
            let is_it = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            is_it.then_some(id)
        });
        let id = self.free_id();
        let Some((class, book)) = class.and_then(|class| Some((class, self.books.class_mut(class)?))) else { return };
        let open = Open { id, class, number: book.next, released: false };
        book.next += 1; // before the attempt: it may arrive
        self.send(&open, false, out);
        self.open.push_back(open);
    }

    fn send(&mut self, open: &Open, dup: bool, out: &mut Vec<u8>) {
        let Some(class) = open.class.class() else { return };
        let mark = Mark { seed: self.who.seed, client: self.who.client, class: open.class, number: open.number };
        self.payload.clear();
        mark.write(&mut self.payload);
        packet::publish(self.five, dup, class.qos, open.id, &class.mqtt_topic(self.who.client), self.payload.len(), out);
        out.extend_from_slice(&self.payload);
    }

    /// Half of the clients use the lowest free identifier, so that the same come again and again; the others go round.
    fn free_id(&mut self) -> u16 {
        let mut id = if self.who.client % 4 < 2 { 0 } else { self.last_id };
        loop {
            id = id.checked_add(1).unwrap_or(1);
            if self.open.iter().all(|open| open.id != id) {
                self.last_id = id;
                return id;
            }
        }
    }

    /// Takes a packet, and appends what it leads to.
    ///
    /// # Errors
    /// What no broker may send; the connection is of no more use.
    pub(crate) fn take(&mut self, packet: Packet, out: &mut Vec<u8>) -> Result<Answer> {
        match packet {
            Packet::ConnAck { present, code: 0 } => {
                self.resume(present, out);
                Ok(Answer::Connected)
            }
            Packet::ConnAck { code, .. } => bail!("CONNACK {code:#04x}"),
            Packet::Disconnect { code } => bail!("DISCONNECT {code:#04x}"),
            Packet::PubAck { id, code } => self.answered(id, code, 1),
            Packet::PubRec { id, code } if code >= FIRST_REFUSAL => self.answered(id, code, 2),
            Packet::PubRec { id, .. } => {
                let Some(open) = self.open.iter_mut().find(|open| open.id == id) else { bail!("PUBREC for {id}, which is not in use") };
                let first = !std::mem::replace(&mut open.released, true);
                if let Some(book) = self.books.class_mut(open.class) {
                    book.acknowledged.insert(open.number);
                }
                packet::pubrel(id, out);
                Ok(if first { Answer::Acknowledged } else { Answer::Nothing })
            }
            Packet::PubComp { id } => {
                let Some(at) = self.open.iter().position(|open| open.id == id && open.released) else {
                    bail!("PUBCOMP for {id}, which is not released")
                };
                self.open.remove(at);
                Ok(Answer::Nothing)
            }
            Packet::Other => Ok(Answer::Nothing),
        }
    }

    fn resume(&mut self, present: bool, out: &mut Vec<u8>) {
        self.books.connections += 1;
        if std::mem::replace(&mut self.known, true) && !present {
            self.books.lost_sessions += 1;
        }
        for open in std::mem::take(&mut self.open) {
            if open.released {
                packet::pubrel(open.id, out);
            } else {
                if let Some(book) = self.books.class_mut(open.class) {
                    book.again.insert(open.number);
                }
                self.send(&open, true, out);
            }
            self.open.push_back(open);
        }
    }

    /// The end of an exchange.
    fn answered(&mut self, id: u16, code: u8, qos: u8) -> Result<Answer> {
        let is_it = |open: &Open| open.id == id && open.class.class().is_some_and(|class| class.qos == qos);
        let Some(at) = self.open.iter().position(is_it) else { bail!("an answer for {id}, which is not in use at QoS {qos}") };
        let Some(open) = self.open.remove(at) else { return Ok(Answer::Nothing) };
        let Some(book) = self.books.class_mut(open.class) else { return Ok(Answer::Nothing) };
        if code >= FIRST_REFUSAL {
            book.refused.insert(open.number);
            return Ok(Answer::Refused);
        }
        book.acknowledged.insert(open.number);
        Ok(Answer::Acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS_1: ClassId = ClassId(0);
    const QOS_2: ClassId = ClassId(1);

    fn session(client: u32, class: ClassId) -> Session {
        let mut session = Session::new(Identity { seed: 1, client, window: 3, classes: vec![class] });
        assert_eq!(session.take(Packet::ConnAck { present: false, code: 0 }, &mut Vec::new()).unwrap(), Answer::Connected);
        session
    }

    /// The first bytes of the packets.
    fn heads(mut bytes: &[u8]) -> Vec<u8> {
        let mut heads = Vec::new();
        while let Some((_, taken)) = packet::read(bytes).unwrap() {
            heads.push(bytes[0]);
            bytes = &bytes[taken..];
        }
        heads
    }

    #[test]
    fn what_is_open_is_sent_again_in_its_order_and_counted() {
        let (mut session, mut out) = (session(0, QOS_2), Vec::new());
        (0..3).for_each(|_| session.publish(&mut out));
        assert!(!session.has_room());
        assert_eq!(heads(&out), [0x34; 3]);
        out.clear();
        assert_eq!(session.take(Packet::PubRec { id: 2, code: 0x10 }, &mut out).unwrap(), Answer::Acknowledged);
        assert_eq!(session.take(Packet::PubRec { id: 2, code: 0 }, &mut out).unwrap(), Answer::Nothing);
        assert_eq!(heads(&out), [0x62; 2]);
        out.clear();
        session.take(Packet::ConnAck { present: true, code: 0 }, &mut out).unwrap();
        assert_eq!(heads(&out), [0x3c, 0x62, 0x3c]);
        session.take(Packet::PubComp { id: 2 }, &mut out).unwrap();
        assert_eq!(session.take(Packet::PubRec { id: 1, code: 0x97 }, &mut out).unwrap(), Answer::Refused);
        let book = session.books.class(QOS_2).unwrap();
        let numbers = |ranges: &crate::ranges::Ranges| (0..5).filter(|number| ranges.contains(*number)).collect::<Vec<_>>();
        assert_eq!(
            (book.next, numbers(&book.acknowledged), numbers(&book.again), numbers(&book.refused)),
            (3, vec![1], vec![0, 2], vec![0])
        );
        assert_eq!((session.open(), session.books.lost_sessions), (1, 0));
    }

    #[test]
    fn a_session_that_is_not_there_again_is_noticed() {
        let (mut session, mut out) = (session(1, QOS_1), Vec::new());
        session.take(Packet::ConnAck { present: false, code: 0 }, &mut out).unwrap();
        assert_eq!((session.books.lost_sessions, session.books.connections), (1, 2));
    }

    #[test]
    fn answers_that_nobody_asked_for_end_the_connection() {
        let (mut session, mut out) = (session(2, QOS_1), Vec::new());
        session.publish(&mut out);
        for packet in [
            Packet::PubAck { id: 9, code: 0 },
            Packet::PubRec { id: 9, code: 0 },
            Packet::PubComp { id: 1 },
            Packet::ConnAck { present: false, code: 3 },
            Packet::Disconnect { code: 0x8e },
        ] {
            assert!(session.take(packet, &mut out).is_err(), "{packet:?}");
        }
        assert_eq!(session.open(), 1);
    }

    #[test]
    fn some_use_the_lowest_identifier_again_and_others_go_round() {
        for (client, expected) in [(0, 1), (2, 2)] {
            let (mut session, mut out) = (session(client, QOS_1), Vec::new());
            session.publish(&mut out);
            session.take(Packet::PubAck { id: 1, code: 0 }, &mut out).unwrap();
            session.publish(&mut out);
            assert_eq!(session.open[0].id, expected);
        }
    }
}
