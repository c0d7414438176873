//! Copies out of the read buffer.
//!
//! A slice of the read buffer keeps the whole of it alive. Messages outlive their packet by far (Kafka's queue, offline sessions, the
//! retained store), so small parts are copied into allocations of their own; a large payload nearly is its buffer and stays shared.

use crate::event::{Bytes, Header, Properties, Text};

/// From this size on, bytes stay a slice of the buffer that they were read into.
const SHARED_FROM_BYTES: usize = 16 * 1024;

/// Bytes that keep nothing alive but (about) themselves.
pub(super) fn bytes(bytes: &Bytes) -> Bytes {
    if bytes.len() < SHARED_FROM_BYTES { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

/// Text that keeps nothing alive but itself.
pub(super) fn text(text: &Text) -> Text {
    Text::from(&**text)
}

/// Headers that keep nothing alive but themselves.
pub(super) fn headers(headers: &[Header]) -> Vec<Header> {
    headers.iter().map(|Header { name, value }| Header { name: text(name), value: text(value) }).collect()
}

/// Properties that keep nothing alive but themselves.
pub(super) fn properties(properties: &Properties) -> Properties {
    Properties {
        expiry_s: properties.expiry_s,
        payload_is_utf8: properties.payload_is_utf8,
        content_type: properties.content_type.as_ref().map(text),
        response_topic: properties.response_topic.as_ref().map(text),
        correlation_data: properties.correlation_data.as_ref().map(bytes),
        user_properties: headers(&properties.user_properties),
    }
}
