//! Publishes from the client.

use super::*;
use crate::{config::DeniedPublish, event::Denial};

const QOS1: QoS = QoS::AtLeastOnce;
const QOS2: QoS = QoS::ExactlyOnce;

#[test]
fn acknowledgements_wait_for_receipts_and_keep_the_order_of_arrival() {
    let mut desk = Desk::new(Protocol::V5);
    for (qos, id, topic) in [(QOS1, 1, "a"), (QOS2, 2, "b"), (QOS1, 3, "c")] {
        assert_eq!(desk.publish(qos, id, topic), [format!("publish {topic}")]);
    }
    desk.store("c");
    desk.store("b");
    assert_eq!(desk.advance().unwrap(), [""; 0]);
    desk.settle("a", Verdict::Accepted { matched: false }, Outcome::Stored);
    assert_eq!(desk.advance().unwrap(), ["PUBACK 1 0x10", "PUBREC 2 0x00", "PUBACK 3 0x00"]);
    assert!(desk.session.is_settled());
    assert_eq!(desk.give(Incoming::PubRel(ack(2))), ["PUBCOMP 2 0x00"]);
    assert_eq!(desk.give(Incoming::PubRel(ack(2))), ["PUBCOMP 2 0x92"]);
}

/// Protocol, policy, verdict, outcome; what is answered, or the code of the connection's end.
#[test]
fn answers() {
    let denied = || Verdict::Denied(Denial { reason_code: reason::NOT_AUTHORIZED, reason: "stale".into() });
    let (v5, v4) = (Protocol::V5, Protocol::V311);
    let (acknowledge, disconnect) = (DeniedPublish::Acknowledge, DeniedPublish::Disconnect);
    for (protocol, policy, verdict, outcome, expected) in [
        (v5, acknowledge, ACCEPTED, Outcome::Stored, Ok("PUBACK 1 0x00")),
        (v5, acknowledge, Verdict::Swallowed, Outcome::Stored, Ok("PUBACK 1 0x00")),
        (v5, disconnect, denied(), Outcome::Stored, Ok("PUBACK 1 0x87 stale")),
        (v5, acknowledge, ACCEPTED, refused(), Ok("PUBACK 1 0x97 1 MiB")),
        (v5, acknowledge, ACCEPTED, unknown(), Err(reason::IMPLEMENTATION_SPECIFIC)),
        (v5, acknowledge, denied(), unknown(), Err(reason::IMPLEMENTATION_SPECIFIC)),
        (v4, acknowledge, Verdict::Accepted { matched: false }, Outcome::Stored, Ok("PUBACK 1 0x00")),
        (v4, acknowledge, denied(), Outcome::Stored, Ok("PUBACK 1 0x00")),
        (v4, disconnect, denied(), Outcome::Stored, Err(reason::NOT_AUTHORIZED)),
        (v4, acknowledge, ACCEPTED, refused(), Err(reason::QUOTA_EXCEEDED)),
        (v4, acknowledge, ACCEPTED, unknown(), Err(reason::IMPLEMENTATION_SPECIFIC)),
    ] {
        let case = format!("{protocol:?} {policy:?} {verdict:?} {outcome:?}");
        let mut desk = Desk::with(connect(protocol), Mqtt { denied_publish: policy, ..Mqtt::default() });
        desk.publish(QOS1, 1, "a");
        desk.settle("a", verdict, outcome);
        assert_eq!(desk.advance().map_err(|fault| fault.code), expected.map(|text| vec![text.to_owned()]), "{case}");
    }
}

#[test]
fn reason_strings_only_for_those_who_want_them() {
    let mut desk = Desk::with(Connect { problem_information: false, ..connect(Protocol::V5) }, Mqtt::default());
    desk.publish(QOS2, 1, "a");
    desk.settle("a", Verdict::Denied(Denial { reason_code: 0x8A, reason: "why".into() }), Outcome::Stored);
    assert_eq!(desk.advance().unwrap(), ["PUBREC 1 0x87"]);
    assert_eq!(desk.publish(QOS2, 1, "again"), ["publish again"], "a refused identifier is free at once");
}

