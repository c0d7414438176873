//! Deliveries to the client.

use super::*;
use crate::source::mqtt::samples::expiring;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn each_delivery_is_raised_once_and_acknowledged_once() {
    let mut desk = Desk::new(Protocol::V5);
    QOS.iter().zip(["a", "b", "c"]).for_each(|(qos, topic)| desk.post(topic, *qos));
    let delivered =
        ["PUBLISH a 0 q0", "message.delivered a", "PUBLISH b 1 q1", "message.delivered b", "PUBLISH c 2 q2", "message.delivered c"];
    assert_eq!(desk.advance().unwrap(), delivered);
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), ["message.acked b"]);
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), [""; 0]);
    assert_eq!(desk.give(Incoming::PubRec(ack(2))), ["message.acked c", "PUBREL 2 0x00"]);
    assert_eq!(desk.give(Incoming::PubRec(ack(2))), ["PUBREL 2 0x00"]);
    assert_eq!(desk.give(Incoming::PubComp(ack(2))), [""; 0]);
    assert_eq!(desk.give(Incoming::PubRec(ack(2))), ["PUBREL 2 0x92"]);
}

#[test]
fn refusals_by_the_client_are_drops() {
    let mut desk = Desk::new(Protocol::V5);
    desk.post("b", QoS::AtLeastOnce);
    desk.post("c", QoS::ExactlyOnce);
    desk.advance().unwrap();
    assert_eq!(desk.give(Incoming::PubAck(Ack::new(1, 0x97))), ["dropped b refused"]);
    assert_eq!(desk.give(Incoming::PubRec(Ack::new(2, 0x83))), ["dropped c refused"]);
    assert_eq!(desk.reconnect(connect(Protocol::V5)), [""; 0]);
}

#[test]
fn acknowledgements_of_the_wrong_kind_are_protocol_errors() {
    for (qos, packet) in [
        (QoS::AtLeastOnce, Incoming::PubRec(ack(1))),
        (QoS::AtLeastOnce, Incoming::PubComp(ack(1))),
        (QoS::ExactlyOnce, Incoming::PubAck(ack(1))),
        (QoS::ExactlyOnce, Incoming::PubComp(ack(1))),
    ] {
        let mut desk = Desk::new(Protocol::V5);
        desk.post("a", qos);
        desk.advance().unwrap();
        assert_eq!(desk.take(packet.clone()).map_err(|fault| fault.code), Err(reason::PROTOCOL_ERROR), "{qos:?} {packet:?}");
    }
}

#[test]
fn the_window_opens_with_acknowledgements_in_any_order() {
    let mut desk = Desk::with(Connect { receive_maximum: 2, ..connect(Protocol::V5) }, Mqtt::default());
    ["a", "b", "c", "d"].iter().for_each(|topic| desk.post(topic, QoS::AtLeastOnce));
    assert_eq!(desk.advance().unwrap(), ["PUBLISH a 1 q1", "message.delivered a", "PUBLISH b 2 q1", "message.delivered b"]);
    assert!(!desk.session.can_deliver());
    assert_eq!(desk.give(Incoming::PubAck(ack(2))), ["message.acked b", "PUBLISH c 3 q1", "message.delivered c"]);
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), ["message.acked a", "PUBLISH d 4 q1", "message.delivered d"]);
}

#[test]
fn what_was_not_acknowledged_goes_again_in_order_within_the_new_window() {
    let mut desk = Desk::new(Protocol::V5);
    for (topic, qos) in [("a", 1), ("b", 2), ("c", 2), ("d", 1)] {
        desk.post(topic, QOS[qos]);
    }
    desk.advance().unwrap();
    desk.give(Incoming::PubRec(ack(2)));
    desk.post("e", QoS::AtLeastOnce);
    let narrow = Connect { receive_maximum: 2, ..connect(Protocol::V5) };
    assert_eq!(desk.reconnect(narrow), ["PUBLISH a 1 q1 dup", "PUBREL 2 0x00", "PUBLISH c 3 q2 dup"]);
    assert_eq!(desk.give(Incoming::PubComp(ack(2))), [""; 0], "a PUBREL takes no place in the window");
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), ["message.acked a", "PUBLISH d 4 q1 dup"]);
    assert_eq!(desk.give(Incoming::PubRec(ack(3))), ["message.acked c", "PUBREL 3 0x00"]);
    assert_eq!(desk.give(Incoming::PubComp(ack(3))), ["PUBLISH e 5 q1", "message.delivered e"]);
}

