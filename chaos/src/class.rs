//! The classes of messages: one table, from which routes, topics, sequences and judgements derive.

use std::str::FromStr;

/// Messages of one kind: how they are published, and where they go.
#[derive(Debug)]
pub(crate) struct Class {
    /// In `--classes`, in topics and in what is printed.
    pub(crate) name: &'static str,
    pub(crate) qos: u8,
    /// Of all messages, relative to the others.
    pub(crate) weight: u32,
    /// Each with a Kafka topic of its own.
    pub(crate) routes: &'static [Route],
}

/// What a route says beside hook, filter and topic, and what must then hold.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) lines: &'static str,
    /// When a message may be there more than once.
    pub(crate) repeats: Repeats,
}

/// When a message may become a second record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    Never,
    /// When its client has sent it more than once.
    WhenSentAgain,
    /// When anything was broken.
    AfterFaults,
}

const GUARDED: Route = Route {
    lines: "guests = [\"gate\"]\non_failure = { retry = 5, backoff = \"50ms\", then = \"deny\" }",
    repeats: Repeats::WhenSentAgain,
};
const PLAIN: Route = Route { lines: "", repeats: Repeats::WhenSentAgain };
const SPOOLED: Route = Route { lines: "ack = \"spool\"", repeats: Repeats::AfterFaults };
const ONCE: Route = Route { lines: "delivery = \"exactly-once\"", repeats: Repeats::Never };
const STRICT: Route = Route { lines: "max_in_flight = 1", repeats: Repeats::WhenSentAgain };

/// All there are; a class's place is its number in payloads.
pub(crate) const CLASSES: &[Class] = &[
    Class { name: "qos1", qos: 1, weight: 6, routes: &[GUARDED] },
    Class { name: "qos2", qos: 2, weight: 3, routes: &[PLAIN] },
    Class { name: "spool", qos: 1, weight: 3, routes: &[SPOOLED] },
    Class { name: "once", qos: 2, weight: 3, routes: &[ONCE] },
    Class { name: "strict", qos: 1, weight: 1, routes: &[STRICT] },
    Class { name: "once1", qos: 1, weight: 2, routes: &[ONCE] },
    Class { name: "fan", qos: 2, weight: 1, routes: &[PLAIN, SPOOLED, ONCE] },
];

impl Class {
    /// Where a client publishes it.
    pub(crate) fn mqtt_topic(&self, client: u32) -> String {
        format!("chaos/{}/{client}", self.name)
    }

    /// The Kafka topic of its route `route`.
    fn kafka_topic(&self, route: usize) -> String {
        if route == 0 { format!("chaos-{}", self.name) } else { format!("chaos-{}-{}", self.name, route + 1) }
    }
}

/// A class's place in [`CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassId(pub(crate) u8);

impl ClassId {
    pub(crate) fn all() -> impl Iterator<Item = ClassId> {
        (0..CLASSES.len()).map(|at| ClassId(at as u8))
    }

    /// `None`: there is no such class.
    pub(crate) fn class(self) -> Option<&'static Class> {
        CLASSES.get(usize::from(self.0))
    }

    pub(crate) fn name(self) -> &'static str {
        self.class().map_or("?", |class| class.name)
    }

    /// Where its messages arrive.
    pub(crate) fn streams(self) -> impl Iterator<Item = Stream> {
        let routes = self.class().map_or(0, |class| class.routes.len());
        (0..routes).map(move |route| Stream { class: self, route })
    }
}

impl FromStr for ClassId {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || CLASSES.iter().map(|class| class.name).collect::<Vec<_>>().join(", ");
        ClassId::all().find(|id| id.name() == name).ok_or_else(|| format!("there are {}", names()))
    }
}

/// The messages of a class by one of its routes: a Kafka topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub(crate) class: ClassId,
    pub(crate) route: usize,
}

impl Stream {
    pub(crate) fn kafka_topic(self) -> String {
        self.class.class().map(|class| class.kafka_topic(self.route)).unwrap_or_default()
    }

    pub(crate) fn route(self) -> Option<&'static Route> {
        self.class.class()?.routes.get(self.route)
    }
}

/// Those of several classes, in their order.
pub(crate) fn streams(classes: &[ClassId]) -> Vec<Stream> {
    classes.iter().flat_map(|class| class.streams()).collect()
}

/// The client id of a client, and the key of its records.
pub(crate) fn client_id(client: u32) -> String {
    format!("chaos-{client:03}")
}