#[test]
fn a_duplicate_of_qos_2_is_never_published_again() {
    let mut desk = Desk::new(Protocol::V311);
    assert_eq!(desk.publish(QOS2, 5, "a"), ["publish a"]);
    assert_eq!(desk.publish(QOS2, 5, "a"), [""; 0], "before it is stored: the PUBREC will come");
    desk.store("a");
    assert_eq!(desk.advance().unwrap(), ["PUBREC 5 0x00"]);
    assert_eq!(desk.publish(QOS2, 5, "a"), ["PUBREC 5 0x00"], "after: it is said again");
    assert_eq!(desk.reconnect(connect(Protocol::V311)), [""; 0]);
    assert_eq!(desk.publish(QOS2, 5, "a"), ["PUBREC 5 0x00"], "also on another connection");
    assert_eq!(desk.give(Incoming::PubRel(ack(5))), ["PUBCOMP 5 0x00"]);
    assert_eq!(desk.publish(QOS2, 5, "b"), ["publish b"], "after PUBREL the identifier is new");
}

#[test]
fn qos_2_is_carried_over_a_lost_connection() {
    for (outcome, expected) in [(Outcome::Stored, vec!["PUBREC 5 0x00"]), (unknown(), vec!["publish a"])] {
        let mut desk = Desk::new(Protocol::V5);
        desk.publish(QOS2, 5, "a");
        desk.session.detach();
        desk.settle("a", ACCEPTED, outcome.clone());
        assert_eq!(desk.reconnect(connect(Protocol::V5)), [""; 0], "nothing is said before the client asks");
        assert_eq!(desk.publish(QOS2, 5, "a"), expected, "{outcome:?}");
    }
}

#[test]
fn a_denial_that_nobody_could_be_told_is_told_later_and_not_decided_again() {
    let mut desk = Desk::new(Protocol::V5);
    desk.publish(QOS2, 5, "a");
    desk.session.detach();
    desk.settle("a", Verdict::Denied(Denial { reason_code: 0x87, reason: "no".into() }), Outcome::Stored);
    assert_eq!(desk.reconnect(connect(Protocol::V5)), [""; 0]);
    assert_eq!(desk.publish(QOS2, 5, "a"), ["PUBREC 5 0x87 no"]);
    assert_eq!(desk.publish(QOS2, 5, "b"), ["publish b"], "after that the identifier is free");
}

#[test]
fn a_claim_is_answered_in_its_turn_when_the_first_publish_settles() {
    let mut desk = Desk::new(Protocol::V5);
    desk.publish(QOS2, 5, "a");
    desk.reconnect(connect(Protocol::V5));
    assert_eq!(desk.publish(QOS1, 6, "before"), ["publish before"]);
    assert_eq!(desk.publish(QOS2, 5, "a"), [""; 0]);
    assert_eq!(desk.publish(QOS2, 5, "a"), [""; 0], "one claim is enough");
    desk.store("a");
    assert_eq!(desk.advance().unwrap(), [""; 0]);
    desk.store("before");
    assert_eq!(desk.advance().unwrap(), ["PUBACK 6 0x00", "PUBREC 5 0x00"]);
}

#[test]
fn a_verdict_may_come_late_through_the_mailbox() {
    let mut desk = Desk::new(Protocol::V5);
    desk.publish(QOS2, 5, "a");
    desk.session.detach();
    let (number, _, receipt) = desk.published.remove(0);
    receipt.settle(Outcome::Stored);
    assert_eq!(desk.reconnect(connect(Protocol::V5)), [""; 0]);
    assert_eq!(desk.publish(QOS2, 5, "a"), [""; 0], "stored, but is it denied?");
    desk.session.mailbox().bring(number.unwrap(), Verdict::Denied(Denial { reason_code: 0x87, reason: "no".into() }));
    assert_eq!(desk.advance().unwrap(), ["PUBREC 5 0x87 no"]);
}

