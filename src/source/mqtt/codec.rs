//! Bytes to packets and back: the only place that names the codec crate (`rmqtt-codec`), and where its types end.
//!
//! The crate decodes everything. It encodes everything but PUBLISH, which [`super::forward`] writes straight from the shared message,
//! because the crate's type would need a copy of all properties for each receiver.
//!
//! What the crate cannot express is checked here or in the session: which protocol CONNECT asks for (with the right answer to unknown
//! ones), and a 3.1.1 password without a user name. Known gaps of the crate: a message expiry interval of 0 is taken as malformed, and
//! MQTT 5's empty client id without clean start as an invalid identifier.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use rmqtt_codec::{error::DecodeError, types, v3, v5};
use tokio_util::codec::{Decoder, Encoder};

use super::{
    forward,
    packet::{
        Ack, ConnAck, Connect, Disconnect, Incoming, Outgoing, Protocol, Publish, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe,
        Will,
    },
    reason::{self, Fault},
};
use crate::event::{Header, Properties, QoS, Text};

/// One connection's codec; it learns its protocol from CONNECT.
#[derive(Debug)]
pub(super) struct Codec {
    wire: Wire,
    max_packet_bytes: u32,
}

#[derive(Debug)]
enum Wire {
    Unknown,
    V3(Protocol, v3::Codec),
    V5(v5::Codec),
}

/// A packet could not be written: it does not fit into what the client takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoesNotFit;

impl Codec {
    /// A codec that refuses packets larger than `max_packet_bytes`.
    pub(super) fn new(max_packet_bytes: u32) -> Self {
        Codec { wire: Wire::Unknown, max_packet_bytes }
    }

    /// The protocol, once CONNECT was seen.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        match &self.wire {
            Wire::Unknown => None,
            Wire::V3(protocol, _) => Some(*protocol),
            Wire::V5(_) => Some(Protocol::V5),
        }
    }

    /// Keeps packets to an MQTT 5 client within its maximum packet size.
    pub(super) fn limit_outgoing(&mut self, max_packet_bytes: u32) {
        if let Wire::V5(codec) = &mut self.wire {
            codec.set_max_outbound_size(max_packet_bytes.max(16));
        }
    }

    /// The next packet of `buffer`, if it is there as a whole.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Fault> {
        if let Wire::Unknown = self.wire {
            let Some(protocol) = detect(buffer)? else { return Ok(None) };
            // Both count without the fixed header.
            let limit = self.max_packet_bytes.saturating_sub(2);
            self.wire = match protocol {
                Protocol::V5 => Wire::V5(v5::Codec::new(limit, 0)),
                older => Wire::V3(older, v3::Codec::new(limit)),
            };
        }
        let packet = match &mut self.wire {
            Wire::Unknown => None,
            Wire::V3(protocol, codec) => codec.decode(buffer).map_err(fault)?.map(|(packet, _)| incoming_3(packet, *protocol)),
            Wire::V5(codec) => codec.decode(buffer).map_err(fault)?.map(|(packet, _)| incoming_5(packet)),
        };
        Ok(packet)
    }

    /// Appends a packet to `into`; what 3.1.1 cannot say is left out.
    ///
    /// # Errors
    /// It does not fit into the client's maximum packet size.
    pub(super) fn encode(&mut self, packet: Outgoing, into: &mut BytesMut) -> Result<(), DoesNotFit> {
        let five = self.protocol() == Some(Protocol::V5);
        match packet {
            Outgoing::Publish(forward) => {
                forward::encode(&forward, five, into);
                Ok(())
            }
            // The four bytes that both protocols share, and by far the most frequent packets.
            Outgoing::PubAck(ack) if ack.code == reason::SUCCESS => short(0x40, &ack, into),
            Outgoing::PubRec(ack) if ack.code == reason::SUCCESS => short(0x50, &ack, into),
            Outgoing::PubRel(ack) if ack.code == reason::SUCCESS => short(0x62, &ack, into),
            Outgoing::PubComp(ack) if ack.code == reason::SUCCESS => short(0x70, &ack, into),
            packet => {
                let written = match &mut self.wire {
                    Wire::V5(codec) => outgoing_5(packet).is_some_and(|packet| codec.encode(packet, into).is_ok()),
                    Wire::V3(_, codec) => outgoing_3(packet).is_none_or(|packet| codec.encode(packet, into).is_ok()),
                    Wire::Unknown => true,
                };
                if written { Ok(()) } else { Err(DoesNotFit) }
            }
        }
    }
}

