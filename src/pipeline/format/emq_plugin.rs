//! The EMQ 2 plugin in Erlang: a word for each kind of event, its particulars inside `message`, which is empty where it knows none. The
//! hooks that it does not know are ours, in the same manner.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{envelope::RulingFields, payload::Payload};
use crate::{
    config::PayloadEncoding,
    event::{Client, Detail, Event, Message, QoS, Ruling, Subscription},
    hook::Hook,
    pipeline::scope::Scope,
};

/// The JSON of an event.
pub(super) struct EmqPlugin<'a, 'b> {
    pub(super) scope: &'b Scope<'a>,
    pub(super) payload: PayloadEncoding,
}

/// The word for a hook: its second half, but for a message that was published, which it calls `public`.
fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::MessagePublish => "public",
        hook => hook.name().split_once('.').map_or(hook.name(), |(_, word)| word),
    }
}

impl Serialize for EmqPlugin<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { client, detail, time_ms, .. } = self.scope.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", word(detail.hook()))?;
        map.serialize_entry("client_id", &*client.client_id)?;
        map.serialize_entry("message", &Inside(self))?;
        map.serialize_entry("cluster_node", &**self.scope.node)?;
        map.serialize_entry("ts", time_ms)?;
        map.end()
    }
}

/// What stands in `message`.
struct Inside<'a, 'b, 'c>(&'c EmqPlugin<'a, 'b>);

impl Serialize for Inside<'_, '_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { client, detail, .. } = self.0.scope.event;
        let mut map = serializer.serialize_map(None)?;
        match detail {
            Detail::MessagePublish(message) => self.message(&mut map, client, message, message.qos)?,
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => {
                self.message(&mut map, client, &delivery.message, delivery.qos)?;
                map.serialize_entry("from", &*delivery.message.publisher)?;
            }
            Detail::MessageDropped(dropping) => {
                self.message(&mut map, client, &dropping.message, dropping.message.qos)?;
                map.serialize_entry("from", &*dropping.message.publisher)?;
                map.serialize_entry("reason", dropping.reason.name())?;
                map.serialize_entry("explanation", &*dropping.explanation)?;
            }
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => {
                map.serialize_entry("topic", &*subscription.filter)?;
                map.serialize_entry("opts", &Options { qos: subscription.qos.level() })?;
            }
            Detail::ClientSubscribe(subscriptions) => {
                map.serialize_entry("topics", &subscriptions.iter().map(Topic::new).collect::<Vec<_>>())?;
            }
            Detail::ClientUnsubscribe(filters) => {
                let topics: Vec<_> = filters.iter().map(|filter| Topic { topic: filter, opts: None }).collect();
                map.serialize_entry("topics", &topics)?;
            }
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => {
                let Ruling { asked, .. } = ruling;
                if let Some((action, topic)) = asked {
                    map.serialize_entry("topic", &**topic)?;
                    map.serialize_entry("opts", &Options { qos: action.qos().level() })?;
                    map.serialize_entry("action", action.name())?;
                }
                let fields = RulingFields::new(ruling);
                map.serialize_entry("result", fields.result)?;
                map.serialize_entry("reason", fields.reason)?;
            }
            _ => {}
        }
        map.end()
    }
}

impl Inside<'_, '_, '_> {
    fn message<M: SerializeMap>(&self, map: &mut M, client: &Client, message: &Message, qos: QoS) -> Result<(), M::Error> {
        map.serialize_entry("username", &client.username.as_deref())?;
        map.serialize_entry("topic", &*message.topic)?;
        map.serialize_entry("payload", &Payload::new(self.0.scope, self.0.payload))?;
        map.serialize_entry("qos", &qos.level())?;
        map.serialize_entry("dup", &0)?; // of one transmission, not of the message
        map.serialize_entry("retain", &u8::from(message.retain))
    }
}

#[derive(Serialize)]
struct Options {
    qos: u8,
}

#[derive(Serialize)]
struct Topic<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<Options>,
}

impl<'a> Topic<'a> {
    fn new(of: &'a Subscription) -> Self {
        Topic { topic: &of.filter, opts: Some(Options { qos: of.qos.level() }) }
    }
}
