use super::*;
use crate::event::{Bytes, Header, Properties};

const ACCEPTED: Verdict = Verdict::Accepted { matched: true };
const QOS1: QoS = QoS::AtLeastOnce;

fn sent(digest: u64, dup: bool) -> Sent {
    Sent { session: 1, digest, dup }
}

/// Publishes under an identifier and lets it be answered.
fn answer(repeats: &mut Repeats, id: u16, digest: u64) {
    let Look::New(origin) = repeats.look(id, QOS1, sent(digest, false)) else { panic!("{id} is known") };
    origin.is_underway(&"kafka".into());
    repeats.underway(id, digest, origin);
    repeats.answered(id, ACCEPTED, 3);
}

fn is_again(repeats: &mut Repeats, id: u16, qos: QoS, sent: Sent) -> bool {
    matches!(repeats.look(id, qos, sent), Look::Again(..))
}

#[test]
fn a_repetition_has_identifier_and_message_and_says_so() {
    let mut repeats = Repeats::default();
    answer(&mut repeats, 5, 70);
    assert!(is_again(&mut repeats, 5, QOS1, sent(70, true)));
    assert!(!is_again(&mut repeats, 6, QOS1, sent(70, true)), "another identifier");
    assert_eq!(repeats.take_forgotten(), []);
    assert!(!is_again(&mut repeats, 5, QOS1, sent(71, true)), "another message");
    assert_eq!(repeats.take_forgotten(), [(5, "kafka".into())]);
    answer(&mut repeats, 5, 70);
    assert!(!is_again(&mut repeats, 5, QOS1, sent(70, false)), "it does not say so");
    assert_eq!(repeats.take_forgotten(), [(5, "kafka".into())]);
    assert!(!repeats.has(5));
}

#[test]
fn a_qos_2_identifier_that_was_not_released_says_enough() {
    let mut repeats = Repeats::default();
    let Look::New(origin) = repeats.look(5, QoS::ExactlyOnce, sent(1, false)) else { panic!("it is new") };
    repeats.underway(5, 0, origin);
    assert!(is_again(&mut repeats, 5, QoS::ExactlyOnce, sent(1, false)));
    repeats.forget(5);
    assert!(!is_again(&mut repeats, 5, QoS::ExactlyOnce, sent(1, true)));
}

#[test]
fn as_many_answers_are_remembered_as_can_be_on_their_way() {
    let mut repeats = Repeats::default();
    for id in 1..=5 {
        answer(&mut repeats, id, 100 + u64::from(id));
    }
    assert_eq!(repeats.take_forgotten(), [(1, "kafka".into()), (2, "kafka".into())]);
    let known: Vec<u16> = (1..=5).filter(|id| repeats.has(*id)).collect();
    assert_eq!(known, [3, 4, 5]);
    answer(&mut repeats, 3, 200); // used anew: the answer before is not the one that is remembered
    answer(&mut repeats, 6, 106);
    let known: Vec<u16> = (1..=6).filter(|id| repeats.has(*id)).collect();
    assert_eq!(known, [3, 5, 6]);
}

#[test]
fn what_a_former_process_left_is_asked_for_and_gives_way() {
    let intent = |id, cluster: &str, number| Intent { id, cluster: cluster.into(), number, digest: u64::from(id) };
    let mut repeats = Repeats::restore(1, vec![intent(1, "eu", 3), intent(1, "kafka", 4), intent(2, "kafka", 5)]);
    let Look::Again(origin, State::Open) = repeats.look(1, QOS1, sent(1, true)) else { panic!("it is known") };
    assert_eq!(origin.clusters(), [Text::from("eu"), "kafka".into()]);
    assert!(origin.may_be_stored());
    for id in 10..14 {
        answer(&mut repeats, id, 0);
    }
    assert!(!repeats.has(1) && !repeats.has(2));
}

#[test]
fn digests_tell_messages_apart() {
    let properties = |change: fn(&mut Properties)| {
        let mut properties = Properties::default();
        change(&mut properties);
        Some(Box::new(properties))
    };
    let publish = || Publish {
        dup: false,
        qos: QOS1,
        retain: false,
        topic: "t".into(),
        id: 1,
        payload: Bytes::from_static(b"ab"),
        alias: None,
        has_subscription_id: false,
        properties: None,
    };
    let same = digest(&publish(), "t");
    let repetition = Publish { dup: true, id: 2, alias: Some(1), topic: "".into(), ..publish() };
    assert_eq!(digest(&repetition, "t"), same);
    let others = [
        digest(&publish(), "u"),
        digest(&Publish { payload: Bytes::from_static(b"abc"), ..publish() }, "t"),
        digest(&Publish { retain: true, ..publish() }, "t"),
        digest(&Publish { qos: QoS::ExactlyOnce, ..publish() }, "t"),
        digest(&Publish { properties: properties(|properties| properties.content_type = Some("x".into())), ..publish() }, "t"),
        digest(&Publish { properties: properties(|properties| properties.response_topic = Some("x".into())), ..publish() }, "t"),
        digest(
            &Publish { properties: properties(|it| it.user_properties.push(Header { name: "a".into(), value: "b".into() })), ..publish() },
            "t",
        ),
    ];
    for (index, other) in others.iter().enumerate() {
        assert!(*other != same && !others[..index].contains(other), "{index}");
    }
    let expiring = |expiry_s| Publish { properties: Some(Box::new(Properties { expiry_s, ..Properties::default() })), ..publish() };
    assert_eq!(digest(&expiring(Some(9)), "t"), digest(&expiring(Some(5)), "t"), "a client may count it down");
}