#[test]
fn qos_1_of_a_lost_connection_is_forgotten() {
    let mut desk = Desk::new(Protocol::V5);
    desk.publish(QOS1, 1, "old");
    desk.reconnect(connect(Protocol::V5));
    desk.publish(QOS1, 1, "new");
    desk.store("old");
    assert_eq!(desk.advance().unwrap(), [""; 0]);
    desk.store("new");
    assert_eq!(desk.advance().unwrap(), ["PUBACK 1 0x00"]);
}

#[test]
fn an_unknown_outcome_frees_its_identifier_and_ends_the_connection_in_its_turn() {
    let mut desk = Desk::new(Protocol::V311);
    desk.publish(QOS1, 1, "a");
    desk.publish(QOS2, 2, "b");
    desk.settle("b", ACCEPTED, unknown());
    assert_eq!(desk.advance().unwrap(), [""; 0]);
    desk.store("a");
    let mut out = Vec::new();
    let fault = desk.session.advance(0, usize::MAX, EVERYTHING, &mut out).unwrap_err();
    assert_eq!((desk.texts(out), fault.word), (vec!["PUBACK 1 0x00".to_owned()], "outcome-unknown"));
    desk.reconnect(connect(Protocol::V311));
    assert_eq!(desk.publish(QOS2, 2, "b"), ["publish b"]);
}

#[test]
fn a_publish_sent_again_survives_another_end_of_the_connection() {
    let mut desk = Desk::new(Protocol::V5);
    desk.publish(QOS2, 1, "a");
    desk.publish(QOS2, 2, "b");
    desk.reconnect(connect(Protocol::V5));
    assert!(desk.publish(QOS2, 1, "a").is_empty() && desk.publish(QOS2, 2, "b").is_empty(), "both are under way");
    desk.store("b");
    assert!(desk.advance().expect("no fault").is_empty(), "it is stored, and not its turn");
    desk.reconnect(connect(Protocol::V5));
    assert_eq!(desk.publish(QOS2, 2, "b"), ["PUBREC 2 0x00"]);
}

#[test]
fn an_end_in_the_place_of_an_answer_frees_the_identifier() {
    let denied = Verdict::Denied(Denial { reason_code: reason::NOT_AUTHORIZED, reason: "stale".into() });
    for (verdict, outcome) in [(denied, Outcome::Stored), (ACCEPTED, refused()), (ACCEPTED, unknown())] {
        let limits = Mqtt { denied_publish: DeniedPublish::Disconnect, ..Mqtt::default() };
        let mut desk = Desk::with(connect(Protocol::V311), limits);
        desk.publish(QOS2, 7, "a");
        desk.settle("a", verdict, outcome);
        desk.advance().expect_err("3.1.1 has no words for it");
        desk.reconnect(connect(Protocol::V311));
        assert_eq!(desk.publish(QOS2, 7, "a"), ["publish a"], "otherwise it would never be answered");
    }
}

#[test]
fn the_receive_maximum_is_an_error_in_5_and_a_pause_in_3() {
    let limits = Mqtt { receive_maximum: 2, ..Mqtt::default() };
    let mut five = Desk::with(connect(Protocol::V5), limits.clone());
    five.publish(QOS2, 1, "a");
    five.store("a");
    five.advance().unwrap(); // PUBREC is no PUBCOMP: it still counts
    five.publish(QOS1, 2, "b");
    assert!(!five.session.is_full());
    assert_eq!(five.take(publish(QOS1, 3, "c")).map_err(|fault| fault.code), Err(reason::RECEIVE_MAXIMUM_EXCEEDED));
    let mut four = Desk::with(connect(Protocol::V311), limits);
    four.publish(QOS1, 1, "a");
    assert!(!four.session.is_full());
    four.publish(QOS1, 2, "b");
    assert!(four.session.is_full());
    four.store("a");
    four.advance().unwrap();
    assert!(!four.session.is_full());
}

