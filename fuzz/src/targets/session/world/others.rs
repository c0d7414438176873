//! What the pipeline, Kafka, those who are asked for permission, and other clients do.

use std::sync::Arc;

use super::World;
use crate::{
    event::{self, Denial, Outcome, Refusal},
    source::mqtt::{
        fuzz_session::{
            publishes::Pending,
            script::{Decision, Fate, Post, Proof},
        },
        mailbox::Parcel,
        reason,
        samples::{expiring, message},
        session::{Trace, Verdict},
    },
};

impl World {
    /// Somebody answers what was asked first.
    pub(super) fn permit(&mut self, denied: u8) {
        let Some((number, count)) = self.questions.pop_front() else { return };
        let answers = (0..count).map(|index| (denied >> (index % 8) & 1 != 0).then_some(reason::NOT_AUTHORIZED)).collect();
        let mut out = Vec::new();
        match self.session.authorized(number, answers, &mut out) {
            Ok(()) => self.apply(out),
            Err(_) => self.fail(out),
        }
    }

    pub(super) fn prove(&mut self, proof: Proof) {
        if !std::mem::take(&mut self.is_proving) {
            return;
        }
        let answer = match proof {
            Proof::Proceed => Ok(event::Step::Proceed(None)),
            Proof::Allow => Ok(event::Step::Allow(None)),
            Proof::Deny => Err(Denial { reason_code: reason::NOT_AUTHORIZED, reason: "no".into() }),
        };
        let mut out = Vec::new();
        match self.session.proved(answer, &mut out) {
            Ok(()) => self.apply(out),
            Err(_) => self.fail(out),
        }
    }

    pub(super) fn decide(&mut self, which: u8, verdict: Decision) {
        let Some(which) = usize::from(which).checked_rem(self.publishes.pending.len()) else { return };
        let denial = |reason_code: u8| Denial { reason_code: reason_code | reason::FIRST_ERROR, reason: "no".into() };
        self.decide_at(
            which,
            match verdict {
                Decision::Accept { matched } => Verdict::Accepted { matched },
                Decision::Swallow => Verdict::Swallowed,
                Decision::Deny { code } => Verdict::Denied(denial(code)),
            },
        );
    }

    /// The first word counts. What a former connection has read comes through the mailbox.
    pub(super) fn decide_at(&mut self, which: usize, verdict: Verdict) {
        let pending = &mut self.publishes.pending[which];
        if std::mem::replace(&mut pending.is_decided, true) {
            return;
        }
        let number = pending.number;
        if let Some(share) = pending.share.take() {
            match (&self.disk, &verdict, std::mem::take(&mut pending.trace)) {
                (Some(disk), Verdict::Accepted { .. } | Verdict::Swallowed, Trace::With(change)) => {
                    let mut batch = disk.store.batch();
                    batch.add(change);
                    batch.share(share);
                }
                _ => share.settle(Outcome::Stored),
            }
        }
        if pending.connection == self.connection {
            self.session.decided(number, verdict.clone());
        } else {
            self.session.mailbox().bring(number, verdict.clone());
            self.session.has_mail();
        }
        self.publishes.decided(number, verdict);
    }

    pub(super) fn settle(&mut self, which: u8, outcome: Fate) {
        let Some(which) = usize::from(which).checked_rem(self.publishes.pending.len()) else { return };
        let refused = |refusal: fn(event::Text) -> Refusal| Outcome::Refused(refusal("no".into()));
        match outcome {
            Fate::Stored => self.settle_at(which, Outcome::Stored),
            Fate::TooLarge => self.settle_at(which, refused(Refusal::TooLarge)),
            Fate::Unauthorized => self.settle_at(which, refused(Refusal::Unauthorized)),
            Fate::Unknown => self.settle_at(which, Outcome::Unknown("timed out".into())),
            Fate::Dropped => {
                let Pending { number, receipt, .. } = &mut self.publishes.pending[which];
                if receipt.take().is_some() {
                    let number = *number;
                    self.publishes.settled(number, Outcome::Unknown("dropped".into()));
                }
            }
        }
    }

    pub(super) fn settle_at(&mut self, which: usize, outcome: Outcome) {
        let Pending { number, receipt, .. } = &mut self.publishes.pending[which];
        if let Some(receipt) = receipt.take() {
            let number = *number;
            receipt.settle(outcome.clone());
            self.publishes.settled(number, outcome);
        }
    }

    pub(super) fn settle_all(&mut self) {
        for which in 0..self.publishes.pending.len() {
            self.decide_at(which, Verdict::Accepted { matched: true });
            self.settle_at(which, Outcome::Stored);
        }
        while !self.questions.is_empty() {
            self.permit(0);
        }
        assert!(self.requests.is_empty(), "never answered: {:?}", self.requests);
    }

    pub(super) fn post(&mut self, post: Post) {
        if self.is_over {
            return;
        }
        let qos = post.qos.qos();
        let mut message = message(post.topic(), qos, "");
        message.payload = self.deliveries.payload(usize::from(post.size));
        message.received_at_ms = self.now_ms;
        if let Some(expiry_s) = post.expiry_s {
            message = expiring(message, u32::from(expiry_s));
        }
        let subscription_ids = post.subscription_id.map(|id| u32::from(id) + 1).into_iter().collect();
        let share = post.is_shared.then(|| "$share/g/#".into());
        let parcel = Parcel { message: Arc::new(message), qos, retain: post.retain, subscription_ids, share };
        if self.session.mailbox().push(parcel).is_ok() {
            self.deliveries.took(qos);
        }
    }
}
