//! What the protocol demands at its edges.

use std::time::Duration;

use super::{
    broker::Running,
    wire::{Connect, PATIENCE, Wire, packet, properties, text},
};

async fn refused(broker: &Running, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut wire = Wire::open(broker).await;
    wire.send(bytes).await;
    let answer = wire.receive_or_end().await.map(|packet| packet.body);
    assert_eq!(wire.receive_or_end().await, None, "the connection must end");
    answer
}

#[tokio::test]
async fn refusals_of_connect_say_why() {
    let broker = Running::with("connect_timeout_ms = 300").await;
    let level = |level| packet(0x10, &[&text("MQTT"), &[level, 2, 0, 0], &text("x")]);
    let v4 = |client_id: &str, flags: u8, rest: &[u8]| packet(0x10, &[&text("MQTT"), &[4, flags, 0, 0], &text(client_id), rest]);
    let v5 = |given: &[u8]| packet(0x10, &[&text("MQTT"), &[5, 2, 0, 0], &properties(&[given]), &text("x")]);
    let large = packet(0x10, &[&text("MQTT"), &[5, 2, 0, 0], &[0], &text("x"), &vec![0; 2 << 20]]);
    let will_topic = [text("a/#"), text("")].concat();
    for (name, bytes, answer) in [
        ("level 6", level(6), Some(vec![0, 1])),
        ("level 131", level(131), Some(vec![0, 1])),
        ("no identifier, session to keep", v4("", 0, &[]), Some(vec![0, 2])),
        ("password without user name", v4("x", 0x42, &text("secret")), None),
        ("will QoS without will", v4("x", 0x0A, &[]), None),
        ("will to a wildcard", v4("x", 0x06, &will_topic), None),
        ("identifier with U+0000", v4("x\0", 2, &[]), None),
        ("identifier that is no UTF-8", packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text(b"\xFF")]), None),
        ("another protocol", packet(0x10, &[&text("HTTP"), &[4, 2, 0, 0], &text("x")]), None),
        ("PUBLISH first", packet(0x30, &[&text("a"), b"x"]), None),
        ("PINGREQ first", vec![0xC0, 0], None),
        ("an endless length", vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], None),
        ("nothing more", vec![0x10, 0x20, 0x00], None),
    ] {
        assert_eq!(refused(&broker, &bytes).await, answer, "{name}");
    }
    for (name, bytes, code) in [
        ("authentication method", v5(&[&[0x15][..], &text("SCRAM")].concat()), 0x8C),
        ("a property twice", v5(&[0x21, 0, 1, 0x21, 0, 1]), 0x82),
        ("receive maximum 0", v5(&[0x21, 0, 0]), 0x82),
        ("too large", large, 0x95),
    ] {
        let answer = refused(&broker, &bytes).await.unwrap_or_else(|| panic!("{name}: CONNACK expected"));
        assert_eq!(answer[..2], [0, code], "{name}");
    }
}

