//! The broker as its operators see it: who is in, which sessions there are, what is retained; and the few things that they may change.
//!
//! What an online connection knows is read from [`super::figures`], which it keeps up to date, so that nobody waits for a connection. Lists are
//! in the order of their keys and given in pages. Absent: how it is asked; that is the admin interface.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{Broker, Shared, mailbox::Mailbox, sessions};
use crate::event::{Client, Message, Subscription, now_ms};

/// A session, whether its client is there or not.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its client, as it last came in.
    pub client: Arc<Client>,
    /// Whether the client is there.
    pub online: bool,
    /// How it came in.
    pub clean_start: bool,
    /// As granted; 0 is none.
    pub keep_alive_s: u16,
    /// How long the session outlives its connection, seconds; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// When the session of an absent client ends, seconds from now; `None`: not while the client is there, or never.
    pub ends_in_s: Option<u64>,
    /// Its subscriptions.
    pub subscriptions: u32,
    /// Messages that wait for the client.
    pub queued_messages: usize,
    /// What they weigh, bytes.
    pub queued_bytes: usize,
    /// Deliveries that the client has not acknowledged.
    pub in_flight: u32,
    /// Publishes of the client that were not acknowledged yet.
    pub unanswered: u32,
}

impl SessionView {
    fn new(mailbox: &Mailbox, online: bool, ends: Option<Instant>) -> Self {
        let (figures, (queued_messages, queued_bytes)) = (&mailbox.figures, mailbox.backlog());
        SessionView {
            client: mailbox.client(),
            online,
            clean_start: figures.clean_start.load(Relaxed),
            keep_alive_s: figures.keep_alive_s.load(Relaxed),
            expiry_s: figures.expiry_s.load(Relaxed),
            ends_in_s: ends.map(|ends| ends.saturating_duration_since(Instant::now()).as_secs()),
            subscriptions: figures.subscriptions.load(Relaxed),
            queued_messages,
            queued_bytes,
            in_flight: figures.in_flight.load(Relaxed),
            unanswered: figures.unanswered.load(Relaxed),
        }
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Only what comes after this key.
    pub after: String,
    /// At most so many.
    pub limit: usize,
}

/// Which sessions are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those whose client is there.
    pub online: bool,
    /// Only client ids that begin with this.
    pub prefix: String,
    /// Only those of this user.
    pub username: Option<String>,
}

/// A look into a running broker, and the means to change what one sees. Cheap to clone; does not keep the broker alive.
#[derive(Clone, Debug)]
pub struct Inspector {
    shared: Weak<Shared>,
}

impl Broker {
    /// A look into this broker.
    pub fn inspector(&self) -> Inspector {
        Inspector { shared: Arc::downgrade(&self.shared) }
    }
}

impl Inspector {
    /// Sessions by client id, and whether there are more.
    pub fn sessions(&self, wanted: &Wanted, part: &Part) -> (Vec<SessionView>, bool) {
        let Some(shared) = self.shared.upgrade() else { return Default::default() };
        let mut found = Vec::new();
        shared.sessions.each(|mailbox, online, ends| {
            let id = mailbox.client_id();
            if (online || !wanted.online) && id.starts_with(&wanted.prefix) && **id > *part.after {
                found.push((Arc::clone(mailbox), online, ends));
            }
        });
        found.sort_unstable_by(|(one, ..), (other, ..)| one.client_id().cmp(other.client_id()));
        let views = found.iter().map(|(mailbox, online, ends)| SessionView::new(mailbox, *online, *ends));
        let mut views: Vec<SessionView> =
            views.filter(|view| wanted.username.as_deref().is_none_or(|name| view.client.username.as_deref() == Some(name))).collect();
        let more = views.len() > part.limit;
        views.truncate(part.limit);
        (views, more)
    }

    /// One session, with what it is subscribed to.
    pub fn session(&self, client_id: &str) -> Option<(SessionView, Vec<Subscription>)> {
        let shared = self.shared.upgrade()?;
        let (mailbox, online, ends) = shared.sessions.find(client_id)?;
        let mut held = shared.subscriptions.held_in(&mailbox);
        held.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        Some((SessionView::new(&mailbox, online, ends), held))
    }

    /// Ends a client's connection (0x98, administrative action), and its session when `end_session`; whether it was there. Returns when the
    /// connection has raised its last event.
    pub async fn kick(&self, client_id: &str, end_session: bool) -> bool {
        match self.shared.upgrade() {
            Some(shared) => sessions::kick(&shared, &client_id.into(), end_session, true).await,
            None => false,
        }
    }

    /// Ends a session, and its connection if it has one; whether it was there.
    pub async fn end_session(&self, client_id: &str) -> bool {
        match self.shared.upgrade() {
            Some(shared) => sessions::kick(&shared, &client_id.into(), true, false).await,
            None => false,
        }
    }

    /// Retained messages under a filter by topic, and whether there are more.
    pub fn retained(&self, filter: &str, part: &Part) -> (Vec<Arc<Message>>, bool) {
        let Some(shared) = self.shared.upgrade() else { return Default::default() };
        let mut found = shared.retained.matching(filter, now_ms());
        found.retain(|message| *message.topic > *part.after);
        found.sort_unstable_by(|one, other| one.topic.cmp(&other.topic));
        let more = found.len() > part.limit;
        found.truncate(part.limit);
        (found, more)
    }

    /// Forgets the retained message of a topic; whether there was one. No hook is raised: nobody published anything.
    pub fn forget_retained(&self, topic: &str) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.retained.forget(topic))
    }
}
