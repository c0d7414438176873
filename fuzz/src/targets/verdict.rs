//! What guests can answer: a verdict that MQTT and Kafka can carry arrives whole, and any other is refused with words, never with a panic.
//!
//! Input: an [`Answered`], as `arbitrary` reads it from bytes. Texts of 64 KiB do not fit into small inputs, so one text of the answer can
//! be stretched.

use arbitrary::{Arbitrary, Unstructured};

use super::{
    bindings::{
        exported::{access, downlink, enhanced_access, events, publish},
        imported::types::{Denial, Fault, HeaderResult, KafkaRecord, MessageResult},
    },
    failure::Failure,
    verdict,
};
use crate::event::{
    self, Answer, Bytes, Descent, DescentVerdict, ExchangeVerdict, Fetched, Header, Message, ObserveVerdict, Properties, PublishVerdict, QoS, Text,
};

/// An answer to one of the questions, or none.
#[derive(Arbitrary, Debug)]
enum Answered {
    Publish { verdict: publish::Verdict, promised_utf8: Option<bool>, has_properties: bool, stretch: Stretch },
    Events(events::Verdict),
    Access(access::Answer, Stretch),
    EnhancedAccess(enhanced_access::Verdict, Stretch),
    Fault(Fault),
    Downlink(downlink::Verdict, Stretch),
}

/// Which text of an answer becomes longer, and by how much.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Stretch {
    which: u8,
    by: u32,
}

impl Stretch {
    fn bytes(self, which: u8, bytes: &mut Vec<u8>) {
        if self.which == which {
            bytes.resize(bytes.len() + self.by as usize % 70_000, b'x');
        }
    }

    fn text(self, which: u8, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.bytes(which, &mut bytes);
        *text = String::from_utf8(bytes).expect("x is a character");
    }

    fn message(self, message: &mut MessageResult) {
        self.text(1, &mut message.topic);
        message.response_topic.iter_mut().for_each(|text| self.text(2, text));
        message.content_type.iter_mut().for_each(|text| self.text(3, text));
        message.correlation_data.iter_mut().for_each(|bytes| self.bytes(4, bytes));
        message.user_properties.iter_mut().for_each(|property| {
            self.text(5, &mut property.name);
            self.text(6, &mut property.value);
        });
    }
}

/// One answer.
pub fn run(input: &[u8]) {
    let Ok(answered) = Answered::arbitrary(&mut Unstructured::new(input)) else { return };
    match answered {
        Answered::Publish { verdict, promised_utf8, has_properties, stretch } => {
            let original = original(promised_utf8, has_properties);
            on_publish(verdict, &original, stretch);
        }
        Answered::Events(verdict) => {
            let fits = match &verdict {
                events::Verdict::Emit(records) => records.iter().all(fits_kafka),
                _ => true,
            };
            match (verdict.clone(), judged(verdict::observe(verdict), fits)) {
                (events::Verdict::Pass, Some(verdict)) => assert_eq!(verdict, ObserveVerdict::Pass),
                (events::Verdict::Annotate(given), Some(ObserveVerdict::Annotate(headers))) => same_headers(&given, &headers),
                (events::Verdict::Emit(given), Some(ObserveVerdict::Emit(records))) => same_records(&given, &records),
                (events::Verdict::Drop(given), Some(ObserveVerdict::Drop(reason))) => assert_eq!(given, *reason),
                (_, None) => {}
                (given, became) => panic!("{given:?} became {became:?}"),
            }
        }
        Answered::Access(mut answer, stretch) => {
            if let access::Answer::Deny(denial) = &mut answer {
                stretch.text(0, &mut denial.reason);
            }
            let fits = match &answer {
                access::Answer::Deny(denial) => fits_refusal(denial),
                _ => true,
            };
            match (answer.clone(), judged(verdict::access(answer), fits)) {
                (access::Answer::Deny(given), Some(Answer::Deny(denial))) => same_denial(&given, &denial),
                (access::Answer::Allow, Some(Answer::Allow)) | (access::Answer::Abstain, Some(Answer::Abstain)) | (_, None) => {}
                (given, became) => panic!("{given:?} became {became:?}"),
            }
        }
        Answered::EnhancedAccess(verdict, stretch) => on_exchange(verdict, stretch),
        Answered::Downlink(verdict, stretch) => on_descent(verdict, stretch),
        Answered::Fault(fault) => assert!(matches!(verdict::fault(fault), Failure::Fault { .. })),
    }
}

