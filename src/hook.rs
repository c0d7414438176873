//! The nineteen hooks of a device's life, defined once; every other list in the project derives from this table.
//!
//! The names are EMQX's (ExHook, `emqx.exhook.v3`), so that rules written for it read the same here. A twentieth hook is one
//! line in [`hooks!`] below, plus the line of code that raises it. Beside them, the reasons that `message.dropped` gives.

use std::{fmt, str::FromStr};

/// What a hook asks of its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The guest decides and may rewrite: the WIT interface `publish`.
    Publish,
    /// The guest decides: the WIT interface `access`.
    Access,
    /// The guest observes what happened: the WIT interface `events`.
    Observe,
}

impl Kind {
    /// The WIT interface that a guest exports to serve hooks of this kind.
    pub const fn interface(self) -> &'static str {
        match self {
            Kind::Publish => "publish",
            Kind::Access => "access",
            Kind::Observe => "events",
        }
    }
}

/// The table: variant, name, kind, the WIT case or function that carries it, what its events are matched by (`topic` when they
/// carry an MQTT topic or filter that a route can select on).
macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident, $wit:literal, topic: $topic:literal;)*) => {
        /// One of the nineteen moments at which guests are asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook { $($(#[$doc])* $variant,)* }

        impl Hook {
            /// All hooks, in the order of the table.
            pub const ALL: &'static [Hook] = &[$(Hook::$variant,)*];

            /// The name in configuration, logs and metrics: `message.publish`.
            pub const fn name(self) -> &'static str { match self { $(Hook::$variant => $name,)* } }

            /// What it asks of its guests.
            pub const fn kind(self) -> Kind { match self { $(Hook::$variant => Kind::$kind,)* } }

            /// The case of `events.detail`, or the function, that carries it to a guest.
            pub const fn wit_case(self) -> &'static str { match self { $(Hook::$variant => $wit,)* } }

            /// Whether its events carry an MQTT topic or filter, so that a route's `filter` can select on it.
            pub const fn has_topic(self) -> bool { match self { $(Hook::$variant => $topic,)* } }
        }
    };
}

hooks! {
    /// CONNECT was read; nothing is decided yet.
    ClientConnect = "client.connect", Observe, "client-connect", topic: false;
    /// CONNECT was answered, positively or not.
    ClientConnack = "client.connack", Observe, "client-connack", topic: false;
    /// The client is in.
    ClientConnected = "client.connected", Observe, "client-connected", topic: false;
    /// The connection of a client that was in has ended.
    ClientDisconnected = "client.disconnected", Observe, "client-disconnected", topic: false;
    /// May this client come in?
    ClientAuthenticate = "client.authenticate", Access, "authenticate", topic: false;
    /// May it publish or subscribe here?
    ClientAuthorize = "client.authorize", Access, "authorize", topic: true;
    /// SUBSCRIBE was read.
    ClientSubscribe = "client.subscribe", Observe, "client-subscribe", topic: true;
    /// UNSUBSCRIBE was read.
    ClientUnsubscribe = "client.unsubscribe", Observe, "client-unsubscribe", topic: true;
    /// A session began.
    SessionCreated = "session.created", Observe, "session-created", topic: false;
    /// A subscription took effect; once per filter.
    SessionSubscribed = "session.subscribed", Observe, "session-subscribed", topic: true;
    /// A subscription ended; once per filter.
    SessionUnsubscribed = "session.unsubscribed", Observe, "session-unsubscribed", topic: true;
    /// A client came back to its session.
    SessionResumed = "session.resumed", Observe, "session-resumed", topic: false;
    /// A clean start threw an older session away.
    SessionDiscarded = "session.discarded", Observe, "session-discarded", topic: false;
    /// Another connection of the same client id took the session.
    SessionTakenOver = "session.takenover", Observe, "session-taken-over", topic: false;
    /// A session ended, but by a clean start.
    SessionTerminated = "session.terminated", Observe, "session-terminated", topic: false;
    /// A message arrived: decided before retain, routing, Kafka and the acknowledgement.
    MessagePublish = "message.publish", Publish, "handle", topic: true;
    /// A message was written to a subscriber.
    MessageDelivered = "message.delivered", Observe, "message-delivered", topic: true;
    /// A subscriber acknowledged a message; once per receiver.
    MessageAcked = "message.acked", Observe, "message-acked", topic: true;
    /// A message ended otherwise: refused, expired, nobody wanted it, no room.
    MessageDropped = "message.dropped", Observe, "message-dropped", topic: true;
}

impl Hook {
    /// Whether its events are about a message, with its payload and properties.
    pub const fn has_message(self) -> bool {
        matches!(self, Hook::MessagePublish | Hook::MessageDelivered | Hook::MessageAcked | Hook::MessageDropped)
    }
}

/// The kinds of end, as routes name them in `reasons = [...]`.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a message was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All of them.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// The name in configuration, records and metrics.
            pub const fn name(self) -> &'static str { match self { $(DropReason::$variant => $name,)* } }
        }
    };
}

drop_reasons! {
    /// A guest refused it.
    Denied = "denied";
    /// A guest swallowed it.
    Filtered = "filtered";
    /// A guest failed, and the route's `on_failure` said to deny or drop.
    GuestFailed = "guest-failed";
    /// Nobody is subscribed to its topic.
    NoSubscribers = "no-subscribers";
    /// The receiver's queue is full.
    QueueFull = "queue-full";
    /// It outlived its message expiry interval.
    Expired = "expired";
    /// It is larger than the receiver's maximum packet size, or its payload than the listener's `max_payload_bytes`.
    TooLarge = "too-large";
    /// The session that held it ended.
    SessionEnded = "session-ended";
    /// The receiver refused it with a reason code of 0x80 or above.
    Refused = "refused";
    /// The publisher exceeded its rate.
    RateLimited = "rate-limited";
    /// Kafka refused its record for good.
    KafkaRefused = "kafka-refused";
    /// Kafka is slow, and more messages of QoS 0 wait for it than `max_qos0_waiting`.
    KafkaSlow = "kafka-slow";
    /// The in-process bus restarted with it inside.
    BusRestarted = "bus-restarted";
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is none of the nineteen names.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownHook;

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(name: &str) -> Result<Self, UnknownHook> {
        Hook::ALL.iter().copied().find(|hook| hook.name() == name).ok_or(UnknownHook)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        assert_eq!(Hook::ALL.len(), 19);
        for hook in Hook::ALL {
            assert_eq!(hook.name().parse(), Ok(*hook));
        }
        assert_eq!("message.published".parse::<Hook>(), Err(UnknownHook));
    }
}
