//! From a record to the message that a downlink's templates make of it. Pure: the time is an argument.

use std::{borrow::Cow, cell::OnceCell, fmt::Write as _};

use serde_json::Value;

use crate::{
    config::{MessageTemplate, RecordField, RecordPart, RecordText, UserProperties},
    event::{Bytes, Fetched, Header, Message, Properties, QoS, Text},
    topic,
};

/// The longest text or binary data in an MQTT packet, bytes (MQTT 5, section 1.5.4 and 1.5.6).
const MAX_FIELD_BYTES: usize = 65_535;

/// Why a record cannot become a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// A template names a field that this record does not have, or not as text.
    #[error("{setting} wants ${{{field}}}, and {what}")]
    Field { setting: &'static str, field: String, what: &'static str },
    /// What a template came to cannot stand there.
    #[error("{setting}: {why}")]
    Result { setting: &'static str, why: String },
    /// There is neither a template nor a guest's message.
    #[error("no guest said what to publish, and there is no `topic`")]
    Nothing,
}

/// What the templates say about one record.
pub(super) struct Made {
    pub(super) message: Message,
    /// It is too old to be worth delivering.
    pub(super) is_expired: bool,
}

/// The message of a record.
pub(super) fn make(template: &MessageTemplate, fetched: &Fetched, publisher: &Text, now_ms: u64) -> Result<Made, Unfit> {
    let facts = Facts { fetched, json: OnceCell::new() };
    let topic = topic_name("topic", facts.fill("topic", &template.topic)?)?;
    let payload = match &template.payload {
        None => fetched.value.clone().unwrap_or_default(),
        Some(payload) => Bytes::from(facts.fill("payload", payload)?),
    };
    let optional = |setting, text: &Option<RecordText>| text.as_ref().map(|text| facts.fill(setting, text)).transpose();
    let content_type = optional("content_type", &template.content_type)?.map(|text| short("content_type", text)).transpose()?;
    let response_topic =
        optional("response_topic", &template.response_topic)?.map(|text| topic_name("response_topic", text)).transpose()?;
    let correlation_data = optional("correlation_data", &template.correlation_data)?;
    if correlation_data.as_ref().is_some_and(|data| data.len() > MAX_FIELD_BYTES) {
        return Err(too_long("correlation_data"));
    }
    // What is left of its time, rounded up, so that a message in its last second is still one.
    let age_ms = now_ms.saturating_sub(fetched.timestamp_ms.unwrap_or(now_ms));
    let left_ms = template.expiry.map(|expiry| u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX).saturating_sub(age_ms));
    let properties = Properties {
        expiry_s: left_ms.map(|left_ms| u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX)),
        payload_is_utf8: None,
        content_type,
        response_topic,
        correlation_data: correlation_data.map(Bytes::from),
        user_properties: user_properties(&template.user_properties, fetched)?,
    };
    let message = Message {
        publisher: publisher.clone(),
        publisher_username: None,
        topic,
        payload,
        qos: match template.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        retain: template.retain,
        received_at_ms: now_ms,
        properties: (properties != Properties::default()).then(|| Box::new(properties)),
        annotations: Vec::new(),
    };
    Ok(Made { message, is_expired: left_ms == Some(0) })
}

/// A name that devices may publish to, too.
fn topic_name(setting: &'static str, name: String) -> Result<Text, Unfit> {
    let unfit = |why: &dyn std::fmt::Display| Unfit::Result { setting, why: format!("\"{}\" is no topic: {why}", shown(&name)) };
    topic::check_name(&name).map_err(|error| unfit(&error))?;
    if name.starts_with('$') {
        return Err(unfit(&"topics that begin with $ belong to the server"));
    }
    Ok(Text::from(name))
}

fn short(setting: &'static str, text: String) -> Result<Text, Unfit> {
    if text.len() > MAX_FIELD_BYTES {
        return Err(too_long(setting));
    }
    if text.contains('\0') {
        return Err(Unfit::Result { setting, why: "it contains the character U+0000".to_owned() });
    }
    Ok(Text::from(text))
}