fn short(first: u8, ack: &Ack, into: &mut BytesMut) -> Result<(), DoesNotFit> {
    let [high, low] = ack.id.to_be_bytes();
    into.extend_from_slice(&[first, 2, high, low]);
    Ok(())
}

/// CONNACK "unacceptable protocol version" in the form of 3.1.1, which clients of any version understand [MQTT-3.1.2-2].
pub(super) const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 0x02, 0x00, 0x01];

/// Reads the protocol out of the beginning of CONNECT.
fn detect(buffer: &[u8]) -> Result<Option<Protocol>, Fault> {
    let Some(first) = buffer.first() else { return Ok(None) };
    if *first != 0x10 {
        return Err(Fault::protocol("the first packet must be CONNECT"));
    }
    let length_bytes = buffer.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    if length_bytes > 4 {
        return Err(Fault::new(reason::MALFORMED_PACKET, "malformed-packet", "the remaining length has more than four bytes"));
    }
    let Some(rest) = buffer.get(1 + length_bytes..) else { return Ok(None) };
    for (name, levels) in [(&b"\x00\x04MQTT"[..], &[(4, Protocol::V311), (5, Protocol::V5)][..]), (b"\x00\x06MQIsdp", &[(3, Protocol::V31)])] {
        let seen = rest.len().min(name.len());
        if rest.get(..seen) != name.get(..seen) {
            continue;
        }
        let Some(level) = rest.get(name.len()) else { return Ok(None) };
        let known = levels.iter().find(|(number, _)| number == level).map(|(_, protocol)| *protocol);
        return known.map(Some).ok_or_else(|| {
            Fault::new(reason::UNSUPPORTED_PROTOCOL_VERSION, "unsupported-version", format!("protocol level {level} is not supported"))
        });
    }
    Err(Fault::protocol("the protocol name is neither MQTT nor MQIsdp"))
}

fn fault(error: DecodeError) -> Fault {
    let (code, word) = match error {
        DecodeError::MaxSizeExceeded { .. } => (reason::PACKET_TOO_LARGE, "packet-too-large"),
        DecodeError::InvalidClientId => (reason::CLIENT_IDENTIFIER_NOT_VALID, "bad-client-id"),
        DecodeError::InvalidTopicFilter | DecodeError::InvalidConnectFlags => (reason::PROTOCOL_ERROR, "protocol-error"),
        DecodeError::InvalidTopicName => (reason::TOPIC_NAME_INVALID, "protocol-error"),
        _ => (reason::MALFORMED_PACKET, "malformed-packet"),
    };
    Fault::new(code, word, error.to_string())
}

// ---- from the crate's types ----------------------------------------------------------------------------------------------------

