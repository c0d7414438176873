//! What is subscribed, as operators see it. It costs a look at every filter.

use std::sync::Arc;

use super::{Entries, Held, Subscriptions};
use crate::{
    event::{Subscription, Text},
    source::mqtt::mailbox::Mailbox,
};

impl Subscriptions {
    /// How many filters there are that somebody is subscribed to; looks at every filter with a wildcard.
    pub(in crate::source::mqtt) fn filters(&self) -> usize {
        self.exact.iter().map(|shard| shard.read().len()).sum::<usize>() + self.wild.read().filters()
    }

    /// What the session with this mailbox holds; looks at every filter.
    pub(in crate::source::mqtt) fn held_in(&self, mailbox: &Arc<Mailbox>) -> Vec<Subscription> {
        let mut held = Vec::new();
        for shard in &self.exact {
            for (filter, here) in shard.read().iter() {
                here.held_in(mailbox, || filter.clone(), &mut held);
            }
        }
        self.wild.read().held_in(mailbox, &mut Vec::new(), &mut held);
        held
    }
}

impl Entries {
    pub(super) fn held_in(&self, mailbox: &Arc<Mailbox>, filter: impl FnOnce() -> Text) -> Option<Subscription> {
        let entry = self.0.iter().find(|entry| Arc::ptr_eq(&entry.mailbox, mailbox))?;
        Some(entry.granted.subscription(&filter()))
    }
}

impl Held {
    pub(super) fn held_in(&self, mailbox: &Arc<Mailbox>, filter: impl FnOnce() -> Text, held: &mut Vec<Subscription>) {
        held.extend(self.entries.held_in(mailbox, filter));
        held.extend(self.groups.iter().filter_map(|group| group.held_in(mailbox)));
    }
}
