//! The fields of events, as templates name them, and which events have them. Names and meaning are those of the envelope.

use std::fmt;

use super::TemplateError;
use crate::hook::Hook;

/// The events that have a field.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// All.
    Every,
    /// Those with a topic or a filter.
    Topics,
    /// Those about a message.
    Messages,
    /// Those with a QoS: of a message, a subscription, or asked for.
    QoS,
    /// Those with user properties: of a message, or of CONNECT.
    UserProperties,
    /// Of a message on its way to a receiver.
    Deliveries,
    /// Of a message that was dropped.
    Drops,
    /// With a stable word.
    Reasons,
    /// With a word and a code.
    Codes,
    /// Of a client that comes in.
    Connections,
    /// Of a question about a client.
    Rulings,
    /// Of a question about a topic.
    Questions,
}

impl Of {
    fn has(self, hook: Hook) -> bool {
        use Hook as H;
        let closes = matches!(hook, H::ClientConnack | H::ClientDisconnected | H::SessionTerminated);
        let rules = matches!(hook, H::ClientAuthenticate | H::ClientAuthorize);
        let connects = matches!(hook, H::ClientConnect | H::ClientConnected);
        match self {
            Of::Every => true,
            Of::Topics => hook.has_topic(),
            Of::Messages => hook.has_message(),
            Of::QoS => {
                let subscribes = matches!(hook, H::ClientSubscribe | H::SessionSubscribed | H::SessionUnsubscribed);
                hook.has_message() || subscribes || hook == H::ClientAuthorize
            }
            Of::UserProperties => hook.has_message() || connects,
            Of::Deliveries => matches!(hook, H::MessageDelivered | H::MessageAcked),
            Of::Drops => hook == H::MessageDropped,
            Of::Reasons => closes || rules || hook == H::MessageDropped,
            Of::Codes => closes || rules,
            Of::Connections => connects,
            Of::Rulings => rules,
            Of::Questions => hook == H::ClientAuthorize,
        }
    }
}

/// A field of an event that a template can name, and the events that have it.
macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $of:ident;)*) => {
        /// A field of an event.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Field {
            $($(#[$doc])* $variant,)*
            /// `topic[1]`: a level of the topic, from 1; from the end with a minus sign.
            TopicLevel(i16),
            /// `user_property.NAME`: the first MQTT 5 user property of that name.
            UserProperty(String),
            /// `payload.a.b`: a member of a JSON payload; a number is an index of a list.
            PayloadMember(Vec<String>),
        }

        impl Field {
            /// Those without parameters.
            const PLAIN: &'static [(&'static str, Field)] = &[$(($name, Field::$variant),)*];

            fn of(&self) -> Of {
                match self {
                    $(Field::$variant => Of::$of,)*
                    Field::TopicLevel(_) => Of::Topics,
                    Field::UserProperty(_) => Of::UserProperties,
                    Field::PayloadMember(_) => Of::Messages,
                }
            }

            /// The name between the braces, of a field without parameters.
            pub const fn name(&self) -> Option<&'static str> {
                match self {
                    $(Field::$variant => Some($name),)*
                    Field::TopicLevel(_) | Field::UserProperty(_) | Field::PayloadMember(_) => None,
                }
            }
        }
    };
}

fields! {
    /// The client of the event.
    ClientId = "client_id", Every;
    /// Its user name.
    Username = "username", Every;
    /// Its address and port.
    Peer = "peer", Every;
    /// Its address.
    PeerIp = "peer_ip", Every;
    /// 3, 4 or 5.
    ProtocolVersion = "protocol_version", Every;
    /// Common name of its certificate.
    CertificateName = "certificate_name", Every;
    /// When it connected, milliseconds.
    ConnectedAt = "connected_at", Every;
    /// 16 hex digits.
    EventId = "event_id", Every;
    /// When it happened, milliseconds.
    Ts = "ts", Every;
    /// The hook's name.
    Hook = "hook", Every;
    /// This node's name.
    Node = "node", Every;
    /// The route's name.
    Route = "route", Every;
    /// The MQTT topic or filter; of several filters, the first.
    Topic = "topic", Topics;
    /// 0 to 2: of the message as published, of the subscription, or as asked for.
    Qos = "qos", QoS;
    /// The client that published the message.
    Publisher = "publisher", Messages;
    /// Its user name.
    PublisherUsername = "publisher_username", Messages;
    /// The whole payload as text.
    Payload = "payload", Messages;
    /// `true` or `false`.
    Retain = "retain", Messages;
    /// When the message came from its publisher, milliseconds.
    ReceivedAt = "received_at", Messages;
    /// MQTT 5 message expiry interval, seconds.
    ExpiryS = "expiry_s", Messages;
    /// MQTT 5 content type.
    ContentType = "content_type", Messages;
    /// MQTT 5 response topic.
    ResponseTopic = "response_topic", Messages;
    /// MQTT 5 correlation data, base64.
    CorrelationData = "correlation_data", Messages;
    /// The QoS towards the receiver.
    DeliveryQos = "delivery_qos", Deliveries;
    /// A stable word: how it ended, or why it was refused.
    Reason = "reason", Reasons;
    /// The MQTT 5 code that goes with it.
    ReasonCode = "reason_code", Codes;
    /// The particulars of a drop.
    Explanation = "explanation", Drops;
    /// `allow` or `deny`.
    Result = "result", Rulings;
    /// Who decided.
    By = "by", Rulings;
    /// `publish` or `subscribe`.
    Action = "action", Questions;
    /// `true` or `false`.
    CleanStart = "clean_start", Connections;
    /// Seconds.
    KeepAliveS = "keep_alive_s", Connections;
    /// Seconds.
    SessionExpiryS = "session_expiry_s", Connections;
}

impl Field {
    pub(super) fn parse(name: &str) -> Result<Self, TemplateError> {
        if let Some((_, field)) = Field::PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Ok(field.clone());
        }
        if let Some(level) = name.strip_prefix("topic[").and_then(|level| level.strip_suffix(']')) {
            let number = level.parse().ok().filter(|level| *level != 0);
            return number.map(Field::TopicLevel).ok_or_else(|| TemplateError::Level(level.to_owned()));
        }
        match name.split_once('.') {
            Some(("user_property", property)) if !property.is_empty() => Ok(Field::UserProperty(property.to_owned())),
            Some(("payload", path)) if !path.split('.').any(str::is_empty) => {
                Ok(Field::PayloadMember(path.split('.').map(str::to_owned).collect()))
            }
            _ => Err(TemplateError::UnknownField(name.to_owned())),
        }
    }

    /// Whether the events of a hook can have it.
    pub(super) fn is_of(&self, hook: Hook) -> bool {
        self.of().has(hook)
    }

    /// The fields that the events of a hook can have, as a user writes them.
    pub(super) fn names(hook: Option<Hook>) -> Vec<&'static str> {
        let has = |of: Of| hook.is_none_or(|hook| of.has(hook));
        let plain = Field::PLAIN.iter().filter(|(_, field)| has(field.of())).map(|(name, _)| *name);
        let more = [("topic[1]", Of::Topics), ("user_property.NAME", Of::UserProperties), ("payload.MEMBER", Of::Messages)];
        plain.chain(more.into_iter().filter(|(_, of)| has(*of)).map(|(name, _)| name)).collect()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::TopicLevel(level) => write!(f, "topic[{level}]"),
            Field::UserProperty(name) => write!(f, "user_property.{name}"),
            Field::PayloadMember(path) => write!(f, "payload.{}", path.join(".")),
            plain => f.write_str(plain.name().unwrap_or_default()),
        }
    }
}
