//! MQTT control packets as the session sees them: one vocabulary for 3.1, 3.1.1 and 5, without the codec's types.
//!
//! Absent: what only clients send to us in one version is a field with a neutral value in the other.

use std::sync::Arc;

use crate::event::{Bytes, Header, Message, Properties, QoS, Text};

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// MQTT 3.1
    V31,
    /// MQTT 3.1.1
    V311,
    /// MQTT 5
    V5,
}

impl Protocol {
    /// The protocol level of CONNECT.
    pub(super) fn level(self) -> u8 {
        match self {
            Protocol::V31 => 3,
            Protocol::V311 => 4,
            Protocol::V5 => 5,
        }
    }

    pub(super) fn is_5(self) -> bool {
        self == Protocol::V5
    }
}

/// A packet from a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Incoming {
    Connect(Box<Connect>),
    Publish(Box<Publish>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
    Auth(Box<Auth>),
    /// A packet that only servers send.
    ServerOnly(&'static str),
}

/// CONNECT
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Connect {
    pub(super) protocol: Protocol,
    /// Clean session in 3.1.1.
    pub(super) clean_start: bool,
    pub(super) keep_alive_s: u16,
    pub(super) session_expiry_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) max_packet_bytes: Option<u32>,
    pub(super) problem_information: bool,
    pub(super) response_information: bool,
    /// Aliases that the server may define.
    pub(super) topic_alias_maximum: u16,
    pub(super) authentication_method: Option<Text>,
    pub(super) authentication_data: Option<Bytes>,
    pub(super) user_properties: Vec<Header>,
    pub(super) client_id: Text,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Bytes>,
    pub(super) will: Option<Will>,
}

/// The will of CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Will {
    pub(super) topic: Text,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) delay_s: u32,
    pub(super) properties: Option<Box<Properties>>,
}

/// PUBLISH from a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Publish {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Empty when an alias stands for it.
    pub(super) topic: Text,
    /// 0 with QoS 0.
    pub(super) id: u16,
    pub(super) payload: Bytes,
    pub(super) alias: Option<u16>,
    /// Clients must not send one [MQTT-3.3.4-6].
    pub(super) has_subscription_id: bool,
    pub(super) properties: Option<Box<Properties>>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) id: u16,
    pub(super) code: u8,
    pub(super) text: Option<Text>,
}

impl Ack {
    /// Without a reason string.
    pub(super) fn new(id: u16, code: u8) -> Self {
        Ack { id, code, text: None }
    }
}

/// SUBSCRIBE
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) subscription_id: Option<u32>,
    pub(super) filters: Vec<(Text, SubscribeOptions)>,
}

/// The options of one filter in SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubscribeOptions {
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: RetainHandling,
}

/// Which retained messages a subscription brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainHandling {
    /// 0
    Always,
    /// 1
    WhenNew,
    /// 2
    Never,
}

/// UNSUBSCRIBE
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsubscribe {
    pub(super) id: u16,
    pub(super) filters: Vec<Text>,
}

/// DISCONNECT from a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Disconnect {
    pub(super) code: u8,
    pub(super) session_expiry_s: Option<u32>,
}

/// AUTH, either way; reason strings and user properties of it are nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auth {
    pub(super) code: u8,
    pub(super) method: Option<Text>,
    pub(super) data: Option<Bytes>,
}

/// A packet to a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outgoing {
    ConnAck(Box<ConnAck>),
    Publish(Forward),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    SubAck(Answers),
    UnsubAck(Answers),
    PingResp,
    Disconnect { code: u8, text: Option<Text>, server_reference: Option<Text> },
    Auth(Box<Auth>),
}

/// SUBACK or UNSUBACK: a reason code for each filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) id: u16,
    pub(super) codes: Vec<u8>,
    /// Why the first filter that was refused is refused.
    pub(super) text: Option<Text>,
}

/// PUBLISH to a client: one transmission of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forward {
    pub(super) message: Arc<Message>,
    /// 0 with QoS 0.
    pub(super) id: u16,
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// What is left of the message's expiry interval.
    pub(super) expiry_s: Option<u32>,
    pub(super) subscription_ids: Box<[u32]>,
    pub(super) alias: Option<Alias>,
}

/// A topic alias that the server defined for this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// Sent with the topic, for the packets to come.
    New(u16),
    /// The client knows it: it stands for the topic.
    Known(u16),
}

/// CONNACK
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnAck {
    pub(super) session_present: bool,
    pub(super) code: u8,
    pub(super) text: Option<Text>,
    /// Only when it differs from what the client asked for.
    pub(super) session_expiry_s: Option<u32>,
    pub(super) receive_maximum: u16,
    pub(super) max_packet_bytes: Option<u32>,
    pub(super) assigned_client_id: Option<Text>,
    pub(super) topic_alias_maximum: u16,
    pub(super) server_keep_alive_s: Option<u16>,
    pub(super) response_information: Option<Text>,
    pub(super) server_reference: Option<Text>,
    pub(super) authentication_method: Option<Text>,
    pub(super) authentication_data: Option<Bytes>,
}
