//! What guests answer, checked: beyond this file a verdict holds only what MQTT and Kafka can carry.

use super::{
    bindings::{
        exported::{access, enhanced_access, events, publish},
        imported::types::{self, Fault, HeaderResult, MessageResult, Qos},
    },
    failure::{Failure, FaultKind},
};
use crate::{
    event::{
        Answer, Bytes, Changes, Denial, ExchangeVerdict, Header, KafkaRecord, Message, ObserveVerdict, Properties, PublishVerdict, QoS,
        Text,
    },
    topic,
};

/// The longest text or binary data in an MQTT packet, bytes (MQTT 5, section 1.5.4 and 1.5.6).
const MAX_FIELD_BYTES: usize = 65_535;
/// The longest name of a Kafka topic (`org.apache.kafka.common.internals.Topic`).
const MAX_KAFKA_TOPIC_BYTES: usize = 249;
/// MQTT 5 reason codes from here on are errors (section 2.4).
const FIRST_ERROR_CODE: u8 = 0x80;

pub(super) fn fault(fault: Fault) -> Failure {
    let (kind, text) = match fault {
        Fault::Invalid(text) => (FaultKind::Invalid, text),
        Fault::Retry(text) => (FaultKind::Retry, text),
        Fault::Internal(text) => (FaultKind::Internal, text),
    };
    Failure::Fault { kind, text: text.into() }
}

/// The verdict on a publish; what is the host's own about `original` stays as it was.
pub(super) fn publish(verdict: publish::Verdict, original: &Message) -> Result<PublishVerdict, Failure> {
    Ok(match verdict {
        publish::Verdict::Pass => PublishVerdict::Pass,
        publish::Verdict::Change(changes) => PublishVerdict::Change(Changes {
            message: changes.message.map(|message| replaced(message, original)).transpose()?,
            headers: headers(changes.headers),
            records: changes.records.map(records).transpose()?,
        }),
        publish::Verdict::Drop(reason) => PublishVerdict::Drop(reason.into()),
        publish::Verdict::Deny(denial) => PublishVerdict::Deny(denied(denial)?),
    })
}

/// The verdict on what happened.
pub(super) fn observe(verdict: events::Verdict) -> Result<ObserveVerdict, Failure> {
    Ok(match verdict {
        events::Verdict::Pass => ObserveVerdict::Pass,
        events::Verdict::Annotate(list) => ObserveVerdict::Annotate(headers(list)),
        events::Verdict::Emit(list) => ObserveVerdict::Emit(records(list)?),
        events::Verdict::Drop(reason) => ObserveVerdict::Drop(reason.into()),
    })
}

/// The answer about a client.
pub(super) fn access(answer: access::Answer) -> Result<Answer, Failure> {
    Ok(match answer {
        access::Answer::Allow => Answer::Allow,
        access::Answer::Deny(denial) => Answer::Deny(denied(denial)?),
        access::Answer::Abstain => Answer::Abstain,
    })
}

/// The verdict on a round of enhanced authentication.
pub(super) fn exchange(verdict: enhanced_access::Verdict) -> Result<ExchangeVerdict, Failure> {
    let data = |data: Option<Vec<u8>>| match data {
        Some(data) if data.len() > MAX_FIELD_BYTES => invalid("authentication data is longer than 65535 bytes"),
        data => Ok(data.map(Bytes::from)),
    };
    Ok(match verdict {
        enhanced_access::Verdict::Proceed(challenge) => {
            if challenge.memo.len() > MAX_FIELD_BYTES {
                return invalid("the memo of a challenge is longer than 65535 bytes");
            }
            ExchangeVerdict::Proceed { data: data(challenge.data)?, memo: challenge.memo.into() }
        }
        enhanced_access::Verdict::Allow(given) => ExchangeVerdict::Allow(data(given)?),
        enhanced_access::Verdict::Deny(denial) => ExchangeVerdict::Deny(denied(denial)?),
        enhanced_access::Verdict::Abstain => ExchangeVerdict::Abstain,
    })
}

fn invalid<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::InvalidVerdict(what.into()))
}

