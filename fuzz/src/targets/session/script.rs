//! What happens, in small numbers, so that identifiers and topics meet each other.

use arbitrary::Arbitrary;

use crate::{
    event::{Bytes, QoS, Text},
    source::mqtt::{
        packet::{Protocol, Publish, RetainHandling, SubscribeOptions},
        samples,
    },
};

/// A life of one session, or of some, one after the other.
#[derive(Debug, Arbitrary)]
pub(super) struct Script {
    pub(super) bounds: Bounds,
    pub(super) hello: Hello,
    /// Which events somebody wants, and whether somebody is asked about filters.
    pub(super) wanted: (bool, bool, bool),
    pub(super) steps: Vec<Step>,
}

/// The broker's limits.
#[derive(Debug, Arbitrary)]
pub(super) struct Bounds {
    pub(super) receive_maximum: u8,
    pub(super) max_inflight: u8,
    pub(super) max_queued_messages: u8,
    pub(super) max_topic_aliases: u8,
    pub(super) deny_by_disconnect: bool,
    /// Whether sessions outlive the process.
    pub(super) is_durable: bool,
}

/// How a client comes in.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) struct Hello {
    pub(super) protocol: Level,
    pub(super) receive_maximum: u8,
    pub(super) max_packet_bytes: Option<u8>,
    pub(super) topic_alias_maximum: u8,
    pub(super) ends_with_connection: bool,
    pub(super) problem_information: bool,
    /// Whether it names an authentication method.
    pub(super) has_method: bool,
}

impl Hello {
    /// A client that can do everything.
    pub(super) const BEST: Hello = Hello {
        protocol: Level::V5,
        receive_maximum: u8::MAX,
        max_packet_bytes: None,
        topic_alias_maximum: 0,
        ends_with_connection: false,
        problem_information: true,
        has_method: false,
    };
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Level {
    V31,
    V311,
    V5,
}

impl Level {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Level::V31 => Protocol::V31,
            Level::V311 => Protocol::V311,
            Level::V5 => Protocol::V5,
        }
    }
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Qos {
    Q0,
    Q1,
    Q2,
}

impl Qos {
    pub(super) fn qos(self) -> QoS {
        match self {
            Qos::Q0 => QoS::AtMostOnce,
            Qos::Q1 => QoS::AtLeastOnce,
            Qos::Q2 => QoS::ExactlyOnce,
        }
    }
}

/// One thing that happens; `which` counts through what there is.
#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    /// The client publishes.
    Publish(Letter),
    /// The client answers a delivery as it should.
    Answer {
        which: u8,
        refuse: bool,
    },
    /// The client releases an identifier as it should.
    Release {
        which: u8,
    },
    /// The client sends an acknowledgement, sensible or not.
    Acknowledge {
        kind: Kind,
        id: u8,
        code: u8,
    },
    Subscribe {
        id: u8,
        filters: Vec<(u8, u8)>,
        subscription_id: Option<u8>,
    },
    Unsubscribe {
        id: u8,
        filters: Vec<u8>,
    },
    /// The client sends another packet.
    Other(Other),
    Disconnect {
        code: u8,
        expiry_s: Option<u8>,
    },
    /// The pipeline decides about a publish.
    Decide {
        which: u8,
        verdict: Decision,
    },
    /// Kafka answers for a publish, or its receipt is dropped.
    Settle {
        which: u8,
        outcome: Fate,
    },
    /// Somebody answers about the filters that were asked about first; a bit for each that is denied.
    Permit {
        denied: u8,
    },
    /// Somebody answers to what the client sent to prove itself.
    Prove {
        proof: Proof,
    },
    /// Another client publishes to this one.
    Post(Post),
    /// Time passes.
    Pass {
        ms: u16,
    },
    /// The connection has its turn, with so much room to write.
    Advance {
        room_bytes: u16,
    },
    /// What is to be stored becomes durable.
    Commit,
    /// The process dies, and comes back with what was durable.
    Crash,
    /// The connection breaks.
    Break,
    /// The client comes back, or another connection of it takes over.
    Connect(Hello),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Kind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Other {
    Ping,
    Auth { code: u8, is_mine: bool },
    Connect,
    ServerOnly,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Proof {
    Proceed,
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Decision {
    Accept { matched: bool },
    Swallow,
    Deny { code: u8 },
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Fate {
    Stored,
    TooLarge,
    Unauthorized,
    Unknown,
    Dropped,
}

/// A publish of another client.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) struct Post {
    pub(super) qos: Qos,
    pub(super) topic: u8,
    pub(super) size: u8,
    pub(super) expiry_s: Option<u8>,
    pub(super) retain: bool,
    pub(super) subscription_id: Option<u8>,
    pub(super) is_shared: bool,
}

impl Post {
    /// One that nothing speaks against.
    pub(super) const PLAIN: Post =
        Post { qos: Qos::Q1, topic: 0, size: 0, expiry_s: None, retain: false, subscription_id: None, is_shared: false };

    pub(super) fn topic(self) -> &'static str {
        TOPICS[usize::from(self.topic % 4)]
    }
}

/// A publish of the client.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) struct Letter {
    qos: Qos,
    id: u8,
    topic: u8,
    alias: Option<u8>,
    dup: bool,
    retain: bool,
}

const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "devices/1/state", "$SYS/x", "", "a/+", "x\0"];
const FILTERS: [&str; 12] = ["a", "a/+", "#", "+/b", "$SYS/#", "$share/g/a", "$share/g/+", "$share//a", "a/#/b", "", "x\0", "$share"];

impl Letter {
    /// A publish that nothing speaks against.
    pub(super) fn plain(qos: Qos, id: u16) -> Publish {
        let letter = Letter { qos, id: 0, topic: 0, alias: None, dup: false, retain: false };
        Publish { id, ..letter.publish() }
    }

    pub(super) fn publish(self) -> Publish {
        Publish {
            dup: self.dup,
            qos: self.qos.qos(),
            retain: self.retain,
            topic: (*pick(&TOPICS, self.topic)).into(),
            id: if let Qos::Q0 = self.qos { 0 } else { packet_id(self.id) },
            payload: Bytes::from_static(b"x"),
            alias: self.alias.map(u16::from),
            has_subscription_id: false,
            properties: None,
        }
    }
}

/// Few identifiers, so that they repeat; never 0, which the codec refuses.
pub(super) fn packet_id(id: u8) -> u16 {
    u16::from(id % 12) + 1
}

pub(super) fn filter(which: u8) -> Text {
    (*pick(&FILTERS, which)).into()
}

pub(super) fn options(bits: u8) -> SubscribeOptions {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    SubscribeOptions {
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        retain_handling: *pick(&[RetainHandling::Always, RetainHandling::WhenNew, RetainHandling::Never], bits >> 4),
        ..samples::options(*pick(&qos, bits & 3))
    }
}

pub(super) fn pick<T>(among: &[T], which: u8) -> &T {
    &among[usize::from(which) % among.len()]
}
