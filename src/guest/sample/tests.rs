use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Changes, Closing, Connection, Delivery, Denial, Dropping, Header as Pair, KafkaRecord, Properties, QoS, Subscription},
    guest::{
        state::{Operation, Reply, StateError, Verb},
        trace::{KeyCall, KeyQuestion, StateCall},
    },
    hook::DropReason,
};

fn text() -> impl Strategy<Value = Text> {
    "[a-zäß\"\\\\\\n /]{0,8}".prop_map(Text::from)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..12)
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    prop::collection::vec((text(), text()).prop_map(|(name, value)| Pair { name, value }), 0..3)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn properties() -> impl Strategy<Value = Option<Box<Properties>>> {
    let option = prop::option::of::<BoxedStrategy<Text>>;
    let some = (any::<Option<u32>>(), option(text().boxed()), option(text().boxed()), prop::option::of(bytes()), pairs()).prop_map(
        |(expiry_s, content_type, response_topic, data, user_properties)| Properties {
            expiry_s,
            payload_is_utf8: None,
            content_type,
            response_topic,
            correlation_data: data.map(Bytes::from),
            user_properties,
        },
    );
    some.prop_map(|properties| (properties != Properties::default()).then(|| Box::new(properties)))
}

fn messages() -> impl Strategy<Value = Arc<Message>> {
    (text(), prop::option::of(text()), text(), bytes(), qos(), any::<bool>(), any::<u64>(), properties()).prop_map(
        |(publisher, publisher_username, topic, payload, qos, retain, received_at_ms, properties)| {
            let payload = payload.into();
            let annotations = Vec::new();
            Arc::new(Message { publisher, publisher_username, topic, payload, qos, retain, received_at_ms, properties, annotations })
        },
    )
}

fn subscriptions() -> impl Strategy<Value = Subscription> {
    (text(), qos(), any::<bool>(), any::<bool>()).prop_map(|(filter, qos, no_local, retain_as_published)| Subscription {
        filter,
        qos,
        no_local,
        retain_as_published,
    })
}

fn details() -> impl Strategy<Value = Detail> {
    let connection = || {
        (any::<bool>(), any::<u16>(), any::<u32>(), pairs()).prop_map(|(clean_start, keep_alive_s, session_expiry_s, user_properties)| {
            Connection { clean_start, keep_alive_s, session_expiry_s, user_properties }
        })
    };
    let closing = || (any::<u8>(), text()).prop_map(|(reason_code, reason)| Closing { reason_code, reason });
    let delivery = || (messages(), qos()).prop_map(|(message, qos)| Delivery { message, qos });
    let reason = prop::sample::select(DropReason::ALL.to_vec());
    prop_oneof![
        connection().prop_map(Detail::ClientConnect),
        connection().prop_map(Detail::ClientConnected),
        closing().prop_map(Detail::ClientConnack),
        closing().prop_map(Detail::ClientDisconnected),
        closing().prop_map(Detail::SessionTerminated),
        prop::collection::vec(subscriptions(), 0..3).prop_map(Detail::ClientSubscribe),
        prop::collection::vec(text(), 0..3).prop_map(Detail::ClientUnsubscribe),
        Just(Detail::SessionCreated),
        Just(Detail::SessionResumed),
        Just(Detail::SessionDiscarded),
        Just(Detail::SessionTakenOver),
        subscriptions().prop_map(Detail::SessionSubscribed),
        subscriptions().prop_map(Detail::SessionUnsubscribed),
        delivery().prop_map(Detail::MessageDelivered),
        delivery().prop_map(Detail::MessageAcked),
        (messages(), reason, text()).prop_map(|(message, reason, explanation)| Detail::MessageDropped(Dropping {
            message,
            reason,
            explanation
        })),
    ]
}

fn secrets() -> impl Strategy<Value = Secret> {
    prop_oneof![Just(Secret::Absent), Just(Secret::Withheld), bytes().prop_map(|bytes| Secret::Known(bytes.into()))]
}

fn denials() -> impl Strategy<Value = Denial> {
    (any::<u8>(), text()).prop_map(|(reason_code, reason)| Denial { reason_code, reason })
}

fn records() -> impl Strategy<Value = Vec<KafkaRecord>> {
    let option = || prop::option::of(bytes().prop_map(Bytes::from));
    let record = (prop::option::of(text()), option(), option(), pairs());
    prop::collection::vec(record.prop_map(|(topic, key, value, headers)| KafkaRecord { topic, key, value, headers }), 0..3)
}