fn on_publish(mut verdict: publish::Verdict, original: &Message, stretch: Stretch) {
    let fits = match &mut verdict {
        publish::Verdict::Change(changes) => {
            changes.message.iter_mut().for_each(|message| stretch.message(message));
            changes.message.as_ref().is_none_or(fits_packet) && changes.records.iter().flatten().all(fits_kafka)
        }
        publish::Verdict::Deny(denial) => {
            stretch.text(0, &mut denial.reason);
            fits_refusal(denial)
        }
        publish::Verdict::Pass | publish::Verdict::Drop(_) => true,
    };
    match (verdict.clone(), judged(verdict::publish(verdict, original), fits)) {
        (publish::Verdict::Change(given), Some(PublishVerdict::Change(changes))) => {
            same_headers(&given.headers, &changes.headers);
            match (&given.records, &changes.records) {
                (Some(given), Some(records)) => same_records(given, records),
                (given, records) => assert!(given.is_none() && records.is_none()),
            }
            match (&given.message, &changes.message) {
                (Some(given), Some(message)) => same_message(given, message, original),
                (given, message) => assert!(given.is_none() && message.is_none()),
            }
        }
        (publish::Verdict::Drop(given), Some(PublishVerdict::Drop(reason))) => assert_eq!(given, *reason),
        (publish::Verdict::Deny(given), Some(PublishVerdict::Deny(denial))) => same_denial(&given, &denial),
        (publish::Verdict::Pass, Some(PublishVerdict::Pass)) | (_, None) => {}
        (given, became) => panic!("{given:?} became {became:?}"),
    }
}

fn on_exchange(mut verdict: enhanced_access::Verdict, stretch: Stretch) {
    let short = |data: &Option<Vec<u8>>| data.as_ref().is_none_or(|data| data.len() <= 65_535);
    let fits = match &mut verdict {
        enhanced_access::Verdict::Proceed(challenge) => {
            challenge.data.iter_mut().for_each(|data| stretch.bytes(1, data));
            stretch.bytes(2, &mut challenge.memo);
            short(&challenge.data) && challenge.memo.len() <= 65_535
        }
        enhanced_access::Verdict::Allow(data) => {
            data.iter_mut().for_each(|data| stretch.bytes(1, data));
            short(data)
        }
        enhanced_access::Verdict::Deny(denial) => {
            stretch.text(0, &mut denial.reason);
            fits_refusal(denial)
        }
        enhanced_access::Verdict::Abstain => true,
    };
    match (verdict.clone(), judged(verdict::exchange(verdict), fits)) {
        (enhanced_access::Verdict::Proceed(given), Some(ExchangeVerdict::Proceed { data, memo })) => {
            assert_eq!((given.data.map(Bytes::from), given.memo), (data, memo.to_vec()));
        }
        (enhanced_access::Verdict::Allow(given), Some(ExchangeVerdict::Allow(data))) => assert_eq!(given.map(Bytes::from), data),
        (enhanced_access::Verdict::Deny(given), Some(ExchangeVerdict::Deny(denial))) => same_denial(&given, &denial),
        (enhanced_access::Verdict::Abstain, Some(ExchangeVerdict::Abstain)) | (_, None) => {}
        (given, became) => panic!("{given:?} became {became:?}"),
    }
}

fn on_descent(mut verdict: downlink::Verdict, stretch: Stretch) {
    let fits = match &mut verdict {
        downlink::Verdict::Publish(messages) => {
            messages.iter_mut().for_each(|message| stretch.message(message));
            messages.iter().all(fits_packet)
        }
        downlink::Verdict::Pass | downlink::Verdict::Drop(_) => true,
    };
    let fetched =
        Fetched { topic: "t".into(), partition: 1, offset: 2, timestamp_ms: None, key: None, value: None, headers: Vec::new() };
    let descent = Descent { downlink: "d".into(), publisher: "p".into(), received_at_ms: 7, fetched, messages: Vec::new() };
    match (verdict.clone(), judged(verdict::descend(verdict, &descent), fits)) {
        (downlink::Verdict::Publish(given), Some(DescentVerdict::Publish(messages))) => {
            assert_eq!(given.len(), messages.len());
            let host = Message { publisher: "p".into(), publisher_username: None, annotations: Vec::new(), ..original(None, false) };
            given.iter().zip(&messages).for_each(|(given, message)| same_message(given, message, &host));
        }
        (downlink::Verdict::Drop(given), Some(DescentVerdict::Drop(reason))) => assert_eq!(given, *reason),
        (downlink::Verdict::Pass, Some(DescentVerdict::Pass)) | (_, None) => {}
        (given, became) => panic!("{given:?} became {became:?}"),
    }
}

