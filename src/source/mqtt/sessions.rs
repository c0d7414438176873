//! Which sessions exist, by client id: with whom each one is, or where it waits for its client.
//!
//! A connection that brings a client id in use evicts the one before it and is handed its session; the evicted connection finishes what
//! it has read and says when it is done, so that the order of one client's events holds over connections. A tenancy has a number: a
//! connection that comes to its end late cannot touch its successor's session.
//!
//! Sessions end when their expiry interval has passed, and with the process unless they are durable. Each ends once, in [`dissolve`], which
//! gives the last events of its life: `session.created` = `session.discarded` + `session.terminated` + those alive.

mod ending;
mod kick;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub(super) use self::{
    ending::{Ending, dissolve, end, end_with_process},
    kick::kick,
};
use super::{
    Shared,
    mailbox::Mailbox,
    reason,
    session::{Session, connect::LastWill},
};
use crate::event::{Client, Text, now_ms};

const SHARDS: usize = 16;

/// What whoever takes hold of a client id wants of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// The client goes on with it.
    Resume,
    /// The client throws it away.
    CleanStart,
    /// An operator ends the connection, and perhaps the session too.
    Kick { end_session: bool },
}

/// Asks a connection to give up its session.
#[derive(Debug)]
pub(super) struct Eviction {
    pub(super) demand: Demand,
    pub(super) reply: oneshot::Sender<Handover>,
}

/// What an evicted connection hands to its successor.
#[derive(Debug)]
pub(super) struct Handover {
    /// `None`: it has ended, and the evicted connection raises its end.
    pub(super) session: Option<Box<Session>>,
    /// A will that waits for its delay; void when the client is back.
    pub(super) will: Option<Will>,
    /// Answers when the evicted connection has raised its last event.
    pub(super) done: oneshot::Receiver<()>,
}

/// A will and the client that left it.
pub(super) type Will = (Arc<Client>, LastWill);

/// A connection's hold on its client id.
#[derive(Debug)]
pub(super) struct Tenancy {
    pub(super) number: u64,
    pub(super) eviction: oneshot::Receiver<Eviction>,
}

/// What stood under a client id before.
#[derive(Debug)]
pub(super) enum Before {
    Nothing,
    /// It waited for its client, and its will perhaps for its delay.
    Parked(Box<Session>, Option<Will>),
    /// Another connection has it and will answer.
    Taken(oneshot::Receiver<Handover>),
}

#[derive(Debug)]
struct Slot {
    number: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// With its mailbox, as soon as it has its session.
    Online(oneshot::Sender<Eviction>, Option<Arc<Mailbox>>),
    Parked(Box<Parked>),
}

impl Slot {
    fn show(&self) -> Option<(&Arc<Mailbox>, bool, Option<Instant>)> {
        match &self.state {
            State::Online(_, mailbox) => mailbox.as_ref().map(|mailbox| (mailbox, true, None)),
            State::Parked(parked) => Some((parked.session.mailbox(), false, parked.ends)),
        }
    }
}

/// A session that waits for its client.
#[derive(Debug)]
struct Parked {
    session: Box<Session>,
    will: Option<Will>,
    ends: Option<Instant>,
    /// Its entry in the agenda.
    look: Option<Instant>,
}

/// When to look at a parked session again: the tenancy's number makes two at one instant distinct. Its lock is taken inside a shard's.
type Agenda = BTreeMap<(Instant, u64), Text>;

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    hasher: RandomState,
    shards: [Mutex<HashMap<Text, Slot>>; SHARDS],
    agenda: Mutex<Agenda>,
    agenda_changed: Arc<Notify>,
    next_number: AtomicU64,
}

impl Sessions {
    /// None yet.
    pub(super) fn new() -> Self {
        Sessions {
            hasher: RandomState::new(),
            shards: Default::default(),
            agenda: Mutex::default(),
            agenda_changed: Arc::default(),
            next_number: AtomicU64::new(1),
        }
    }

    /// Numbers below `first` are in use by restored sessions.
    pub(super) fn number_from(&self, first: u64) {
        self.next_number.fetch_max(first, Ordering::Relaxed);
    }