fn qos(qos: types::QoS) -> QoS {
    match qos {
        types::QoS::AtMostOnce => QoS::AtMostOnce,
        types::QoS::AtLeastOnce => QoS::AtLeastOnce,
        types::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn headers(properties: v5::UserProperties) -> Vec<Header> {
    properties.into_iter().map(|(name, value)| Header { name, value }).collect()
}

fn incoming_3(packet: v3::Packet, protocol: Protocol) -> Incoming {
    let ack = |id: NonZeroU16| Ack::new(id.get(), reason::SUCCESS);
    match packet {
        v3::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_3(*connect, protocol))),
        v3::Packet::Publish(publish) => Incoming::Publish(Box::new(self::publish(*publish))),
        v3::Packet::PublishAck { packet_id } => Incoming::PubAck(ack(packet_id)),
        v3::Packet::PublishReceived { packet_id } => Incoming::PubRec(ack(packet_id)),
        v3::Packet::PublishRelease { packet_id } => Incoming::PubRel(ack(packet_id)),
        v3::Packet::PublishComplete { packet_id } => Incoming::PubComp(ack(packet_id)),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let retain_handling = RetainHandling::Always;
            let filters = topic_filters.into_iter().map(|(filter, level)| {
                (filter, SubscribeOptions { qos: qos(level), no_local: false, retain_as_published: false, retain_handling })
            });
            Incoming::Subscribe(Subscribe { id: packet_id.get(), subscription_id: None, filters: filters.collect() })
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => {
            Incoming::Unsubscribe(Unsubscribe { id: packet_id.get(), filters: topic_filters })
        }
        v3::Packet::PingRequest => Incoming::PingReq,
        v3::Packet::Disconnect => Incoming::Disconnect(Disconnect::default()),
        v3::Packet::ConnectAck(_) => Incoming::ServerOnly("CONNACK"),
        v3::Packet::SubscribeAck { .. } => Incoming::ServerOnly("SUBACK"),
        v3::Packet::UnsubscribeAck { .. } => Incoming::ServerOnly("UNSUBACK"),
        v3::Packet::PingResponse => Incoming::ServerOnly("PINGRESP"),
    }
}

fn incoming_5(packet: v5::Packet) -> Incoming {
    let ack = |ack: v5::PublishAck| Ack { id: ack.packet_id.get(), code: ack.reason_code.into(), text: ack.reason_string };
    let ack2 = |ack: v5::PublishAck2| Ack { id: ack.packet_id.get(), code: ack.reason_code.into(), text: ack.reason_string };
    match packet {
        v5::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_5(*connect))),
        v5::Packet::Publish(publish) => Incoming::Publish(Box::new(self::publish(*publish))),
        v5::Packet::PublishAck(packet) => Incoming::PubAck(ack(packet)),
        v5::Packet::PublishReceived(packet) => Incoming::PubRec(ack(packet)),
        v5::Packet::PublishRelease(packet) => Incoming::PubRel(ack2(packet)),
        v5::Packet::PublishComplete(packet) => Incoming::PubComp(ack2(packet)),
        v5::Packet::Subscribe(subscribe) => Incoming::Subscribe(Subscribe {
            id: subscribe.packet_id.get(),
            subscription_id: subscribe.id.map(NonZeroU32::get),
            filters: subscribe.topic_filters.into_iter().map(|(filter, options)| (filter, options_5(options))).collect(),
        }),
        v5::Packet::Unsubscribe(packet) => {
            Incoming::Unsubscribe(Unsubscribe { id: packet.packet_id.get(), filters: packet.topic_filters })
        }
        v5::Packet::PingRequest => Incoming::PingReq,
        v5::Packet::Disconnect(packet) => Incoming::Disconnect(Disconnect {
            code: packet.reason_code.into(),
            session_expiry_s: packet.session_expiry_interval_secs,
        }),
        v5::Packet::Auth(_) => Incoming::Auth,
        v5::Packet::ConnectAck(_) => Incoming::ServerOnly("CONNACK"),
        v5::Packet::SubscribeAck(_) => Incoming::ServerOnly("SUBACK"),
        v5::Packet::UnsubscribeAck(_) => Incoming::ServerOnly("UNSUBACK"),
        v5::Packet::PingResponse => Incoming::ServerOnly("PINGRESP"),
    }
}

fn options_5(options: v5::SubscriptionOptions) -> SubscribeOptions {
    SubscribeOptions {
        qos: qos(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            v5::RetainHandling::AtSubscribe => RetainHandling::Always,
            v5::RetainHandling::AtSubscribeNew => RetainHandling::WhenNew,
            v5::RetainHandling::NoAtSubscribe => RetainHandling::Never,
        },
    }
}

fn connect_3(connect: v3::Connect, protocol: Protocol) -> Connect {
    Connect {
        protocol,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: if connect.clean_session { 0 } else { u32::MAX },
        receive_maximum: u16::MAX,
        max_packet_bytes: None,
        problem_information: false,
        authentication_method: None,
        user_properties: Vec::new(),
        client_id: connect.client_id,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(|will| Will {
            topic: will.topic,
            payload: will.message,
            qos: qos(will.qos),
            retain: will.retain,
            delay_s: 0,
            properties: None,
        }),
    }
}

