//! From CONNECT to terms: what the client asked for, what it is granted, or why it is refused.

use crate::{
    config::Mqtt,
    event::{Bytes, Connection, Header, Message, Text},
    source::mqtt::{
        own,
        packet::{ConnAck, Connect, Protocol, Will},
        reason::{self, Fault},
        session::publish,
    },
    topic,
};

/// What holds between client and broker for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) protocol: Protocol,
    pub(crate) client_id: Text,
    pub(crate) clean_start: bool,
    /// As granted; 0 is none.
    pub(crate) keep_alive_s: u16,
    /// As granted.
    pub(crate) session_expiry_s: u32,
    /// QoS 1 and 2 deliveries that the client takes before it acknowledges.
    pub(crate) receive_maximum: u16,
    /// Largest packet that the client takes.
    pub(crate) max_packet_bytes: Option<u32>,
    /// Whether reason strings are welcome on other packets than CONNACK and DISCONNECT.
    pub(crate) problem_information: bool,
    /// Topic aliases that the client may define.
    pub(crate) topic_alias_maximum: u16,
    /// Topic aliases that are defined for it.
    pub(crate) server_alias_maximum: u16,
    pub(crate) user_properties: Vec<Header>,
    pub(crate) will: Option<LastWill>,
    /// How the client proves who it is, if not by a password.
    pub(crate) method: Option<Text>,
    answer: ConnAck,
}

/// A will that waits for the end of its connection.
#[derive(Clone, Debug)]
pub(crate) struct LastWill {
    /// What is published; the time is set then.
    pub(crate) message: Message,
    /// How long after the connection's end, seconds.
    pub(crate) delay_s: u32,
}

impl Terms {
    /// Grants or refuses; `fresh_id` names a client that gave no identifier.
    ///
    /// # Errors
    /// The code is for CONNACK.
    pub(crate) fn negotiate(connect: Connect, limits: &Mqtt, fresh_id: impl FnOnce() -> Text) -> Result<Self, Fault> {
        check(&connect, limits)?;
        let five = connect.protocol.is_5();
        let assigned = connect.client_id.is_empty();
        let client_id = if assigned { fresh_id() } else { own::text(&connect.client_id) };
        let username = connect.username.as_ref().map(own::text);
        let session_expiry_s = connect.session_expiry_s.min(limits.max_session_expiry_s);
        let asked = connect.keep_alive_s;
        let shorten = five && limits.max_keep_alive_s > 0 && (asked == 0 || asked > limits.max_keep_alive_s);
        let keep_alive_s = if shorten { limits.max_keep_alive_s } else { asked };
        let will = connect
            .will
            .as_ref()
            .map(|will| LastWill { message: will_message(will, &client_id, username.as_ref()), delay_s: will.delay_s });
        let response_information = limits.response_information.as_deref().filter(|_| connect.response_information);
        let answer = ConnAck {
            session_expiry_s: (session_expiry_s != connect.session_expiry_s).then_some(session_expiry_s),
            receive_maximum: limits.receive_maximum,
            max_packet_bytes: Some(limits.max_packet_bytes),
            assigned_client_id: assigned.then(|| client_id.clone()),
            topic_alias_maximum: limits.max_topic_aliases,
            response_information: response_information.and_then(|template| respond_to(template, &client_id, username.as_deref())),
            server_keep_alive_s: shorten.then_some(keep_alive_s),
            ..ConnAck::default()
        };
        Ok(Terms {
            protocol: connect.protocol,
            client_id,
            clean_start: connect.clean_start,
            keep_alive_s,
            session_expiry_s,
            receive_maximum: connect.receive_maximum,
            max_packet_bytes: connect.max_packet_bytes,
            problem_information: connect.problem_information,
            topic_alias_maximum: limits.max_topic_aliases,
            server_alias_maximum: connect.topic_alias_maximum.min(limits.max_topic_aliases),
            user_properties: own::headers(&connect.user_properties),
            will,
            method: connect.authentication_method.as_ref().map(own::text),
            answer,
        })
    }

    /// CONNACK for a client that is in.
    /// MQTT 3.1 has no session present flag; its byte is reserved.
    pub(crate) fn connack(&self, session_present: bool) -> ConnAck {
        let session_present = session_present && self.protocol != Protocol::V31;
        ConnAck { session_present, ..self.answer.clone() }
    }

    /// CONNACK carries the method, and the last word of the exchange [MQTT-4.12.0-5].
    pub(crate) fn proved(&mut self, data: Option<Bytes>) {
        self.answer.authentication_method.clone_from(&self.method);
        self.answer.authentication_data = data;
    }