#[test]
fn released_identifiers_no_longer_count() {
    let mut desk = Desk::with(connect(Protocol::V5), Mqtt { receive_maximum: 1, ..Mqtt::default() });
    for _ in 0..3 {
        assert_eq!(desk.publish(QOS2, 1, "a"), ["publish a"]);
        desk.store("a");
        assert_eq!(desk.advance().unwrap(), ["PUBREC 1 0x00"]);
        desk.reconnect(connect(Protocol::V5));
        assert_eq!(desk.publish(QOS2, 1, "a"), ["PUBREC 1 0x00"]);
        assert_eq!(desk.give(Incoming::PubRel(ack(1))), ["PUBCOMP 1 0x00"]);
    }
}

#[test]
fn reserved_topics_are_refused_without_the_pipeline() {
    let mut desk = Desk::new(Protocol::V5);
    let answer = ["dropped $SYS/x denied", "PUBACK 1 0x87 topics under $SYS/ belong to the server"];
    assert_eq!(desk.publish(QOS1, 1, "$SYS/x"), answer);
    assert_eq!(desk.publish(QoS::AtMostOnce, 0, "$SYS/x"), ["dropped $SYS/x denied"]);
    assert_eq!(desk.publish(QOS1, 2, "$other/x"), ["publish $other/x"]);
}

#[test]
fn topic_aliases() {
    let mut desk = Desk::new(Protocol::V5);
    let aliased = |topic: &str| Incoming::Publish(Box::new(Publish { alias: Some(3), ..plain(QoS::AtMostOnce, 0, topic) }));
    assert_eq!(desk.give(aliased("a")), ["publish a"]);
    assert_eq!(desk.give(aliased("")), ["publish a"]);
    assert_eq!(desk.give(aliased("b")), ["publish b"]);
    assert_eq!(desk.give(aliased("")), ["publish b"]);
    desk.reconnect(connect(Protocol::V5));
    assert_eq!(desk.take(aliased("")).map_err(|fault| fault.code), Err(reason::TOPIC_ALIAS_INVALID), "aliases end with the connection");
}

#[test]
fn payloads_over_the_limit_are_refused_without_the_pipeline_and_drops() {
    let limits = || Mqtt { max_payload_bytes: 0, ..Mqtt::default() };
    let mut desk = Desk::with(connect(Protocol::V5), limits());
    assert_eq!(desk.publish(QoS::AtMostOnce, 0, "a"), ["dropped a too-large"]);
    assert_eq!(desk.publish(QoS::AtLeastOnce, 1, "a"), ["dropped a too-large", "PUBACK 1 0x97 the payload has more than 0 bytes"]);
    assert_eq!(desk.publish(QoS::ExactlyOnce, 2, "a"), ["dropped a too-large", "PUBREC 2 0x97 the payload has more than 0 bytes"]);
    let mut older = Desk::with(connect(Protocol::V311), limits());
    assert_eq!(older.publish(QoS::AtLeastOnce, 1, "a"), ["dropped a too-large", "PUBACK 1 0x00"]);
    let mut strict = Desk::with(connect(Protocol::V311), Mqtt { denied_publish: DeniedPublish::Disconnect, ..limits() });
    let fault = strict.take(publish(QoS::AtLeastOnce, 1, "a")).map_err(|fault| fault.word);
    assert_eq!(fault, Err("publish-denied"));
}

#[test]
fn a_session_obeys_the_limits_of_the_door_that_its_client_came_through() {
    let mut desk = Desk::with(connect(Protocol::V5), Mqtt { max_topic_levels: 2, ..Mqtt::default() });
    assert_eq!(desk.publish(QoS::AtMostOnce, 0, "a/b"), ["publish a/b"]);
    assert_eq!(desk.take(publish(QoS::AtMostOnce, 0, "a/b/c")).map_err(|fault| fault.code), Err(reason::TOPIC_NAME_INVALID));
    desk.reconnect(connect(Protocol::V5)); // with the default limits
    assert_eq!(desk.publish(QoS::AtMostOnce, 0, "a/b/c"), ["publish a/b/c"]);
}