fn too_long(setting: &'static str) -> Unfit {
    Unfit::Result { setting, why: "it is longer than 65535 bytes".to_owned() }
}

/// The beginning of a text that may be long.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(100)).unwrap_or(text)
}

/// Headers whose value is no text have no place in MQTT and are left out.
fn user_properties(wanted: &UserProperties, fetched: &Fetched) -> Result<Vec<Header>, Unfit> {
    let is_wanted = |name: &str| match wanted {
        UserProperties::None => false,
        UserProperties::All => true,
        UserProperties::Named(names) => names.iter().any(|wanted| wanted == name),
    };
    let mut properties = Vec::new();
    for header in fetched.headers.iter().filter(|header| is_wanted(&header.name)) {
        let Ok(value) = std::str::from_utf8(header.value.as_deref().unwrap_or_default()) else { continue };
        let (name, value) = (short("headers", header.name.to_string())?, short("headers", value.to_owned())?);
        properties.push(Header { name, value });
    }
    Ok(properties)
}

/// What templates are filled in from.
struct Facts<'a> {
    fetched: &'a Fetched,
    /// The value, once somebody wants a member of it; `None` inside: it is no JSON.
    json: OnceCell<Option<Value>>,
}

impl Facts<'_> {
    fn fill(&self, setting: &'static str, text: &RecordText) -> Result<String, Unfit> {
        let mut filled = String::new();
        for part in text.parts() {
            match part {
                RecordPart::Literal(literal) => filled.push_str(literal),
                RecordPart::Field(field) => {
                    let found = self.field(field, &mut filled);
                    found.map_err(|what| Unfit::Field { setting, field: field.to_string(), what })?;
                }
            }
        }
        Ok(filled)
    }

    /// Appends a field; an error says why there is none.
    fn field(&self, field: &RecordField, into: &mut String) -> Result<(), &'static str> {
        let Fetched { topic, partition, offset, timestamp_ms, key, value, headers } = self.fetched;
        match field {
            RecordField::Key => into.push_str(text(key, "the record has no key", "its key is no text")?),
            RecordField::Value => into.push_str(text(value, "the record has no value", "its value is no text")?),
            RecordField::Header(name) => {
                let header = headers.iter().find(|header| *header.name == **name).ok_or("the record has no such header")?;
                into.push_str(text(&header.value, "the header has no value", "the header is no text")?);
            }
            RecordField::Member(path) => into.push_str(&self.member(path)?),
            RecordField::Topic => into.push_str(topic),
            // Writing to a String cannot fail.
            RecordField::Partition => drop(write!(into, "{partition}")),
            RecordField::Offset => drop(write!(into, "{offset}")),
            RecordField::Timestamp => drop(write!(into, "{}", timestamp_ms.ok_or("the record has no timestamp")?)),
        }
        Ok(())
    }

    /// Texts as they are, everything else as JSON.
    fn member(&self, path: &[String]) -> Result<Cow<'_, str>, &'static str> {
        let parsed = self.json.get_or_init(|| serde_json::from_slice(self.fetched.value.as_deref().unwrap_or_default()).ok());
        let mut found = parsed.as_ref().ok_or("its value is no JSON")?;
        for step in path {
            let next = match found {
                Value::Array(elements) => step.parse().ok().and_then(|index: usize| elements.get(index)),
                other => other.get(step.as_str()),
            };
            found = next.ok_or("its value has no such member")?;
        }
        match found {
            Value::Null => Err("it is null"),
            Value::String(text) => Ok(Cow::Borrowed(text)),
            other => Ok(Cow::Owned(other.to_string())),
        }
    }
}

fn text<'a>(bytes: &'a Option<Bytes>, absent: &'static str, no_text: &'static str) -> Result<&'a str, &'static str> {
    std::str::from_utf8(bytes.as_deref().ok_or(absent)?).map_err(|_not_utf8| no_text)
}

#[cfg(test)]
mod tests;
