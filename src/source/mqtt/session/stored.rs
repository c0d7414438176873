//! A session that outlives the process: what it wants stored, and how it comes back.
//!
//! Only sessions that outlive their connection are durable. What must be durable before something is sent is followed by
//! [`Output::Barrier`]: SUBACK and UNSUBACK wait for the subscription, a QoS 2 PUBLISH for its identifier, PUBREL for the knowledge that
//! the message was received, PUBCOMP and a refusing PUBREC for the identifier being free. All the rest is stored without waiting; its
//! loss makes a repetition that the protocol allows.
//!
//! A QoS 2 identifier of the client is stored together with the message's arrival in the receivers' queues ([`Trace`]). Whether Kafka had
//! the message too is not known after a crash; the client's PUBLISH, sent again, then goes to Kafka and not to subscribers. Where a route
//! must have it once, the way to Kafka stores what it intends, and the session brings that back ([`super::repeats`]) and has it forgotten
//! before the identifier is free.

use std::{collections::HashMap, sync::Arc};

use super::{
    Filters, Granted, Link, Output, Session, Unmade, aliases::ServerAliases, inbound::Inbound, outbound::Outbound, proof::Proof,
    repeats::Repeats, waiting::Waiting,
};
use crate::{
    config::Mqtt,
    event::{Client, QoS, Settlements, Text},
    source::mqtt::{
        mailbox::{Mailbox, Queued},
        packet::{Protocol, Publish, RetainHandling, SubscribeOptions},
    },
    store::{Change, Place, SessionState, Store, StoredSession, StoredSubscription},
};

/// What a publish has to do with the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::source::mqtt) enum Trace {
    /// Nothing but its deliveries.
    #[default]
    None,
    /// This becomes durable together with its deliveries.
    With(Change),
    /// Its deliveries were made before the process started again: there are none now.
    Delivered,
}

impl Session {
    /// Makes the session durable in `store` from now on, if it outlives its connection; otherwise, or without a store, it is in memory
    /// only. Call it after [`Session::new`] and [`Session::attach`].
    pub(in crate::source::mqtt) fn keep_in(&mut self, store: Option<&Store>) {
        let was = self.durable;
        self.durable = store.is_some() && self.expiry_s > 0;
        match store {
            Some(store) if self.durable => self.mailbox.keep_in(store, self.number),
            Some(store) if was => {
                self.mailbox.forget_store();
                store.add(Change::Ended(self.number));
            }
            _ => {}
        }
    }

    /// Whether it outlives the process.
    pub(in crate::source::mqtt) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The session's own facts, since when it waits for its client.
    pub(in crate::source::mqtt) fn state(&self, left_at_ms: Option<u64>) -> SessionState {
        SessionState { number: self.number, client: self.mailbox.client(), expiry_s: self.expiry_s, left_at_ms }
    }

    /// The session waits for its client from now on, perhaps with its client's will.
    pub(in crate::source::mqtt) fn leave(&self, with_will: bool, now_ms: u64) {
        if let Some(store) = self.mailbox.store().filter(|_| self.durable) {
            let mut batch = store.batch();
            batch.add(Change::Session(Box::new(self.state(Some(now_ms)))));
            if !with_will {
                batch.add(Change::Will(self.number, None));
            }
        }
    }

    /// The client's will is published.
    pub(in crate::source::mqtt) fn forget_will(&self) {
        if let Some(store) = self.mailbox.store().filter(|_| self.durable) {
            store.add(Change::Will(self.number, None));
        }
    }

    /// A stored session, waiting for its client; and what of its queue exceeds the bounds of today.
    pub(in crate::source::mqtt) fn restore(stored: StoredSession, limits: &Arc<Mqtt>, store: Option<&Store>) -> (Self, Vec<Queued>) {
        let StoredSession { state, subscriptions, used, intents, flights, queue, .. } = stored;
        let mailbox = Mailbox::new(&state.client, limits);
        let last = queue.iter().map(|(sequence, _)| *sequence).chain(flights.iter().map(|flight| flight.sequence)).max();
        let queue = queue.into_iter().map(|(sequence, parcel)| Queued { sequence, parcel: parcel.into() });
        let excess = mailbox.restore(queue, last.map_or(0, |last| last + 1));
        let mut session = Session {
            number: state.number,
            limits: Arc::clone(limits),
            mailbox,
            settlements: Settlements::new(),
            filters: Filters::restore(subscriptions.into_iter().map(granted).collect::<HashMap<_, _>>()),
            waiting: Waiting::default(),
            inbound: Inbound::restore(used, Repeats::restore(state.number, intents)),
            outbound: Outbound::restore(flights),
            link: Link::absent(&state.client),
            expiry_s: state.expiry_s,
            mail: true,
            unmade: Unmade::default(),
            durable: false,
            taken: Vec::new(),
            settled: Vec::new(),
        };
        session.keep_in(store);
        (session, excess)
    }