#[test]
fn identifiers_in_use_are_skipped() {
    let mut desk = Desk::with(Connect { receive_maximum: 2, ..connect(Protocol::V5) }, Mqtt::default());
    desk.post("stuck", QoS::AtLeastOnce);
    desk.advance().unwrap();
    let mut last = 1_u16;
    for _ in 0..65_534 {
        desk.post("a", QoS::AtLeastOnce);
        last = last.checked_add(1).unwrap_or(2);
        assert_eq!(desk.advance().unwrap()[0], format!("PUBLISH a {last} q1"));
        desk.give(Incoming::PubAck(ack(last)));
    }
    desk.post("a", QoS::AtLeastOnce);
    assert_eq!(desk.advance().unwrap()[0], "PUBLISH a 2 q1", "1 is still in use");
}

#[test]
fn expired_and_too_large_messages_are_drops() {
    let mut desk = Desk::with(Connect { max_packet_bytes: Some(30), ..connect(Protocol::V5) }, Mqtt::default());
    let parcel = |message| Parcel {
        message: Arc::new(message),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Box::default(),
        share: None,
    };
    desk.now_ms = 5_000;
    desk.post_parcel(parcel(expiring(message("old", QoS::AtLeastOnce, "x"), 5)));
    desk.post_parcel(parcel(expiring(message("young", QoS::AtLeastOnce, "x"), 6)));
    desk.post_parcel(parcel(message("large", QoS::AtLeastOnce, &"x".repeat(40))));
    let expected = ["dropped old expired", "PUBLISH young 1 q1", "message.delivered young", "dropped large too-large"];
    assert_eq!(desk.advance().unwrap(), expected);
}

#[test]
fn the_mailbox_is_bounded_and_says_so() {
    let limits = Mqtt { max_queued_messages: 2, max_queued_bytes: 300, ..Mqtt::default() };
    let desk = Desk::with(connect(Protocol::V5), limits.clone());
    let parcel = |size| Parcel {
        message: Arc::new(message("a", QoS::AtLeastOnce, &"x".repeat(size))),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Box::default(),
        share: None,
    };
    let mailbox = desk.session.mailbox();
    let mut results = Vec::new();
    for size in [300, 1, 1, 1] {
        results.push(mailbox.push(parcel(size)).map_err(|rejected| rejected.reason));
    }
    assert_eq!(results, [Err(DropReason::QueueFull), Ok(()), Ok(()), Err(DropReason::QueueFull)]);
    assert_eq!(mailbox.close().count(), 2);
    assert_eq!(mailbox.push(parcel(1)).map_err(|rejected| rejected.reason), Err(DropReason::SessionEnded));
}

#[test]
fn a_session_that_ends_gives_back_what_was_never_received() {
    let mut desk = Desk::with(Connect { receive_maximum: 3, ..connect(Protocol::V5) }, Mqtt::default());
    for (topic, qos) in [("a", 1), ("b", 2), ("c", 2), ("d", 1)] {
        desk.post(topic, QOS[qos]);
    }
    desk.advance().unwrap();
    desk.give(Incoming::PubRec(ack(2)));
    let lost: Vec<_> = desk.session.end().into_iter().map(|parcel| parcel.message.topic.to_string()).collect();
    assert_eq!(lost, ["a", "c", "d"]);
}

