//! Who wants which topics.
//!
//! Filters without wildcards are found by hash, in shards; filters with wildcards live in a tree by level. The cost of a publish depends
//! on the filters that match it, not on those that do not. Filters are freed with their last subscriber.
//!
//! Absent: the sessions' own record of what they hold, which decides about "new" and about cleaning up.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    mailbox::{Mailbox, Parcel},
    session::Granted,
};
use crate::event::{Message, QoS, Text};

const SHARDS: usize = 16;

/// One session's interest in one filter.
#[derive(Clone, Debug)]
struct Entry {
    session: u64,
    mailbox: Arc<Mailbox>,
    granted: Granted,
}

/// A session that a message goes to, with all of its subscriptions that match taken together.
#[derive(Debug)]
pub(super) struct Receiver {
    session: u64,
    pub(super) mailbox: Arc<Mailbox>,
    qos: QoS,
    retain_as_published: bool,
    subscription_ids: Vec<u32>,
}

impl Receiver {
    /// Whether this session's delivery of the message is stored.
    pub(super) fn stores(&self, message: &Message) -> bool {
        self.mailbox.stores(self.qos.min(message.qos))
    }

    /// The message as this session gets it.
    pub(super) fn parcel(&self, message: &Arc<Message>) -> Parcel {
        Parcel {
            message: Arc::clone(message),
            qos: self.qos.min(message.qos),
            retain: message.retain && self.retain_as_published,
            subscription_ids: self.subscription_ids.as_slice().into(),
        }
    }
}

/// All subscriptions of the broker.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    hasher: RandomState,
    exact: [RwLock<HashMap<Text, Entries>>; SHARDS],
    wild: RwLock<Node>,
    wild_count: AtomicUsize,
}

/// The entries of one filter, sorted by session: sessions are numbered in order, so most are added at the end.
#[derive(Debug, Default)]
struct Entries(Vec<Entry>);

#[derive(Debug, Default)]
struct Node {
    levels: HashMap<Box<str>, Node>,
    plus: Option<Box<Node>>,
    here: Entries,
    below: Entries,
}

impl Subscriptions {
    /// Adds or replaces what session number `session` wants under `filter`.
    pub(super) fn insert(&self, filter: &Text, session: u64, mailbox: &Arc<Mailbox>, granted: Granted) {
        let entry = Entry { session, mailbox: Arc::clone(mailbox), granted };
        if is_wild(filter) {
            if self.wild.write().entries(filter).put(entry) {
                self.wild_count.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.shard(filter).write().entry(filter.clone()).or_default().put(entry);
        }
    }

    /// Removes it.
    pub(super) fn remove(&self, filter: &str, session: u64) {
        if is_wild(filter) {
            if self.wild.write().remove(&mut filter.split('/'), session) {
                self.wild_count.fetch_sub(1, Ordering::Relaxed);
            }
        } else {
            let mut shard = self.shard(filter).write();
            if let Some(entries) = shard.get_mut(filter) {
                entries.take(session);
                if entries.0.is_empty() {
                    shard.remove(filter);
                }
            }
        }
    }

    /// The sessions that a message on `topic` goes to, each once; `publisher` is the client id for "no local".
    pub(super) fn receivers(&self, topic: &str, publisher: &str) -> Vec<Receiver> {
        let mut receivers = Vec::new();
        if let Some(entries) = self.shard(topic).read().get(topic) {
            entries.collect(publisher, &mut receivers);
        }
        if self.wild_count.load(Ordering::Relaxed) > 0 {
            let exact = receivers.len();
            self.wild.read().collect(topic, publisher, &mut receivers);
            if receivers.len() > exact {
                merge(&mut receivers);
            }
        }
        receivers
    }

    fn shard(&self, topic: &str) -> &RwLock<HashMap<Text, Entries>> {
        let index = self.hasher.hash_one(topic) as usize % SHARDS;
        self.exact.get(index).unwrap_or(&self.exact[0])
    }
}

fn is_wild(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Overlapping subscriptions of a session make one delivery, with the highest QoS and all identifiers (MQTT 5, section 3.3.4).
fn merge(receivers: &mut Vec<Receiver>) {
    receivers.sort_by_key(|receiver| receiver.session);
    receivers.dedup_by(|next, first| {
        let same = next.session == first.session;
        if same {
            first.qos = first.qos.max(next.qos);
            first.retain_as_published |= next.retain_as_published;
            first.subscription_ids.append(&mut next.subscription_ids);
        }
        same
    });
}

impl Entries {
    /// Whether it is new.
    fn put(&mut self, entry: Entry) -> bool {
        match self.0.binary_search_by_key(&entry.session, |entry| entry.session) {
            Ok(index) => {
                if let Some(old) = self.0.get_mut(index) {
                    *old = entry;
                }
                false
            }
            Err(index) => {
                self.0.insert(index, entry);
                true
            }
        }
    }

    /// Whether it was there.
    fn take(&mut self, session: u64) -> bool {
        let found = self.0.binary_search_by_key(&session, |entry| entry.session);
        found.map(|index| self.0.remove(index)).is_ok()
    }

    fn collect(&self, publisher: &str, receivers: &mut Vec<Receiver>) {
        for Entry { session, mailbox, granted } in &self.0 {
            if granted.options.no_local && **mailbox.client_id() == *publisher {
                continue;
            }
            receivers.push(Receiver {
                session: *session,
                mailbox: Arc::clone(mailbox),
                qos: granted.options.qos,
                retain_as_published: granted.options.retain_as_published,
                subscription_ids: granted.subscription_id.into_iter().collect(),
            });
        }
    }
}

impl Node {
    /// The entries of a filter, with the way to them.
    fn entries(&mut self, filter: &str) -> &mut Entries {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return &mut node.below,
                "+" => node.plus.get_or_insert_default(),
                level => node.levels.entry(level.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes an entry and the way that leads nowhere else; whether it was there. Filters are at most
    /// [`super::session::connect::MAX_TOPIC_LEVELS`] deep, and so is the recursion.
    fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, session: u64) -> bool {
        match levels.next() {
            None => self.here.take(session),
            Some("#") => self.below.take(session),
            Some("+") => {
                let Some(node) = &mut self.plus else { return false };
                let removed = node.remove(levels, session);
                if node.is_empty() {
                    self.plus = None;
                }
                removed
            }
            Some(level) => {
                let Some(node) = self.levels.get_mut(level) else { return false };
                let removed = node.remove(levels, session);
                if node.is_empty() {
                    self.levels.remove(level);
                }
                removed
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.plus.is_none() && self.here.0.is_empty() && self.below.0.is_empty()
    }

    /// Walks all ways through the tree that `topic` allows, with a list of its own instead of recursion.
    fn collect(&self, topic: &str, publisher: &str, receivers: &mut Vec<Receiver>) {
        let reserved = topic.starts_with('$'); // wildcards of the first level do not match [MQTT-4.7.2-1]
        let mut ways = vec![(self, Some(topic), true)];
        while let Some((node, rest, first)) = ways.pop() {
            let wildcards = !(first && reserved);
            if wildcards {
                node.below.collect(publisher, receivers);
            }
            let Some(rest) = rest else {
                node.here.collect(publisher, receivers);
                continue;
            };
            let (level, rest) = rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)));
            ways.extend(node.levels.get(level).map(|node| (node, rest, false)));
            if wildcards {
                ways.extend(node.plus.as_deref().map(|node| (node, rest, false)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
