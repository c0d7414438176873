//! SUBSCRIBE and UNSUBSCRIBE.

use super::*;
use crate::source::mqtt::{
    packet::{RetainHandling, Subscribe, SubscribeOptions, Unsubscribe},
    samples::options,
};

fn subscribe(filters: &[&str]) -> Incoming {
    let filters = filters.iter().map(|filter| ((*filter).into(), options(QoS::AtLeastOnce))).collect();
    Incoming::Subscribe(Subscribe { id: 9, subscription_id: None, filters })
}

#[test]
fn each_filter_has_its_answer() {
    let mut desk = Desk::with(connect(Protocol::V5), Mqtt { max_subscriptions: 3, ..Mqtt::default() });
    let deep = "a/".repeat(200);
    let answer = desk.give(subscribe(&["a/+", "a/#/b", "$share/g", "a/+", "b", "$SYS/#", "c", &deep]));
    assert_eq!(answer[0], "client.subscribe a/+");
    assert_eq!(answer.last().unwrap(), "SUBACK 9 [01, 8f, 8f, 01, 01, 01, 97, 97]");
    let effects: Vec<_> = answer.iter().filter(|text| text.starts_with("enter")).collect();
    assert_eq!(effects, ["enter a/+ retained=true", "enter a/+ retained=true", "enter b retained=true", "enter $SYS/# retained=true"]);
    assert_eq!(answer.iter().filter(|text| text.starts_with("session.subscribed")).count(), 4);
    let gone = desk.give(Incoming::Unsubscribe(Unsubscribe { id: 4, filters: vec!["a/+".into(), "x".into()] }));
    assert_eq!(gone, ["client.unsubscribe a/+", "session.unsubscribed a/+", "leave a/+", "UNSUBACK 4 [00, 11]"]);
}

#[test]
fn a_packet_is_raised_once_with_its_valid_filters() {
    let mut desk = Desk::new(Protocol::V5);
    let mut out = Vec::new();
    let wanted = Wanted::default();
    desk.session.handle(subscribe(&["a", "b/#/c", "d/+"]), 0, wanted, &mut out).expect("no fault");
    let unsubscribe = Incoming::Unsubscribe(Unsubscribe { id: 4, filters: vec!["a".into(), "+b".into(), "never".into()] });
    desk.session.handle(unsubscribe, 0, wanted, &mut out).expect("no fault");
    let filters = |output: &Output| match output {
        Output::Observe(Detail::ClientSubscribe(asked)) => Some(asked.iter().map(|of| of.filter.to_string()).collect::<Vec<_>>()),
        Output::Observe(Detail::ClientUnsubscribe(asked)) => Some(asked.iter().map(ToString::to_string).collect()),
        _ => None,
    };
    assert_eq!(out.iter().filter_map(filters).collect::<Vec<_>>(), [["a", "d/+"], ["a", "never"]]);
}

#[test]
fn retained_messages_as_the_handling_says() {
    let handled = |desk: &mut Desk, retain_handling| {
        let options = SubscribeOptions { retain_handling, ..options(QoS::AtMostOnce) };
        let packet = Subscribe { id: 1, subscription_id: None, filters: vec![("a".into(), options)] };
        desk.give(Incoming::Subscribe(packet)).contains(&"enter a retained=true".to_owned())
    };
    let mut desk = Desk::new(Protocol::V5);
    assert!(!handled(&mut desk, RetainHandling::Never));
    assert!(!handled(&mut desk, RetainHandling::WhenNew), "it is not new any more");
    assert!(handled(&mut desk, RetainHandling::Always));
    assert!(handled(&mut Desk::new(Protocol::V5), RetainHandling::WhenNew));
}

#[test]
fn invalid_filters_end_a_3_1_1_connection() {
    for filter in ["a/#/b", "a+", "", "a\0"] {
        let code = Desk::new(Protocol::V311).take(subscribe(&[filter])).map_err(|fault| fault.code);
        assert_eq!(code, Err(reason::TOPIC_FILTER_INVALID), "{filter:?}");
    }
}

fn unsubscribe(id: u16, filter: &str) -> Incoming {
    Incoming::Unsubscribe(Unsubscribe { id, filters: vec![filter.into()] })
}

impl Desk {
    fn answer(&mut self, number: u64, answers: &[Option<u8>]) -> Vec<String> {
        let mut out = Vec::new();
        self.session.authorized(number, answers.to_vec(), &mut out).expect("no fault");
        self.texts(out)
    }
}

