//! What a door lets in, and how much of it.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::{
    House, LET_IN,
    certificates::{Authority, here},
    come_in, connect, expect, ping, publish, rest, say,
};
use crate::support::Gate;

fn door(more: &str) -> String {
    format!("[[listener]]\nbind = \"127.0.0.1:0\"\n{more}\n")
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let authority = Authority::new();
    let tls = authority.sign("server", None, &[]).settings();
    let encrypted = format!("name = \"tls\"\nprotocol = \"mqtts\"\ntls = {{ {tls} }}\nlimits = {{ max_connections = 1 }}");
    let house = House::start(&(door("limits = { max_connections = 1 }") + &door(&encrypted))).await;
    let mut first = house.knock("mqtt").await;
    come_in(&mut first, "first").await;
    let mut second = house.knock("mqtt").await;
    say(&mut second, &connect(4, "second", 0)).await;
    assert_eq!(rest(&mut second).await, [0x20, 2, 0, 3], "server unavailable");
    let mut third = house.knock("mqtt").await;
    say(&mut third, &connect(5, "third", 0)).await;
    assert_eq!(rest(&mut third).await.get(2..4), Some(&[0, 0x97][..]), "quota exceeded");
    ping(&mut first).await;
    drop(first);
    let connections = |house: &House, door: &str| house.metrics.listener_connections.get_or_create(&door.into()).get();
    house.until("the seat is free", |house| connections(house, "mqtt") == 0).await;
    come_in(&mut house.knock("mqtt").await, "fourth").await;
    house.until("two refusals", |house| house.refused("too-many-connections") == 2).await;

    let connector = authority.client(&[&rustls::version::TLS13], None);
    let mut inside = connector.connect(here(), house.knock("tls").await).await.unwrap();
    come_in(&mut inside, "inside").await;
    assert!(connector.connect(here(), house.knock("tls").await).await.is_err(), "closed before TLS costs anything");
    assert_eq!((connections(&house, "tls"), house.refused("too-many-connections")), (1, 3));
    ping(&mut inside).await;
}

#[tokio::test]
async fn connections_that_come_too_fast_are_closed() {
    let house = House::start(&door("limits = { connects_per_s = 1, connects_burst = 2 }")).await;
    let start = Instant::now();
    let mut let_in = 0;
    for number in 0..20 {
        let mut socket = house.knock("mqtt").await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &connect(4, &format!("device-{number}"), 0)).await;
        let mut answer = [0; 4];
        let_in += u64::from(socket.read_exact(&mut answer).await.is_ok() && answer == LET_IN);
    }
    let allowed = 2 + start.elapsed().as_secs() + 1;
    assert!((2..=allowed).contains(&let_in), "{let_in} of at most {allowed}");
    assert_eq!(house.refused("connect-rate"), 20 - let_in);
}

#[tokio::test]
async fn a_client_that_publishes_too_fast_is_read_more_slowly() {
    let house = House::start(&door("limits = { messages_per_s = 10 }")).await;
    let mut socket = house.knock("mqtt").await;
    come_in(&mut socket, "eager").await;
    let start = Instant::now();
    let (all, acks): (Vec<_>, Vec<_>) = (1..=25).map(|id| (publish(4, Some(id), "a", b"x"), [0x40, 2, 0, id as u8])).unzip();
    say(&mut socket, &all.concat()).await;
    expect(&mut socket, &acks.concat()).await;
    assert!(start.elapsed() >= Duration::from_millis(1_400), "ten at once, and the others at ten per second: {:?}", start.elapsed());
    let paused = house.metrics.reads_paused.get_or_create(&"mqtt".into()).get();
    assert!(paused >= 1, "{paused}");
    ping(&mut socket).await;
}

#[tokio::test]
async fn keep_alive_waits_while_reading_pauses_for_too_many_bytes() {
    let house = House::start(&(door("limits = { bytes_per_s = 1000 }") + &door("name = \"other\""))).await;
    let mut socket = house.knock("mqtt").await;
    say(&mut socket, &connect(4, "talkative", 1)).await;
    expect(&mut socket, &LET_IN).await;
    let start = Instant::now();
    // Four seconds' worth: the pause is longer than one and a half keep alives.
    say(&mut socket, &publish(4, Some(1), "a", &[b'x'; 4000])).await;
    expect(&mut socket, &[0x40, 2, 0, 1]).await;
    assert!(start.elapsed() >= Duration::from_millis(2_900), "{:?}", start.elapsed());
    ping(&mut socket).await;
    let mut free = house.knock("other").await;
    come_in(&mut free, "free").await;
    say(&mut free, &publish(4, Some(1), "a", &[b'x'; 4000])).await;
    expect(&mut free, &[0x40, 2, 0, 1]).await;
    assert_eq!(house.metrics.reads_paused.get_or_create(&"other".into()).get(), 0);
}

