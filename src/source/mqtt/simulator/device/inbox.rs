//! What a device does with the packets that come.

use super::{
    super::{
        ledger::{Ledger, key_of},
        stage::{Event, Stage},
        wire::{self, Ack, Packet, Publish},
    },
    Device, State, WINDOW,
};

impl Device {
    /// Bytes from the broker, or the end of its link.
    pub(in super::super) fn take(&mut self, link: u64, bytes: Option<Vec<u8>>, stage: &mut Stage, ledger: &mut Ledger) {
        if self.link != Some(link) {
            return;
        }
        let Some(bytes) = bytes else {
            (self.link, self.state) = (None, State::Away);
            return stage.up(link, None);
        };
        self.heard_ms = stage.now_ms;
        self.input.extend(bytes);
        while let Some((packet, length)) = wire::read(&mut self.input, self.five) {
            assert!(length <= self.max_packet_bytes as usize, "device {}: a packet of {length} bytes", self.index);
            self.receive(packet, link, stage, ledger);
        }
    }

    fn receive(&mut self, packet: Packet, link: u64, stage: &mut Stage, ledger: &mut Ledger) {
        match packet {
            Packet::ConnAck { present, code, receive_maximum } => {
                assert!(code == 0 && self.state == State::Connecting, "device {}: CONNACK {code}", self.index);
                self.incarnation = ledger.incarnation(link);
                self.welcome(present, receive_maximum, stage, ledger);
            }
            Packet::Publish(publish) => self.message_came(publish, link, stage, ledger),
            Packet::Ack(Ack { kind: 6, id, .. }) => {
                self.received.remove(&id);
                self.answer(Ack { kind: 7, id, code: 0 }, link, stage);
            }
            Packet::Ack(ack) => self.acknowledged(ack, stage, ledger),
            Packet::SubAck(id, codes) => {
                assert!(self.unanswered.remove(&id) && codes.iter().all(|code| *code < 0x80), "device {}: SUBACK {codes:x?}", self.index);
            }
            Packet::UnsubAck(id) => assert!(self.unanswered.remove(&id), "device {}: UNSUBACK {id}", self.index),
            Packet::Pong => {}
            Packet::Disconnect(code) => ledger.count(match code {
                0x8E => "taken over",
                0x8D => "silent too long",
                0x83 => "outcome unknown",
                0x87 | 0x97 => "denied or refused",
                _ => panic!("device {}: DISCONNECT {code:#04x}", self.index),
            }),
        }
    }

    fn welcome(&mut self, present: bool, receive_maximum: u16, stage: &mut Stage, ledger: &mut Ledger) {
        self.state = State::In;
        self.window = if self.five { receive_maximum.min(WINDOW) } else { WINDOW };
        if !present {
            self.received.clear();
            self.filters.clear();
            self.flights.drain(..).for_each(|flight| ledger.given_up(flight.key));
        }
        let again: Vec<Vec<u8>> = self.flights.iter_mut().map(|flight| flight.again(self.five)).collect();
        for bytes in again {
            self.send(stage, &bytes);
        }
        if !stage.calm && self.filters.is_empty() {
            self.subscribe(stage);
        }
    }

    fn message_came(&mut self, publish: Publish, link: u64, stage: &mut Stage, ledger: &mut Ledger) {
        let me = (self.index, self.incarnation);
        if publish.qos < 2 || self.received.insert(publish.id) {
            ledger.received(me, &publish, stage.now_ms);
        } else {
            assert!(publish.dup, "device {}: packet identifier {} is in use: {publish:?}", self.index, publish.id);
        }
        if publish.qos == 0 {
            return;
        }
        assert!(self.unfinished.insert(publish.id), "device {}: identifier {} came twice: {publish:?}", self.index, publish.id);
        let most = usize::from(self.receive_maximum);
        assert!(self.unfinished.len() <= most, "device {}: {} deliveries, it takes {most}", self.index, self.unfinished.len());
        let refuse = self.five && publish.qos == 1 && key_of(&publish.payload).is_some() && stage.mishap(3);
        let code = if refuse { 0x97 } else { 0 };
        self.answer(Ack { kind: if publish.qos == 1 { 4 } else { 5 }, id: publish.id, code }, link, stage);
    }

    /// Sooner or later.
    fn answer(&mut self, ack: Ack, link: u64, stage: &mut Stage) {
        let after_ms = stage.delay(20_000);
        stage.after(after_ms, Event::Answer(self.index, link, ack));
    }

    /// Now, if the link is still the same.
    pub(in super::super) fn answer_now(&mut self, link: u64, ack: Ack, stage: &mut Stage) {
        if self.link != Some(link) {
            return;
        }
        if ack.kind != 5 {
            self.unfinished.remove(&ack.id);
        }
        self.send(stage, &ack.bytes(self.five));
    }

    /// The broker has answered a publish.
    fn acknowledged(&mut self, Ack { kind, id, code }: Ack, stage: &mut Stage, ledger: &mut Ledger) {
        let index = self.flights.iter().position(|flight| flight.publish.id == id);
        let Some(index) = index else { panic!("device {}: acknowledgement {kind} of {id}, which nothing has", self.index) };
        let flight = &mut self.flights[index];
        assert!(
            kind == if flight.publish.qos == 1 {
                4
            } else if flight.received {
                7
            } else {
                5
            } || flight.received && kind == 5
        );
        if kind != 7 {
            ledger.acknowledged(flight.key, code);
        }
        if kind == 5 && code < 0x80 {
            flight.received = true;
            self.send(stage, &Ack { kind: 6, id, code: 0 }.bytes(self.five));
        } else {
            self.flights.remove(index);
        }
    }
}