    /// Puts back a restored session: it waits for its client, until `ends`; its will until `will_due`.
    pub(super) fn put_back(&self, session: Box<Session>, will: Option<Will>, ends: Option<Instant>, will_due: Option<Instant>) {
        let (client_id, number) = (session.mailbox().client_id().clone(), self.number());
        let look = will_due.into_iter().chain(ends).min();
        let state = State::Parked(Box::new(Parked { session, will, ends, look }));
        let mut shard = self.shard(&client_id).lock();
        shard.insert(client_id.clone(), Slot { number, state });
        if let Some(look) = look {
            self.agenda.lock().insert((look, number), client_id);
        }
        drop(shard);
        self.agenda_changed.notify_one();
    }

    /// A number that no session or tenancy had before.
    pub(super) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes hold of a client id for a new connection.
    pub(super) fn enter(&self, client_id: &Text, demand: Demand) -> (Tenancy, Before) {
        self.take_hold(&mut self.shard(client_id).lock(), client_id, demand)
    }

    fn take_hold(&self, shard: &mut HashMap<Text, Slot>, client_id: &Text, demand: Demand) -> (Tenancy, Before) {
        let (sender, eviction) = oneshot::channel();
        let number = self.number();
        let slot = Slot { number, state: State::Online(sender, None) };
        let old = shard.insert(client_id.clone(), slot);
        let old_number = old.as_ref().map(|slot| slot.number);
        let before = match old.map(|slot| slot.state) {
            None => Before::Nothing,
            Some(State::Parked(parked)) => {
                if let (Some(look), Some(number)) = (parked.look, old_number) {
                    self.agenda.lock().remove(&(look, number));
                }
                Before::Parked(parked.session, parked.will)
            }
            Some(State::Online(evict, _)) => {
                let (reply, answer) = oneshot::channel();
                match evict.send(Eviction { demand, reply }) {
                    Ok(()) => Before::Taken(answer),
                    Err(_) => Before::Nothing, // its connection ended without leaving: it had no session to hand over
                }
            }
        };
        (Tenancy { number, eviction }, before)
    }

    /// A connection has its session now.
    pub(super) fn settle(&self, tenancy: &Tenancy, mailbox: &Arc<Mailbox>) {
        let mut shard = self.shard(mailbox.client_id()).lock();
        if let Some(Slot { state: State::Online(_, known), number }) = shard.get_mut(mailbox.client_id())
            && *number == tenancy.number
        {
            *known = Some(Arc::clone(mailbox));
        }
    }

    /// Shows every session: its mailbox, whether its client is there, when it ends.
    pub(super) fn each(&self, mut show: impl FnMut(&Arc<Mailbox>, bool, Option<Instant>)) {
        for shard in &self.shards {
            for slot in shard.lock().values() {
                if let Some((mailbox, online, ends)) = slot.show() {
                    show(mailbox, online, ends);
                }
            }
        }
    }

    /// Shows one.
    pub(super) fn find(&self, client_id: &str) -> Option<(Arc<Mailbox>, bool, Option<Instant>)> {
        let shard = self.shard(client_id).lock();
        shard.get(client_id)?.show().map(|(mailbox, online, ends)| (Arc::clone(mailbox), online, ends))
    }

    /// A connection leaves its session behind, to wait for its client for `session.expiry_s()`; its will may wait too.
    ///
    /// # Errors
    /// An eviction is under way: the session goes to the successor instead.
    pub(super) fn park(&self, tenancy: &Tenancy, session: Box<Session>, will: Option<Will>, now: Instant) -> Result<(), Box<Session>> {
        let client_id = session.mailbox().client_id().clone();
        let expiry_s = session.expiry_s();
        let after = |seconds: u32| now + Duration::from_secs(u64::from(seconds));
        let ends = (expiry_s != u32::MAX).then(|| after(expiry_s));
        let will_due = will.as_ref().map(|(_, will)| after(will.delay_s.min(expiry_s)));
        let look = will_due.into_iter().chain(ends).min();
        session.leave(will.is_some(), now_ms());
        {
            let mut shard = self.shard(&client_id).lock();
            let Some(slot) = shard.get_mut(&client_id).filter(|slot| slot.number == tenancy.number) else { return Err(session) };
            slot.state = State::Parked(Box::new(Parked { session, will, ends, look }));
            if let Some(look) = look {
                self.agenda.lock().insert((look, tenancy.number), client_id.clone());
            }
        }
        self.agenda_changed.notify_one();
        Ok(())
    }

