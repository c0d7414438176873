//! Chapters 1 and 2: strings, integers, flags, packet identifiers, property length.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::place::{Place, closed, id_of, string_property, user_property};
use crate::mqtt::wire::{PATIENCE, Wire, packet, properties, text};

const BAD_FORMAT: &[u8] = &[0x81, 0x82, 0x8F, 0x90, 0x99];

/// Packets with `bytes` wherever a string is; by name, and whether it is a CONNECT.
fn with_string(place: &Place, bytes: &[u8]) -> Vec<(&'static str, bool, Vec<u8>)> {
    let five = place.five();
    let none = if five { vec![0] } else { Vec::new() };
    let given = |property: Vec<u8>| properties(&[&property]);
    let id = text(&place.name);
    let string = text([b"a", bytes, b"z"].concat());
    let will = |topic: &[u8]| [&id[..], &none, topic, &text("x")].concat();
    let mut cases = vec![
        ("topic of PUBLISH", false, packet(0x30, &[&string, &none, b"x"])),
        ("filter of SUBSCRIBE", false, packet(0x82, &[&[0, 1], &none, &string, &[0]])),
        ("filter of UNSUBSCRIBE", false, packet(0xA2, &[&[0, 1], &none, &string])),
        ("client identifier", true, place.raw_connect_with(2, &[], &string)),
        ("user name", true, place.raw_connect_with(0x82, &[], &[&id[..], &string].concat())),
        ("topic of the will", true, place.raw_connect_with(6, &[], &will(&string))),
    ];
    if five {
        let plain = text(place.topic("t"));
        let raw = [b"a", bytes, b"z"].concat();
        let publish = |property| packet(0x30, &[&plain, &given(property), b"x"]);
        cases.extend([
            ("response topic", false, publish(string_property(8, &raw))),
            ("content type", false, publish(string_property(3, &raw))),
            ("name of a user property", false, publish(user_property(&raw, "v"))),
            ("value of a user property", false, publish(user_property("k", &raw))),
            ("user property of SUBSCRIBE", false, packet(0x82, &[&[0, 1], &given(user_property("k", &raw)), &plain, &[0]])),
            ("user property of UNSUBSCRIBE", false, packet(0xA2, &[&[0, 1], &given(user_property("k", &raw)), &plain])),
            ("reason string of PUBREL", false, packet(0x62, &[&[0, 9, 0], &given(string_property(0x1F, &raw))])),
            ("user property of CONNECT", true, place.raw_connect_with(2, &user_property("k", &raw), &id)),
            (
                "content type of the will",
                true,
                place.raw_connect_with(6, &[], &[&id[..], &given(string_property(3, &raw)), &plain, &text("x")].concat()),
            ),
        ]);
    }
    cases
}

async fn strings_end_the_connection(place: &Place, bytes: &[u8]) {
    let (connects, others): (Vec<_>, Vec<_>) = with_string(place, bytes).into_iter().partition(|(_, is_connect, _)| *is_connect);
    let named = |cases: Vec<_>| cases.into_iter().map(|(name, _, packet)| (name, packet)).collect();
    place.all_end(named(others), BAD_FORMAT).await;
    place.all_refused(named(connects)).await;
}

pub(super) async fn ill_formed_utf8(place: Place) {
    for bytes in [&b"\xFF"[..], b"\xED\xA0\x80", b"\xC0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"] {
        strings_end_the_connection(&place, bytes).await;
    }
}

pub(super) async fn null_character(place: Place) {
    strings_end_the_connection(&place, b"\0").await;
}

pub(super) async fn byte_order_mark_stays(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("+", 1).await;
    let (with, without) = (place.topic("\u{FEFF}t"), place.topic("t"));
    publisher.say(1, &with, "with").await;
    let got = place.collect(&mut publisher, &mut subscriber).await;
    assert_eq!(got.iter().map(|publish| &publish.topic).collect::<Vec<_>>(), [&with]);
    let (mut publisher, mut exact) = place.pair("t", 1).await;
    publisher.say(1, &with, "with").await;
    publisher.say(1, &without, "without").await;
    assert_eq!(place.payloads(&mut publisher, &mut exact).await, ["without"], "U+FEFF must not be skipped when matching");
}

