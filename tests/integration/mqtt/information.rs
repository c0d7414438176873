//! What the broker tells beside the answer: response information, server reference, reason strings.

use super::{
    broker::Running,
    wire::{Connect, PATIENCE, Packet, Wire, packet, properties, text},
};

fn holds(packet: &Packet, part: &[u8]) -> bool {
    packet.body.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn response_information_for_those_who_ask() {
    let broker = Running::with("response_information = \"replies/%c\"").await;
    for (client_id, given, told) in [
        ("asker", &[0x19, 1][..], Some("replies/asker")),
        ("asker", &[0x19, 0], None),
        ("asker", &[], None),
        ("a/+/b", &[0x19, 1], None), // no topic could be made of it
    ] {
        let connect = Connect { properties: given.to_vec(), ..Connect::v5(client_id) };
        let (_, connack) = Wire::connect_with(&broker, connect).await;
        match told {
            Some(told) => assert!(holds(&connack, &[&[0x1A][..], &text(told)].concat()), "{connack:x?}"),
            None => assert!(!holds(&connack, b"\x1A\x00"), "{connack:x?}"),
        }
    }
}

#[tokio::test]
async fn draining_sends_clients_elsewhere() {
    let broker = Running::with("server_reference = \"gate-2:1883\"").await;
    let mut five = Wire::connect(&broker, Connect::v5("five")).await;
    let mut four = Wire::connect(&broker, Connect::v4("four")).await;
    assert!(broker.broker.drain(PATIENCE).await, "in time");
    let goodbye = five.receive().await;
    assert_eq!((goodbye.first, goodbye.body[0]), (0xE0, 0x9C));
    assert!(holds(&goodbye, &[&[0x1C][..], &text("gate-2:1883")].concat()), "{goodbye:x?}");
    assert_eq!(four.receive_or_end().await, None, "3.1.1 has no such packet");
}

#[tokio::test]
async fn refusals_have_reason_strings_where_they_are_welcome() {
    let broker = Running::start().await;
    for (given, welcome) in [(&[][..], true), (&[0x17, 1], true), (&[0x17, 0], false)] {
        let mut wire = Wire::connect(&broker, Connect { properties: given.to_vec(), ..Connect::v5("asker") }).await;
        let bytes = wire.subscribe_bytes(1, &[], "a/#/b", 0);
        wire.send(&bytes).await;
        let suback = wire.receive().await;
        assert_eq!((suback.first, suback.body.last()), (0x90, Some(&0x8F)));
        assert_eq!(holds(&suback, b"\x1F\x00"), welcome, "{suback:x?}");
        wire.publish(2, 1, "$SYS/x", "").await;
        let puback = wire.receive().await;
        assert_eq!((puback.first, puback.body[2]), (0x40, 0x87));
        assert_eq!(holds(&puback, b"\x1F\x00"), welcome, "{puback:x?}");
        wire.send(&[0xF0, 0]).await;
        let goodbye = wire.receive().await;
        assert_eq!(goodbye.first, 0xE0);
        assert!(holds(&goodbye, b"\x1F\x00"), "DISCONNECT may always say why: {goodbye:x?}");
    }
}

#[tokio::test]
async fn a_refusal_keeps_within_what_the_client_takes() {
    let broker = Running::start().await;
    let mut connect = Connect { properties: vec![0x27, 0, 0, 0, 5], ..Connect::v5("tiny") };
    connect.will = Some(("$SYS/x".into(), Vec::new(), 0, false, Vec::new()));
    let mut wire = Wire::open(&broker).await;
    wire.send(&connect.bytes()).await;
    wire.expect(&[0x20, 3, 0, 0x90, 0]).await;
    assert_eq!(wire.receive_or_end().await, None);
}

#[tokio::test]
async fn a_connect_that_is_cut_is_not_waited_for() {
    let broker = Running::start().await;
    for bytes in [vec![0x10, 0], packet(0x10, &[&text("MQTT")]), packet(0x10, &[&text("MQTT"), &[5]]), packet(0x10, &[b"\x00\x04MQ"])] {
        let mut wire = Wire::open(&broker).await;
        wire.send(&bytes).await;
        assert_eq!(wire.receive_or_end().await, None, "{bytes:x?}");
    }
}

#[tokio::test]
async fn what_is_small_but_meant_arrives() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("there")).await;
    let mut sleeper = Wire::connect(&broker, Connect::v5("sleeper").keep_session()).await;
    for wire in [&mut wire, &mut sleeper] {
        wire.subscribe(1, "a", 1).await;
    }
    drop(sleeper);
    while broker.metrics.connections.get() > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for given in [&[0x02, 0, 0, 0, 0][..], &[0x01, 0], &[0x01, 1]] {
        let bytes = wire.publish_bytes(0, 0, "a", given, "x");
        wire.send(&bytes).await;
        assert_eq!(wire.expect_publish().await.properties, given, "unaltered");
    }
    let mut sleeper = Wire::connect(&broker, Connect::v5("sleeper").keep_session()).await;
    for expected in [&[0x01, 0][..], &[0x01, 1]] {
        assert_eq!(sleeper.expect_publish().await.properties, expected, "an expiry of 0 does not wait for anybody");
    }
    let will = [&[0x02, 0, 0, 0, 0][..], &[0x01, 0]].concat();
    let connect = Connect { will: Some(("a".into(), b"gone".to_vec(), 0, false, will.clone())), ..Connect::v5("testator") };
    drop(Wire::connect(&broker, connect).await);
    assert_eq!(wire.expect_publish().await.properties, will);
}

