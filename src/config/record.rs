//! The Kafka record that a `[[route]]` makes: topic, key, headers, partition, timestamp, format.

use super::{
    problem::{Placed, did_you_mean},
    reader::Table,
    template::{Part, Template},
};
use crate::hook::Hook;

/// The longest name of a Kafka topic, bytes.
const MAX_TOPIC_BYTES: usize = 249;
/// Headers cost about half a microsecond each; whoever needs more wants a value.
const MOST_HEADERS: usize = 64;

/// The Kafka record that a route makes.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordTemplate {
    /// Kafka topic.
    pub topic: Template,
    /// Record key; empty text makes a record without a key.
    pub key: Template,
    /// More headers, in the order of their names.
    pub headers: Vec<(String, Template)>,
    /// How the partition is chosen.
    pub partition: PartitionRule,
    /// What the record's time is.
    pub timestamp: TimestampRule,
    /// What the value is.
    pub format: Format,
    /// How the formats carry the payload.
    pub payload: PayloadEncoding,
    /// Whether `raw` records say in headers what the others say in their values.
    pub metadata: bool,
    /// Whether records carry the header `event-id`.
    pub event_id: bool,
}

/// How the partition of a record is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionRule {
    /// By the hash of the key, as Java's producer does.
    Key,
    /// One after the other.
    RoundRobin,
    /// One for about a batch, then another.
    Sticky,
    /// Any.
    Random,
    /// The number that the template renders to.
    Fixed(Template),
}

/// What a record's time is.
#[derive(Clone, Debug, PartialEq)]
pub enum TimestampRule {
    /// The event's.
    Event,
    /// When the record is made.
    Now,
    /// Milliseconds since the Unix epoch, or an RFC 3339 time.
    Given(Template),
}

/// What a record's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The JSON of EMQX Enterprise 3.4's Kafka bridge.
    EmqxBridge,
    /// The JSON of emqttd_plugin_kafka_bridge, with seconds.
    EmqttdBridge,
    /// The JSON of the EMQ 2 plugin in Erlang.
    EmqPlugin,
    /// Hookgate's own JSON, with everything known about the event.
    Envelope,
    /// CloudEvents 1.0 in binary mode: attributes as headers, the payload as value.
    CloudEvents,
    /// CloudEvents 1.0 in structured mode: all in one JSON.
    CloudEventsJson,
    /// The payload itself; message hooks only.
    Raw,
}

/// How JSON formats carry a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadEncoding {
    /// Base64, any bytes.
    Base64,
    /// As text; bytes that are no UTF-8 are replaced by U+FFFD.
    Plain,
    /// As it is, when it is JSON; else as text.
    Json,
}

