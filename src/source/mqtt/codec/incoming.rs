//! From the codec crate's types.

use std::num::{NonZeroU16, NonZeroU32};

use rmqtt_codec::{types, v3, v5};

use super::strict::Peculiar;
use crate::{
    event::{Header, Properties, QoS},
    source::mqtt::{
        packet::{
            Ack, Auth, Connect, Disconnect, Incoming, Protocol, Publish, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, Will,
        },
        reason,
    },
};

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

pub(super) fn incoming_3(packet: v3::Packet, protocol: Protocol) -> Incoming {
    let ack = |id: NonZeroU16| Ack::new(id.get(), reason::SUCCESS);
    match packet {
        v3::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_3(*connect, protocol))),
        v3::Packet::Publish(publish) => Incoming::Publish(Box::new(self::publish(*publish, Peculiar::default()))),
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

pub(super) fn incoming_5(packet: v5::Packet, clean_start: bool, peculiar: Peculiar) -> Incoming {
    let ack = |ack: v5::PublishAck| Ack { id: ack.packet_id.get(), code: ack.reason_code.into(), text: ack.reason_string };
    let ack2 = |ack: v5::PublishAck2| Ack { id: ack.packet_id.get(), code: ack.reason_code.into(), text: ack.reason_string };
    match packet {
        v5::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_5(*connect, clean_start, peculiar))),
        v5::Packet::Publish(publish) => Incoming::Publish(Box::new(self::publish(*publish, peculiar))),
        v5::Packet::PublishAck(packet) => Incoming::PubAck(ack(packet)),
        v5::Packet::PublishReceived(packet) => Incoming::PubRec(ack(packet)),
        v5::Packet::PublishRelease(packet) => Incoming::PubRel(ack2(packet)),
        v5::Packet::PublishComplete(packet) => Incoming::PubComp(ack2(packet)),
        v5::Packet::Subscribe(subscribe) => Incoming::Subscribe(Subscribe {
            id: subscribe.packet_id.get(),
            subscription_id: subscribe.id.map(NonZeroU32::get),
            filters: subscribe.topic_filters.into_iter().map(|(filter, options)| (filter, options_5(options))).collect(),
        }),
        v5::Packet::Unsubscribe(packet) => Incoming::Unsubscribe(Unsubscribe { id: packet.packet_id.get(), filters: packet.topic_filters }),
        v5::Packet::PingRequest => Incoming::PingReq,
        v5::Packet::Disconnect(packet) => {
            Incoming::Disconnect(Disconnect { code: packet.reason_code.into(), session_expiry_s: packet.session_expiry_interval_secs })
        }
        v5::Packet::Auth(auth) => {
            Incoming::Auth(Box::new(Auth { code: auth.reason_code.into(), method: auth.auth_method, data: auth.auth_data }))
        }
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
        response_information: false,
        topic_alias_maximum: 0,
        authentication_method: None,
        authentication_data: None,
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

fn connect_5(connect: v5::Connect, clean_start: bool, peculiar: Peculiar) -> Connect {
    Connect {
        protocol: Protocol::V5,
        clean_start,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: connect.session_expiry_interval_secs,
        receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
        max_packet_bytes: connect.max_packet_size.map(NonZeroU32::get),
        problem_information: connect.request_problem_info,
        response_information: connect.request_response_info,
        topic_alias_maximum: connect.topic_alias_max,
        authentication_method: connect.auth_method,
        authentication_data: connect.auth_data,
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
                expiry_s: expiry(will.message_expiry_interval, peculiar),
                payload_is_utf8: will.is_utf8_payload,
                content_type: will.content_type,
                response_topic: will.response_topic,
                correlation_data: will.correlation_data,
                user_properties: headers(will.user_properties),
            }),
        }),
    }
}

fn publish(publish: types::Publish, peculiar: Peculiar) -> Publish {
    let (mut alias, mut has_subscription_id, mut properties) = (None, false, None);
    if let Some(given) = publish.properties {
        alias = given.topic_alias.map(NonZeroU16::get);
        has_subscription_id = !given.subscription_ids.is_empty();
        properties = boxed(Properties {
            expiry_s: expiry(given.message_expiry_interval, peculiar),
            payload_is_utf8: (given.is_utf8_payload || peculiar.format_is_0).then_some(given.is_utf8_payload),
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

fn expiry(given: Option<NonZeroU32>, peculiar: Peculiar) -> Option<u32> {
    given.map(|expiry_s| if peculiar.expiry_is_0 { 0 } else { expiry_s.get() })
}

/// Most messages carry no properties: no allocation for them.
fn boxed(properties: Properties) -> Option<Box<Properties>> {
    (properties != Properties::default()).then(|| Box::new(properties))
}
