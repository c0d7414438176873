//! PUBLISH to a client, written straight from the shared message into the connection's buffer.

use bytes::{BufMut, BytesMut};

use super::packet::{Alias, Forward};
use crate::event::{Header, QoS, Text};

/// Property identifiers of PUBLISH (MQTT 5, section 2.2.2.2).
mod property {
    pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(super) const CONTENT_TYPE: u8 = 0x03;
    pub(super) const RESPONSE_TOPIC: u8 = 0x08;
    pub(super) const CORRELATION_DATA: u8 = 0x09;
    pub(super) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(super) const TOPIC_ALIAS: u8 = 0x23;
    pub(super) const USER: u8 = 0x26;
}

/// The largest remaining length (MQTT 5, section 1.5.5).
pub(super) const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// Bytes of the whole packet, fixed header included.
pub(super) fn size(forward: &Forward, five: bool) -> usize {
    let remaining = remaining_length(forward, five);
    1 + variable_length(remaining) + remaining
}

/// Appends the packet to `into`. The caller has checked [`size`] against the client's limit and the protocol's.
pub(super) fn encode(forward: &Forward, five: bool, into: &mut BytesMut) {
    let remaining = remaining_length(forward, five);
    into.reserve(5 + remaining);
    into.put_u8(0x30 | u8::from(forward.dup) << 3 | forward.qos.level() << 1 | u8::from(forward.retain));
    put_variable(remaining, into);
    put_bytes(topic(forward).as_bytes(), into);
    if forward.qos != QoS::AtMostOnce {
        into.put_u16(forward.id);
    }
    if five {
        put_properties(forward, into);
    }
    into.put_slice(&forward.message.payload);
}

/// As it is written: nothing where an alias stands for it. Only MQTT 5 connections have aliases.
fn topic(forward: &Forward) -> &str {
    if let Some(Alias::Known(_)) = forward.alias { "" } else { &forward.message.topic }
}

fn remaining_length(forward: &Forward, five: bool) -> usize {
    let id = if forward.qos == QoS::AtMostOnce { 0 } else { 2 };
    let properties = if five { with_length(properties_length(forward)) } else { 0 };
    2 + topic(forward).len() + id + properties + forward.message.payload.len()
}

fn with_length(length: usize) -> usize {
    variable_length(length) + length
}

fn properties_length(forward: &Forward) -> usize {
    let ids: usize = forward.subscription_ids.iter().map(|id| 1 + variable_length(*id as usize)).sum();
    let own = ids + forward.expiry_s.map_or(0, |_| 5) + forward.alias.map_or(0, |_| 3);
    let Some(given) = forward.message.properties.as_deref() else { return own };
    let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| 3 + text.len());
    let user: usize = given.user_properties.iter().map(|Header { name, value }| 5 + name.len() + value.len()).sum();
    own + given.payload_is_utf8.map_or(0, |_| 2)
        + text(&given.content_type)
        + text(&given.response_topic)
        + given.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
        + user
}

fn put_properties(forward: &Forward, into: &mut BytesMut) {
    put_variable(properties_length(forward), into);
    for id in &forward.subscription_ids {
        into.put_u8(property::SUBSCRIPTION_ID);
        put_variable(*id as usize, into);
    }
    if let Some(expiry_s) = forward.expiry_s {
        into.put_u8(property::MESSAGE_EXPIRY);
        into.put_u32(expiry_s);
    }
    if let Some(Alias::New(alias) | Alias::Known(alias)) = forward.alias {
        into.put_u8(property::TOPIC_ALIAS);
        into.put_u16(alias);
    }
    let Some(given) = forward.message.properties.as_deref() else { return };
    if let Some(is_utf8) = given.payload_is_utf8 {
        into.put_slice(&[property::PAYLOAD_FORMAT, u8::from(is_utf8)]);
    }
    let texts = [(property::CONTENT_TYPE, &given.content_type), (property::RESPONSE_TOPIC, &given.response_topic)];
    for (property, text) in texts {
        if let Some(text) = text {
            into.put_u8(property);
            put_bytes(text.as_bytes(), into);
        }
    }
    if let Some(data) = &given.correlation_data {
        into.put_u8(property::CORRELATION_DATA);
        put_bytes(data, into);
    }
    for Header { name, value } in &given.user_properties {
        into.put_u8(property::USER);
        put_bytes(name.as_bytes(), into);
        put_bytes(value.as_bytes(), into);
    }
}

/// With its length in front. [`fits`] has seen that no text is longer than the length can say.
fn put_bytes(bytes: &[u8], into: &mut BytesMut) {
    into.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    into.put_slice(bytes);
}

/// Whether every text of the message can be written with MQTT's two-byte lengths, and the whole within four bytes of length.
/// A guest could have made it otherwise.
pub(super) fn fits(forward: &Forward, five: bool) -> bool {
    const MAX: usize = u16::MAX as usize;
    let text = |text: &Option<Text>| text.as_ref().is_none_or(|text| text.len() <= MAX);
    let properties = forward.message.properties.as_deref().is_none_or(|given| {
        text(&given.content_type)
            && text(&given.response_topic)
            && given.correlation_data.as_ref().is_none_or(|data| data.len() <= MAX)
            && given.user_properties.iter().all(|Header { name, value }| name.len() <= MAX && value.len() <= MAX)
    });
    forward.message.topic.len() <= MAX && (!five || properties) && remaining_length(forward, five) <= MAX_REMAINING_LENGTH
}

fn variable_length(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

fn put_variable(mut value: usize, into: &mut BytesMut) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            into.put_u8(low);
            return;
        }
        into.put_u8(low | 0x80);
    }
}
