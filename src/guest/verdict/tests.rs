use proptest::prelude::*;

use super::*;
use crate::guest::{
    bindings::imported::types::MessageParam,
    lower,
    tests::arbitrary::{answers, exchange_verdicts, messages, observe_verdicts, publish_verdicts, text},
};

/// What a guest would answer that returns the message it was given.
fn returned(message: &MessageParam<'_>) -> MessageResult {
    let header = |header: &types::HeaderParam<'_>| HeaderResult { name: header.name.to_owned(), value: header.value.to_owned() };
    MessageResult {
        topic: message.topic.to_owned(),
        payload: message.payload.to_vec(),
        qos: message.qos,
        retain: message.retain,
        expiry_s: message.expiry_s,
        content_type: message.content_type.map(str::to_owned),
        response_topic: message.response_topic.map(str::to_owned),
        correlation_data: message.correlation_data.map(<[u8]>::to_vec),
        user_properties: message.user_properties.iter().map(header).collect(),
    }
}

fn header_results(headers: &[Header]) -> Vec<HeaderResult> {
    headers.iter().map(|header| HeaderResult { name: header.name.to_string(), value: header.value.to_string() }).collect()
}

fn record_results(records: &[KafkaRecord]) -> Vec<types::KafkaRecord> {
    let record = |record: &KafkaRecord| types::KafkaRecord {
        topic: record.topic.as_ref().map(ToString::to_string),
        key: record.key.as_ref().map(|bytes| bytes.to_vec()),
        value: record.value.as_ref().map(|bytes| bytes.to_vec()),
        headers: header_results(&record.headers),
    };
    records.iter().map(record).collect()
}

fn denial_result(denial: &Denial) -> types::Denial {
    types::Denial { reason_code: denial.reason_code, reason: denial.reason.to_string() }
}

fn message_result(message: &Message) -> MessageResult {
    let user_properties = lower::user_properties(message);
    returned(&lower::message(message, message.qos, &user_properties))
}

/// What a message becomes that a guest puts in the place of `original`: the host's own promise about the payload stays with it.
fn in_place_of(original: &Message, message: &Message) -> Message {
    let promise = original.properties.as_ref().and_then(|properties| properties.payload_is_utf8);
    let properties = message.properties.as_deref().cloned().unwrap_or_default();
    let properties = Properties { payload_is_utf8: promise, ..properties };
    let none = original.properties.is_none() && properties == Properties::default();
    Message { properties: (!none).then(|| Box::new(properties)), ..message.clone() }
}

proptest! {
    #[test]
    fn what_a_guest_gives_back_is_what_it_was_given(message in messages()) {
        prop_assert_eq!(replaced(message_result(&message), &message), Ok(message.clone()));
    }

    #[test]
    fn verdicts_on_a_publish_arrive_whole((original, given) in messages().prop_flat_map(|original| (Just(original.clone()), publish_verdicts(original)))) {
        let (answered, expected) = match given {
            PublishVerdict::Pass => (publish::Verdict::Pass, PublishVerdict::Pass),
            PublishVerdict::Change(changes) => (
                publish::Verdict::Change(publish::Changes {
                    message: changes.message.as_ref().map(message_result),
                    headers: header_results(&changes.headers),
                    records: changes.records.as_deref().map(record_results),
                }),
                PublishVerdict::Change(Changes { message: changes.message.map(|message| in_place_of(&original, &message)), ..changes }),
            ),
            PublishVerdict::Drop(reason) => (publish::Verdict::Drop(reason.to_string()), PublishVerdict::Drop(reason)),
            PublishVerdict::Deny(denial) => (publish::Verdict::Deny(denial_result(&denial)), PublishVerdict::Deny(denial)),
        };
        prop_assert_eq!(publish(answered, &original), Ok(expected));
    }

    #[test]
    fn verdicts_on_what_happened_arrive_whole(given in observe_verdicts()) {
        let answered = match &given {
            ObserveVerdict::Pass => events::Verdict::Pass,
            ObserveVerdict::Annotate(headers) => events::Verdict::Annotate(header_results(headers)),
            ObserveVerdict::Emit(records) => events::Verdict::Emit(record_results(records)),
            ObserveVerdict::Drop(reason) => events::Verdict::Drop(reason.to_string()),
        };
        prop_assert_eq!(observe(answered), Ok(given));
    }

    #[test]
    fn answers_about_clients_arrive_whole(given in answers(), in_exchange in exchange_verdicts()) {
        let answered = match &given {
            Answer::Allow => access::Answer::Allow,
            Answer::Deny(denial) => access::Answer::Deny(denial_result(denial)),
            Answer::Abstain => access::Answer::Abstain,
        };
        prop_assert_eq!(super::access(answered), Ok(given));
        let vec = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        let answered = match &in_exchange {
            ExchangeVerdict::Proceed { data, memo } => {
                enhanced_access::Verdict::Proceed(enhanced_access::Challenge { data: vec(data), memo: memo.to_vec() })
            }
            ExchangeVerdict::Allow(data) => enhanced_access::Verdict::Allow(vec(data)),
            ExchangeVerdict::Deny(denial) => enhanced_access::Verdict::Deny(denial_result(denial)),
            ExchangeVerdict::Abstain => enhanced_access::Verdict::Abstain,
        };
        prop_assert_eq!(exchange(answered), Ok(in_exchange));
    }

    #[test]
    fn faults_keep_their_words(kind in 0..3, text in text()) {
        let (given, kind) = match kind {
            0 => (Fault::Invalid(text.to_string()), FaultKind::Invalid),
            1 => (Fault::Retry(text.to_string()), FaultKind::Retry),
            _ => (Fault::Internal(text.to_string()), FaultKind::Internal),
        };
        prop_assert_eq!(fault(given), Failure::Fault { kind, text });
    }
}

