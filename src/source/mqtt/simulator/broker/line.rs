//! The pipeline, Kafka and the bus: they take their time, refuse, fail, and keep one publisher's messages in order.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    super::{
        ledger::{Ledger, device_of},
        stage::{Event, Stage},
    },
    Broker, Phase,
};
use crate::{
    event::{Client, Denial, Message, Outcome, QoS, Receipt, Refusal},
    source::mqtt::{
        mailbox::{Mailbox, Parcel},
        reason,
        session::Verdict,
    },
};

impl Broker {
    /// The pipeline has decided about the next publish of a connection.
    pub(in super::super) fn judged(&mut self, link: u64, stage: &mut Stage, ledger: &mut Ledger) {
        let Some(mut conn) = self.conns.remove(&link) else { return };
        let guest = conn.guest.as_mut().expect("it has publishes");
        if guest.predecessor.as_mut().is_some_and(|done| matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty))) {
            judge_later(link, stage); // the connection before it has not finished
            self.conns.insert(link, conn);
            return;
        }
        guest.predecessor = None;
        if let Some((message, number, receipt)) = guest.lane.pop_front() {
            let (device, client) = (guest.device, Arc::clone(&guest.client));
            let verdict = self.publish(&client, *message, Some((device, receipt)), stage, ledger);
            let guest = conn.guest.as_mut().expect("it has publishes");
            if let Some(number) = number {
                match (&mut guest.session, &guest.former_mailbox) {
                    (Some(session), _) => session.decided(number, verdict),
                    (None, Some(mailbox)) => Mailbox::bring(mailbox, number, verdict),
                    (None, None) => {}
                }
            }
            if !guest.lane.is_empty() {
                judge_later(link, stage);
            }
        }
        let device = conn.guest.as_ref().map(|guest| guest.device);
        match conn.phase {
            Phase::Closing => self.finish(conn, stage, ledger),
            _ => self.pump(conn, stage, ledger),
        }
        device.into_iter().for_each(|device| self.wake(device, stage, ledger));
    }

    /// The pipeline, Kafka and the bus.
    pub(in super::super) fn publish(
        &mut self,
        client: &Arc<Client>,
        message: Message,
        receipt: Option<(usize, Receipt)>,
        stage: &mut Stage,
        ledger: &mut Ledger,
    ) -> Verdict {
        let may_fail = receipt.is_some() && message.qos != QoS::AtMostOnce;
        let outcome = if may_fail && stage.mishap(1) {
            Outcome::Unknown("timed out".into())
        } else if may_fail && stage.mishap(1) {
            Outcome::Refused(Refusal::TooLarge("1 MiB".into()))
        } else {
            Outcome::Stored
        };
        let verdict = match may_fail.then(|| stage.mishap(100).then(|| stage.rng.u32(0..30))).flatten() {
            Some(0) => Some(Verdict::Denied(Denial { reason_code: reason::NOT_AUTHORIZED, reason: "no".into() })),
            Some(1) => Some(Verdict::Swallowed),
            _ => None,
        };
        ledger.decided(&message, matches!(verdict, Some(Verdict::Denied(_))), outcome == Outcome::Stored);
        if let Some((device, receipt)) = receipt {
            let after_ms = stage.delay(60_000);
            stage.after(after_ms, Event::Settled(device, receipt, outcome));
        }
        if let Some(verdict) = verdict {
            return verdict;
        }
        let message = Arc::new(message);
        let expected = ledger.accepted(&message);
        if message.retain {
            self.retained.keep(&message, None);
        }
        let mut found = Vec::new();
        for receiver in self.subscriptions.receivers(&message.topic, &client.client_id).sessions {
            let parcel = receiver.parcel(&message);
            let device = device_of(receiver.mailbox.client_id());
            let mut ids = parcel.subscription_ids.to_vec();
            ids.sort_unstable();
            found.push((device, parcel.qos.level(), parcel.retain, ids));
            ledger.owe(device, &message, parcel.qos.level(), false);
            self.carry(client, device, Arc::clone(&receiver.mailbox), parcel, stage);
        }
        found.sort();
        assert_eq!(found, expected, "receivers of {} from {}", message.topic, client.client_id);
        Verdict::Accepted { matched: !found.is_empty() }
    }

    /// In order for one publisher.
    fn carry(&mut self, publisher: &Client, device: usize, mailbox: Arc<Mailbox>, parcel: Parcel, stage: &mut Stage) {
        let earliest_ms = stage.now_ms + stage.delay(2000);
        let last_ms = self.bus.entry(device_of(&publisher.client_id)).or_default();
        *last_ms = earliest_ms.max(*last_ms);
        let after_ms = *last_ms - stage.now_ms;
        stage.after(after_ms, Event::Arrived(device, mailbox, parcel));
    }
}

pub(super) fn judge_later(link: u64, stage: &mut Stage) {
    let after_ms = stage.delay(5_000) + 1;
    stage.after(after_ms, Event::Judged(link));
}
