//! Topic aliases towards an MQTT 5 client: the first topics of a connection get one, as many as the client and the configuration allow.
//!
//! First come, first served: a subscriber to many topics has its table filled once and nothing evicted, so a topic that has an alias keeps
//! it, and the client's table never changes under a packet that is on its way. Aliases end with their connection [MQTT-3.3.2-7].
//!
//! Absent: the aliases that clients define; they are in [`super::Link`].

use std::collections::HashMap;

use crate::{
    event::Text,
    source::mqtt::packet::{Alias, Forward},
};

/// A shorter topic costs less than its alias: the property takes three bytes, and the lengths before it may grow.
const WORTH_FROM_BYTES: usize = 6;

/// The aliases of one connection.
#[derive(Debug, Default)]
pub(super) struct ServerAliases {
    maximum: u16,
    known: HashMap<Text, u16>,
}

impl ServerAliases {
    /// At most `maximum`; 0 is none.
    pub(super) fn new(maximum: u16) -> Self {
        ServerAliases { maximum, known: HashMap::new() }
    }

    /// Gives the packet an alias, if there is one or room for one; whether it is new, which makes the packet longer.
    pub(super) fn offer(&self, forward: &mut Forward) -> bool {
        let topic = &forward.message.topic;
        if self.maximum == 0 || topic.len() < WORTH_FROM_BYTES {
            return false;
        }
        forward.alias = match self.known.get(topic) {
            Some(alias) => Some(Alias::Known(*alias)),
            None => self.next().map(Alias::New),
        };
        matches!(forward.alias, Some(Alias::New(_)))
    }

    /// The packet goes out: from here on the client knows its alias.
    pub(super) fn sent(&mut self, forward: &Forward) {
        if let Some(Alias::New(alias)) = forward.alias {
            self.known.insert(forward.message.topic.clone(), alias);
        }
    }

    fn next(&self) -> Option<u16> {
        let next = u16::try_from(self.known.len() + 1).ok()?;
        (next <= self.maximum).then_some(next)
    }
}