/// A question with an answer of its kind.
fn questions() -> impl Strategy<Value = (Question, Verdict)> {
    let publish = (messages(), 0..4u8, messages(), pairs(), prop::option::of(records()), denials(), text()).prop_map(
        |(message, which, changed, headers, records, denial, why)| {
            let own = Message {
                publisher: message.publisher.clone(),
                publisher_username: message.publisher_username.clone(),
                received_at_ms: message.received_at_ms,
                ..(*changed).clone()
            };
            let verdict = match which {
                0 => PublishVerdict::Pass,
                1 => PublishVerdict::Change(Changes { message: (own.qos.level() > 0).then_some(own), headers, records }),
                2 => PublishVerdict::Drop(why),
                _ => PublishVerdict::Deny(denial),
            };
            (Question::Publish(message), Verdict::Publish(verdict))
        },
    );
    let observe = (details(), 0..4u8, pairs(), records(), text()).prop_map(|(detail, which, headers, records, why)| {
        let verdict = match which {
            0 => ObserveVerdict::Pass,
            1 => ObserveVerdict::Annotate(headers),
            2 => ObserveVerdict::Emit(records),
            _ => ObserveVerdict::Drop(why),
        };
        (Question::Observe(detail), Verdict::Observe(verdict))
    });
    let answers = || prop_oneof![Just(Answer::Allow), Just(Answer::Abstain), denials().prop_map(Answer::Deny)];
    let authenticate = (prop::option::of(text()), secrets(), answers())
        .prop_map(|(method, password, answer)| (Question::Authenticate { method, password }, answer.into()));
    let actions = (any::<bool>(), qos()).prop_map(|(publish, qos)| if publish { Action::Publish(qos) } else { Action::Subscribe(qos) });
    let authorize = (actions, text(), answers()).prop_map(|(action, topic, answer)| (Question::Authorize { action, topic }, answer.into()));
    let exchange = prop_oneof![
        Just(ExchangeVerdict::Proceed { data: None, memo: Bytes::new() }),
        Just(ExchangeVerdict::Allow(None)),
        denials().prop_map(ExchangeVerdict::Deny),
        Just(ExchangeVerdict::Abstain),
    ];
    let step = (text(), secrets(), any::<u32>(), secrets(), any::<bool>(), exchange)
        .prop_map(|(method, data, number, memo, again, verdict)| (Question::Step { method, data, number, memo, again }, verdict.into()));
    prop_oneof![3 => publish, 3 => observe, 1 => authenticate, 1 => authorize, 1 => step]
}

fn state_calls() -> impl Strategy<Value = StateCall> {
    let errors = prop::option::of(prop_oneof![
        Just(StateError::Quota),
        Just(StateError::TooLarge),
        Just(StateError::NotANumber),
        Just(StateError::Unavailable("away".to_owned())),
    ]);
    let call = prop_oneof![
        prop::option::of(bytes()).prop_map(|value| (Verb::Get, Reply::Value(value))),
        (bytes(), any::<Option<u32>>()).prop_map(|(value, ttl_s)| (Verb::Put { value, ttl_s }, Reply::Done)),
        (bytes(), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(value, ttl_s, new)| (Verb::PutIfAbsent { value, ttl_s }, Reply::New(new))),
        (any::<i64>(), any::<Option<u32>>(), any::<i64>()).prop_map(|(delta, ttl_s, sum)| (Verb::Add { delta, ttl_s }, Reply::Sum(sum))),
        Just((Verb::Remove, Reply::Done)),
    ];
    (text(), call, errors).prop_map(|(key, (verb, reply), error)| StateCall {
        operation: Operation { key: key.to_string(), verb },
        reply: error.map_or(Ok(reply), Err),
    })
}

fn recorded() -> impl Strategy<Value = Recorded> {
    let key = (text(), text(), text(), any::<bool>())
        .prop_map(|(function, key, digest, answer)| KeyCall { question: KeyQuestion { function, key, digest }, answer });
    (prop::collection::vec(state_calls(), 0..4), prop::collection::vec(key, 0..3), any::<u64>())
        .prop_map(|(state, crypto, duration_ns)| Recorded::of(state, crypto, duration_ns))
}

fn client() -> Arc<Client> {
    Arc::new(Client {
        client_id: "lock-1".into(),
        username: Some("acme".into()),
        peer: "[2001:db8::7]:51234".parse().unwrap(),
        protocol_version: 4,
        certificate_name: Some("lock-1.example".into()),
        connected_at_ms: 1_700_000_000_000,
    })
}