pub(super) async fn shortest_lengths(place: Place) {
    // What the server sends: PUBLISH around the boundaries, where one byte more would also do.
    let (mut publisher, subscriber) = place.pair("t", 0).await;
    drop(subscriber);
    let mut raw = TcpStream::connect(place.address).await.unwrap();
    let mut connect = place.connect("raw").bytes();
    connect.extend(publisher.subscribe_bytes(1, &[], &place.topic("t"), 0));
    raw.write_all(&connect).await.unwrap();
    for (expected, bytes) in [(0x20, 1), (0x90, 1)] {
        assert_eq!(read_packet(&mut raw).await.0, (expected, bytes));
    }
    let head = 2 + place.topic("t").len() + usize::from(place.five());
    for (length, digits) in [(127, 1), (128, 2), (16_383, 2), (16_384, 3)] {
        publisher.publish(0, 0, place.topic("t"), vec![b'x'; length - head]).await;
        let (seen, body) = read_packet(&mut raw).await;
        assert_eq!((seen, body), ((0x30, digits), length));
    }
    if place.five() {
        // What it takes: longer than need be is malformed.
        let id = [0x8B, 0x80, 0x80, 0];
        let cases = vec![
            ("remaining length of PINGREQ in two bytes", vec![0xC0, 0x80, 0]),
            ("property length in two bytes", packet(0x30, &[&text(place.topic("t")), &[0x80, 0], b"x"])),
            ("subscription identifier in four", packet(0x82, &[&[0, 1, 5, 0x0B], &id, &text(place.topic("t")), &[0]])),
        ];
        place.all_end(cases, BAD_FORMAT).await;
    }
}

