//! One shared subscription: who its members are, and who of them gets a message (MQTT 5, section 4.8.2).
//!
//! Invariants: one member gets a message, or nobody; a member that is connected comes before one that is away, and a member with room
//! before one without. Choosing costs one look while the members are connected and have room.
//!
//! Absent: what was given to a member that left. Its session hands it back when it ends, and it is delivered anew.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;

use super::{Entries, Entry};
use crate::{
    config::SharedStrategy,
    event::{Client, Message, Subscription, Text},
    source::mqtt::mailbox::{Mailbox, Parcel, Rejected},
    store::Batch,
};

/// A shared subscription with its members. One that has lost its last member is in no tree any more; what was on its way then goes to
/// that member still, as it does with any other subscription.
#[derive(Debug)]
pub(in crate::source::mqtt) struct Group {
    filter: Arc<str>,
    strategy: SharedStrategy,
    members: RwLock<Entries>,
    /// Whose turn it is, in a round.
    next: AtomicUsize,
    /// The session that a sticky group sticks to.
    favourite: AtomicU64,
    hasher: RandomState,
}

impl Group {
    pub(super) fn new(filter: &str, strategy: SharedStrategy, first: Entry) -> Self {
        Group {
            filter: filter.into(),
            strategy,
            members: RwLock::new(Entries(vec![first])),
            next: AtomicUsize::new(0),
            favourite: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    /// With `$share/` and the share name.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Adds or replaces a member; whether it is new.
    pub(super) fn put(&self, entry: Entry) -> bool {
        self.members.write().put(entry)
    }

    /// Removes a member unless it is the last one; how many are left, or `None` when it was none of them.
    pub(super) fn take(&self, session: u64) -> Option<usize> {
        let mut members = self.members.write();
        if let [last] = &members.0[..] {
            return (last.session == session).then_some(0);
        }
        members.take(session).then(|| members.0.len())
    }

    /// Whether there is a member whose deliveries are stored.
    pub(super) fn stores(&self, message: &Message) -> bool {
        let members = self.members.read();
        members.0.iter().any(|member| member.mailbox.stores(member.granted.options.qos.min(message.qos)))
    }

    /// Gives a message to one member, within a batch of the store where there is one.
    ///
    /// # Errors
    /// Nobody has room; the parcel is that of the member whose turn it was.
    pub(in crate::source::mqtt) fn deliver(&self, message: &Arc<Message>, mut batch: Option<&mut Batch<'_>>) -> Result<(), Box<Rejected>> {
        let members = self.members.read();
        let count = members.0.len();
        let start = self.start(&members, message);
        let mut refused = None;
        for connected in [true, false] {
            for index in (start..count).chain(0..start) {
                let Some(member) = members.0.get(index).filter(|member| member.mailbox.is_connected() == connected) else { continue };
                match member.mailbox.push_in(self.parcel(member, message), batch.as_deref_mut()) {
                    Ok(()) => {
                        self.given(index, member.session);
                        return Ok(());
                    }
                    Err(rejected) => refused = refused.or(Some(rejected)),
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// What the session with this mailbox holds here.
    pub(super) fn held_in(&self, mailbox: &Arc<Mailbox>) -> Option<Subscription> {
        self.members.read().held_in(mailbox, || Text::from(&*self.filter))
    }

    /// A member, for what happened to the group as a whole.
    pub(in crate::source::mqtt) fn anybody(&self) -> Option<Arc<Client>> {
        self.members.read().0.first().map(|member| member.mailbox.client())
    }

    /// Where to begin to look.
    fn start(&self, members: &Entries, message: &Message) -> usize {
        let count = members.0.len().max(1);
        match self.strategy {
            SharedStrategy::RoundRobin => self.next.load(Ordering::Relaxed) % count,
            SharedStrategy::Random => fastrand::usize(..count),
            SharedStrategy::Sticky => {
                let favourite = self.favourite.load(Ordering::Relaxed);
                members.0.binary_search_by_key(&favourite, |member| member.session).unwrap_or_else(|_| fastrand::usize(..count))
            }
            SharedStrategy::HashClient => self.hasher.hash_one(&*message.publisher) as usize % count,
            SharedStrategy::HashTopic => self.hasher.hash_one(&*message.topic) as usize % count,
        }
    }

    /// Where to begin the next time. Two deliveries at once may begin at the same member: a round is fair, not exact.
    fn given(&self, index: usize, session: u64) {
        match self.strategy {
            SharedStrategy::RoundRobin => self.next.store(index + 1, Ordering::Relaxed),
            SharedStrategy::Sticky => self.favourite.store(session, Ordering::Relaxed),
            SharedStrategy::Random | SharedStrategy::HashClient | SharedStrategy::HashTopic => {}
        }
    }

    fn parcel(&self, member: &Entry, message: &Arc<Message>) -> Parcel {
        Parcel {
            message: Arc::clone(message),
            qos: member.granted.options.qos.min(message.qos),
            retain: message.retain && member.granted.options.retain_as_published,
            subscription_ids: member.granted.subscription_id.into_iter().collect(),
            share: Some(Arc::clone(&self.filter)),
        }
    }
}

#[cfg(test)]
mod tests;