fn connect_5(connect: v5::Connect) -> Connect {
    Connect {
        protocol: Protocol::V5,
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: connect.session_expiry_interval_secs,
        receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
        max_packet_bytes: connect.max_packet_size.map(NonZeroU32::get),
        problem_information: connect.request_problem_info,
        authentication_method: connect.auth_method,
        user_properties: headers(connect.user_properties),
        client_id: connect.client_id,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(|will| Will {
            topic: will.topic,
            payload: will.message,
            qos: qos(will.qos),
            retain: will.retain,
            delay_s: will.will_delay_interval_sec.unwrap_or(0),
            properties: boxed(Properties {
                expiry_s: will.message_expiry_interval.map(NonZeroU32::get),
                payload_is_utf8: will.is_utf8_payload,
                content_type: will.content_type,
                response_topic: will.response_topic,
                correlation_data: will.correlation_data,
                user_properties: headers(will.user_properties),
            }),
        }),
    }
}

fn publish(publish: types::Publish) -> Publish {
    let (mut alias, mut has_subscription_id, mut properties) = (None, false, None);
    if let Some(given) = publish.properties {
        alias = given.topic_alias.map(NonZeroU16::get);
        has_subscription_id = !given.subscription_ids.is_empty();
        properties = boxed(Properties {
            expiry_s: given.message_expiry_interval.map(NonZeroU32::get),
            payload_is_utf8: given.is_utf8_payload.then_some(true),
            content_type: given.content_type,
            response_topic: given.response_topic,
            correlation_data: given.correlation_data,
            user_properties: headers(given.user_properties),
        });
    }
    Publish {
        dup: publish.dup,
        qos: qos(publish.qos),
        retain: publish.retain,
        topic: publish.topic,
        id: publish.packet_id.map_or(0, NonZeroU16::get),
        payload: publish.payload,
        alias,
        has_subscription_id,
        properties,
    }
}

/// Most messages carry no properties: no allocation for them.
fn boxed(properties: Properties) -> Option<Box<Properties>> {
    (properties != Properties::default()).then(|| Box::new(properties))
}

// ---- to the crate's types ------------------------------------------------------------------------------------------------------

/// `None`: 3.1.1 has no such packet from a server, or nothing to say in it.
fn outgoing_3(packet: Outgoing) -> Option<v3::Packet> {
    Some(match packet {
        Outgoing::ConnAck(connack) => {
            let return_code = match connack.code {
                reason::SUCCESS => v3::ConnectAckReason::ConnectionAccepted,
                reason::UNSUPPORTED_PROTOCOL_VERSION => v3::ConnectAckReason::UnacceptableProtocolVersion,
                reason::CLIENT_IDENTIFIER_NOT_VALID => v3::ConnectAckReason::IdentifierRejected,
                reason::SERVER_UNAVAILABLE | reason::SERVER_SHUTTING_DOWN => v3::ConnectAckReason::ServiceUnavailable,
                reason::BAD_USER_NAME_OR_PASSWORD => v3::ConnectAckReason::BadUserNameOrPassword,
                reason::NOT_AUTHORIZED => v3::ConnectAckReason::NotAuthorized,
                _ => return None,
            };
            v3::Packet::ConnectAck(v3::ConnectAck { return_code, session_present: connack.session_present })
        }
        Outgoing::PubAck(ack) => v3::Packet::PublishAck { packet_id: NonZeroU16::new(ack.id)? },
        Outgoing::PubRec(ack) => v3::Packet::PublishReceived { packet_id: NonZeroU16::new(ack.id)? },
        Outgoing::PubRel(ack) => v3::Packet::PublishRelease { packet_id: NonZeroU16::new(ack.id)? },
        Outgoing::PubComp(ack) => v3::Packet::PublishComplete { packet_id: NonZeroU16::new(ack.id)? },
        Outgoing::SubAck { id, codes } => {
            let status = codes.into_iter().map(|code| match code {
                0 => v3::SubscribeReturnCode::Success(types::QoS::AtMostOnce),
                1 => v3::SubscribeReturnCode::Success(types::QoS::AtLeastOnce),
                2 => v3::SubscribeReturnCode::Success(types::QoS::ExactlyOnce),
                _ => v3::SubscribeReturnCode::Failure,
            });
            v3::Packet::SubscribeAck { packet_id: NonZeroU16::new(id)?, status: status.collect() }
        }
        Outgoing::UnsubAck { id, .. } => v3::Packet::UnsubscribeAck { packet_id: NonZeroU16::new(id)? },
        Outgoing::PingResp => v3::Packet::PingResponse,
        Outgoing::Publish(_) | Outgoing::Disconnect { .. } => return None,
    })
}