#[tokio::test]
async fn what_is_not_well_formed_ends_the_connection() {
    let broker = Running::start().await;
    let why = properties(&[&[0x1F], &text("a\0z")]);
    let user = properties(&[&[0x26], &text("k"), &text("a\0z")]);
    for (name, level, bytes, code) in [
        ("a SUBSCRIBE's user property with U+0000", 5, packet(0x82, &[&[0, 1], &user, &text("a"), &[0]]), 0x81),
        ("an UNSUBSCRIBE's", 5, packet(0xA2, &[&[0, 1], &user, &text("a")]), 0x81),
        ("a PUBREL's reason string", 5, packet(0x62, &[&[0, 1, 0x92], &why]), 0x81),
        ("PINGREQ with a long length", 5, vec![0xC0, 0x80, 0x00], 0x81),
        ("PINGREQ with a body", 5, vec![0xC0, 1, 0], 0x81),
        ("PINGREQ with a body", 4, vec![0xC0, 1, 0], 0),
        ("options in 3.1.1", 4, packet(0x82, &[&[0, 1], &text("a"), &[4]]), 0),
        (
            "a long subscription identifier",
            5,
            packet(0x82, &[&[0, 1], &properties(&[&[0x0B, 0x8B, 0x80, 0x80, 0]]), &text("a"), &[0]]),
            0x81,
        ),
        ("a server's DISCONNECT", 5, vec![0xE0, 1, 0x8B], 0x82),
    ] {
        let mut wire = Wire::connect(&broker, Connect { level, ..Connect::v4("careless") }).await;
        println!("{name}"); // shown when the next lines fail
        wire.send(&bytes).await;
        wire.expect_end(code).await;
    }
    for level in [4, 5] {
        let mut bytes = Connect { level, ..Connect::v4("longer") }.bytes();
        bytes[1] += 2;
        bytes.extend([0, 0]);
        let mut wire = Wire::open(&broker).await;
        wire.send(&bytes).await;
        let answer = wire.receive_or_end().await.map(|packet| packet.body[..2].to_vec());
        assert_eq!(answer, (level == 5).then(|| vec![0, 0x81]), "bytes behind CONNECT's last field");
    }
}
