//! What the checks share: a place of their own at a broker, a client that behaves where it is told to, and a reader of properties.

use std::net::SocketAddr;

use tokio::task::JoinError;

use super::row::Work;
use crate::mqtt::wire::{Connect, Listening, Packet, Publish, Wire, packet, properties, take_text, take_u16, take_variable, text};

/// Where a check may do as it likes: identifiers and topics that begin with its name belong to it alone.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// 4: MQTT 3.1.1, 5: MQTT 5.
    pub(super) level: u8,
    pub(super) name: String,
}

impl Listening for Place {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Place {
    pub(super) fn five(&self) -> bool {
        self.level == 5
    }

    pub(super) fn topic(&self, last: &str) -> String {
        format!("{}/{last}", self.name)
    }

    /// A CONNECT that begins a new session and ends it with the connection.
    pub(super) fn connect(&self, who: &str) -> Connect {
        Connect { level: self.level, ..Connect::v4(&format!("{}-{who}", self.name)) }
    }

    /// A CONNECT that resumes the session and keeps it.
    pub(super) fn keep(&self, who: &str) -> Connect {
        self.connect(who).keep_session()
    }

    pub(super) async fn wire(&self, who: &str) -> Wire {
        Wire::connect(self, self.connect(who)).await
    }

    /// A publisher, and a subscriber to `filter` with `options`; it has subscribed to the fence, too.
    pub(super) async fn pair(&self, filter: &str, options: u8) -> (Wire, Wire) {
        let publisher = self.wire("publisher").await;
        let mut subscriber = self.wire("subscriber").await;
        subscriber.subscribe(1, &self.topic("fence"), 0).await;
        subscriber.subscribe(2, &self.topic(filter), options).await;
        (publisher, subscriber)
    }

    /// What arrives at `subscriber` before a message that `publisher` sends now; it acknowledges whatever asks for it.
    pub(super) async fn collect(&self, publisher: &mut Wire, subscriber: &mut Wire) -> Vec<Publish> {
        let fence = self.topic("fence");
        publisher.publish(0, 0, &fence, "").await;
        let mut got = Vec::new();
        loop {
            let packet = subscriber.receive().await;
            let five = subscriber.is_5();
            match packet.kind() {
                3 => {
                    let publish = packet.publish(five);
                    if publish.topic == fence {
                        return got;
                    }
                    match publish.qos {
                        1 => subscriber.ack(4, publish.id).await,
                        2 => subscriber.ack(5, publish.id).await,
                        _ => {}
                    }
                    got.push(publish);
                }
                6 => subscriber.ack(7, id_of(&packet)).await,
                _ => panic!("unexpected while collecting: {packet:x?}"),
            }
        }
    }

    /// The payloads of [`Place::collect`].
    pub(super) async fn payloads(&self, publisher: &mut Wire, subscriber: &mut Wire) -> Vec<String> {
        let got = self.collect(publisher, subscriber).await;
        got.iter().map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    }

    /// What a new client that subscribes to `filter` gets from the retained messages.
    pub(super) async fn retained(&self, filter: &str) -> Vec<Publish> {
        let mut publisher = self.wire("retained-publisher").await;
        let mut subscriber = self.wire("retained-subscriber").await;
        subscriber.subscribe(1, &self.topic("fence"), 0).await;
        subscriber.subscribe(2, &self.topic(filter), 2).await;
        self.collect(&mut publisher, &mut subscriber).await
    }

    /// A CONNECT of our own making: connect flags, and what follows the client identifier.
    pub(super) fn raw_connect(&self, who: &str, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
        self.raw_connect_with(flags, &[], &[&text(format!("{}-{who}", self.name))[..], &rest.concat()].concat())
    }

    /// The same with properties (MQTT 5), and the whole payload.
    pub(super) fn raw_connect_with(&self, flags: u8, given: &[u8], payload: &[u8]) -> Vec<u8> {
        let given = if self.five() { properties(&[given]) } else { Vec::new() };
        packet(0x10, &[&text("MQTT"), &[self.level, flags, 0, 0], &given, payload])
    }