/// `None`: it holds a packet identifier of 0 or a code that its packet does not know, which the session never produces.
fn outgoing_5(packet: Outgoing) -> Option<v5::Packet> {
    Some(match packet {
        Outgoing::ConnAck(connack) => v5::Packet::ConnectAck(Box::new(connack_5(*connack)?)),
        Outgoing::PubAck(ack) => v5::Packet::PublishAck(ack_5(ack)?),
        Outgoing::PubRec(ack) => v5::Packet::PublishReceived(ack_5(ack)?),
        Outgoing::PubRel(ack) => v5::Packet::PublishRelease(ack2_5(ack)?),
        Outgoing::PubComp(ack) => v5::Packet::PublishComplete(ack2_5(ack)?),
        Outgoing::SubAck { id, codes } => v5::Packet::SubscribeAck(v5::SubscribeAck {
            packet_id: NonZeroU16::new(id)?,
            properties: Vec::new(),
            reason_string: None,
            status: codes.into_iter().map(|code| code.try_into().ok()).collect::<Option<_>>()?,
        }),
        Outgoing::UnsubAck { id, codes } => v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id: NonZeroU16::new(id)?,
            properties: Vec::new(),
            reason_string: None,
            status: codes.into_iter().map(|code| code.try_into().ok()).collect::<Option<_>>()?,
        }),
        Outgoing::PingResp => v5::Packet::PingResponse,
        Outgoing::Disconnect { code, text } => {
            let reason_code = code.try_into().unwrap_or(v5::DisconnectReasonCode::UnspecifiedError);
            v5::Packet::Disconnect(v5::Disconnect { reason_string: text, ..v5::Disconnect::new(reason_code) })
        }
        Outgoing::Publish(_) => return None,
    })
}

fn ack_5(ack: Ack) -> Option<v5::PublishAck> {
    Some(v5::PublishAck {
        packet_id: NonZeroU16::new(ack.id)?,
        reason_code: ack.code.try_into().ok()?,
        properties: Vec::new(),
        reason_string: ack.text,
    })
}

fn ack2_5(ack: Ack) -> Option<v5::PublishAck2> {
    Some(v5::PublishAck2 {
        packet_id: NonZeroU16::new(ack.id)?,
        reason_code: ack.code.try_into().ok()?,
        properties: Vec::new(),
        reason_string: ack.text,
    })
}

fn connack_5(connack: ConnAck) -> Option<v5::ConnectAck> {
    Some(v5::ConnectAck {
        session_present: connack.session_present,
        reason_code: connack.code.try_into().unwrap_or(v5::ConnectAckReason::UnspecifiedError),
        session_expiry_interval_secs: connack.session_expiry_s,
        receive_max: NonZeroU16::new(connack.receive_maximum).unwrap_or(NonZeroU16::MAX),
        max_packet_size: connack.max_packet_bytes,
        assigned_client_id: connack.assigned_client_id,
        topic_alias_max: connack.topic_alias_maximum,
        shared_subscription_available: false,
        server_keepalive_sec: connack.server_keep_alive_s,
        reason_string: connack.text.map(Text::from),
        ..v5::ConnectAck::default()
    })
}
