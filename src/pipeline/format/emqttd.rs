//! emqttd_plugin_kafka_bridge: flat, a word for each kind of event, times in seconds. The hooks that it does not know are ours, in the
//! same manner.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{envelope::RulingFields, payload::Payload};
use crate::{
    config::PayloadEncoding,
    event::{Detail, Event, Message, QoS, Ruling},
    hook::Hook,
    pipeline::scope::Scope,
};

/// The JSON of an event.
pub(super) struct EmqttdBridge<'a, 'b> {
    pub(super) scope: &'b Scope<'a>,
    pub(super) payload: PayloadEncoding,
}

/// The word for a hook: its second half, but for a message that was published.
fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::MessagePublish => "published",
        hook => hook.name().split_once('.').map_or(hook.name(), |(_, word)| word),
    }
}

impl Serialize for EmqttdBridge<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { client, detail, time_ms, .. } = self.scope.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", word(detail.hook()))?;
        map.serialize_entry("client_id", &*client.client_id)?;
        match detail {
            Detail::MessagePublish(message) => self.message(&mut map, message, message.qos)?,
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => {
                map.serialize_entry("from", &*delivery.message.publisher)?;
                self.message(&mut map, &delivery.message, delivery.qos)?;
            }
            Detail::MessageDropped(dropping) => {
                map.serialize_entry("from", &*dropping.message.publisher)?;
                self.message(&mut map, &dropping.message, dropping.message.qos)?;
                map.serialize_entry("reason", dropping.reason.name())?;
                map.serialize_entry("explanation", &*dropping.explanation)?;
            }
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => {
                map.serialize_entry("topic", &*subscription.filter)?;
                map.serialize_entry("qos", &subscription.qos.level())?;
            }
            Detail::ClientSubscribe(subscriptions) => {
                let topics: Vec<&str> = subscriptions.iter().map(|subscription| &*subscription.filter).collect();
                map.serialize_entry("topics", &topics)?;
            }
            Detail::ClientUnsubscribe(filters) => {
                map.serialize_entry("topics", &filters.iter().map(|filter| &**filter).collect::<Vec<&str>>())?;
            }
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => {
                let Ruling { asked, .. } = ruling;
                if let Some((action, topic)) = asked {
                    map.serialize_entry("topic", &**topic)?;
                    map.serialize_entry("qos", &action.qos().level())?;
                    map.serialize_entry("action", action.name())?;
                }
                let fields = RulingFields::new(ruling);
                map.serialize_entry("result", fields.result)?;
                map.serialize_entry("reason", fields.reason)?;
            }
            Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing) => {
                map.serialize_entry("reason", &*closing.reason)?;
            }
            _ => {}
        }
        map.serialize_entry("cluster_node", &**self.scope.node)?;
        map.serialize_entry("ts", &(time_ms / 1000))?;
        map.end()
    }
}

impl EmqttdBridge<'_, '_> {
    fn message<M: SerializeMap>(&self, map: &mut M, message: &Message, qos: QoS) -> Result<(), M::Error> {
        map.serialize_entry("topic", &*message.topic)?;
        map.serialize_entry("payload", &Payload::new(self.scope, self.payload))?;
        map.serialize_entry("qos", &qos.level())
    }
}
