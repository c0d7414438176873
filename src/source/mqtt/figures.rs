//! What others may know about a session without asking its connection: the connection keeps it up to date, so that nobody waits for one.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};

use super::session::connect::Terms;

/// What others may know about a session without asking its connection.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) clean_start: AtomicBool,
    pub(super) keep_alive_s: AtomicU16,
    pub(super) expiry_s: AtomicU32,
    pub(super) in_flight: AtomicU32,
    pub(super) unanswered: AtomicU32,
    pub(super) subscriptions: AtomicU32,
}

impl Figures {
    /// Its client came in.
    pub(super) fn attach(&self, terms: &Terms) {
        self.clean_start.store(terms.clean_start, Relaxed);
        self.keep_alive_s.store(terms.keep_alive_s, Relaxed);
    }

    /// Deliveries that the client has not acknowledged.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// What changes with every packet.
    pub(super) fn note(&self, expiry_s: u32, in_flight: usize, unanswered: usize, subscriptions: usize) {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.expiry_s.store(expiry_s, Relaxed);
        self.in_flight.store(small(in_flight), Relaxed);
        self.unanswered.store(small(unanswered), Relaxed);
        self.subscriptions.store(small(subscriptions), Relaxed);
    }
}
