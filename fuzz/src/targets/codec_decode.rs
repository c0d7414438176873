//! The broker's codec: a stream that arrives in pieces becomes packets, and what the broker can say itself becomes bytes and packets again.
//!
//! The first byte of the input says how: bits 0 and 1 choose where the stream begins (0: with CONNECT; 1, 2, 3: after the CONNECT of
//! MQTT 3.1.1, 5, 3.1), the rest the size of the pieces (0: all at once).
//!
//! What must hold, beside no panic:
//! - how the stream is cut changes nothing: the same packets, then the same fault;
//! - no packet exceeds the limit, and the read buffer stays bounded;
//! - PUBLISH and acknowledgements come back from encode → decode as they were, and a PUBLISH has the size that was foretold;
//! - a CONNECT that is granted is answered with a CONNACK that can be written.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    codec::Codec,
    forward,
    packet::{Ack, Alias, Connect, Forward, Incoming, Outgoing, Protocol, Publish},
    reason::{self, Fault},
    session::connect::Terms,
};
use crate::{
    config::Mqtt,
    event::{Message, Text},
};

/// Largest packet, bytes; small, so that inputs reach it.
const LIMIT: u32 = 1 << 10;

/// CONNECT with an empty client identifier.
const CONNECTS: [(Protocol, &[u8]); 3] = [
    (Protocol::V311, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"),
    (Protocol::V5, b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"),
    (Protocol::V31, b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c"),
];

/// One stream.
pub fn run(input: &[u8]) {
    let [how, stream @ ..] = input else { return };
    let begin = usize::from(how & 3).checked_sub(1).and_then(|index| CONNECTS.get(index)).copied();
    let whole = read(begin, stream, stream.len().max(1));
    if how >> 2 != 0 {
        assert_eq!(read(begin, stream, usize::from(how >> 2)), whole, "pieces of {} bytes", how >> 2);
    }
    let Some(protocol) = whole.protocol else { return };
    for packet in whole.packets {
        answer(protocol, packet);
    }
}

/// What a stream said.
#[derive(Debug, PartialEq)]
struct Said {
    protocol: Option<Protocol>,
    packets: Vec<Incoming>,
    fault: Option<Fault>,
}

fn read(begin: Option<(Protocol, &[u8])>, stream: &[u8], step: usize) -> Said {
    let mut codec = begin.map_or_else(|| Codec::new(LIMIT), |(protocol, _)| begun(protocol));
    let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match codec.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(fault) => return Said { protocol: codec.protocol(), packets, fault: Some(fault) },
            }
            assert!(before - buffer.len() <= LIMIT as usize, "a packet of {} bytes", before - buffer.len());
        }
        assert!(buffer.capacity() <= 4 * (LIMIT as usize + stream.len()), "a read buffer of {} bytes", buffer.capacity());
    }
    Said { protocol: codec.protocol(), packets, fault: None }
}

/// A codec that has seen CONNECT.
pub(super) fn begun(protocol: Protocol) -> Codec {
    let mut codec = Codec::new(LIMIT);
    let (_, connect) = CONNECTS.iter().find(|(of, _)| *of == protocol).expect("each protocol has one");
    let packet = codec.decode(&mut BytesMut::from(*connect)).expect("CONNECT is well-formed");
    assert!(matches!(packet, Some(Incoming::Connect(_))));
    codec
}

fn answer(protocol: Protocol, packet: Incoming) {
    match packet {
        Incoming::Publish(publish) => forwarded(protocol, &publish),
        Incoming::PubAck(ack) => acknowledged(protocol, ack, Outgoing::PubAck, Incoming::PubAck),
        Incoming::PubRec(ack) => acknowledged(protocol, ack, Outgoing::PubRec, Incoming::PubRec),
        Incoming::PubRel(ack) => acknowledged(protocol, ack, Outgoing::PubRel, Incoming::PubRel),
        Incoming::PubComp(ack) => acknowledged(protocol, ack, Outgoing::PubComp, Incoming::PubComp),
        Incoming::Connect(connect) => connected(protocol, *connect),
        _ => {}
    }
}

/// A PUBLISH, forwarded as it came.
fn forwarded(protocol: Protocol, publish: &Publish) {
    let forward = Forward {
        message: Arc::new(Message {
            publisher: Text::new(),
            publisher_username: None,
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
            received_at_ms: 0,
            properties: publish.properties.clone(),
            annotations: Vec::new(),
        }),
        id: publish.id,
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        expiry_s: publish.properties.as_ref().and_then(|properties| properties.expiry_s),
        subscription_ids: Box::default(),
        alias: publish.alias.map(Alias::New),
    };
    assert!(forward::fits(&forward, protocol.is_5()), "what arrived fits");
    let size = forward::size(&forward, protocol.is_5());
    if size > LIMIT as usize || publish.topic.is_empty() {
        return; // an alias stands for the topic, and the session resolves it
    }
    let mut wire = BytesMut::new();
    begun(protocol).encode(Outgoing::Publish(forward), &mut wire).expect("a PUBLISH can be written");
    assert_eq!(wire.len(), size);
    let expected = Publish { has_subscription_id: false, ..publish.clone() };
    assert_eq!(again(protocol, wire), Incoming::Publish(Box::new(expected)));
}

fn acknowledged(protocol: Protocol, ack: Ack, outgoing: fn(Ack) -> Outgoing, incoming: fn(Ack) -> Incoming) {
    let mut wire = BytesMut::new();
    begun(protocol).encode(outgoing(ack.clone()), &mut wire).expect("an acknowledgement can be written");
    assert_eq!(again(protocol, wire), incoming(ack));
}

fn connected(protocol: Protocol, connect: Connect) {
    let limits = Mqtt { max_packet_bytes: LIMIT, ..Mqtt::default() };
    let Ok(terms) = Terms::negotiate(connect, &limits, || "fresh".into()) else { return };
    assert_eq!(terms.protocol, protocol);
    for session_present in [false, true] {
        let connack = terms.connack(session_present);
        assert_eq!(connack.code, reason::SUCCESS);
        begun(protocol).encode(Outgoing::ConnAck(Box::new(connack)), &mut BytesMut::new()).expect("CONNACK can be written");
    }
}

fn again(protocol: Protocol, mut wire: BytesMut) -> Incoming {
    let packet = begun(protocol).decode(&mut wire).expect("what was written can be read").expect("as a whole");
    assert!(wire.is_empty(), "{} bytes are left", wire.len());
    packet
}