fn sample(question: Question, outcome: Option<Outcome>) -> Sample {
    Sample {
        id: 255,
        time_ms: 1_700_000_000_001,
        node: "n1".into(),
        route: Some("r".into()),
        guest: Some("verify".into()),
        digest: None,
        client: client(),
        question,
        recorded: Recorded::default(),
        outcome,
    }
}

proptest! {
    #[test]
    fn a_sample_comes_back_as_it_was_written((question, verdict) in questions(), recorded in recorded(), id in any::<u64>(), answered in 0..3u8) {
        let outcome = match answered {
            0 => None,
            1 => Some(Ok(verdict)),
            _ => Some(Err(Failed { reason: "trap".into(), text: "it trapped".into() })),
        };
        let written = Sample { id, recorded, ..sample(question, outcome) };
        let line = serde_json::to_string(&written).unwrap();
        prop_assert!(!line.contains('\n'));
        let read: Sample = serde_json::from_str(&line).unwrap();
        let expected = Sample { question: written.question.as_written(), ..written };
        prop_assert_eq!(read, expected, "{}", line);
    }

    #[test]
    fn an_answer_is_the_same_as_itself((question, verdict) in questions()) {
        let outcome = Ok(verdict);
        prop_assert_eq!(differences(&question, &outcome, &outcome), []);
    }
}

#[test]
fn secrets_are_never_written() {
    let secret = || Secret::Known("hunter2".into());
    let memo = Verdict::Exchange(ExchangeVerdict::Proceed { data: Some("hunter2".into()), memo: "hunter2".into() });
    let step = Question::Step { method: "m".into(), data: secret(), number: 0, memo: secret(), again: false };
    for (question, outcome) in [(Question::Authenticate { method: None, password: secret() }, None), (step, Some(Ok(memo)))] {
        let sample = sample(question, outcome);
        assert!(sample.is_complete());
        let line = serde_json::to_string(&sample).unwrap();
        assert!(!line.contains("hunter2") && line.contains("\"credentials\":\"withheld\""), "{line}");
        assert!(!format!("{:?}", sample.question).contains("hunter2"));
        assert!(!serde_json::from_str::<Sample>(&line).unwrap().is_complete());
    }
}

/// What people write, and what dead letters hold.
#[test]
fn a_short_line_is_a_sample() {
    let read = |line: &str| serde_json::from_str::<Sample>(line).unwrap();
    let short = read(r#"{"hook": "message.publish", "message": {"topic": "a", "payload": "text"}, "verdict": {"drop": "why"}}"#);
    let Question::Publish(message) = &short.question else { panic!("{short:?}") };
    assert_eq!((&*message.topic, &*message.payload, &*message.publisher), ("a", &b"text"[..], "sample"));
    assert_eq!(short.outcome, Some(Ok(Verdict::Publish(PublishVerdict::Drop("why".into())))));
    let letter = read(
        r#"{"v":1,"id":"00000000000000ff","hook":"message.acked","ts":5,"node":"n1","client":{"client_id":"c","username":null,"peer":"192.0.2.7:1",
        "protocol_version":5,"certificate_name":null,"connected_at":4},"message":{"publisher":"p","publisher_username":null,"topic":"t","payload":"eA==",
        "payload_encoding":"base64","qos":2,"retain":false,"received_at":3},"delivery_qos":1,"a_field_of_tomorrow":{}}"#,
    );
    let Question::Observe(Detail::MessageAcked(delivery)) = &letter.question else { panic!("{letter:?}") };
    assert_eq!((&*delivery.message.payload, delivery.qos, delivery.message.qos), (&b"x"[..], QoS::AtLeastOnce, QoS::ExactlyOnce));
    assert_eq!((letter.id, letter.outcome, letter.client.connected_at_ms), (255, None, 4));
}

fn read(text: &str) -> (Vec<Numbered>, Option<String>, Option<usize>) {
    let mut samples = Samples::read(Path::new("f.jsonl"), text.as_bytes());
    let (mut found, mut error) = (Vec::new(), None);
    for next in samples.by_ref() {
        match next {
            Ok(sample) => found.push(sample),
            Err(why) => error = Some(why.to_string()),
        }
    }
    (found, error, samples.cut_off())
}

