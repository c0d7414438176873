//! The classes of messages: one table, from which routes, topics, sequences and judgements derive.

use std::str::FromStr;

/// Messages of one kind: how they are published, what their route says, and what must then hold.
#[derive(Debug)]
pub(crate) struct Class {
    /// In `--classes`, in MQTT topics and in what is printed.
    pub(crate) name: &'static str,
    pub(crate) qos: u8,
    /// Of all messages, relative to the others.
    pub(crate) weight: u32,
    /// Lines of the route beside hook, filter and topic.
    pub(crate) route: &'static str,
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

/// All there are; a class's place is its number in payloads.
pub(crate) const CLASSES: &[Class] = &[
    Class { name: "qos1", qos: 1, weight: 6, route: "guests = [\"gate\"]", repeats: Repeats::WhenSentAgain },
    Class { name: "qos2", qos: 2, weight: 3, route: "", repeats: Repeats::WhenSentAgain },
    Class { name: "spool", qos: 1, weight: 3, route: "ack = \"spool\"", repeats: Repeats::AfterFaults },
    Class { name: "once", qos: 2, weight: 3, route: "delivery = \"exactly-once\"", repeats: Repeats::Never },
    Class { name: "strict", qos: 1, weight: 1, route: "max_in_flight = 1", repeats: Repeats::WhenSentAgain },
];

impl Class {
    /// Its Kafka topic.
    pub(crate) fn kafka_topic(&self) -> String {
        format!("chaos-{}", self.name)
    }

    /// Where a client publishes it.
    pub(crate) fn mqtt_topic(&self, client: u32) -> String {
        format!("chaos/{}/{client}", self.name)
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
}

impl FromStr for ClassId {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || CLASSES.iter().map(|class| class.name).collect::<Vec<_>>().join(", ");
        ClassId::all().find(|id| id.name() == name).ok_or_else(|| format!("there are {}", names()))
    }
}

/// The client id of a client, and the key of its records.
pub(crate) fn client_id(client: u32) -> String {
    format!("chaos-{client:03}")
}