#[test]
fn what_is_denied_is_not_granted() {
    let mut desk = Desk::new(Protocol::V5);
    let asked = desk.take_as(subscribe(&["a", "b/#/c", "d", "e"]), ASKING).unwrap();
    assert_eq!(asked, ["authorize 0 a d e"], "nobody is asked about what is no filter");
    assert!(desk.session.is_waiting() && !desk.session.is_settled());
    let granted = desk.answer(0, &[None, Some(reason::NOT_AUTHORIZED), None]);
    assert_eq!(granted.last().unwrap(), "SUBACK 9 [01, 8f, 87, 01]");
    assert_eq!(granted.iter().filter(|text| text.starts_with("enter")).count(), 2);
    assert!(!desk.session.is_waiting() && desk.session.is_settled());
}

#[test]
fn what_comes_behind_a_question_waits_for_its_answer() {
    let mut desk = Desk::new(Protocol::V5);
    assert_eq!(desk.take_as(subscribe(&["a"]), ASKING).unwrap(), ["authorize 0 a"]);
    assert_eq!(desk.take_as(unsubscribe(4, "a"), ASKING).unwrap(), [""; 0]);
    // The configuration changed meanwhile; the order holds.
    assert_eq!(desk.give(subscribe(&["a"])), ["authorize 1 a"]);
    assert_eq!(desk.give(Incoming::PingReq), ["PingResp"]);
    let answers = desk.answer(0, &[None]);
    let packets: Vec<_> = answers.iter().filter(|text| text.contains("ACK")).collect();
    assert_eq!(packets, ["SUBACK 9 [01]", "UNSUBACK 4 [00]"]);
    assert_eq!(desk.answer(1, &[None]).last().unwrap(), "SUBACK 9 [01]");
    assert!(desk.give(subscribe(&["b"])).contains(&"SUBACK 9 [01]".to_owned()), "one step again");
}

#[test]
fn questions_are_bounded_and_end_with_their_connection() {
    let mut desk = Desk::new(Protocol::V5);
    while !desk.session.is_full() {
        assert!(desk.take_as(subscribe(&["a"]), ASKING).unwrap()[0].starts_with("authorize"));
    }
    desk.reconnect(connect(Protocol::V5));
    assert!(!desk.session.is_full() && !desk.session.is_waiting());
    assert_eq!(desk.answer(0, &[None]), [""; 0], "an answer to the connection before");
    assert_eq!(desk.session.filters().texts().count(), 0);
    let number = desk.take_as(subscribe(&["a"]), ASKING).unwrap();
    assert_eq!(number, ["authorize 16 a"]);
    assert_eq!(desk.answer(16, &[Some(0x87)]), ["client.subscribe a", "SUBACK 9 [87]"]);
}

#[test]
fn shared_subscriptions() {
    for (protocol, refused) in [(Protocol::V5, 0x8F_u8), (Protocol::V311, 0x8F)] {
        let mut desk = Desk::new(protocol);
        let answer = desk.give(subscribe(&["$share/g/a/#", "$share/h/a/#", "a/#", "$share/g", "$share//a", "$share/g/"]));
        assert_eq!(answer.last().unwrap(), &format!("SUBACK 9 [01, 01, 01, {refused:02x}, {refused:02x}, {refused:02x}]"));
        assert!(answer.contains(&"session.subscribed $share/g/a/#".to_owned()), "the whole filter: {answer:?}");
        let entered: Vec<_> = answer.iter().filter(|text| text.starts_with("enter")).collect();
        assert_eq!(entered, ["enter $share/g/a/# retained=false", "enter $share/h/a/# retained=false", "enter a/# retained=true"]);
        let left = desk.give(Incoming::Unsubscribe(Unsubscribe { id: 1, filters: vec!["$share/g/a/#".into(), "$share/i/a/#".into()] }));
        assert_eq!(
            left,
            ["client.unsubscribe $share/g/a/#", "session.unsubscribed $share/g/a/#", "leave $share/g/a/#", "UNSUBACK 1 [00, 11]"]
        );
    }
    let no_local = SubscribeOptions { no_local: true, ..options(QoS::AtMostOnce) };
    let packet = Subscribe { id: 1, subscription_id: None, filters: vec![("$share/g/a".into(), no_local)] };
    assert_eq!(Desk::new(Protocol::V5).take(Incoming::Subscribe(packet)).map_err(|fault| fault.code), Err(reason::PROTOCOL_ERROR));
}