#[tokio::test]
async fn payloads_that_are_too_large_are_refused_and_the_client_stays() {
    let house = House::start(&format!(
        "{}[mqtt]\nmax_payload_bytes = 8\n",
        door("limits = { max_payload_bytes = 4 }") + &door("name = \"default\"")
    ))
    .await;
    for (name, payload) in [("mqtt", "12345"), ("default", "123456789")] {
        let before = house.dropped("too-large");
        let mut five = house.knock(name).await;
        say(&mut five, &connect(5, "five", 0)).await;
        let mut head = [0; 2];
        five.read_exact(&mut head).await.unwrap();
        five.read_exact(&mut vec![0; head[1].into()]).await.unwrap();
        let fits = &payload[1..];
        for (payload, codes) in [(payload, &[0x97][..]), (fits, &[0x10])] {
            say(&mut five, &publish(5, Some(1), "a", payload.as_bytes())).await;
            let mut ack = [0; 5];
            five.read_exact(&mut ack).await.unwrap();
            assert_eq!((ack[0], &ack[4..]), (0x40, codes), "{name} {payload}");
            let rest = usize::from(ack[1]) - 3;
            five.read_exact(&mut vec![0; rest]).await.unwrap(); // the reason string
        }
        say(&mut five, &publish(5, None, "a", payload.as_bytes())).await;
        ping(&mut five).await;
        let mut four = house.knock(name).await;
        come_in(&mut four, "four").await;
        say(&mut four, &publish(4, Some(7), "a", payload.as_bytes())).await;
        expect(&mut four, &[0x40, 2, 0, 7]).await;
        house.until("three drops", |house| house.dropped("too-large") == before + 3).await;
    }
}

#[tokio::test]
async fn deep_topics_and_many_subscriptions_are_refused() {
    let house = House::start(&door("limits = { max_topic_levels = 2, max_subscriptions = 1 }")).await;
    let mut socket = house.knock("mqtt").await;
    come_in(&mut socket, "deep").await;
    let subscribe = |filter: &str| {
        let length = filter.len() as u8;
        [&[0x82, length + 5, 0, 1, 0, length], filter.as_bytes(), &[0]].concat()
    };
    for (filter, code) in [("a/b/c", 0x80), ("a/b", 0), ("a/c", 0x80)] {
        say(&mut socket, &subscribe(filter)).await;
        expect(&mut socket, &[0x90, 3, 0, 1, code]).await;
    }
    say(&mut socket, &publish(4, None, "a/b", b"x")).await;
    expect(&mut socket, &publish(4, None, "a/b", b"x")).await;
    say(&mut socket, &publish(4, None, "a/b/c", b"x")).await;
    assert_eq!(rest(&mut socket).await, b"");
}

#[tokio::test]
async fn half_a_greeting_is_not_waited_for() {
    let authority = Authority::new();
    let tls = authority.sign("server", None, &[]).settings();
    let quick = "limits = { connect_timeout_ms = 300 }";
    let doors = [
        door(quick),
        door(&format!("name = \"tls\"\nprotocol = \"mqtts\"\ntls = {{ {tls} }}\n{quick}")),
        door(&format!("name = \"proxied\"\nproxy_protocol = \"required\"\nproxy_from = \"127.0.0.1\"\n{quick}")),
        door(&format!("name = \"ws\"\nprotocol = \"ws\"\n{quick}")),
    ];
    let house = House::start(&doors.concat()).await;
    let halves: [(&str, &[u8]); 7] = [
        ("mqtt", b""),
        ("mqtt", b"\x10\x20\x00\x04MQ"),
        ("tls", b"\x16\x03\x01\x02\x00\x01"),
        ("proxied", b"PROXY TCP4 192.0"),
        ("proxied", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C\xC0"),
        ("proxied", b"PROXY UNKNOWN\r\n\x10\x20"),
        ("ws", b"GET /mqtt HTTP/1.1\r\nHost: x\r\n"),
    ];
    let mut sockets = Vec::new();
    for (name, half) in halves {
        let mut socket = house.knock(name).await;
        say(&mut socket, half).await;
        sockets.push(socket);
    }
    for socket in &mut sockets {
        assert!(rest(socket).await.len() <= 4, "nothing but a refusal");
    }
    house.until("seven refusals", |house| house.refused("connect-timeout") == 7).await;
    assert_eq!(house.refused("connection-lost"), 0);
}

#[tokio::test]
async fn limits_change_for_those_who_come_after_a_reload() {
    let gate = Gate::start(&door("name = \"second\""), &[]).await;
    let address = gate.bridge.addresses()[1].1;
    let mut old = tokio::net::TcpStream::connect(address).await.unwrap();
    come_in(&mut old, "old").await;
    let text = std::fs::read_to_string(&gate.file).unwrap();
    let limited = text.replace("name = \"second\"", "name = \"second\"\nlimits = { max_packet_bytes = 128 }");
    let (config, problems) = hookgate::config::Config::parse(&gate.file, &limited);
    assert_eq!(problems, []);
    gate.bridge.reload(config).await.unwrap();
    let mut new = tokio::net::TcpStream::connect(address).await.unwrap();
    come_in(&mut new, "new").await;
    let large = publish(4, Some(1), "a", &[b'x'; 200]);
    say(&mut old, &large).await;
    expect(&mut old, &[0x40, 2, 0, 1]).await;
    say(&mut new, &large).await;
    assert_eq!(rest(&mut new).await, b"");
    let moved = text.replace("name = \"second\"", "name = \"second\"\nprotocol = \"ws\"");
    let (config, _) = hookgate::config::Config::parse(&gate.file, &moved);
    assert!(gate.bridge.reload(config).await.is_err_and(|problems| problems[0].message.contains("[[listener]] name, bind or protocol")));
}
