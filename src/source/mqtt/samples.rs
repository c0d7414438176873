//! Clients, messages and terms that the tests of this module share.

use std::sync::Arc;

use super::{
    packet::{Connect, Protocol, RetainHandling, SubscribeOptions},
    session::{Granted, connect::Terms},
};
use crate::{
    config::Mqtt,
    event::{Bytes, Client, Message, Properties, QoS},
};

pub(super) fn client(id: &str) -> Arc<Client> {
    Arc::new(Client {
        client_id: id.into(),
        username: None,
        peer: ([127, 0, 0, 1], 1).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    })
}

pub(super) fn message(topic: &str, qos: QoS, payload: &str) -> Message {
    Message {
        publisher: "publisher".into(),
        publisher_username: None,
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        received_at_ms: 0,
        properties: None,
        annotations: Vec::new(),
    }
}

pub(super) fn expiring(mut message: Message, expiry_s: u32) -> Message {
    message.properties = Some(Box::new(Properties { expiry_s: Some(expiry_s), ..Properties::default() }));
    message
}

pub(super) fn connect(protocol: Protocol) -> Connect {
    Connect {
        protocol,
        clean_start: false,
        keep_alive_s: 0,
        session_expiry_s: 3600,
        receive_maximum: u16::MAX,
        max_packet_bytes: None,
        problem_information: true,
        response_information: false,
        topic_alias_maximum: 0,
        authentication_method: None,
        authentication_data: None,
        user_properties: Vec::new(),
        client_id: "device".into(),
        username: None,
        password: None,
        will: None,
    }
}

pub(super) fn terms(connect: Connect) -> Terms {
    Terms::negotiate(connect, &Mqtt::default(), || "fresh".into()).expect("these terms are granted")
}

pub(super) fn options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Always }
}

pub(super) fn granted(qos: QoS, subscription_id: Option<u32>) -> Granted {
    Granted { options: options(qos), subscription_id }
}
