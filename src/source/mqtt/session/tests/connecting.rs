//! What a CONNECT may carry.

use super::{Desk, auth};
use crate::{
    config::Mqtt,
    event::{Bytes, Denial, Properties, QoS, Step, Text},
    source::mqtt::{
        packet::{Auth, Connect, Incoming, Protocol, Will},
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

fn connect_by(method: Option<&'static str>, data: Option<&'static str>) -> Connect {
    let (method, data) = (method.map(Text::from_static), data.map(Bytes::from));
    Connect { authentication_method: method, authentication_data: data, ..samples::connect(Protocol::V5) }
}

#[test]
fn authentication_data_needs_a_method_and_connack_carries_both() {
    let terms = |method, data| Terms::negotiate(connect_by(method, data), &Mqtt::default(), || "fresh".into());
    assert_eq!(terms(None, Some("x")).map_err(|fault| fault.code).err(), Some(reason::PROTOCOL_ERROR));
    assert_eq!(terms(Some("m\0"), None).map_err(|fault| fault.code).err(), Some(reason::MALFORMED_PACKET));
    let mut terms = terms(Some("m"), Some("x")).expect("a method and its data");
    terms.proved(Some("y".into()));
    let connack = terms.connack(false);
    assert_eq!((connack.authentication_method, connack.authentication_data), (Some("m".into()), Some("y".into())));
}

/// A packet of a client (reason code and method), or an answer to it.
type Act = Result<(u8, &'static str), Result<Step, u8>>;

/// Gives AUTH packets and answers in turn; the last must end the connection with `code`, or nothing does.
fn reauthenticate(script: &[Act]) -> Result<Vec<String>, u8> {
    let mut desk = Desk::with(connect_by(Some("m"), None), Mqtt::default());
    let mut said = Vec::new();
    for act in script {
        let mut out = Vec::new();
        match act {
            Ok((code, method)) => said.extend(desk.take(Incoming::Auth(Box::new(auth(*code, method)))).map_err(|fault| fault.code)?),
            Err(answer) => {
                let answer = answer.clone().map_err(|reason_code| Denial { reason_code, reason: "no".into() });
                desk.session.proved(answer, &mut out).map_err(|fault| fault.code)?;
                said.extend(desk.texts(out));
            }
        }
    }
    Ok(said)
}

#[test]
fn a_client_that_is_in_proves_itself_again() {
    let (again, go_on) = (Ok((reason::RE_AUTHENTICATE, "m")), Ok((reason::CONTINUE_AUTHENTICATION, "m")));
    let (challenge, welcome) = (Err(Ok(Step::Proceed(Some("c".into())))), Err(Ok(Step::Allow(None))));
    let sent = |code, data: Option<&'static str>| {
        let auth = Auth { code, method: Some("m".into()), data: data.map(Bytes::from) };
        format!("{:?}", crate::source::mqtt::packet::Outgoing::Auth(Box::new(auth)))
    };
    let (asks, asks_on) = ("prove Some(\"m\")".to_owned(), "prove None".to_owned());
    let whole = [again.clone(), challenge.clone(), go_on.clone(), welcome.clone(), again.clone()];
    let expected = vec![asks.clone(), sent(reason::CONTINUE_AUTHENTICATION, Some("c")), asks_on, sent(reason::SUCCESS, None), asks];
    assert_eq!(reauthenticate(&whole), Ok(expected));
    for (script, code) in [
        (vec![go_on.clone()], reason::PROTOCOL_ERROR),
        (vec![again.clone(), go_on.clone()], reason::PROTOCOL_ERROR),
        (vec![again.clone(), again.clone()], reason::PROTOCOL_ERROR),
        (vec![again.clone(), challenge.clone(), again.clone()], reason::PROTOCOL_ERROR),
        (vec![again.clone(), welcome, go_on], reason::PROTOCOL_ERROR),
        (vec![Ok((reason::RE_AUTHENTICATE, "other"))], reason::PROTOCOL_ERROR),
        (vec![Ok((reason::SUCCESS, "m"))], reason::PROTOCOL_ERROR),
        (vec![again.clone(), challenge, Err(Err(reason::NOT_AUTHORIZED))], reason::NOT_AUTHORIZED),
        (vec![again.clone(), Err(Err(reason::BAD_USER_NAME_OR_PASSWORD))], reason::NOT_AUTHORIZED),
        (vec![again, Err(Err(reason::BAD_AUTHENTICATION_METHOD))], reason::BAD_AUTHENTICATION_METHOD),
    ] {
        assert_eq!(reauthenticate(&script), Err(code), "{script:?}");
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