fn replaced(message: MessageResult, original: &Message) -> Result<Message, Failure> {
    topic_name("topic", &message.topic)?;
    if let Some(topic) = &message.response_topic {
        topic_name("response-topic", topic)?;
    }
    if let Some(text) = &message.content_type {
        mqtt_text("content-type", text)?;
    }
    for property in &message.user_properties {
        mqtt_text("the name of a user property", &property.name)?;
        mqtt_text("the value of a user property", &property.value)?;
    }
    if message.correlation_data.as_ref().is_some_and(|bytes| bytes.len() > MAX_FIELD_BYTES) {
        return invalid("correlation-data is longer than 65535 bytes");
    }
    let payload = Bytes::from(message.payload);
    let payload_is_utf8 = original.properties.as_ref().and_then(|properties| properties.payload_is_utf8);
    let properties = Properties {
        expiry_s: message.expiry_s,
        // The publisher's promise, as long as it still holds.
        payload_is_utf8: payload_is_utf8.filter(|promised| !promised || std::str::from_utf8(&payload).is_ok()),
        content_type: message.content_type.map(Text::from),
        response_topic: message.response_topic.map(Text::from),
        correlation_data: message.correlation_data.map(Bytes::from),
        user_properties: headers(message.user_properties),
    };
    let none = original.properties.is_none() && properties == Properties::default();
    Ok(Message {
        publisher: original.publisher.clone(),
        publisher_username: original.publisher_username.clone(),
        topic: message.topic.into(),
        payload,
        qos: qos(message.qos),
        retain: message.retain,
        received_at_ms: original.received_at_ms,
        properties: (!none).then(|| Box::new(properties)),
        annotations: original.annotations.clone(),
    })
}

fn topic_name(field: &str, name: &str) -> Result<(), Failure> {
    match topic::check_name(name) {
        Err(error) => invalid(format!("{field}: {error}")),
        Ok(()) if name.starts_with('$') => invalid(format!("{field}: topics that begin with $ belong to the server")),
        Ok(()) => Ok(()),
    }
}

fn mqtt_text(field: &str, text: &str) -> Result<(), Failure> {
    if text.len() > MAX_FIELD_BYTES {
        invalid(format!("{field} is longer than 65535 bytes"))
    } else if text.contains('\0') {
        invalid(format!("{field} contains the character U+0000"))
    } else {
        Ok(())
    }
}

fn denied(denial: types::Denial) -> Result<Denial, Failure> {
    if denial.reason_code < FIRST_ERROR_CODE {
        return invalid(format!("a denial's reason code is 0x80 or above, not {:#04x}", denial.reason_code));
    }
    mqtt_text("a denial's reason", &denial.reason)?;
    Ok(Denial { reason_code: denial.reason_code, reason: denial.reason.into() })
}

fn records(list: Vec<types::KafkaRecord>) -> Result<Vec<KafkaRecord>, Failure> {
    list.into_iter().map(record).collect()
}

fn record(record: types::KafkaRecord) -> Result<KafkaRecord, Failure> {
    if let Some(name) = &record.topic {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_KAFKA_TOPIC_BYTES || name == "." || name == ".." || !name.bytes().all(legal) {
            return invalid("a record's topic is no Kafka topic name: letters, digits, `.`, `_` and `-`, at most 249");
        }
    }
    Ok(KafkaRecord {
        topic: record.topic.map(Text::from),
        key: record.key.map(Bytes::from),
        value: record.value.map(Bytes::from),
        headers: headers(record.headers),
    })
}

fn headers(list: Vec<HeaderResult>) -> Vec<Header> {
    list.into_iter().map(|header| Header { name: header.name.into(), value: header.value.into() }).collect()
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::{bindings::imported::types::MessageParam, lower};

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

    fn text() -> impl Strategy<Value = Text> {
        "[a-zäß🔒/ ]{0,12}".prop_map(Text::from)
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn header_list() -> impl Strategy<Value = Vec<Header>> {
        prop::collection::vec((text(), text()).prop_map(|(name, value)| Header { name, value }), 0..4)
    }

    fn properties() -> impl Strategy<Value = Properties> {
        let topic = "[a-z]{1,5}(/[a-z]{0,3}){0,2}".prop_map(Text::from);
        let option = prop::option::of::<BoxedStrategy<Text>>;
        (any::<Option<u32>>(), option(text().boxed()), option(topic.boxed()), prop::option::of(bytes()), header_list()).prop_map(
            |(expiry_s, content_type, response_topic, correlation_data, user_properties)| Properties {
                expiry_s,
                payload_is_utf8: Some(false),
                content_type,
                response_topic,
                correlation_data,
                user_properties,
            },
        )
    }

    fn messages() -> impl Strategy<Value = Message> {
        let qos = prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let topic = "[a-zä]{1,5}(/[a-z]{0,3}){0,3}".prop_map(Text::from);
        (topic, bytes(), qos, any::<bool>(), prop::option::of(properties()), header_list(), prop::option::of(text())).prop_map(
            |(topic, payload, qos, retain, properties, annotations, publisher_username)| Message {
                publisher: "lock-1".into(),
                publisher_username,
                topic,
                payload,
                qos,
                retain,
                received_at_ms: 1_700_000_000_000,
                properties: properties.map(Box::new),
                annotations,
            },
        )
    }

    proptest! {
        #[test]
        fn what_a_guest_gives_back_is_what_it_was_given(message in messages()) {
            let user_properties = lower::user_properties(&message);
            let lowered = lower::message(&message, message.qos, &user_properties);
            prop_assert_eq!(replaced(returned(&lowered), &message), Ok(message.clone()));
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
}