#[tokio::test]
async fn what_no_client_may_send_ends_the_connection() {
    let broker = Running::start().await;
    let connect = Connect::v5("x").bytes();
    for (name, bytes, code) in [
        ("CONNECT twice", connect, 0x82),
        ("CONNACK", vec![0x20, 3, 0, 0, 0], 0x82),
        ("SUBACK", vec![0x90, 4, 0, 1, 0, 0], 0x82),
        ("PINGRESP", vec![0xD0, 0], 0x82),
        ("AUTH", vec![0xF0, 0], 0x82),
        ("type 0", vec![0x00, 0], 0x81),
        ("QoS 3", packet(0x36, &[&text("a"), &[0, 1, 0]]), 0x81),
        ("DUP with QoS 0", packet(0x38, &[&text("a"), &[0]]), 0x82),
        ("packet identifier 0", packet(0x32, &[&text("a"), &[0, 0, 0]]), 0x81),
        ("a topic with wildcards", packet(0x30, &[&text("a/#"), &[0]]), 0x90),
        ("a topic with U+0000", packet(0x30, &[&text("a\0"), &[0]]), 0x90),
        ("a topic that is no UTF-8", packet(0x30, &[&text(b"a\xFF"), &[0]]), 0x81),
        ("no topic", packet(0x30, &[&text(""), &[0]]), 0x82),
        ("PUBREL without its flags", vec![0x60, 2, 0, 1], 0x81),
        ("SUBSCRIBE without its flags", packet(0x80, &[&[0, 1, 0], &text("a"), &[0]]), 0x81),
        ("SUBSCRIBE to nothing", packet(0x82, &[&[0, 1, 0]]), 0x82),
        ("UNSUBSCRIBE from nothing", packet(0xA2, &[&[0, 1, 0]]), 0x82),
        ("an endless length", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 0x81),
        ("too large", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
    ] {
        for level in [4, 5] {
            // In 3.1.1 there are no properties, hence other bytes; both must end, and only MQTT 5 says why.
            let mut wire = Wire::connect(&broker, Connect { level, ..Connect::v4("edge") }).await;
            wire.send(&bytes).await;
            if level == 5 {
                println!("{name}"); // shown when the next line fails
                wire.expect_end(code).await;
            } else if !["QoS 3", "DUP with QoS 0", "packet identifier 0"].contains(&name) {
                while wire.receive_or_end().await.is_some() {}
            }
        }
    }
    let mut witness = Wire::connect(&broker, Connect::v5("witness")).await;
    witness.expect_quiet().await;
}

#[tokio::test]
async fn topics_of_every_script_arrive_as_they_are() {
    let broker = Running::with("sys_interval_s = 0").await;
    let mut wire = Wire::connect(&broker, Connect::v4("poly/glot+#$")).await;
    wire.subscribe(1, "#", 0).await;
    for topic in ["é", "日本/語", "/", "//", " ", "a b", "🦀/🔒", "$", "ü/$SYS"] {
        wire.publish(0, 0, topic, "x").await;
        if !topic.starts_with('$') {
            assert_eq!(wire.expect_publish().await.topic, topic);
        }
    }
    wire.subscribe(2, "$SYS/#", 0).await;
    wire.expect_quiet().await;
}

#[tokio::test]
async fn packets_may_come_in_pieces_or_all_at_once() {
    let broker = Running::start().await;
    let mut wire = Wire::open(&broker).await;
    let mut script = Connect::v4("pieces").bytes();
    script.extend(wire.subscribe_bytes(1, &[], "a", 1));
    for id in 1..=200_u16 {
        script.extend(wire.publish_bytes(2, id, "a", &[], vec![b'x'; usize::from(id)]));
    }
    let (first, rest) = script.split_at(40);
    for byte in first {
        wire.send(&[*byte]).await;
    }
    wire.send(rest).await;
    wire.expect(&[0x20, 2, 0, 0]).await;
    wire.expect(&[0x90, 3, 0, 1, 1]).await;
    let (mut acknowledged, mut delivered) = (Vec::new(), Vec::new());
    while acknowledged.len() < 200 || delivered.len() < 200 {
        let packet = wire.receive().await;
        if packet.kind() == 4 {
            acknowledged.push(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        } else {
            let publish = packet.publish(false);
            wire.ack(4, publish.id).await;
            delivered.push(publish.payload.len() as u16);
        }
    }
    assert_eq!(acknowledged, (1..=200).collect::<Vec<_>>());
    assert_eq!(delivered, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn keep_alive_counts_silence_only() {
    let broker = Running::start().await;
    let mut silent = Wire::connect(&broker, Connect { keep_alive_s: 1, ..Connect::v5("silent") }).await;
    let mut talking = Wire::connect(&broker, Connect { keep_alive_s: 1, ..Connect::v5("talking") }).await;
    let mut patient = Wire::connect(&broker, Connect { keep_alive_s: 0, ..Connect::v5("patient") }).await;
    let end = tokio::spawn(async move { silent.expect_end(0x8D).await });
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        talking.expect_quiet().await;
    }
    end.await.expect("the silent one was told");
    patient.expect_quiet().await;
}

#[tokio::test]
async fn connack_tells_what_is_granted() {
    let limits = "max_keep_alive_s = 60\nmax_session_expiry_s = 100\nreceive_maximum = 7\nmax_packet_bytes = 5000";
    let broker = Running::with(limits).await;
    let asked = Connect { clean: false, keep_alive_s: 600, properties: vec![0x11, 0, 1, 0, 0], ..Connect::v5("") };
    let (_, connack) = Wire::connect_with(&broker, asked).await;
    let holds = |part: &[u8]| connack.body.windows(part.len()).any(|window| window == part);
    assert_eq!(connack.body[..2], [0, 0]);
    assert!(holds(&[0x13, 0, 60]), "server keep alive: {connack:x?}");
    assert!(holds(&[0x11, 0, 0, 0, 100]), "session expiry: {connack:x?}");
    assert!(holds(&[0x21, 0, 7]), "receive maximum: {connack:x?}");
    assert!(holds(&[0x27, 0, 0, 0x13, 0x88]), "maximum packet size: {connack:x?}");
    assert!(holds(b"\x12\x00\x25auto-"), "assigned client identifier: {connack:x?}");
    assert!(holds(&[0x22, 0, 64]), "topic alias maximum: {connack:x?}");
    let (_, plain) = Wire::connect_with(&broker, Connect::v4("")).await;
    assert_eq!(plain.body, [0, 0]);
}

#[tokio::test]
async fn answers_stay_within_what_the_client_takes() {
    let broker = Running::start().await;
    let tiny = Connect { properties: vec![0x27, 0, 0, 0, 15], ..Connect::v5("tiny") };
    let answer = refused(&broker, &tiny.bytes()).await.expect("CONNACK");
    assert_eq!(answer[..2], [0, 0x95], "the CONNACK that lets it in would not fit");
    let small = Connect { properties: vec![0x27, 0, 0, 0, 60], ..Connect::v5("small") };
    let mut wire = Wire::connect(&broker, small).await;
    wire.subscribe(1, "a", 1).await;
    wire.publish(0, 0, "a", vec![b'x'; 60]).await;
    wire.publish(0, 0, "a", "fits").await;
    assert_eq!(wire.expect_publish().await.payload, b"fits");
    assert_eq!(broker.dropped("too-large"), 1);
    let long = wire.publish_bytes(2, 1, "$SYS/x", &[], "");
    wire.send(&long).await;
    wire.expect_ack(4, 1, 0x87).await;
}

#[tokio::test]
async fn a_flood_without_reading_is_bounded() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v4("deaf")).await;
    wire.subscribe(1, "a", 0).await;
    let message = wire.publish_bytes(0, 0, "a", &[], vec![b'x'; 60_000]);
    // Nobody reads what is delivered: socket and mailbox fill, drops are counted, and the broker goes on taking.
    let flood = async {
        for _ in 0..2_000 {
            wire.send(&message).await;
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("publishing is not held up by a slow receiver");
    let mut witness = Wire::connect(&broker, Connect::v4("witness")).await;
    witness.expect_quiet().await;
    let full = async {
        while broker.dropped("queue-full") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("drops are counted");
}