#[test]
fn files_are_read_to_the_end_or_to_the_first_wrong_line() {
    const GOOD: &str = r#"{"hook":"session.created"}"#;
    const HEADER: &str = r#"{"hookgate_capture":1,"route":"r","node":"n","hookgate":"0.1.0"}"#;
    for (text, expected, error, cut_off) in [
        (String::new(), vec![], None, None),
        (format!("{HEADER}\n{GOOD}\n\n{GOOD}"), vec![2, 4], None, None),
        (format!("{GOOD}\n{{\"hook\":\"sess"), vec![1], None, Some(2)),
        (format!("{GOOD}\nnonsense\n{GOOD}\n"), vec![1], Some("f.jsonl:2: this is no sample: expected"), None),
        (HEADER.replace(":1,", ":2,") + "\n", vec![], Some("f.jsonl:1: this capture has the format 2"), None),
        ("{\"hook\":\"session.made\"}\n".to_owned(), vec![], Some("f.jsonl:1: `hook` is \"session.made\""), None),
        ("{\"hook\":\"message.publish\"}\n".to_owned(), vec![], Some("f.jsonl:1: `message` is missing"), None),
        ("{\"hook\":\"session.created\",\"verdict\":\"allow\"}\n".to_owned(), vec![], Some("f.jsonl:1: `verdict` is none"), None),
        ("{\"hook\":\"session.created\",\"v\":2}\n".to_owned(), vec![], Some("f.jsonl:1: `v` is 2"), None),
    ] {
        let (found, said, cut) = read(&text);
        assert_eq!(found.iter().map(|numbered| numbered.line).collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(cut, cut_off, "{text}");
        match error {
            Some(start) => assert!(said.as_ref().is_some_and(|said| said.starts_with(start)), "{said:?} does not begin {start:?}"),
            None => assert_eq!(said, None, "{text}"),
        }
    }
}

fn publish(payload: &str) -> Question {
    let message = Message {
        publisher: "p".into(),
        publisher_username: None,
        topic: "t".into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: 0,
        properties: None,
        annotations: Vec::new(),
    };
    Question::Publish(Arc::new(message))
}

#[test]
fn differences_are_said_in_words() {
    let question = publish("payload");
    let Question::Publish(original) = &question else { panic!() };
    let header = |value: &str| vec![Pair { name: "h".into(), value: value.into() }];
    let change = |message: Option<Message>, headers| -> Outcome {
        Ok(Verdict::Publish(PublishVerdict::Change(Changes { message, headers, records: None })))
    };
    let with = |payload: String| Some(Message { payload: payload.into(), ..(**original).clone() });
    let pass: Outcome = Ok(PublishVerdict::Pass.into());
    let deny: Outcome = Ok(PublishVerdict::Deny(Denial { reason_code: 0x87, reason: "stale".into() }).into());
    let emit = |count: usize| -> Outcome {
        let record = KafkaRecord { topic: Some("x".into()), value: Some(vec![0xff].into()), ..KafkaRecord::default() };
        Ok(PublishVerdict::Change(Changes { records: Some(vec![record; count]), ..Changes::default() }).into())
    };
    let failed = |reason: &'static str, text: &'static str| -> Outcome { Err(Failed { reason: reason.into(), text: text.into() }) };
    let long = |end: &str| with(format!("{}{end}", "x".repeat(500)));
    for (before, after, expected) in [
        (pass.clone(), change(None, vec![]), vec![]),
        (pass.clone(), change(with("payload".to_owned()), vec![]), vec![]),
        (failed("trap", "at 0x1"), failed("trap", "at 0x2"), vec![]),
        (pass.clone(), deny.clone(), vec!["verdict: pass → deny 0x87 \"stale\"".to_owned()]),
        (deny, failed("deadline", "it ran long"), vec!["verdict: deny 0x87 \"stale\" → failure deadline: it ran long".to_owned()]),
        (pass.clone(), change(None, header("1")), vec!["verdict: pass → change".to_owned(), "headers: – → h: 1".to_owned()]),
        (change(None, header("1")), change(None, header("2\u{1b}")), vec!["headers: h: 1 → h: 2\u{fffd}".to_owned()]),
        (change(with("a".to_owned()), header("1")), change(None, header("1")), vec!["payload: a → –".to_owned()]),
        (change(long("1"), vec![]), change(long("2"), vec![]), vec![format!("payload: …{0}1 → …{0}2", "x".repeat(20))]),
        (emit(1), emit(2), vec!["records: 1 → 2".to_owned(), "record 2: – → topic x value 0xff headers []".to_owned()]),
    ] {
        let found: Vec<String> = differences(&question, &before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
}