#[test]
fn only_what_its_member_cannot_have_goes_to_another() {
    let mut desk = Desk::with(Connect { receive_maximum: 3, ..connect(Protocol::V5) }, Mqtt::default());
    for (topic, qos) in [("a", 1), ("b", 2), ("c", 2), ("d", 1), ("e", 2), ("f", 0)] {
        let share = Some("$share/g/#".into());
        let message = Arc::new(message(topic, QOS[qos], "x"));
        desk.post_parcel(Parcel { message, qos: QOS[qos], retain: false, subscription_ids: Box::default(), share });
    }
    desk.advance().unwrap();
    desk.give(Incoming::PubRec(ack(2)));
    let handed_on: Vec<_> =
        desk.session.end().into_iter().map(|parcel| (parcel.message.topic.to_string(), parcel.share.is_some())).collect();
    let expected = [("a", true), ("c", false), ("d", true), ("e", true), ("f", true)];
    assert_eq!(handed_on, expected.map(|(topic, shared)| (topic.to_owned(), shared)), "QoS 2 that was sent stays [MQTT-4.8.2-5]");
}

#[test]
fn what_no_longer_fits_is_not_sent_again() {
    let mut desk = Desk::new(Protocol::V5);
    for (topic, payload) in [("large", "x".repeat(40)), ("small", "x".to_owned())] {
        let message = Arc::new(message(topic, QoS::AtLeastOnce, &payload));
        desk.post_parcel(Parcel { message, qos: QoS::AtLeastOnce, retain: false, subscription_ids: Box::default(), share: None });
    }
    desk.advance().unwrap();
    let narrow = Connect { max_packet_bytes: Some(30), receive_maximum: 1, ..connect(Protocol::V5) };
    assert_eq!(desk.reconnect(narrow), ["dropped large too-large", "PUBLISH small 2 q1 dup"], "and its place in the window is free");
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), [""; 0]);
}

#[test]
fn aliases_follow_the_order_of_packets_and_end_with_the_connection() {
    let asking = |maximum| Connect { topic_alias_maximum: maximum, ..connect(Protocol::V5) };
    let mut desk = Desk::with(asking(2), Mqtt::default());
    ["topic/a", "topic/b", "topic/a", "topic/c", "tiny"].iter().for_each(|topic| desk.post(topic, QoS::AtLeastOnce));
    let sent = |texts: Vec<String>| texts.into_iter().filter(|text| text.starts_with("PUBLISH")).collect::<Vec<_>>();
    let first = sent(desk.advance().unwrap());
    let expected = [
        "PUBLISH topic/a 1 q1 alias=1",
        "PUBLISH topic/b 2 q1 alias=2",
        "PUBLISH topic/a 3 q1 only alias=1",
        "PUBLISH topic/c 4 q1",
        "PUBLISH tiny 5 q1",
    ];
    assert_eq!(first, expected);
    desk.give(Incoming::PubAck(ack(1)));
    let again = desk.reconnect(asking(1));
    let expected = ["PUBLISH topic/b 2 q1 dup alias=1", "PUBLISH topic/a 3 q1 dup", "PUBLISH topic/c 4 q1 dup", "PUBLISH tiny 5 q1 dup"];
    assert_eq!(again, expected);
    let without = desk.reconnect(asking(0));
    assert!(without.iter().all(|text| !text.contains("alias")), "{without:?}");
}

#[test]
fn an_interval_of_0_is_for_those_who_are_there() {
    let mut desk = Desk::new(Protocol::V5);
    let parcel = |received_at_ms| {
        let message = Arc::new(Message { received_at_ms, ..expiring(message("now", QoS::AtLeastOnce, "x"), 0) });
        Parcel { message, qos: QoS::AtLeastOnce, retain: false, subscription_ids: Box::default(), share: None }
    };
    desk.now_ms = 5_500;
    for received_at_ms in [0, 4_400, 5_400] {
        desk.post_parcel(parcel(received_at_ms)); // before it came in; too long ago; now
    }
    assert_eq!(desk.advance().unwrap(), ["dropped now expired", "dropped now expired", "PUBLISH now 1 q1", "message.delivered now"]);
}
