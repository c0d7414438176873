//! EMQX Enterprise 3.4, Kafka bridge: flat, one shape for each hook. The hooks that its bridge does not know are ours, in the same manner.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{envelope::RulingFields, payload::Payload};
use crate::{
    config::PayloadEncoding,
    event::{Detail, Event, Ruling},
    pipeline::scope::Scope,
};

/// The JSON of an event.
pub(super) struct EmqxBridge<'a, 'b> {
    pub(super) scope: &'b Scope<'a>,
    pub(super) payload: PayloadEncoding,
}

impl Serialize for EmqxBridge<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { client, detail, time_ms, .. } = self.scope.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("client_id", &*client.client_id)?;
        if let Some(message) = detail.message() {
            map.serialize_entry("username", &client.username.as_deref())?;
            map.serialize_entry("topic", &*message.topic)?;
            map.serialize_entry("payload", &Payload::new(self.scope, self.payload))?;
        }
        match detail {
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => {
                map.serialize_entry("topic", &*subscription.filter)?;
                map.serialize_entry("qos", &subscription.qos.level())?;
            }
            Detail::MessagePublish(message) => map.serialize_entry("qos", &message.qos.level())?,
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => map.serialize_entry("qos", &delivery.qos.level())?,
            Detail::MessageDropped(dropping) => map.serialize_entry("qos", &dropping.message.qos.level())?,
            Detail::ClientAuthorize(Ruling { asked: Some((action, topic)), .. }) => {
                map.serialize_entry("topic", &**topic)?;
                map.serialize_entry("qos", &action.qos().level())?;
                map.serialize_entry("action", action.name())?;
            }
            Detail::ClientSubscribe(subscriptions) => {
                let topics: Vec<_> = subscriptions.iter().map(|of| Topic { topic: &of.filter, qos: Some(of.qos.level()) }).collect();
                map.serialize_entry("topics", &topics)?;
            }
            Detail::ClientUnsubscribe(filters) => {
                let topics: Vec<_> = filters.iter().map(|filter| Topic { topic: filter, qos: None }).collect();
                map.serialize_entry("topics", &topics)?;
            }
            _ => {}
        }
        map.serialize_entry("node", &**self.scope.node)?;
        map.serialize_entry("ts", time_ms)?;
        match detail {
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => {
                let fields = RulingFields::new(ruling);
                map.serialize_entry("result", fields.result)?;
                map.serialize_entry("reason", fields.reason)?;
            }
            Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing) => {
                map.serialize_entry("reason", &*closing.reason)?;
            }
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => {
                map.serialize_entry("from", &*delivery.message.publisher)?;
            }
            Detail::MessageDropped(dropping) => {
                map.serialize_entry("from", &*dropping.message.publisher)?;
                map.serialize_entry("reason", dropping.reason.name())?;
                map.serialize_entry("explanation", &*dropping.explanation)?;
            }
            _ => {}
        }
        map.end()
    }
}

/// One filter of a SUBSCRIBE or UNSUBSCRIBE.
#[derive(Serialize)]
struct Topic<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
}