impl Format {
    const WORDS: [(&'static str, Format); 7] = [
        ("emqx-bridge", Format::EmqxBridge),
        ("emqttd-bridge", Format::EmqttdBridge),
        ("emq-plugin", Format::EmqPlugin),
        ("envelope", Format::Envelope),
        ("cloudevents", Format::CloudEvents),
        ("cloudevents-json", Format::CloudEventsJson),
        ("raw", Format::Raw),
    ];

    /// Whether the value is the payload itself, as it is.
    pub const fn is_payload(self) -> bool {
        matches!(self, Format::Raw | Format::CloudEvents)
    }

    const fn default_payload(self) -> PayloadEncoding {
        match self {
            Format::EmqttdBridge | Format::EmqPlugin => PayloadEncoding::Plain,
            _ => PayloadEncoding::Base64,
        }
    }
}

impl PayloadEncoding {
    const WORDS: [(&'static str, PayloadEncoding); 3] =
        [("base64", PayloadEncoding::Base64), ("plain", PayloadEncoding::Plain), ("json", PayloadEncoding::Json)];
}

impl RecordTemplate {
    /// `None` when the route names no topic, or a text that is none.
    pub(super) fn read(table: &Table<'_>, hook: Option<Hook>) -> Option<Self> {
        let topic = read_template(table, "topic", hook);
        let key = read_template(table, "key", hook);
        let headers = read_headers(table, hook);
        let partition = PartitionRule::read(table, hook);
        let timestamp = TimestampRule::read(table, hook);
        let format = table.choice("format", &Format::WORDS);
        let payload = table.choice("payload", &PayloadEncoding::WORDS);
        let (metadata, event_id) = (table.boolean("metadata"), table.boolean("event_id"));
        if table.placed("topic").is_none() {
            for setting in ["key", "headers", "partition", "timestamp", "format", "payload", "metadata", "event_id"] {
                if let Some(place) = table.placed(setting) {
                    table.refuse_at(&place, setting, " does nothing without a topic", "name the Kafka topic");
                }
            }
        }
        let topic = topic?;
        check_topic_template(table, &topic);
        check_format(table, hook, format.as_ref(), payload.as_ref());
        let format = format.map_or(Format::Envelope, |format| format.value);
        check_headers(table, &headers, format, event_id != Some(false));
        if let (Some(place), false) = (table.placed("metadata"), format == Format::Raw) {
            table.refuse_at(&place, "metadata", " does nothing here: it gives raw records headers", "format = \"raw\", or name `headers`");
        }
        let key = match key {
            Some(key) => key.value,
            None => Template::parse("${client_id}").ok()?,
        };
        Some(RecordTemplate {
            topic: topic.value,
            key,
            headers: headers.into_iter().map(|(name, template)| (name, template.value)).collect(),
            partition: partition.unwrap_or(PartitionRule::Key),
            timestamp: timestamp.unwrap_or(TimestampRule::Event),
            format,
            payload: payload.map_or(format.default_payload(), |payload| payload.value),
            metadata: metadata.unwrap_or(false),
            event_id: event_id.unwrap_or(true),
        })
    }

    /// The Kafka topic, when it is always the same.
    pub fn constant_topic(&self) -> Option<&str> {
        self.topic.constant()
    }
}

impl PartitionRule {
    fn read(table: &Table<'_>, hook: Option<Hook>) -> Option<Self> {
        let text = table.scalar("partition")?;
        match text.value.as_str() {
            "key" => return Some(PartitionRule::Key),
            "round-robin" => return Some(PartitionRule::RoundRobin),
            "sticky" => return Some(PartitionRule::Sticky),
            "random" => return Some(PartitionRule::Random),
            _ => {}
        }
        let template = check_template(table, "partition", &text, hook)?;
        if template.constant().is_some_and(|text| text.parse::<i32>().ok().is_none_or(i32::is_negative)) {
            let words = ["key", "round-robin", "sticky", "random", "a number", "a template that gives one"];
            let message = format_args!(" = \"{}\" is not known", text.value);
            table.refuse_at(&text.place, "partition", message, did_you_mean(&text.value, &words));
        }
        Some(PartitionRule::Fixed(template))
    }
}

impl TimestampRule {
    fn read(table: &Table<'_>, hook: Option<Hook>) -> Option<Self> {
        let text = table.text("timestamp")?;
        match text.value.as_str() {
            "event" => return Some(TimestampRule::Event),
            "now" => return Some(TimestampRule::Now),
            _ => {}
        }
        let template = check_template(table, "timestamp", &text, hook)?;
        if template.constant().is_some() {
            let words = ["event", "now", "a template that gives milliseconds or an RFC 3339 time"];
            let message = format_args!(" = \"{}\" is not known", text.value);
            table.refuse_at(&text.place, "timestamp", message, did_you_mean(&text.value, &words));
        }
        Some(TimestampRule::Given(template))
    }
}

fn read_template(table: &Table<'_>, key: &'static str, hook: Option<Hook>) -> Option<Placed<Template>> {
    let text = table.text(key)?;
    check_template(table, key, &text, hook).map(|value| Placed { value, place: text.place })
}

/// Reads a template, and checks it against the hook.
fn check_template(table: &Table<'_>, key: &str, text: &Placed<String>, hook: Option<Hook>) -> Option<Template> {
    let template = Template::parse(&text.value);
    let checked = template.and_then(|template| hook.map_or(Ok(()), |hook| template.check(hook)).map(|()| template));
    checked.map_err(|error| table.refuse_at(&text.place, key, format_args!(" = \"{}\": {error}", text.value), error.help())).ok()
}

fn read_headers(table: &Table<'_>, hook: Option<Hook>) -> Vec<(String, Placed<Template>)> {
    let texts = table.free_texts("headers");
    if let (true, Some(place)) = (texts.len() > MOST_HEADERS, table.placed("headers")) {
        table.refuse_at(&place, "headers", format_args!(": {} are too many", texts.len()), format!("at most {MOST_HEADERS}"));
    }
    let mut headers = Vec::new();
    for (name, text) in texts {
        if let Some(template) = check_template(table, &format!("headers.{name}"), &text, hook) {
            headers.push((name, Placed { value: template, place: text.place }));
        }
    }
    headers
}

/// Two headers of one name would leave it to the consumer which of them counts.
fn check_headers(table: &Table<'_>, headers: &[(String, Placed<Template>)], format: Format, event_id: bool) {
    for (name, template) in headers {
        let is_cloud_event = matches!(format, Format::CloudEvents | Format::CloudEventsJson);
        let help = match name.as_str() {
            "" => "give it one",
            "event-id" if event_id => "choose another name, or write event_id = false",
            "content-type" if is_cloud_event => "CloudEvents say in it how the value is to be read",
            "ce_id" | "ce_source" | "ce_specversion" | "ce_type" | "ce_time" | "ce_subject" if is_cloud_event => {
                "choose another name: this attribute is Hookgate's"
            }
            _ => continue,
        };
        table.refuse_at(&template.place, "headers", format_args!(": no header can be named \"{name}\" here"), help);
    }
}

fn check_format(table: &Table<'_>, hook: Option<Hook>, format: Option<&Placed<Format>>, payload: Option<&Placed<PayloadEncoding>>) {
    let has_message = hook.is_none_or(Hook::has_message);
    match (format, payload) {
        (Some(format), _) if format.value == Format::Raw && !has_message => {
            table.refuse_at(&format.place, "format", ": raw needs a message, and this hook has none", "envelope or emqx-bridge");
        }
        (_, Some(payload)) if !has_message || format.is_some_and(|format| format.value.is_payload()) => {
            table.refuse_at(&payload.place, "payload", " does nothing here", "it shapes the payload inside JSON formats");
        }
        _ => {}
    }
}

/// Whether Kafka allows a topic of this name (`org.apache.kafka.common.internals.Topic`).
pub fn is_kafka_topic(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_TOPIC_BYTES && name != "." && name != ".." && name.bytes().all(is_legal)
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Refuses what is no name of a Kafka topic.
pub(super) fn check_kafka_topic(table: &Table<'_>, topic: &Placed<String>) {
    if !is_kafka_topic(&topic.value) {
        refuse_topic(table, topic, &topic.value);
    }
}

/// The same for a template, as far as it is known: what it renders to is checked for each event.
fn check_topic_template(table: &Table<'_>, topic: &Placed<Template>) {
    let is_possible = match topic.value.constant() {
        Some(name) => is_kafka_topic(name),
        None => topic.value.parts().iter().all(|part| match part {
            Part::Literal(text) => text.bytes().all(is_legal),
            Part::Field { default, .. } => default.iter().all(|text| text.bytes().all(is_legal)),
        }),
    };
    if !is_possible {
        refuse_topic(table, topic, &topic.value.to_string());
    }
}

fn refuse_topic<T>(table: &Table<'_>, topic: &Placed<T>, name: &str) {
    let help = "letters, digits, `.`, `_` and `-`, at most 249";
    table.refuse_at(&topic.place, "topic", format_args!(" = \"{name}\" is no Kafka topic name"), help);
}

#[cfg(test)]
mod tests;