fn original() -> Message {
    Message {
        publisher: "lock-1".into(),
        publisher_username: None,
        topic: "a".into(),
        payload: "text".into(),
        qos: QoS::AtMostOnce,
        retain: false,
        received_at_ms: 1,
        properties: Some(Box::new(Properties { payload_is_utf8: Some(true), ..Properties::default() })),
        annotations: vec![],
    }
}

#[test]
fn messages_that_no_packet_can_carry_are_refused() {
    let long = || "x".repeat(MAX_FIELD_BYTES + 1);
    let header = |name: &str, value: &str| vec![HeaderResult { name: name.to_owned(), value: value.to_owned() }];
    let original = original();
    let base = || returned(&lower::message(&original, original.qos, &[]));
    for (message, said) in [
        (MessageResult { topic: String::new(), ..base() }, "topic: it is empty"),
        (MessageResult { topic: "a/+".to_owned(), ..base() }, "topic: a topic name contains no wildcard"),
        (MessageResult { topic: "$SYS/x".to_owned(), ..base() }, "begin with $"),
        (MessageResult { topic: long(), ..base() }, "longer than 65535"),
        (MessageResult { response_topic: Some("a/#".to_owned()), ..base() }, "response-topic"),
        (MessageResult { content_type: Some("a\0".to_owned()), ..base() }, "content-type contains the character U+0000"),
        (MessageResult { correlation_data: Some(vec![0; MAX_FIELD_BYTES + 1]), ..base() }, "correlation-data"),
        (MessageResult { user_properties: header(&long(), ""), ..base() }, "name of a user property"),
        (MessageResult { user_properties: header("", "\0"), ..base() }, "value of a user property"),
    ] {
        let Err(Failure::InvalidVerdict(text)) = replaced(message, &original) else { panic!("taken: {said}") };
        assert!(text.contains(said), "{text:?} does not say {said:?}");
    }
}

#[test]
fn a_promise_of_text_holds_as_long_as_it_is_text() {
    let original = original();
    for (payload, expected) in [(&b"other"[..], Some(true)), (&[0xff], None)] {
        let message = MessageResult { payload: payload.to_vec(), ..returned(&lower::message(&original, original.qos, &[])) };
        let replaced = replaced(message, &original).unwrap();
        assert_eq!(replaced.properties.and_then(|properties| properties.payload_is_utf8), expected);
    }
}

#[test]
fn denials_and_records_are_checked() {
    for (reason_code, reason, valid) in
        [(0x87, "no", true), (0x80, "", true), (0x7f, "no", false), (0, "no", false), (0x87, "\0", false)]
    {
        let denial = denied(types::Denial { reason_code, reason: reason.to_owned() });
        assert_eq!(denial.is_ok(), valid, "{reason_code:#x} {reason:?}");
    }
    for (topic, valid) in
        [(None, true), (Some("a.b_c-1"), true), (Some(""), false), (Some(".."), false), (Some("a/b"), false), (Some("ä"), false)]
    {
        let record = record(types::KafkaRecord { topic: topic.map(str::to_owned), key: None, value: None, headers: vec![] });
        assert_eq!(record.is_ok(), valid, "{topic:?}");
    }
}
