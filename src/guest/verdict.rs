//! What guests answer, checked: beyond this file a verdict holds only what MQTT and Kafka can carry.

use super::{
    bindings::{
        exported::{access, downlink, enhanced_access, events, publish},
        imported::types::{self, Fault, HeaderResult, MessageResult, Qos},
    },
    failure::{Failure, FaultKind},
};
use crate::{
    event::{
        Answer, Bytes, Changes, Denial, Descent, DescentVerdict, ExchangeVerdict, Header, KafkaRecord, Message, ObserveVerdict, Properties,
        PublishVerdict, QoS, Text,
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

/// The verdict on a record on its way down.
pub(super) fn descend(verdict: downlink::Verdict, descent: &Descent) -> Result<DescentVerdict, Failure> {
    Ok(match verdict {
        downlink::Verdict::Pass => DescentVerdict::Pass,
        downlink::Verdict::Publish(messages) => {
            let original = of_downlink(descent);
            DescentVerdict::Publish(messages.into_iter().map(|message| replaced(message, &original)).collect::<Result<_, _>>()?)
        }
        downlink::Verdict::Drop(reason) => DescentVerdict::Drop(reason.into()),
    })
}

/// What every message of a downlink has from the host.
fn of_downlink(descent: &Descent) -> Message {
    Message {
        publisher: descent.publisher.clone(),
        publisher_username: None,
        topic: Text::new(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        received_at_ms: descent.received_at_ms,
        properties: None,
        annotations: Vec::new(),
    }
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
mod tests;
