//! What a record's value is, and which headers belong to it: one file for each shape. `docs/formats.md` shows them byte for byte.

mod cloudevents;
mod emq_plugin;
mod emqttd;
mod emqx;
mod envelope;
mod metadata;
mod payload;

use serde::Serialize;

use super::scope::Scope;
use crate::{
    config::{Format, PayloadEncoding},
    event::{Bytes, Header},
    kafka::RecordId,
};

/// The value of the record that an event becomes.
pub(super) fn value(scope: &Scope<'_>, format: Format, payload: PayloadEncoding) -> Bytes {
    let written = match format {
        Format::Raw => return scope.event.detail.message().map(|message| message.payload.clone()).unwrap_or_default(),
        Format::CloudEvents => match scope.event.detail.message() {
            Some(message) => return message.payload.clone(),
            None => json(&envelope::Life::new(scope)),
        },
        Format::CloudEventsJson => json(&cloudevents::Structured::new(scope, payload)),
        Format::EmqxBridge => json(&emqx::EmqxBridge { scope, payload }),
        Format::EmqttdBridge => json(&emqttd::EmqttdBridge { scope, payload }),
        Format::EmqPlugin => json(&emq_plugin::EmqPlugin { scope, payload }),
        Format::Envelope => json(&envelope::Envelope::new(scope, payload)),
    };
    written.unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written as JSON");
        Bytes::new()
    })
}

/// The headers that belong to a format; `metadata`: raw records say in them what the others say in their values.
pub(super) fn headers(scope: &Scope<'_>, format: Format, metadata: bool, id: RecordId, headers: &mut Vec<Header>) {
    match format {
        Format::CloudEvents => cloudevents::binary(scope, id, headers),
        Format::CloudEventsJson => headers.push(cloudevents::structured_content_type()),
        Format::Raw if metadata => metadata::headers(scope, headers),
        _ => {}
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    // Most are shorter than this, and growing costs more than a little room that is soon given back.
    let mut text = Vec::with_capacity(512);
    serde_json::to_writer(&mut text, value)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests;
