//! Short ways to say a verdict.

use crate::{
    Answer, Challenge, Changes, Denial, DownlinkVerdict, EnhancedVerdict, EventVerdict, Fault, Fetched, Header, KafkaRecord, Message,
    PublishVerdict, Qos,
};

impl Header {
    /// A header or user property.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Header { name: name.into(), value: value.into() }
    }
}

impl Denial {
    /// A refusal; `reason_code` is an MQTT 5 reason code of 0x80 or above, see [`reason`](crate::reason).
    pub fn new(reason_code: u8, reason: impl Into<String>) -> Self {
        Denial { reason_code, reason: reason.into() }
    }
}

impl PublishVerdict {
    /// Unchanged.
    pub fn pass() -> Self {
        PublishVerdict::Pass
    }

    /// The beginning of a change: add to it, then `.into()`.
    pub fn change() -> Changes {
        Changes { message: None, headers: Vec::new(), records: None }
    }

    /// Swallow it: acknowledged, but neither routed nor produced.
    pub fn drop(why: impl Into<String>) -> Self {
        PublishVerdict::Drop(why.into())
    }

    /// Refuse it: the client is told.
    pub fn deny(reason_code: u8, reason: impl Into<String>) -> Self {
        PublishVerdict::Deny(Denial::new(reason_code, reason))
    }
}

impl Changes {
    /// Adds a header to the Kafka records of this message.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The message that everybody sees from here on.
    #[must_use]
    pub fn message(mut self, message: Message) -> Self {
        self.message = Some(message);
        self
    }

    /// The same message with another payload.
    #[must_use]
    pub fn payload(self, message: Message, payload: impl Into<Vec<u8>>) -> Self {
        self.message(Message { payload: payload.into(), ..message })
    }

    /// Adds a Kafka record; with one or more of them, the route makes none of its own.
    #[must_use]
    pub fn record(mut self, record: KafkaRecord) -> Self {
        self.records.get_or_insert_default().push(record);
        self
    }
}

impl From<Changes> for PublishVerdict {
    fn from(changes: Changes) -> Self {
        PublishVerdict::Change(changes)
    }
}

impl EventVerdict {
    /// The record that the route makes.
    pub fn pass() -> Self {
        EventVerdict::Pass
    }

    /// The same, with one more header.
    pub fn annotate(name: impl Into<String>, value: impl Into<String>) -> Self {
        EventVerdict::Annotate(vec![Header::new(name, value)])
    }

    /// These records instead; none is allowed.
    pub fn emit(records: impl Into<Vec<KafkaRecord>>) -> Self {
        EventVerdict::Emit(records.into())
    }

    /// Nothing to Kafka.
    pub fn drop(why: impl Into<String>) -> Self {
        EventVerdict::Drop(why.into())
    }
}

impl DownlinkVerdict {
    /// Publish what there is.
    pub fn pass() -> Self {
        DownlinkVerdict::Pass
    }

    /// Publish these instead, in order; none is allowed.
    pub fn publish(messages: impl Into<Vec<Message>>) -> Self {
        DownlinkVerdict::Publish(messages.into())
    }

    /// Publish nothing; the record is done with.
    pub fn drop(why: impl Into<String>) -> Self {
        DownlinkVerdict::Drop(why.into())
    }
}

impl Fetched {
    /// The first header of this name, as bytes; `None` when there is none, or none with a value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }
}

impl Message {
    /// A message of QoS 1, not retained, without properties.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            expiry_s: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }
    }
}

impl KafkaRecord {
    /// What the route would produce, with this value instead.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        KafkaRecord { topic: None, key: None, value: Some(value.into()), headers: Vec::new() }
    }

    /// To this topic instead.
    #[must_use]
    pub fn to(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// With this key instead.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }
}

impl Answer {
    /// No; the client is told.
    pub fn deny(reason_code: u8, reason: impl Into<String>) -> Self {
        Answer::Deny(Denial::new(reason_code, reason))
    }
}

impl EnhancedVerdict {
    /// Go on: `data` goes to the client, `memo` comes back in the next round.
    pub fn proceed(data: impl Into<Vec<u8>>, memo: impl Into<Vec<u8>>) -> Self {
        EnhancedVerdict::Proceed(Challenge { data: Some(data.into()), memo: memo.into() })
    }

    /// No; the client is told.
    pub fn deny(reason_code: u8, reason: impl Into<String>) -> Self {
        EnhancedVerdict::Deny(Denial::new(reason_code, reason))
    }
}

impl Fault {
    /// The event itself is wrong: trying again will not help.
    pub fn invalid(why: impl ToString) -> Self {
        Fault::Invalid(why.to_string())
    }

    /// A passing condition: trying again may help.
    pub fn retry(why: impl ToString) -> Self {
        Fault::Retry(why.to_string())
    }

    /// Something is wrong with the guest or its configuration.
    pub fn internal(why: impl ToString) -> Self {
        Fault::Internal(why.to_string())
    }
}