    pub(in crate::source::mqtt) fn place(&self, sequence: u64) -> Place {
        Place { session: self.number, sequence }
    }

    pub(super) fn persist(&self, out: &mut Vec<Output>, change: impl FnOnce(&Self) -> Change) {
        self.persist_if(true, out, change);
    }

    pub(super) fn persist_if(&self, condition: bool, out: &mut Vec<Output>, change: impl FnOnce(&Self) -> Change) {
        if self.durable && condition {
            out.push(Output::Persist(change(self)));
        }
    }

    pub(super) fn barrier(&self, out: &mut Vec<Output>) {
        if self.durable {
            out.push(Output::Barrier);
        }
    }

    /// A QoS 2 identifier of the client is free; what is answered waits for it.
    pub(super) fn persist_released(&mut self, id: u16, out: &mut Vec<Output>) {
        self.persist(out, |session| Change::Released(session.number, id));
        self.persist_forgotten(out);
        self.barrier(out);
    }

    /// What went to those who must have it once and cannot be sent again.
    pub(super) fn persist_forgotten(&mut self, out: &mut Vec<Output>) {
        for (id, cluster) in self.inbound.take_forgotten() {
            self.persist(out, |session| Change::Forgotten(session.number, id, cluster));
        }
    }

    /// What SUBSCRIBE or UNSUBSCRIBE has changed, from `start` on in `out`.
    pub(super) fn persist_filters(&self, start: usize, out: &mut Vec<Output>) {
        if !self.durable {
            return;
        }
        let change = |output: &Output| match output {
            Output::Subscribe { filter, granted, .. } => Some(Change::Subscribed(self.number, Box::new(granted.stored(filter)))),
            Output::Unsubscribe(filter) => Some(Change::Unsubscribed(self.number, filter.clone())),
            _ => None,
        };
        let changes: Vec<_> = out.iter().skip(start).filter_map(change).map(Output::Persist).collect();
        out.extend(changes);
        out.push(Output::Barrier);
    }

    pub(super) fn trace(&self, publish: &Publish) -> Trace {
        if self.durable && publish.qos == QoS::ExactlyOnce { Trace::With(Change::Used(self.number, publish.id)) } else { Trace::None }
    }
}

impl Granted {
    fn stored(&self, filter: &Text) -> StoredSubscription {
        StoredSubscription {
            filter: filter.clone(),
            qos: self.options.qos,
            no_local: self.options.no_local,
            retain_as_published: self.options.retain_as_published,
            retain_handling: self.options.retain_handling as u8,
            subscription_id: self.subscription_id,
        }
    }
}

fn granted(stored: StoredSubscription) -> (Text, Granted) {
    let retain_handling = match stored.retain_handling {
        0 => RetainHandling::Always,
        1 => RetainHandling::WhenNew,
        _ => RetainHandling::Never,
    };
    let options =
        SubscribeOptions { qos: stored.qos, no_local: stored.no_local, retain_as_published: stored.retain_as_published, retain_handling };
    (stored.filter, Granted { options, subscription_id: stored.subscription_id })
}

impl Link {
    /// No connection yet.
    fn absent(client: &Arc<Client>) -> Self {
        let protocol = match client.protocol_version {
            3 => Protocol::V31,
            4 => Protocol::V311,
            _ => Protocol::V5,
        };
        Link {
            protocol,
            client: Arc::clone(client),
            problem_information: true,
            max_packet_bytes: usize::MAX,
            connect_expiry_s: 0,
            method: None,
            proof: Proof::None,
            aliases: HashMap::new(),
            alias_maximum: 0,
            server_aliases: ServerAliases::default(),
            last_topic: Text::new(),
        }
    }
}
