//! Who wants which topics.
//!
//! Filters without wildcards are found by hash, in shards; filters with wildcards live in a tree by level. The cost of a publish depends
//! on the filters that match it, not on those that do not. Filters are freed with their last subscriber.
//!
//! A shared subscription (`$share/name/filter`) stands under its filter like any other, as a [`Group`]: matching costs one step however
//! many members it has, and who of them gets the message is chosen when it arrives.
//!
//! Absent: the sessions' own record of what they hold, which decides about "new" and about cleaning up.

mod look;
mod share;
mod tree;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;

pub(super) use self::share::Group;
use self::tree::Node;
use super::{
    mailbox::{Mailbox, Parcel},
    session::Granted,
};
use crate::{
    config::SharedStrategy,
    event::{Message, QoS, Text},
    topic,
};

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
            share: None,
        }
    }
}

/// Whom a message goes to.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    /// Each once.
    pub(super) sessions: Vec<Receiver>,
    /// One member of each.
    pub(super) groups: Vec<Arc<Group>>,
}

impl Receivers {
    /// Whether any delivery of the message may be stored.
    pub(super) fn store(&self, message: &Message) -> bool {
        self.sessions.iter().any(|receiver| receiver.stores(message)) || self.groups.iter().any(|group| group.stores(message))
    }

    /// Nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.groups.is_empty()
    }
}

/// All subscriptions of the broker.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Of groups that begin.
    strategy: RwLock<SharedStrategy>,
    hasher: RandomState,
    exact: [RwLock<HashMap<Text, Held>>; SHARDS],
    wild: RwLock<Node>,
    wild_count: AtomicUsize,
}

/// Who stands under one filter.
#[derive(Debug, Default)]
struct Held {
    entries: Entries,
    /// Few, if any.
    groups: Vec<Arc<Group>>,
}

/// The entries of one filter, sorted by session: sessions are numbered in order, so most are added at the end.
#[derive(Debug, Default)]
struct Entries(Vec<Entry>);

impl Subscriptions {
    /// None yet; groups choose by `strategy`.
    pub(super) fn new(strategy: SharedStrategy) -> Self {
        Subscriptions { strategy: RwLock::new(strategy), ..Subscriptions::default() }
    }

    /// Groups that begin from now on choose by `strategy`.
    pub(super) fn set_strategy(&self, strategy: SharedStrategy) {
        *self.strategy.write() = strategy;
    }

    /// Adds or replaces what session number `session` wants under `filter`, which may be a shared subscription's.
    pub(super) fn insert(&self, filter: &Text, session: u64, mailbox: &Arc<Mailbox>, granted: Granted) {
        let entry = Entry { session, mailbox: Arc::clone(mailbox), granted };
        let (plain, shared) = split(filter);
        let put = |held: &mut Held| match shared {
            true => held.put_shared(filter, entry, || *self.strategy.read()),
            false => held.entries.put(entry),
        };
        if is_wild(plain) {
            if put(self.wild.write().held(plain)) {
                self.wild_count.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            put(self.shard(plain).write().entry(if shared { plain.into() } else { filter.clone() }).or_default());
        }
    }

    /// Removes it.
    pub(super) fn remove(&self, filter: &str, session: u64) {
        let (plain, shared) = split(filter);
        let take = |held: &mut Held| if shared { held.take_shared(filter, session) } else { held.entries.take(session) };
        if is_wild(plain) {
            if self.wild.write().remove(&mut plain.split('/'), &take) {
                self.wild_count.fetch_sub(1, Ordering::Relaxed);
            }
        } else {
            let mut shard = self.shard(plain).write();
            if let Some(held) = shard.get_mut(plain) {
                take(held);
                if held.is_empty() {
                    shard.remove(plain);
                }
            }
        }
    }

    /// Whom a message on `topic` goes to; `publisher` is the client id for "no local".
    pub(super) fn receivers(&self, topic: &str, publisher: &str) -> Receivers {
        let mut receivers = Receivers::default();
        if let Some(held) = self.shard(topic).read().get(topic) {
            held.collect(publisher, &mut receivers);
        }
        if self.wild_count.load(Ordering::Relaxed) > 0 {
            let exact = receivers.sessions.len();
            self.wild.read().collect(topic, publisher, &mut receivers);
            if receivers.sessions.len() > exact {
                merge(&mut receivers.sessions);
            }
        }
        receivers
    }

    /// The group of a shared subscription's whole filter, if it has members.
    pub(super) fn group(&self, filter: &str) -> Option<Arc<Group>> {
        let (plain, _) = split(filter);
        if is_wild(plain) { self.wild.read().get(plain)?.group(filter) } else { self.shard(plain).read().get(plain)?.group(filter) }
    }

    fn shard(&self, topic: &str) -> &RwLock<HashMap<Text, Held>> {
        let index = self.hasher.hash_one(topic) as usize % SHARDS;
        self.exact.get(index).unwrap_or(&self.exact[0])
    }
}

/// The topic filter, and whether it is shared; the session has seen that it is well formed.
fn split(filter: &str) -> (&str, bool) {
    match topic::split_share(filter) {
        Ok(Some(share)) => (share.filter, true),
        Ok(None) | Err(_) => (filter, false),
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

impl Held {
    fn put_shared(&mut self, filter: &Text, entry: Entry, strategy: impl FnOnce() -> SharedStrategy) -> bool {
        match self.groups.iter().find(|group| group.filter() == &**filter) {
            Some(group) => group.put(entry),
            None => {
                self.groups.push(Arc::new(Group::new(filter, strategy(), entry)));
                true
            }
        }
    }

    /// Whether it was there; a group goes with its last member.
    fn take_shared(&mut self, filter: &str, session: u64) -> bool {
        let Some(index) = self.groups.iter().position(|group| group.filter() == filter) else { return false };
        let Some(left) = self.groups.get(index).and_then(|group| group.take(session)) else { return false };
        if left == 0 {
            self.groups.remove(index);
        }
        true
    }

    fn group(&self, filter: &str) -> Option<Arc<Group>> {
        self.groups.iter().find(|group| group.filter() == filter).map(Arc::clone)
    }

    fn is_empty(&self) -> bool {
        self.entries.0.is_empty() && self.groups.is_empty()
    }

    fn collect(&self, publisher: &str, receivers: &mut Receivers) {
        self.entries.collect(publisher, &mut receivers.sessions);
        receivers.groups.extend(self.groups.iter().map(Arc::clone));
    }
}

#[cfg(test)]
mod tests;
