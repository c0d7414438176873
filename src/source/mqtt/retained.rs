//! The last message of each topic, for those who subscribe later.
//!
//! A tree by topic level, so that a subscription costs what its filter reaches. Bounded in messages; a topic deeper than
//! [`MOST_TOPIC_LEVELS`] (only a guest could make one) is not retained. With a store, what is retained outlives the process.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::session::connect::too_deep;
use crate::{
    config::MOST_TOPIC_LEVELS,
    event::{Message, Receipt},
    metrics::Metrics,
    store::{Change, Store},
};

/// What became of a message with the retain flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is the topic's retained message now.
    Stored,
    /// It was empty: the topic has none any more.
    Cleared,
    /// There is no room for another topic.
    Full,
}

/// All retained messages.
#[derive(Debug)]
pub(super) struct Retained {
    tree: RwLock<Tree>,
    max_messages: usize,
    metrics: Arc<Metrics>,
    store: Option<Store>,
}

#[derive(Debug, Default)]
struct Tree {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    levels: HashMap<Box<str>, Node>,
    message: Option<Arc<Message>>,
}

impl Retained {
    /// None yet, and at most `max_messages`.
    pub(super) fn new(max_messages: usize, metrics: Arc<Metrics>, store: Option<Store>) -> Self {
        Retained { tree: RwLock::default(), max_messages, metrics, store }
    }

    /// Puts back what was stored, up to the bound; how many did not fit.
    pub(super) fn restore(&self, messages: impl IntoIterator<Item = Arc<Message>>, now_ms: u64) -> usize {
        let mut refused = 0;
        for message in messages {
            if has_expired(&message, now_ms) {
                self.persist(None, || Change::Cleared(message.topic.clone()));
            } else if self.put(&message, None) == Kept::Full {
                refused += 1;
            }
        }
        refused
    }

    /// Keeps a message that was published with the retain flag, or clears its topic when it is empty; a share of `receipt` waits until
    /// that is durable.
    pub(super) fn keep(&self, message: &Arc<Message>, receipt: Option<&Receipt>) -> Kept {
        if message.payload.is_empty() {
            self.remove(&message.topic, receipt, |_| true);
            return Kept::Cleared;
        }
        self.put(message, Some(receipt))
    }

    /// Without `receipt` it comes from the store, which needs not be told.
    fn put(&self, message: &Arc<Message>, receipt: Option<Option<&Receipt>>) -> Kept {
        let mut tree = self.tree.write();
        if too_deep(&message.topic, MOST_TOPIC_LEVELS) || (tree.count >= self.max_messages && tree.root.get(&message.topic).is_none()) {
            return Kept::Full;
        }
        if tree.root.node(&message.topic).message.replace(Arc::clone(message)).is_none() {
            tree.count += 1;
            self.metrics.retained_messages.inc();
        }
        if let Some(receipt) = receipt {
            self.persist(receipt, || Change::Retained(Arc::clone(message)));
        }
        Kept::Stored
    }

    /// The retained messages under `filter` that have not expired.
    pub(super) fn matching(&self, filter: &str, now_ms: u64) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        let mut expired = Vec::new();
        let levels: Vec<&str> = filter.split('/').collect();
        self.tree.read().root.collect(&levels, true, &mut |message| {
            if has_expired(message, now_ms) { expired.push(message.topic.clone()) } else { found.push(Arc::clone(message)) }
        });
        for topic in expired {
            self.remove(&topic, None, |message| has_expired(message, now_ms));
        }
        found
    }

    /// Under the tree's lock, so that the store sees changes of one topic in the order in which they were made.
    fn persist(&self, receipt: Option<&Receipt>, change: impl FnOnce() -> Change) {
        if let Some(store) = &self.store {
            let mut batch = store.batch();
            batch.add(change());
            if let Some(receipt) = receipt {
                batch.share(receipt.clone());
            }
        }
    }

    /// Forgets the retained message of a topic; whether there was one.
    pub(super) fn forget(&self, topic: &str) -> bool {
        self.remove(topic, None, |_| true)
    }

    fn remove(&self, topic: &str, receipt: Option<&Receipt>, condition: impl Fn(&Message) -> bool) -> bool {
        let mut tree = self.tree.write();
        let removed = tree.root.remove(&mut topic.split('/').take(MOST_TOPIC_LEVELS), &condition);
        if removed {
            tree.count -= 1;
            self.metrics.retained_messages.dec();
            self.persist(receipt, || Change::Cleared(topic.into()));
        }
        removed
    }
}

fn has_expired(message: &Message, now_ms: u64) -> bool {
    let expiry_s = message.properties.as_ref().and_then(|properties| properties.expiry_s);
    expiry_s.is_some_and(|expiry_s| message.received_at_ms + u64::from(expiry_s) * 1000 <= now_ms)
}

impl Node {
    fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        let mut node = self;
        for level in topic.split('/') {
            node = node.levels.get(level)?;
        }
        node.message.as_ref()
    }

    fn node(&mut self, topic: &str) -> &mut Node {
        let mut node = self;
        for level in topic.split('/') {
            if !node.levels.contains_key(level) {
                node.levels.insert(level.into(), Node::default());
            }
            node = node.levels.entry(level.into()).or_default();
        }
        node
    }

    /// Removes a message and the way that leads nowhere else; whether it was there.
    fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, condition: &impl Fn(&Message) -> bool) -> bool {
        let Some(level) = levels.next() else {
            return self.message.take_if(|message| condition(message)).is_some();
        };
        let Some(node) = self.levels.get_mut(level) else { return false };
        let removed = node.remove(levels, condition);
        if node.message.is_none() && node.levels.is_empty() {
            self.levels.remove(level);
        }
        removed
    }

    fn collect(&self, filter: &[&str], first: bool, found: &mut impl FnMut(&Arc<Message>)) {
        let reserved = |level: &str| first && level.starts_with('$'); // [MQTT-4.7.2-1]
        match filter.split_first() {
            None => self.message.iter().for_each(found),
            Some((&"#", _)) => {
                self.message.iter().for_each(&mut *found);
                for (level, node) in &self.levels {
                    if !reserved(level) {
                        node.collect(&["#"], false, found);
                    }
                }
            }
            Some((&"+", rest)) => {
                for (level, node) in &self.levels {
                    if !reserved(level) {
                        node.collect(rest, false, found);
                    }
                }
            }
            Some((level, rest)) => {
                if let Some(node) = self.levels.get(*level) {
                    node.collect(rest, false, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
