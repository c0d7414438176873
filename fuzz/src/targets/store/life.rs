//! A life of some sessions in groups of changes, and the store that has to remember it.

mod model;

use std::sync::Arc;

use arbitrary::Arbitrary;

use self::model::Model;
use crate::{
    event::{Bytes, Header, Message, Properties, QoS, Text},
    store::{Image, Restored, StoredSession},
};

/// What happens to some clients' sessions, in small numbers; `which` counts through what there is.
#[derive(Debug, Arbitrary)]
pub(super) struct Life {
    damage: (u16, u16, u8),
    acts: Vec<Act>,
}

#[derive(Debug, Arbitrary)]
enum Act {
    /// A client comes in, to its session or, afresh, to a new one.
    Begin {
        client: u8,
        afresh: bool,
        expiry_s: u32,
        left_at_ms: Option<u64>,
    },
    End {
        client: u8,
    },
    Will {
        client: u8,
        is_there: bool,
        delay_s: u32,
        message: Sketch,
    },
    Subscribe {
        client: u8,
        filter: u8,
        options: u8,
        subscription_id: Option<u32>,
    },
    Unsubscribe {
        client: u8,
        filter: u8,
    },
    Queue {
        client: u8,
        message: Sketch,
        retain: bool,
        subscription_ids: Vec<u32>,
    },
    /// The first of the queue that was not sent.
    Send {
        client: u8,
        id: u16,
    },
    Receive {
        client: u8,
        which: u8,
    },
    Finish {
        client: u8,
        which: u8,
    },
    Use {
        client: u8,
        id: u8,
    },
    Release {
        client: u8,
        id: u8,
    },
    Retain {
        message: Sketch,
    },
    Clear {
        topic: u8,
    },
    /// The group ends.
    Commit,
}

#[derive(Clone, Debug, Arbitrary)]
struct Sketch {
    topic: u8,
    qos: u8,
    payload: Vec<u8>,
    received_at_ms: u64,
    properties: Option<(Option<u32>, Option<bool>, Option<String>, Option<Vec<u8>>)>,
    headers: Vec<(String, String)>,
}

const TOPICS: [&str; 4] = ["a", "a/b", "", "devices/ü/state"];

fn topic(which: u8) -> Text {
    Text::from_static(TOPICS[usize::from(which) % TOPICS.len()])
}

fn qos(which: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(which % 3)]
}

impl Sketch {
    fn message(&self) -> Message {
        let properties = self.properties.clone().map(|(expiry_s, payload_is_utf8, content_type, correlation_data)| {
            Box::new(Properties {
                expiry_s,
                payload_is_utf8,
                content_type: content_type.map(Text::from),
                correlation_data: correlation_data.map(Bytes::from),
                ..Properties::default()
            })
        });
        Message {
            publisher: "publisher".into(),
            publisher_username: None,
            topic: topic(self.topic),
            payload: self.payload.clone().into(),
            qos: qos(self.qos),
            retain: self.qos & 4 != 0,
            received_at_ms: self.received_at_ms,
            properties,
            annotations: self
                .headers
                .iter()
                .map(|(name, value)| Header { name: name.as_str().into(), value: value.as_str().into() })
                .collect(),
        }
    }
}

impl Life {
    /// Lives it.
    pub(super) fn live(&self) {
        let (mut model, mut committed, mut image, mut group) = (Model::default(), Model::default(), Image::default(), Vec::new());
        for act in &self.acts {
            if let Act::Commit = act {
                image.apply(&std::mem::take(&mut group));
                committed = model.clone();
            } else {
                model.act(act, &mut group);
            }
        }
        let restored = image.restore();
        assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
        assert_eq!(sorted(restored), committed.stored());
        let mut copy = Image::default();
        copy.apply(&committed.changes());
        assert_eq!(sorted(copy.restore()), committed.stored());
        self.damage(&mut image);
    }

    /// One byte of one record is another one.
    fn damage(&self, image: &mut Image) {
        let whole = image.restore();
        let (record, byte, flip) = self.damage;
        let count = image.records_mut().count();
        let Some((_, value)) = image.records_mut().nth(usize::from(record) % count.max(1)) else { return };
        let index = usize::from(byte) % value.len();
        value[index] ^= flip.max(1);
        let damaged = image.restore();
        assert!(!damaged.damaged.is_empty(), "nobody noticed");
        assert!(damaged.sessions.len() + 1 >= whole.sessions.len() && damaged.retained.len() + 1 >= whole.retained.len());
    }
}

/// With the order of digests taken out.
fn sorted(restored: Restored) -> (Vec<StoredSession>, Vec<Arc<Message>>) {
    let Restored { mut sessions, mut retained, .. } = restored;
    sessions.iter_mut().for_each(|session| session.subscriptions.sort_by(|a, b| a.filter.cmp(&b.filter)));
    retained.sort_by(|a, b| a.topic.cmp(&b.topic));
    (sessions, retained)
}