    /// Sends `bytes` on a fresh connection: it must end, with a refusing CONNACK before or without a word. The CONNACK.
    pub(super) async fn refused(&self, name: &str, bytes: &[u8]) -> Option<Packet> {
        let mut wire = Wire::open(self).await;
        wire.speak(self.level);
        wire.send(bytes).await;
        let answer = wire.receive_or_end().await;
        if let Some(packet) = &answer {
            assert_eq!(packet.first, 0x20, "{name}: nothing but CONNACK may come first: {packet:x?}");
            assert_eq!(packet.body.first(), Some(&0), "{name}: session present with a refusal: {packet:x?}");
            assert_ne!(packet.body.get(1), Some(&0), "{name}: it was let in: {packet:x?}");
            let after = wire.receive_or_end().await;
            assert_eq!(after, None, "{name}: the connection must end after a refusal");
        }
        answer
    }

    /// Sends `bytes` on a fresh connection that is let in.
    pub(super) async fn accepted(&self, name: &str, bytes: &[u8]) -> Wire {
        let mut wire = Wire::open(self).await;
        wire.speak(self.level);
        wire.send(bytes).await;
        let answer = wire.receive().await;
        assert_eq!((answer.first, answer.body.get(1)), (0x20, Some(&0)), "{name}: {answer:x?}");
        wire
    }

    /// [`Place::refused`] for each, by name.
    pub(super) async fn all_refused(&self, cases: Vec<(&'static str, Vec<u8>)>) -> Vec<Option<Packet>> {
        let mut works: Vec<Work<Option<Packet>>> = Vec::new();
        for (name, bytes) in cases {
            let place = self.clone();
            works.push(Box::pin(async move { place.refused(name, &bytes).await }));
        }
        each(works).await
    }

    /// [`Place::ends`] for each, by name, with one of the same codes.
    pub(super) async fn all_end<N: AsRef<str> + Send + Sync + 'static>(
        &self,
        cases: Vec<(N, Vec<u8>)>,
        codes: &'static [u8],
    ) -> Vec<(N, Option<Packet>)> {
        let mut works: Vec<Work<(N, Option<Packet>)>> = Vec::new();
        for (name, bytes) in cases {
            let place = self.clone();
            works.push(Box::pin(async move {
                let last = place.ends(name.as_ref(), &bytes, codes).await;
                (name, last)
            }));
        }
        each(works).await
    }

    /// Connects, sends `bytes`, and expects the end; MQTT 5 says with a DISCONNECT of one of `codes` why.
    pub(super) async fn ends(&self, name: &str, bytes: &[u8], codes: &[u8]) -> Option<Packet> {
        let mut wire = self.wire("offender").await;
        wire.send(bytes).await;
        closed(name, &mut wire, codes).await
    }
}

/// Expects the end of a connection, in MQTT 5 after DISCONNECT with one of `codes`; nothing may follow it.
pub(super) async fn closed(name: &str, wire: &mut Wire, codes: &[u8]) -> Option<Packet> {
    let Some(last) = wire.receive_or_end().await else {
        assert!(!wire.is_5(), "{name}: the connection ended without DISCONNECT");
        return None;
    };
    assert_eq!(last.first, 0xE0, "{name}: the connection must end, but this came: {last:x?}");
    assert!(wire.is_5(), "{name}: servers of 3.1.1 do not send DISCONNECT");
    let code = last.body.first().copied().unwrap_or(0);
    assert!(codes.contains(&code), "{name}: DISCONNECT with {code:#x}, expected one of {codes:x?}");
    let after = wire.receive_or_end().await;
    assert_eq!(after, None, "{name}: something follows DISCONNECT");
    Some(last)
}

/// Does all, one after the other, and tells of all that fail.
pub(super) async fn each<T: Send + 'static>(works: Vec<Work<T>>) -> Vec<T> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for work in works {
        match tokio::spawn(work).await {
            Ok(result) => done.push(result),
            Err(error) => failed.push(said(error)),
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n    {}", failed.len(), failed.len() + done.len(), failed.join("\n    "));
    done
}

/// What a task said when it panicked.
pub(super) fn said(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_default()
}

pub(super) fn id_of(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet.body[0], packet.body[1]])
}

impl Wire {
    /// Publishes under identifier 1 and sees the exchange through.
    pub(super) async fn say(&mut self, qos: u8, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        self.say_with(qos << 1, topic, &[], payload).await;
    }

