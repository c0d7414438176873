//! How it ends: the process dies and comes back, or everything is brought to its end and looked at.

use std::collections::BTreeMap;

use super::World;
use crate::{
    source::mqtt::{
        fuzz_session::script::{Hello, Letter, Post, Qos},
        packet::{Ack, Incoming},
        reason,
        session::Session,
    },
    store::Store,
};

impl World {
    /// The process dies and starts again.
    pub(super) fn crash(&mut self) {
        if self.is_over {
            return;
        }
        let Some(restored) = self.disk.as_ref().map(|disk| disk.image.restore()) else { return };
        self.is_open = false;
        self.forget();
        assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
        let store = Store::detached();
        let stored = restored.sessions.into_iter().find(|session| session.state.number == self.session.number());
        assert_eq!(stored.is_some(), self.session.is_durable(), "a durable session is stored, and no other");
        match stored {
            None => self.end_session(),
            Some(stored) => {
                self.publishes.crashed(&stored.used);
                self.deliveries.crashed(&stored);
                let filters: BTreeMap<_, _> = stored.subscriptions.iter().map(|of| (of.filter.clone(), true)).collect();
                let lost: Vec<_> = self.filters.iter().filter(|(filter, sure)| **sure && !filters.contains_key(*filter)).collect();
                let undead: Vec<_> = filters.keys().filter(|filter| !self.filters.contains_key(*filter)).collect();
                assert!(lost.is_empty() && undead.is_empty(), "subscriptions lost: {lost:?}, back again: {undead:?}");
                self.filters = filters;
                let (session, excess) = Session::restore(stored, &self.limits, Some(&store));
                self.session = session;
                self.deliveries.ended += excess.len() as u64;
            }
        }
        if let Some(disk) = &mut self.disk {
            disk.store = store;
        }
    }

    /// The client comes back and brings everything to its end: nothing may be left of it.
    pub(in super::super) fn finish(&mut self) {
        self.connect(Hello::BEST);
        self.settle_all();
        self.rest();
        for id in self.publishes.to_repeat() {
            self.give(Incoming::Publish(Box::new(Letter::plain(Qos::Q2, id))));
            self.settle_all();
            self.rest();
        }
        assert!(self.session.is_settled());
        self.publishes.check_empty();
        self.check_windows();
        self.end();
    }

    /// The client answers everything until nothing more comes.
    pub(super) fn rest(&mut self) {
        for _ in 0..2_000 {
            self.commit();
            self.advance(usize::MAX);
            while self.deliveries.nth(0).is_some() {
                self.answer(0, false);
            }
            for id in self.publishes.to_release() {
                self.give(Incoming::PubRel(Ack::new(id, reason::SUCCESS)));
            }
            if self.deliveries.is_empty() && !self.session.can_deliver() {
                break;
            }
        }
        assert!(self.is_open && self.deliveries.is_empty() && !self.session.can_deliver(), "it does not come to rest");
    }

    /// As much goes in both directions as at the beginning.
    pub(super) fn check_windows(&mut self) {
        let window = self.deliveries.terms.window.min(usize::from(self.limits.max_queued_messages as u16));
        for _ in 0..window {
            self.post(Post::PLAIN);
        }
        let before = self.deliveries.sent;
        self.session.has_mail();
        self.advance(usize::MAX);
        assert_eq!(self.deliveries.sent - before, window as u64, "the window for deliveries is not what it was");
        let plain = |id| Letter::plain(Qos::Q1, id);
        let mut out = Vec::new();
        for id in 0..self.limits.receive_maximum {
            let taken = self.session.handle(Incoming::Publish(Box::new(plain(1_000 + id))), self.now_ms, self.wanted, &mut out);
            assert_eq!(taken, Ok(()), "the window for publishes is not what it was");
        }
        let excess = self.session.handle(Incoming::Publish(Box::new(plain(999))), self.now_ms, self.wanted, &mut out);
        assert_eq!(excess.map_err(|fault| fault.code), Err(reason::RECEIVE_MAXIMUM_EXCEEDED));
    }

    /// The session ends: what it took was delivered, dropped or is left over.
    pub(super) fn end(&mut self) {
        let lost = self.session.end().len() as u64;
        assert_eq!(self.deliveries.taken, self.deliveries.ended + lost, "messages taken; told of or left over ({lost})");
    }
}
