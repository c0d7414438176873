//! The headers of raw records: what the other formats say in their values. Names and meaning are those of templates.

use crate::{
    config::Field,
    event::{Header, Text},
    pipeline::scope::{Scope, Value},
};

/// Those that are empty are left out.
static FIELDS: [Field; 19] = [
    Field::Hook,
    Field::Node,
    Field::Ts,
    Field::ClientId,
    Field::Username,
    Field::Peer,
    Field::Topic,
    Field::Publisher,
    Field::PublisherUsername,
    Field::Qos,
    Field::DeliveryQos,
    Field::Retain,
    Field::ReceivedAt,
    Field::ExpiryS,
    Field::ContentType,
    Field::ResponseTopic,
    Field::CorrelationData,
    Field::Reason,
    Field::Explanation,
];

/// Adds them.
pub(super) fn headers(scope: &Scope<'_>, headers: &mut Vec<Header>) {
    for field in &FIELDS {
        let name = Text::from_static(field.name().unwrap_or_default());
        match scope.value(field) {
            Value::Missing => {}
            value => {
                let value = value.into_text();
                if !value.is_empty() {
                    headers.push(Header { name, value });
                }
            }
        }
    }
    let properties = scope.event.detail.message().and_then(|message| message.properties.as_deref());
    for property in properties.map_or(&[][..], |properties| &properties.user_properties) {
        headers.push(Header { name: format!("user_property.{}", property.name).into(), value: property.value.clone() });
    }
}