/// What the conversion said, which must be a verdict exactly when the answer `fits`.
fn judged<T: std::fmt::Debug>(verdict: Result<T, Failure>, fits: bool) -> Option<T> {
    match verdict {
        Ok(verdict) => {
            assert!(fits, "let through: {verdict:?}");
            Some(verdict)
        }
        Err(Failure::InvalidVerdict(text)) => {
            assert!(!fits, "refused: {text}");
            assert!(!text.is_empty() && text.len() < 200, "{text}");
            None
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// What the host said itself about the message in question.
fn original(promised_utf8: Option<bool>, has_properties: bool) -> Message {
    let properties = Properties { payload_is_utf8: promised_utf8, ..Properties::default() };
    Message {
        publisher: "lock-1".into(),
        publisher_username: Some("acme".into()),
        topic: "a".into(),
        payload: "text".into(),
        qos: QoS::AtMostOnce,
        retain: false,
        received_at_ms: 7,
        properties: has_properties.then(|| Box::new(properties)),
        annotations: vec![Header { name: "a".into(), value: "b".into() }],
    }
}

/// MQTT 5, section 1.5.4.
fn fits_text(text: &str) -> bool {
    text.len() <= 65_535 && !text.contains('\0')
}

/// A name that devices may publish to: no wildcards, not the server's.
fn fits_topic(topic: &str) -> bool {
    fits_text(topic) && !topic.is_empty() && !topic.contains(['+', '#']) && !topic.starts_with('$')
}

fn fits_packet(message: &MessageResult) -> bool {
    fits_topic(&message.topic)
        && message.response_topic.as_deref().is_none_or(fits_topic)
        && message.content_type.as_deref().is_none_or(fits_text)
        && message.correlation_data.as_ref().is_none_or(|data| data.len() <= 65_535)
        && message.user_properties.iter().all(|property| fits_text(&property.name) && fits_text(&property.value))
}

fn fits_refusal(denial: &Denial) -> bool {
    denial.reason_code >= 0x80 && fits_text(&denial.reason)
}

/// Kafka's `Topic.validate`.
fn fits_kafka(record: &KafkaRecord) -> bool {
    record.topic.as_deref().is_none_or(|topic| {
        let legal = |letter: char| matches!(letter, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-');
        !matches!(topic, "" | "." | "..") && topic.len() <= 249 && topic.chars().all(legal)
    })
}

fn same_text(given: &Option<String>, text: &Option<Text>) {
    assert_eq!(given.as_deref(), text.as_deref());
}

fn same_bytes(given: &Option<Vec<u8>>, bytes: &Option<Bytes>) {
    assert_eq!(given.as_deref(), bytes.as_deref());
}

fn same_headers(given: &[HeaderResult], headers: &[Header]) {
    let given: Vec<_> = given.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
    let headers: Vec<_> = headers.iter().map(|header| (&*header.name, &*header.value)).collect();
    assert_eq!(given, headers);
}

fn same_records(given: &[KafkaRecord], records: &[event::KafkaRecord]) {
    assert_eq!(given.len(), records.len());
    for (given, record) in given.iter().zip(records) {
        same_text(&given.topic, &record.topic);
        same_bytes(&given.key, &record.key);
        same_bytes(&given.value, &record.value);
        same_headers(&given.headers, &record.headers);
    }
}

fn same_denial(given: &Denial, denial: &event::Denial) {
    assert_eq!((given.reason_code, given.reason.as_str()), (denial.reason_code, &*denial.reason));
}

fn same_message(given: &MessageResult, message: &Message, original: &Message) {
    let host = |message: &Message| (message.publisher.clone(), message.publisher_username.clone(), message.received_at_ms);
    assert_eq!(host(message), host(original));
    assert_eq!(message.annotations, original.annotations);
    assert_eq!(given.topic, *message.topic);
    assert_eq!(given.payload, *message.payload);
    assert_eq!((given.qos as u8, given.retain), (message.qos.level(), message.retain));
    let properties = message.properties.as_deref().cloned().unwrap_or_default();
    assert_eq!(given.expiry_s, properties.expiry_s);
    same_text(&given.content_type, &properties.content_type);
    same_text(&given.response_topic, &properties.response_topic);
    same_bytes(&given.correlation_data, &properties.correlation_data);
    same_headers(&given.user_properties, &properties.user_properties);
    let promised = original.properties.as_ref().and_then(|properties| properties.payload_is_utf8);
    let kept = promised.filter(|promised| !promised || std::str::from_utf8(&message.payload).is_ok());
    assert_eq!(properties.payload_is_utf8, kept, "a promise of text that is none");
}
