//! The event's part of a line: the fields of the envelope, read leniently, so that a sample written by hand need not say everything.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{MessageLine, headers, owned, pairs, qos};
use crate::{
    event::{Action, Client, Closing, Connection, Delivery, Detail, Dropping, Message, Subscription, Text},
    guest::sample::{Question, Secret},
    hook::{DropReason, Hook},
};

/// Where a client comes from when nobody says.
const SOMEWHERE: &str = "127.0.0.1:1";
/// MQTT 5.
pub(super) const PROTOCOL_VERSION: u8 = 5;

/// `client`
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ClientLine {
    client_id: String,
    username: Option<String>,
    peer: String,
    protocol_version: u8,
    certificate_name: Option<String>,
    connected_at: Option<u64>,
}

impl Default for ClientLine {
    fn default() -> Self {
        ClientLine {
            client_id: "sample".to_owned(),
            username: None,
            peer: SOMEWHERE.to_owned(),
            protocol_version: PROTOCOL_VERSION,
            certificate_name: None,
            connected_at: None,
        }
    }
}

impl ClientLine {
    pub(super) fn new(client: &Client) -> Self {
        ClientLine {
            client_id: client.client_id.to_string(),
            username: owned(client.username.as_ref()),
            peer: client.peer.to_string(),
            protocol_version: client.protocol_version,
            certificate_name: owned(client.certificate_name.as_ref()),
            connected_at: Some(client.connected_at_ms),
        }
    }

    pub(super) fn client(self, time_ms: u64) -> Result<Client, String> {
        let peer = self.peer.parse().map_err(|_| format!("`client.peer` is \"{}\": give an address and a port", self.peer))?;
        Ok(Client {
            client_id: self.client_id.into(),
            username: self.username.map(Text::from),
            peer,
            protocol_version: self.protocol_version,
            certificate_name: self.certificate_name.map(Text::from),
            connected_at_ms: self.connected_at.unwrap_or(time_ms),
        })
    }
}

/// A subscription.
#[derive(Debug, Serialize, Deserialize)]
struct SubscriptionLine {
    filter: String,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    no_local: bool,
    #[serde(default)]
    retain_as_published: bool,
}

impl SubscriptionLine {
    fn new(of: &Subscription) -> Self {
        let Subscription { filter, qos, no_local, retain_as_published } = of;
        SubscriptionLine { filter: filter.to_string(), qos: qos.level(), no_local: *no_local, retain_as_published: *retain_as_published }
    }

    fn subscription(self) -> Result<Subscription, String> {
        let SubscriptionLine { filter, qos: level, no_local, retain_as_published } = self;
        Ok(Subscription { filter: filter.into(), qos: qos(level)?, no_local, retain_as_published })
    }
}

/// What one hook knows beyond the client; each field belongs to the hooks that the envelope's page names.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Particulars {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_qos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clean_start: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive_s: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_expiry_s: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions: Option<Vec<SubscriptionLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_local: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_as_published: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<ActionLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<SecretLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionLine {
    Publish,
    Subscribe,
}

/// Whether there were credentials; never which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SecretLine {
    None,
    Withheld,
}

impl SecretLine {
    fn new(secrets: &[&Secret]) -> Self {
        if secrets.iter().all(|secret| **secret == Secret::Absent) { SecretLine::None } else { SecretLine::Withheld }
    }

    /// Where nobody says, there may have been some.
    fn secret(line: Option<Self>) -> Secret {
        if line == Some(SecretLine::None) { Secret::Absent } else { Secret::Withheld }
    }
}

impl Particulars {
    pub(super) fn new(question: &Question) -> Self {
        let none = Particulars::default();
        match question {
            Question::Publish(message) => Particulars { message: Some(MessageLine::new(message)), ..none },
            Question::Observe(detail) => Self::observed(detail),
            Question::Authenticate { method, password } => {
                Particulars { method: owned(method.as_ref()), credentials: Some(SecretLine::new(&[password])), ..none }
            }
            Question::Step { method, data, number, memo, again } => Particulars {
                method: Some(method.to_string()),
                credentials: Some(SecretLine::new(&[data, memo])),
                round: Some(*number),
                again: Some(*again),
                ..none
            },
            Question::Authorize { action, topic } => {
                let word = if let Action::Publish(_) = action { ActionLine::Publish } else { ActionLine::Subscribe };
                Particulars { action: Some(word), qos: Some(action.qos().level()), topic: Some(topic.to_string()), ..none }
            }
        }
    }

    fn observed(detail: &Detail) -> Self {
        let none = Particulars::default();
        match detail {
            Detail::ClientConnect(of) | Detail::ClientConnected(of) => Particulars {
                clean_start: Some(of.clean_start),
                keep_alive_s: Some(of.keep_alive_s),
                session_expiry_s: Some(of.session_expiry_s),
                user_properties: pairs(&of.user_properties),
                ..none
            },
            Detail::ClientConnack(of) | Detail::ClientDisconnected(of) | Detail::SessionTerminated(of) => {
                Particulars { reason_code: Some(of.reason_code), reason: Some(of.reason.to_string()), ..none }
            }
            Detail::ClientSubscribe(list) => Particulars { subscriptions: Some(list.iter().map(SubscriptionLine::new).collect()), ..none },
            Detail::ClientUnsubscribe(list) => Particulars { filters: Some(list.iter().map(ToString::to_string).collect()), ..none },
            Detail::SessionSubscribed(of) | Detail::SessionUnsubscribed(of) => Particulars {
                filter: Some(of.filter.to_string()),
                qos: Some(of.qos.level()),
                no_local: Some(of.no_local),
                retain_as_published: Some(of.retain_as_published),
                ..none
            },
            Detail::MessageDelivered(of) | Detail::MessageAcked(of) => {
                Particulars { message: Some(MessageLine::new(&of.message)), delivery_qos: Some(of.qos.level()), ..none }
            }
            Detail::MessageDropped(of) => Particulars {
                message: Some(MessageLine::new(&of.message)),
                reason: Some(of.reason.name().to_owned()),
                explanation: Some(of.explanation.to_string()),
                ..none
            },
            Detail::SessionCreated | Detail::SessionResumed | Detail::SessionDiscarded | Detail::SessionTakenOver => none,
            // Asked through interfaces of their own.
            Detail::MessagePublish(_) | Detail::ClientAuthenticate(_) | Detail::ClientAuthorize(_) => none,
        }
    }

