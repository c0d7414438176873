//! CloudEvents 1.0 in Kafka records, after the Kafka protocol binding: binary mode (attributes as `ce_…` headers, the payload as value) and
//! structured mode (the JSON event format as value).
//!
//! Of an event about a message the payload is the data; of any other, a JSON object of what is known. Empty attributes are left out.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::envelope::Life;
use crate::{
    config::PayloadEncoding,
    event::{Detail, Header, Text},
    kafka::RecordId,
    pipeline::scope::Scope,
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// The value of an attribute.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Attribute<'a> {
    Text(Cow<'a, str>),
    Number(u8),
    Flag(bool),
}

impl Attribute<'_> {
    fn into_text(self) -> Text {
        match self {
            Attribute::Text(text) => text.into_owned().into(),
            Attribute::Number(number) => number.to_string().into(),
            Attribute::Flag(flag) => Text::from_static(if flag { "true" } else { "false" }),
        }
    }
}

/// A text as the specification allows it: without control characters.
fn text(text: &str) -> Attribute<'_> {
    let is_fine = !text.chars().any(char::is_control);
    Attribute::Text(if is_fine { text.into() } else { text.replace(char::is_control, "\u{fffd}").into() })
}

/// Calls `add` with each attribute but the content type of the data.
fn attributes<E>(scope: &Scope<'_>, id: RecordId, mut add: impl FnMut(&'static str, Attribute<'_>) -> Result<(), E>) -> Result<(), E> {
    let (client, detail) = (&scope.event.client, &scope.event.detail);
    add("specversion", text("1.0"))?;
    add("id", text(id.text().as_str()))?;
    add("source", Attribute::Text(source(scope.node).into()))?;
    add("type", Attribute::Text(format!("hookgate.{}", detail.hook()).into()))?;
    add("time", Attribute::Text(rfc_3339(scope.event.time_ms).into()))?;
    let mut words = |name, word: &str| if word.is_empty() { Ok(()) } else { add(name, text(word)) };
    words("subject", detail.topic().map_or("", |topic| topic))?;
    words("clientid", &client.client_id)?;
    words("username", client.username.as_deref().unwrap_or_default())?;
    let Some(message) = detail.message() else { return Ok(()) };
    words("publisher", &message.publisher)?;
    if let Detail::MessageDropped(dropping) = detail {
        words("reason", dropping.reason.name())?;
        words("explanation", &dropping.explanation)?;
    }
    add("qos", Attribute::Number(message.qos.level()))?;
    if let Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) = detail {
        add("deliveryqos", Attribute::Number(delivery.qos.level()))?;
    }
    add("retain", Attribute::Flag(message.retain))
}

/// A reference to this node: a path, so that it is one whatever the node's name is.
fn source(node: &str) -> String {
    let mut source = "/hookgate/".to_owned();
    for byte in node.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            source.push(char::from(byte));
        } else {
            let _ = write!(source, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    source
}

fn rfc_3339(time_ms: u64) -> String {
    let mut text = String::new();
    let time = UNIX_EPOCH + Duration::from_millis(time_ms);
    let _ = write!(text, "{}", humantime::format_rfc3339_millis(time)); // fails after the year 9999, with nothing written
    text
}

/// What the payload is, as far as its publisher says.
fn content_type<'a>(scope: &Scope<'a>) -> Option<&'a str> {
    let properties = scope.event.detail.message()?.properties.as_deref()?;
    let is_text = properties.payload_is_utf8 == Some(true);
    properties.content_type.as_deref().filter(|of| !of.is_empty() && !of.chars().any(char::is_control)).or(is_text.then_some(TEXT))
}

/// The headers of binary mode.
pub(super) fn binary(scope: &Scope<'_>, id: RecordId, headers: &mut Vec<Header>) {
    let of_data = if scope.event.detail.message().is_some() { content_type(scope).unwrap_or(BYTES) } else { JSON };
    headers.push(Header { name: Text::from_static("content-type"), value: of_data.into() });
    let done: Result<(), std::convert::Infallible> = attributes(scope, id, |name, value| {
        headers.push(Header { name: format!("ce_{name}").into(), value: value.into_text() });
        Ok(())
    });
    let Ok(()) = done;
}

/// The one header of structured mode.
pub(super) fn structured_content_type() -> Header {
    let value = Text::from_static("application/cloudevents+json; charset=UTF-8");
    Header { name: Text::from_static("content-type"), value }
}

/// The value of structured mode.
pub(super) struct Structured<'a, 'b> {
    scope: &'b Scope<'a>,
    data: Data<'a>,
    content_type: Cow<'a, str>,
}

/// The data of an event in its JSON.
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
    Life(Box<Life<'a>>),
}

impl<'a, 'b> Structured<'a, 'b> {
    pub(super) fn new(scope: &'b Scope<'a>, encoding: PayloadEncoding) -> Self {
        if scope.event.detail.message().is_none() {
            return Structured { scope, data: Data::Life(Box::new(Life::new(scope))), content_type: JSON.into() };
        }
        let declared = content_type(scope);
        // Whoever declares JSON wants `data` to be read as JSON: a text there would be another value.
        let is_json = declared.is_some_and(is_json);
        let embedded = match encoding {
            PayloadEncoding::Base64 => None,
            PayloadEncoding::Json => scope.payload_json(),
            PayloadEncoding::Plain => scope.payload_json().filter(|_| is_json),
        };
        let (data, content_type) = match (embedded, std::str::from_utf8(scope.payload())) {
            (Some(json), _) => (Data::Json(json), declared.filter(|_| is_json).unwrap_or(JSON)),
            (None, Ok(text)) if encoding != PayloadEncoding::Base64 && !is_json => (Data::Text(text), declared.unwrap_or(TEXT)),
            (None, _) => (Data::Base64(BASE64_STANDARD.encode(scope.payload())), declared.unwrap_or(BYTES)),
        };
        Structured { scope, data, content_type: content_type.into() }
    }
}

/// Whether a media type means JSON, as the JSON event format sees it.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

impl Serialize for Structured<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let id = RecordId { event: self.scope.event.id, part: 0 };
        attributes(self.scope, id, |name, value| map.serialize_entry(name, &value))?;
        map.serialize_entry("datacontenttype", &self.content_type)?;
        match &self.data {
            Data::Json(json) => map.serialize_entry("data", json)?,
            Data::Text(text) => map.serialize_entry("data", text)?,
            Data::Base64(text) => map.serialize_entry("data_base64", text)?,
            Data::Life(life) => map.serialize_entry("data", life)?,
        }
        map.end()
    }
}
