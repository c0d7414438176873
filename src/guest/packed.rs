//! The question of `packed-publish`: an event in one block of bytes, because a guest is asked for room once for it, and once for each text
//! of a record.
//!
//! The layout, all numbers little-endian: the payload; then the head; last the payload's length as a `u32`. The payload stands first so
//! that a guest can keep the block as the payload and cut off the rest. The head is one byte [`LAYOUT`], then the fields in the order of
//! `wit/guest.wit`: those of `context`, of `client`, and of `message` without its payload. A text or list of bytes is its length as a
//! `u32` and its bytes; an option is a byte, 0 or 1, and its value; a bool and an enum are a byte; a list is its length as a `u32` and its
//! items.
//!
//! Invariant: one writer here, one reader in `guests/sdk/src/packed.rs`; `tests/mirror.rs` compares what arrives with the records' way.

use super::{bindings::imported::types::Context, lower::qos};
use crate::event::{Client, Header, Message};

/// The version of the layout; another one is another number.
const LAYOUT: u8 = 1;
/// What is kept of a block for the next event, bytes.
const KEPT_BYTES: usize = 64 << 10;

/// A block, and its memory for the next one.
#[derive(Debug, Default)]
pub(super) struct Block(Vec<u8>);

impl Block {
    /// The event as one block.
    pub(super) fn write(&mut self, context: &Context<'_>, client: &Client, message: &Message) -> &[u8] {
        let Block(out) = self;
        out.clear();
        out.shrink_to(KEPT_BYTES);
        out.extend_from_slice(&message.payload);
        out.push(LAYOUT);
        out.extend_from_slice(&context.id.to_le_bytes());
        out.extend_from_slice(&context.time_ms.to_le_bytes());
        bytes(out, context.node.as_bytes());
        bytes(out, client.client_id.as_bytes());
        optional(out, client.username.as_deref().map(str::as_bytes));
        bytes(out, client.peer.as_str().as_bytes());
        out.push(client.protocol_version);
        optional(out, client.certificate_name.as_deref().map(str::as_bytes));
        out.extend_from_slice(&client.connected_at_ms.to_le_bytes());
        bytes(out, message.topic.as_bytes());
        out.push(qos(message.qos) as u8);
        out.push(u8::from(message.retain));
        match message.properties.as_deref() {
            None => out.extend_from_slice(&[0; 8]), // four options, and no user property
            Some(properties) => {
                out.push(u8::from(properties.expiry_s.is_some()));
                properties.expiry_s.iter().for_each(|seconds| out.extend_from_slice(&seconds.to_le_bytes()));
                optional(out, properties.content_type.as_deref().map(str::as_bytes));
                optional(out, properties.response_topic.as_deref().map(str::as_bytes));
                optional(out, properties.correlation_data.as_deref());
                length(out, properties.user_properties.len());
                for Header { name, value } in &properties.user_properties {
                    bytes(out, name.as_bytes());
                    bytes(out, value.as_bytes());
                }
            }
        }
        length(out, message.payload.len());
        out
    }
}

/// MQTT bounds everything in a message far below 4 GiB.
fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn optional(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        bytes(out, value);
    }
}
