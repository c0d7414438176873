//! From an event to the Kafka records that a route makes of it.

use crate::{
    config::{Field, Format, Part, PayloadEncoding, Template},
    event::{Bytes, Event, Header, KafkaRecord},
    kafka::Record,
};

use super::{format, plan::Route};

/// What a chain of guests asked for, beside its verdict.
#[derive(Debug, Default)]
pub(super) struct Shaping {
    /// More headers.
    pub(super) headers: Vec<Header>,
    /// These records instead of the route's own.
    pub(super) records: Option<Vec<KafkaRecord>>,
}

/// The records that `event` becomes on `route`; none when the route names no topic and the guests asked for none.
pub(super) fn records(route: &Route, event: &Event, node: &str, shaping: Shaping) -> Vec<Record> {
    let own = own_record(route, event, node, shaping.headers);
    let Some(asked) = shaping.records else { return own.into_iter().collect() };
    let made = asked.into_iter().filter_map(|asked| overlay(asked, own.as_ref(), event, &route.name));
    made.collect()
}

fn own_record(route: &Route, event: &Event, node: &str, headers: Vec<Header>) -> Option<Record> {
    let template = route.record.as_ref()?;
    let mut all = event.detail.message().map(|message| message.annotations.clone()).unwrap_or_default();
    all.extend(headers);
    Some(Record {
        topic: route.topic.clone(),
        key: render(&template.key, event, node),
        value: encode(event, node, template.format, template.payload),
        headers: all,
        timestamp_ms: event.time_ms,
    })
}

/// A record as a guest asked for it, over the route's own. A record without any topic goes nowhere, and the log says so.
fn overlay(asked: KafkaRecord, own: Option<&Record>, event: &Event, route: &str) -> Option<Record> {
    let Some(topic) = asked.topic.or_else(|| own.map(|own| own.topic.clone())) else {
        tracing::warn!(route, "a guest asked for a record without a topic, and the route has none: not produced");
        return None;
    };
    let mut headers = own.map(|own| own.headers.clone()).unwrap_or_default();
    headers.extend(asked.headers);
    Some(Record {
        topic,
        key: asked.key.or_else(|| own.map_or_else(|| Some(event.client.client_id.clone().into_bytes()), |own| own.key.clone())),
        value: asked.value.or_else(|| own.map(|own| own.value.clone())).unwrap_or_default(),
        headers,
        timestamp_ms: event.time_ms,
    })
}

/// An event as the value of a record.
pub(super) fn encode(event: &Event, node: &str, format: Format, payload: PayloadEncoding) -> Bytes {
    format::value(event, node, format, payload).unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written as JSON");
        Bytes::new()
    })
}

/// Fills a template in; an empty result is no key.
fn render(template: &Template, event: &Event, node: &str) -> Option<Bytes> {
    let bytes = match template.parts() {
        [] => Bytes::new(),
        [Part::Field(Field::ClientId)] => event.client.client_id.clone().into_bytes(),
        parts => parts.iter().map(|part| part_text(part, event, node)).collect::<String>().into(),
    };
    (!bytes.is_empty()).then_some(bytes)
}

fn part_text<'a>(part: &'a Part, event: &'a Event, node: &'a str) -> &'a str {
    match part {
        Part::Literal(text) => text,
        Part::Field(Field::ClientId) => &event.client.client_id,
        Part::Field(Field::Username) => event.client.username.as_deref().unwrap_or_default(),
        Part::Field(Field::Topic) => event.detail.topic().map(|topic| &**topic).unwrap_or_default(),
        Part::Field(Field::Publisher) => event.detail.message().map(|message| &*message.publisher).unwrap_or_default(),
        Part::Field(Field::Hook) => event.detail.hook().name(),
        Part::Field(Field::Node) => node,
    }
}