    /// The same with flags (DUP 8, QoS 2 and 4, retain 1) and properties.
    pub(super) async fn say_with(&mut self, flags: u8, topic: impl AsRef<[u8]>, given: &[u8], payload: impl AsRef<[u8]>) {
        let bytes = self.publish_bytes(flags, 1, topic, given, payload);
        self.send(&bytes).await;
        match flags >> 1 & 3 {
            1 => self.expect_done(4, 1).await,
            2 => {
                self.expect_done(5, 1).await;
                self.ack(6, 1).await;
                self.expect_done(7, 1).await;
            }
            _ => {}
        }
    }

    /// An acknowledgement that is not a refusal.
    pub(super) async fn expect_done(&mut self, kind: u8, id: u16) {
        let packet = self.receive().await;
        assert_eq!((packet.kind(), packet.body.get(..2)), (kind, Some(&id.to_be_bytes()[..])), "{packet:x?}");
        assert!(packet.body.get(2).is_none_or(|code| *code < 0x80), "{packet:x?}");
    }

    /// The codes of SUBACK (9) or UNSUBACK (11) that answers a packet with this identifier.
    pub(super) async fn codes(&mut self, kind: u8, id: u16) -> Vec<u8> {
        let packet = self.receive().await;
        assert_eq!((packet.first, id_of(&packet)), (kind << 4, id), "{packet:x?}");
        let mut rest = &packet.body[2..];
        if self.is_5() {
            let length = take_variable(&mut rest);
            rest = &rest[length..];
        }
        rest.to_vec()
    }

    pub(super) fn unsubscribe_bytes(&self, id: u16, filters: &[&str]) -> Vec<u8> {
        let given = if self.is_5() { vec![0] } else { Vec::new() };
        let filters: Vec<u8> = filters.iter().flat_map(text).collect();
        packet(0xA2, &[&id.to_be_bytes(), &given, &filters])
    }

    /// SUBSCRIBE to several filters, each with its options.
    pub(super) fn subscribe_all_bytes(&self, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
        let given = if self.is_5() { vec![0] } else { Vec::new() };
        let filters: Vec<u8> = filters.iter().flat_map(|(filter, options)| [text(filter), vec![*options]].concat()).collect();
        packet(0x82, &[&id.to_be_bytes(), &given, &filters])
    }
}

/// Properties as identifier and value, in their order; strings and binaries without their length, pairs as two of them.
pub(super) fn read_properties(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let id = take(&mut rest, 1)[0];
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => take(&mut rest, 1),
            0x13 | 0x21 | 0x22 | 0x23 => take(&mut rest, 2),
            0x02 | 0x11 | 0x18 | 0x27 => take(&mut rest, 4),
            0x0B => take_variable(&mut rest).to_be_bytes().to_vec(),
            0x26 => [text(take_text(&mut rest)), text(take_text(&mut rest))].concat(),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => take_text(&mut rest),
            _ => panic!("property {id:#x} does not exist"),
        };
        found.push((id, value));
    }
    found
}

/// The properties of a packet that holds them after `skip` bytes; none where the packet ends before.
pub(super) fn properties_after(packet: &Packet, skip: usize) -> Vec<(u8, Vec<u8>)> {
    let Some(mut rest) = packet.body.get(skip..).filter(|rest| !rest.is_empty()) else { return Vec::new() };
    let length = take_variable(&mut rest);
    read_properties(&rest[..length])
}

/// The value of a property.
pub(super) fn property(found: &[(u8, Vec<u8>)], id: u8) -> Option<Vec<u8>> {
    found.iter().find(|(other, _)| *other == id).map(|(_, value)| value.clone())
}

fn take(rest: &mut &[u8], count: usize) -> Vec<u8> {
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    head.to_vec()
}

/// A user property.
pub(super) fn user_property(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

/// A property whose value is a string or binary.
pub(super) fn string_property(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[id][..], &text(value)].concat()
}

/// The first two bytes of a packet's body as a number, for messages that count.
pub(super) fn number(bytes: &[u8]) -> u16 {
    let mut rest = bytes;
    take_u16(&mut rest)
}