    /// What `client.connected` says.
    pub(crate) fn connection(&self) -> Connection {
        Connection {
            clean_start: self.clean_start,
            keep_alive_s: self.keep_alive_s,
            session_expiry_s: self.session_expiry_s,
            user_properties: self.user_properties.clone(),
        }
    }
}

/// CONNACK for a client that stays out.
pub(crate) fn refusal(fault: &Fault, server_reference: Option<Text>) -> ConnAck {
    let text = Some(&fault.explanation).filter(|text| !text.is_empty() && !has_nul(text)).cloned();
    ConnAck { code: fault.code, text, receive_maximum: u16::MAX, server_reference, ..ConnAck::default() }
}

/// Fills the places of response information. An identifier with a wildcard would make no topic: such a client is told nothing.
fn respond_to(template: &str, client_id: &str, username: Option<&str>) -> Option<Text> {
    let mut parts = template.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += if part.starts_with('c') { client_id } else { username? };
        text += part.get(1..).unwrap_or_default();
    }
    topic::check_name(&text).is_ok().then(|| text.into())
}

fn check(connect: &Connect, limits: &Mqtt) -> Result<(), Fault> {
    let texts = [Some(&connect.client_id), connect.username.as_ref(), connect.authentication_method.as_ref()];
    if texts.into_iter().flatten().any(|text| has_nul(text)) || headers_have_nul(&connect.user_properties) {
        return Err(malformed("a text contains the character U+0000")); // [MQTT-1.5.4-2]
    }
    if !connect.protocol.is_5() && connect.username.is_none() && connect.password.is_some() {
        return Err(malformed("a password without a user name")); // [MQTT-3.1.2-22] of 3.1.1
    }
    if connect.authentication_data.is_some() && connect.authentication_method.is_none() {
        return Err(Fault::protocol("authentication data without an authentication method")); // section 3.1.2.11.10
    }
    if connect.client_id.is_empty() && connect.protocol == Protocol::V31 {
        let text = "MQTT 3.1 needs a client identifier";
        return Err(Fault::new(reason::CLIENT_IDENTIFIER_NOT_VALID, "bad-client-id", text));
    }
    let Some(will) = &connect.will else { return Ok(()) };
    let reserved = if will.topic.starts_with("$SYS/") { Err("topics under $SYS/ belong to the server".to_owned()) } else { Ok(()) };
    if will.payload.len() > limits.max_payload_bytes {
        let text = format!("the will's payload has more than {} bytes", limits.max_payload_bytes);
        return Err(Fault::new(reason::PACKET_TOO_LARGE, "packet-too-large", text));
    }
    check_topic_name(&will.topic, limits.max_topic_levels)
        .and(reserved)
        .map_err(|text| Fault::new(reason::TOPIC_NAME_INVALID, "protocol-error", format!("the will's topic: {text}")))?;
    will.properties.as_deref().map_or(Ok(()), publish::check_properties)
}

/// Checks a topic that a client publishes to; whether it may is another question.
pub(super) fn check_topic_name(name: &str, max_levels: usize) -> Result<(), String> {
    topic::check_name(name).map_err(|error| error.to_string())?;
    if too_deep(name, max_levels) { Err(format!("it has more than {max_levels} levels")) } else { Ok(()) }
}

/// Whether a topic name or filter has more levels than that.
pub(crate) fn too_deep(topic: &str, max_levels: usize) -> bool {
    topic.bytes().filter(|byte| *byte == b'/').count() >= max_levels
}

pub(super) fn has_nul(text: &str) -> bool {
    text.bytes().any(|byte| byte == 0)
}

pub(super) fn headers_have_nul(headers: &[Header]) -> bool {
    headers.iter().any(|Header { name, value }| has_nul(name) || has_nul(value))
}

fn malformed(text: &'static str) -> Fault {
    Fault::new(reason::MALFORMED_PACKET, "malformed-packet", Text::from_static(text))
}

fn will_message(will: &Will, client_id: &Text, username: Option<&Text>) -> Message {
    Message {
        publisher: client_id.clone(),
        publisher_username: username.cloned(),
        topic: own::text(&will.topic),
        payload: own::bytes(&will.payload),
        qos: will.qos,
        retain: will.retain,
        received_at_ms: 0,
        properties: will.properties.as_deref().map(|properties| Box::new(own::properties(properties))),
        annotations: Vec::new(),
    }
}