    /// A connection leaves without a session.
    ///
    /// # Errors
    /// An eviction is under way.
    pub(super) fn leave(&self, client_id: &Text, tenancy: &Tenancy) -> Result<(), ()> {
        let mut shard = self.shard(client_id).lock();
        match shard.get(client_id) {
            Some(slot) if slot.number == tenancy.number => {
                shard.remove(client_id);
                Ok(())
            }
            _ => Err(()),
        }
    }

    fn shard(&self, client_id: &str) -> &Mutex<HashMap<Text, Slot>> {
        let index = self.hasher.hash_one(client_id) as usize % SHARDS;
        self.shards.get(index).unwrap_or(&self.shards[0])
    }

    /// What is due: wills to publish, sessions to end.
    pub(super) fn due(&self, now: Instant) -> Vec<Due> {
        let ripe: Vec<(u64, Text)> = {
            let mut agenda = self.agenda.lock();
            let later = agenda.split_off(&(now + Duration::from_nanos(1), 0));
            std::mem::replace(&mut *agenda, later).into_iter().map(|((_, number), client_id)| (number, client_id)).collect()
        };
        let mut due = Vec::new();
        for (number, client_id) in ripe {
            let mut shard = self.shard(&client_id).lock();
            let Some(slot) = shard.get_mut(&client_id).filter(|slot| slot.number == number) else { continue };
            let State::Parked(parked) = &mut slot.state else { continue };
            if let Some(will) = parked.will.take() {
                parked.session.forget_will(); // now: a will that its client brings when it comes back is another one
                due.push(Due::Will(will));
            }
            match parked.ends {
                Some(ends) if ends <= now => {
                    if let Some(Slot { state: State::Parked(parked), .. }) = shard.remove(&client_id) {
                        due.push(Due::End(parked.session));
                    }
                }
                Some(ends) => {
                    parked.look = Some(ends);
                    self.agenda.lock().insert((ends, number), client_id.clone());
                }
                None => {}
            }
        }
        due
    }

    /// Takes the sessions that wait for their client and end with the process.
    fn take_parked(&self) -> Vec<Session> {
        let mut sessions = Vec::new();
        for shard in &self.shards {
            for (_, slot) in shard.lock().extract_if(|_, slot| matches!(&slot.state, State::Parked(parked) if !parked.session.is_durable()))
            {
                if let State::Parked(parked) = slot.state {
                    sessions.push(*parked.session);
                }
            }
        }
        sessions
    }

    /// Takes the wills that still wait at the end of the process, of sessions that end with it.
    fn waiting_wills(&self) -> Vec<Will> {
        let mut wills = Vec::new();
        for shard in &self.shards {
            for slot in shard.lock().values_mut() {
                if let State::Parked(parked) = &mut slot.state
                    && !parked.session.is_durable()
                {
                    wills.extend(parked.will.take());
                }
            }
        }
        wills
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.lock().first_key_value().map(|((due, _), _)| *due)
    }
}

/// Something that is due.
pub(super) enum Due {
    Will(Will),
    End(Box<Session>),
}

/// Publishes delayed wills and ends expired sessions, until the broker is gone.
pub(super) async fn expire(shared: Weak<Shared>) {
    /// How long a broker that nobody holds any more may be looked after.
    const GLANCE: Duration = Duration::from_secs(60);
    let Some(changed) = shared.upgrade().map(|shared| Arc::clone(&shared.sessions.agenda_changed)) else { return };
    loop {
        let next = {
            let Some(shared) = shared.upgrade() else { return };
            for due in shared.sessions.due(Instant::now()) {
                match due {
                    Due::Will(will) => publish_will(&shared, will).await,
                    Due::End(session) => {
                        shared.metrics.sessions_expired.inc();
                        end(&shared, session, Ending::because(reason::SUCCESS, "expired")).await;
                    }
                }
            }
            let glance = Instant::now() + GLANCE;
            shared.sessions.next_due().map_or(glance, |due| due.min(glance))
        };
        let _ = tokio::time::timeout_at(next.into(), changed.notified()).await; // either way it is time to look again
    }
}

/// Publishes what still waits for its delay.
pub(super) async fn publish_waiting_wills(shared: &Shared) {
    for will in shared.sessions.waiting_wills() {
        publish_will(shared, will).await;
    }
}

/// Publishes a will that is due.
pub(super) async fn publish_will(shared: &Shared, (client, will): Will) {
    let mut message = will.message;
    message.received_at_ms = now_ms();
    shared.aftermath.publish(client, message).await;
}
