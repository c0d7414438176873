//! The filters with wildcards, as a tree by level: finding those that match a topic costs what the topic's own levels reach.

use std::{collections::HashMap, sync::Arc};

use super::{Held, Receivers};
use crate::{event::Subscription, source::mqtt::mailbox::Mailbox};

/// One level, and what stands under it.
#[derive(Debug, Default)]
pub(super) struct Node {
    levels: HashMap<Box<str>, Node>,
    plus: Option<Box<Node>>,
    here: Held,
    below: Held,
}

impl Node {
    /// Who stands under a filter, with the way to it.
    pub(super) fn held(&mut self, filter: &str) -> &mut Held {
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

    /// The same, if the way is there.
    pub(super) fn get(&self, filter: &str) -> Option<&Held> {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return Some(&node.below),
                "+" => node.plus.as_deref()?,
                level => node.levels.get(level)?,
            };
        }
        Some(&node.here)
    }

    /// Removes with `take` and clears the way that leads nowhere else; whether it was there. Filters are at most
    /// [`crate::config::MOST_TOPIC_LEVELS`] deep, and so is the recursion.
    pub(super) fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, take: &impl Fn(&mut Held) -> bool) -> bool {
        match levels.next() {
            None => take(&mut self.here),
            Some("#") => take(&mut self.below),
            Some("+") => {
                let Some(node) = &mut self.plus else { return false };
                let removed = node.remove(levels, take);
                if node.is_empty() {
                    self.plus = None;
                }
                removed
            }
            Some(level) => {
                let Some(node) = self.levels.get_mut(level) else { return false };
                let removed = node.remove(levels, take);
                if node.is_empty() {
                    self.levels.remove(level);
                }
                removed
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.plus.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    /// How many filters there are.
    pub(super) fn filters(&self) -> usize {
        let here = usize::from(!self.here.is_empty()) + usize::from(!self.below.is_empty());
        here + self.levels.values().chain(self.plus.as_deref()).map(Node::filters).sum::<usize>()
    }

    /// What one session holds. As deep as filters are.
    pub(super) fn held_in<'a>(&'a self, mailbox: &Arc<Mailbox>, way: &mut Vec<&'a str>, held: &mut Vec<Subscription>) {
        self.here.held_in(mailbox, || way.join("/").into(), held);
        self.below.held_in(mailbox, || [&way[..], &["#"]].concat().join("/").into(), held);
        let plus = self.plus.as_deref().map(|node| ("+", node));
        for (level, node) in self.levels.iter().map(|(level, node)| (&**level, node)).chain(plus) {
            way.push(level);
            node.held_in(mailbox, way, held);
            way.pop();
        }
    }

    /// Walks all ways through the tree that `topic` allows, with a list of its own instead of recursion.
    pub(super) fn collect(&self, topic: &str, publisher: &str, receivers: &mut Receivers) {
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