    pub(super) fn question(self, hook: Hook, client: &Client, time_ms: u64) -> Result<Question, String> {
        match hook {
            Hook::MessagePublish => Ok(Question::Publish(self.message(hook, client, time_ms)?)),
            Hook::ClientAuthenticate => Ok(self.authentication()),
            Hook::ClientAuthorize => {
                let level = qos(self.qos.unwrap_or_default())?;
                let action = match required(self.action, hook, "action")? {
                    ActionLine::Publish => Action::Publish(level),
                    ActionLine::Subscribe => Action::Subscribe(level),
                };
                Ok(Question::Authorize { action, topic: required(self.topic, hook, "topic")?.into() })
            }
            _ => self.detail(hook, client, time_ms).map(Question::Observe),
        }
    }

    fn authentication(self) -> Question {
        let secret = SecretLine::secret(self.credentials);
        match (self.round, self.method) {
            (Some(number), method) => Question::Step {
                method: method.unwrap_or_default().into(),
                data: secret.clone(),
                number,
                memo: secret,
                again: self.again.unwrap_or_default(),
            },
            (None, method) => Question::Authenticate { method: method.map(Text::from), password: secret },
        }
    }

    fn message(self, hook: Hook, client: &Client, time_ms: u64) -> Result<Arc<Message>, String> {
        required(self.message, hook, "message")?.message(client, time_ms).map(Arc::new)
    }

    fn detail(self, hook: Hook, client: &Client, time_ms: u64) -> Result<Detail, String> {
        Ok(match hook {
            Hook::ClientConnect => Detail::ClientConnect(self.connection()),
            Hook::ClientConnected => Detail::ClientConnected(self.connection()),
            Hook::ClientConnack => Detail::ClientConnack(self.closing("success")),
            Hook::ClientDisconnected => Detail::ClientDisconnected(self.closing("normal")),
            Hook::SessionTerminated => Detail::SessionTerminated(self.closing("expired")),
            Hook::ClientSubscribe => {
                let list = required(self.subscriptions, hook, "subscriptions")?;
                Detail::ClientSubscribe(list.into_iter().map(SubscriptionLine::subscription).collect::<Result<_, _>>()?)
            }
            Hook::ClientUnsubscribe => {
                Detail::ClientUnsubscribe(required(self.filters, hook, "filters")?.into_iter().map(Text::from).collect())
            }
            Hook::SessionSubscribed => Detail::SessionSubscribed(self.subscription(hook)?),
            Hook::SessionUnsubscribed => Detail::SessionUnsubscribed(self.subscription(hook)?),
            Hook::SessionCreated => Detail::SessionCreated,
            Hook::SessionResumed => Detail::SessionResumed,
            Hook::SessionDiscarded => Detail::SessionDiscarded,
            Hook::SessionTakenOver => Detail::SessionTakenOver,
            Hook::MessageDelivered => Detail::MessageDelivered(self.delivery(hook, client, time_ms)?),
            Hook::MessageAcked => Detail::MessageAcked(self.delivery(hook, client, time_ms)?),
            Hook::MessageDropped => {
                let name = self.reason.clone().unwrap_or_default();
                let reason = DropReason::ALL.iter().copied().find(|reason| reason.name() == name);
                let reason = reason.ok_or_else(|| format!("`reason` is \"{name}\": give one of message.dropped, like \"denied\""))?;
                let explanation = self.explanation.clone().unwrap_or_default().into();
                Detail::MessageDropped(Dropping { message: self.message(hook, client, time_ms)?, reason, explanation })
            }
            Hook::MessagePublish | Hook::ClientAuthenticate | Hook::ClientAuthorize => return Err(format!("{hook} decides")),
        })
    }

    fn connection(self) -> Connection {
        Connection {
            clean_start: self.clean_start.unwrap_or(true),
            keep_alive_s: self.keep_alive_s.unwrap_or_default(),
            session_expiry_s: self.session_expiry_s.unwrap_or_default(),
            user_properties: headers(self.user_properties),
        }
    }

    fn closing(self, default: &'static str) -> Closing {
        let reason = self.reason.map_or_else(|| Text::from_static(default), Text::from);
        Closing { reason_code: self.reason_code.unwrap_or_default(), reason }
    }

    fn subscription(self, hook: Hook) -> Result<Subscription, String> {
        Ok(Subscription {
            filter: required(self.filter, hook, "filter")?.into(),
            qos: qos(self.qos.unwrap_or_default())?,
            no_local: self.no_local.unwrap_or_default(),
            retain_as_published: self.retain_as_published.unwrap_or_default(),
        })
    }

    fn delivery(self, hook: Hook, client: &Client, time_ms: u64) -> Result<Delivery, String> {
        let level = self.delivery_qos;
        let message = self.message(hook, client, time_ms)?;
        Ok(Delivery { qos: level.map_or(Ok(message.qos), qos)?, message })
    }
}

fn required<T>(field: Option<T>, hook: Hook, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("`{name}` is missing: {hook} has one"))
}