/// First byte and bytes of the remaining length; the remaining length.
async fn read_packet(socket: &mut TcpStream) -> ((u8, u8), usize) {
    let read = async {
        let first = socket.read_u8().await.unwrap();
        let (mut length, mut digits) = (0, 0);
        loop {
            let byte = socket.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7F) << (7 * digits);
            digits += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.unwrap();
        ((first, digits), length)
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a packet in time")
}

pub(super) async fn string_pairs(place: Place) {
    let topic = text(place.topic("t"));
    for bad in [&b"\xFF"[..], b"\0", b"\xED\xBF\xBF"] {
        for (name, pair) in [("name", user_property(bad, "v")), ("value", user_property("k", bad))] {
            place.ends(name, &packet(0x30, &[&topic, &properties(&[&pair]), b"x"]), BAD_FORMAT).await;
        }
    }
    let cut = [0x26, 0, 1, b'k'];
    place.ends("no value", &packet(0x30, &[&topic, &properties(&[&cut]), b"x"]), BAD_FORMAT).await;
}

pub(super) async fn reserved_flags(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let filter = text(place.topic("t"));
    let mut cases = Vec::new();
    for (kind, right, body) in [
        (4_u8, 0, vec![0, 1]),
        (5, 0, vec![0, 1]),
        (6, 2, vec![0, 1]),
        (7, 0, vec![0, 1]),
        (8, 2, [&[0, 1][..], none, &filter, &[0]].concat()),
        (10, 2, [&[0, 1][..], none, &filter].concat()),
        (12, 0, Vec::new()),
        (14, 0, Vec::new()),
    ] {
        for flags in (0..16).filter(|flags| *flags != right) {
            cases.push((format!("packet type {kind} with flags {flags:#x}"), packet(kind << 4 | flags, &[&body])));
        }
    }
    place.all_end(cases, &[0x81]).await;
    for flags in 1..16 {
        let mut connect = place.connect("flagged").bytes();
        connect[0] |= flags;
        place.refused("CONNECT with flags", &connect).await;
    }
}

pub(super) async fn no_identifier_with_qos_0(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    publisher.publish(0, 0, place.topic("t"), "payload").await;
    let got = subscriber.receive().await;
    let none = usize::from(place.five());
    assert_eq!(got.first, 0x30);
    assert_eq!(got.body, [&text(place.topic("t"))[..], &vec![0; none], b"payload"].concat(), "only topic and payload");
}

pub(super) async fn clients_use_identifiers(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let topic = text(place.topic("t"));
    let cases = vec![
        ("SUBSCRIBE under identifier 0", packet(0x82, &[&[0, 0], none, &topic, &[0]])),
        ("UNSUBSCRIBE under identifier 0", packet(0xA2, &[&[0, 0], none, &topic])),
        ("PUBLISH with QoS 1 under identifier 0", packet(0x32, &[&topic, &[0, 0], none, b"x"])),
        ("PUBLISH with QoS 2 under identifier 0", packet(0x34, &[&topic, &[0, 0], none, b"x"])),
    ];
    place.all_end(cases, &[0x81, 0x82]).await;
}

pub(super) async fn servers_use_free_identifiers(place: Place) {
    const COUNT: usize = 20;
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    let mut open = Vec::new();
    for number in 0..2 * COUNT {
        publisher.say(1 + (number % 2) as u8, place.topic("t"), "x").await;
        let got = subscriber.expect_publish().await;
        assert_ne!(got.id, 0);
        assert!(!open.contains(&got.id), "{} is in use: {open:?}", got.id);
        assert!(!got.dup, "the first transmission");
        open.push(got.id);
        if number >= COUNT && got.qos == 1 {
            subscriber.ack(4, got.id).await;
            open.retain(|id| *id != got.id);
        }
    }
}

pub(super) async fn acknowledgements_name_their_publish(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    for id in [1, 0x1234, 0xFFFF] {
        publisher.publish(2, id, place.topic("t"), "one").await;
        publisher.expect_ack(4, id, 0).await;
        let got = subscriber.expect_publish().await;
        subscriber.ack(4, got.id).await;
        publisher.publish(4, id, place.topic("t"), "two").await;
        publisher.expect_ack(5, id, 0).await;
        publisher.ack(6, id).await;
        publisher.expect_ack(7, id, 0).await;
        let got = subscriber.expect_publish().await;
        subscriber.ack(5, got.id).await;
        subscriber.expect_ack(6, got.id, 0).await;
        subscriber.ack(7, got.id).await;
    }
}

pub(super) async fn answers_name_their_request(place: Place) {
    let mut wire = place.wire("asker").await;
    for id in [1, 0x1234, 0xFFFF] {
        wire.send(&wire.subscribe_bytes(id, &[], &place.topic("t"), 1)).await;
        assert_eq!(wire.codes(9, id).await, [1]);
        wire.send(&wire.unsubscribe_bytes(id, &[&place.topic("t")])).await;
        let unsuback = wire.receive().await;
        assert_eq!((unsuback.first, id_of(&unsuback)), (0xB0, id));
    }
}

pub(super) async fn no_properties_have_length_0(place: Place) {
    let mut wire = place.wire("bare").await;
    wire.send(&wire.subscribe_bytes(7, &[], &place.topic("t"), 0)).await;
    assert_eq!(wire.receive().await.body, [0, 7, 0, 0], "SUBACK");
    wire.publish(0, 0, place.topic("t"), "x").await;
    assert_eq!(wire.expect_publish().await.properties, b"");
    wire.send(&wire.unsubscribe_bytes(8, &[&place.topic("t")])).await;
    assert_eq!(wire.receive().await.body, [0, 8, 0, 0], "UNSUBACK");
    // And of clients it is demanded.
    let name = text(place.topic("t"));
    wire.send(&packet(0x82, &[&[0, 9], &name, &[0]])).await;
    closed("SUBSCRIBE without a property length", &mut wire, BAD_FORMAT).await;
    let connect = packet(0x10, &[&text("MQTT"), &[5, 2, 0, 0], &text(&place.name)]);
    place.refused("CONNECT without a property length", &connect).await;
}

pub(super) async fn tcp_is_a_stream(place: Place) {
    let mut wire = Wire::open(&place).await;
    wire.speak(place.level);
    for byte in place.connect("drop-by-drop").bytes() {
        wire.send(&[byte]).await;
    }
    assert_eq!(wire.receive().await.body[1], 0);
    wire.send(&[[0xC0, 0]; 20].concat()).await;
    for _ in 0..20 {
        wire.expect(&[0xD0, 0]).await;
    }
}
