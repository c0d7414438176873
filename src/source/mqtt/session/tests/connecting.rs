//! What a CONNECT may carry.

use crate::{
    config::Mqtt,
    event::{Bytes, Properties, QoS, Text},
    source::mqtt::{
        packet::{Connect, Protocol, Will},
        reason, samples,
        session::connect::Terms,
    },
};

#[test]
fn a_will_obeys_the_rules_of_publish() {
    let with = |response_topic: &'static str, content_type: &'static str| {
        let text = |text: &'static str| Some(Text::from_static(text)).filter(|text| !text.is_empty());
        Properties { response_topic: text(response_topic), content_type: text(content_type), ..Properties::default() }
    };
    for (topic, properties, refused) in [
        ("last/words", with("answers", "text/plain"), None),
        ("last/+", with("", ""), Some(reason::TOPIC_NAME_INVALID)),
        ("$SYS/x", with("", ""), Some(reason::TOPIC_NAME_INVALID)),
        ("last/words", with("answers/#", ""), Some(reason::PROTOCOL_ERROR)),
        ("last/words", with("", "text\0plain"), Some(reason::MALFORMED_PACKET)),
    ] {
        let properties = Some(Box::new(properties));
        let will = Will {
            topic: topic.into(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            delay_s: 0,
            properties: properties.clone(),
        };
        let connect = Connect { will: Some(will), ..samples::connect(Protocol::V5) };
        let code = Terms::negotiate(connect, &Mqtt::default(), || "fresh".into()).err().map(|fault| fault.code);
        assert_eq!(code, refused, "{topic} {properties:?}");
    }
}

#[test]
fn what_connack_says() {
    let limits = Mqtt { response_information: Some("replies/%u/%c".to_owned()), max_topic_aliases: 7, ..Mqtt::default() };
    let asking =
        || Connect { response_information: true, topic_alias_maximum: 9, username: Some("user".into()), ..samples::connect(Protocol::V5) };
    let granted = |connect| Terms::negotiate(connect, &limits, || "fresh".into()).expect("these terms are granted");
    let terms = granted(asking());
    let connack = terms.connack(true);
    assert_eq!((connack.session_present, connack.topic_alias_maximum, terms.server_alias_maximum), (true, 7, 7));
    assert_eq!(connack.response_information.as_deref(), Some("replies/user/device"));
    for silent in [
        Connect { response_information: false, ..asking() },
        Connect { username: None, ..asking() },
        Connect { client_id: "#".into(), ..asking() },
    ] {
        assert_eq!(granted(silent).connack(false).response_information, None);
    }
    assert!(!granted(Connect { protocol: Protocol::V31, ..asking() }).connack(true).session_present, "its byte is reserved there");
}
