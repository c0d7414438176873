//! To the codec crate's types.

use std::num::NonZeroU16;

use rmqtt_codec::{types, v3, v5};

use crate::source::mqtt::{
    packet::{Ack, Answers, ConnAck, Outgoing},
    reason,
};

/// `None`: 3.1.1 has no such packet from a server, or nothing to say in it.
pub(super) fn outgoing_3(packet: Outgoing) -> Option<v3::Packet> {
    Some(match packet {
        Outgoing::ConnAck(connack) => {
            let return_code = match connack.code {
                reason::SUCCESS => v3::ConnectAckReason::ConnectionAccepted,
                reason::UNSUPPORTED_PROTOCOL_VERSION => v3::ConnectAckReason::UnacceptableProtocolVersion,
                reason::CLIENT_IDENTIFIER_NOT_VALID => v3::ConnectAckReason::IdentifierRejected,
                reason::SERVER_UNAVAILABLE | reason::SERVER_SHUTTING_DOWN | reason::USE_ANOTHER_SERVER | reason::QUOTA_EXCEEDED => {
                    v3::ConnectAckReason::ServiceUnavailable
                }
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
        Outgoing::SubAck(Answers { id, codes, .. }) => {
            let status = codes.into_iter().map(|code| match code {
                0 => v3::SubscribeReturnCode::Success(types::QoS::AtMostOnce),
                1 => v3::SubscribeReturnCode::Success(types::QoS::AtLeastOnce),
                2 => v3::SubscribeReturnCode::Success(types::QoS::ExactlyOnce),
                _ => v3::SubscribeReturnCode::Failure,
            });
            v3::Packet::SubscribeAck { packet_id: NonZeroU16::new(id)?, status: status.collect() }
        }
        Outgoing::UnsubAck(Answers { id, .. }) => v3::Packet::UnsubscribeAck { packet_id: NonZeroU16::new(id)? },
        Outgoing::PingResp => v3::Packet::PingResponse,
        Outgoing::Publish(_) | Outgoing::Disconnect { .. } | Outgoing::Auth(_) => return None,
    })
}

/// `None`: it holds a packet identifier of 0 or a code that its packet does not know, which the session never produces.
pub(super) fn outgoing_5(packet: Outgoing) -> Option<v5::Packet> {
    Some(match packet {
        Outgoing::ConnAck(connack) => v5::Packet::ConnectAck(Box::new(connack_5(*connack)?)),
        Outgoing::PubAck(ack) => v5::Packet::PublishAck(ack_5(ack)?),
        Outgoing::PubRec(ack) => v5::Packet::PublishReceived(ack_5(ack)?),
        Outgoing::PubRel(ack) => v5::Packet::PublishRelease(ack2_5(ack)?),
        Outgoing::PubComp(ack) => v5::Packet::PublishComplete(ack2_5(ack)?),
        Outgoing::SubAck(Answers { id, codes, text }) => v5::Packet::SubscribeAck(v5::SubscribeAck {
            packet_id: NonZeroU16::new(id)?,
            properties: Vec::new(),
            reason_string: text,
            status: codes.into_iter().map(|code| code.try_into().ok()).collect::<Option<_>>()?,
        }),
        Outgoing::UnsubAck(Answers { id, codes, text }) => v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id: NonZeroU16::new(id)?,
            properties: Vec::new(),
            reason_string: text,
            status: codes.into_iter().map(|code| code.try_into().ok()).collect::<Option<_>>()?,
        }),
        Outgoing::PingResp => v5::Packet::PingResponse,
        Outgoing::Disconnect { code, text, server_reference } => {
            let reason_code = code.try_into().unwrap_or(v5::DisconnectReasonCode::UnspecifiedError);
            v5::Packet::Disconnect(v5::Disconnect { reason_string: text, server_reference, ..v5::Disconnect::new(reason_code) })
        }
        Outgoing::Auth(auth) => v5::Packet::Auth(v5::Auth {
            reason_code: auth.code.try_into().ok()?,
            auth_method: auth.method,
            auth_data: auth.data,
            reason_string: None,
            user_properties: Vec::new(),
        }),
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
        server_keepalive_sec: connack.server_keep_alive_s,
        auth_method: connack.authentication_method,
        auth_data: connack.authentication_data,
        response_info: connack.response_information,
        server_reference: connack.server_reference,
        reason_string: connack.text,
        ..v5::ConnectAck::default()
    })
}
