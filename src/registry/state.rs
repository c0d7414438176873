//! Where each guest's state is kept: in memory, in memory and in the store, or in Redis.
//!
//! Invariants: one guest's state in the store has one image in memory for as long as the process lives, whatever reloads do; the store hears
//! of every change in the order in which the image changed; what it holds of guests that are not configured stays, until the configuration
//! says to forget it.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::redis::{Redis, RedisError, Request, Response, Shared}; // apart: a crate has the name too
use crate::{
    config::{self, Config, Grant, Problem, StateBackend},
    event::now_ms,
    guest::{Bounds, Held, Keeper, Local, Noted, Operation, Performed, Performing, Reply, Stamp, State, StateError, Verb, Waiting},
    metrics::Metrics,
    store::{Change, Owner, Pair, Space, Store, StoredState, Ticket},
};

/// How long a write waits while more is to be written than the disk takes.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// The states of all guests; cheap to clone.
#[derive(Clone, Debug)]
pub struct States {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Guests are only tried: everything is in memory, and nobody is connected to.
    trying: bool,
    store: Option<Store>,
    redis: Mutex<Option<(config::Redis, Redis)>>,
    images: Mutex<Images>,
    metrics: Arc<Metrics>,
}

/// What there is already.
#[derive(Debug, Default)]
struct Images {
    /// As the store had it, for guests that have not asked yet.
    stored: HashMap<Space, StoredState>,
    /// Of the store; for as long as the process lives.
    on_disk: HashMap<Space, Arc<State>>,
    /// Of guests that run.
    in_memory: HashMap<Space, Weak<State>>,
    /// Of guests that run, with where it is.
    in_redis: HashMap<Space, (config::Redis, Weak<State>)>,
}

impl States {
    /// All of them in memory, whatever guests' configurations say: for trying guests.
    pub fn in_memory(metrics: &Arc<Metrics>) -> Self {
        States::new(true, None, HashMap::new(), metrics)
    }

    /// With the store and what was in it at the start.
    pub fn open(config: &Config, store: Option<Store>, stored: Vec<StoredState>, metrics: &Arc<Metrics>) -> Self {
        let stored = store.as_ref().map(|store| keep_wanted(config, store, stored)).unwrap_or_default();
        States::new(false, store, stored, metrics)
    }

    fn new(trying: bool, store: Option<Store>, stored: HashMap<Space, StoredState>, metrics: &Arc<Metrics>) -> Self {
        let images = Mutex::new(Images { stored, ..Images::default() });
        States { inner: Arc::new(Inner { trying, store, redis: Mutex::default(), images, metrics: Arc::clone(metrics) }) }
    }

    /// Which Redis states that are asked for from now on are in; it need not be there yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// `[redis]` cannot be used; the former one goes on.
    pub(super) fn set_redis(&self, wanted: Option<&config::Redis>) -> Result<(), Problem> {
        let mut redis = self.inner.redis.lock();
        let Some(wanted) = wanted else {
            *redis = None;
            return Ok(());
        };
        if redis.as_ref().is_some_and(|(config, _)| config == wanted) {
            return Ok(());
        }
        let problem = |error: RedisError| Problem::new(&wanted.url.place, format!("[redis]: {error}"));
        if self.inner.trying {
            return Redis::check(wanted).map_err(problem);
        }
        let opened = Redis::open(wanted, &self.inner.metrics).map_err(problem)?;
        *redis = Some((wanted.clone(), opened));
        Ok(())
    }

    /// The state of a guest, as its configuration says; the one that it has already, if that is in the same place.
    pub(super) fn of(&self, guest: &config::Guest) -> Arc<State> {
        let (owner, metrics) = (owner(guest), &self.inner.metrics);
        let (space, redis) = (owner.space(), self.inner.redis.lock().clone());
        let mut images = self.inner.images.lock();
        match (backend(guest), &self.inner.store, redis) {
            (StateBackend::Disk, Some(store), _) => images.on_disk(&owner, store, metrics),
            (StateBackend::Redis, _, Some((place, redis))) => {
                let known = images.in_redis.get(&space).filter(|(known, _)| *known == place);
                known.and_then(|(_, state)| state.upgrade()).unwrap_or_else(|| {
                    let state = State::kept_by(InRedis(redis.shared(owner.tenant.as_deref(), &owner.guest)), &guest.name, metrics);
                    images.in_redis.insert(space, (place, Arc::downgrade(&state)));
                    state
                })
            }
            _ => images.in_memory.get(&space).and_then(Weak::upgrade).unwrap_or_else(|| {
                let state = State::kept_by(Local::default(), &guest.name, metrics);
                images.in_memory.insert(space, Arc::downgrade(&state));
                state
            }),
        }
    }
}

impl Images {
    fn on_disk(&mut self, owner: &Owner, store: &Store, metrics: &Arc<Metrics>) -> Arc<State> {
        let space = owner.space();
        if let Some(state) = self.on_disk.get(&space) {
            return Arc::clone(state);
        }
        let stored = self.stored.remove(&space);
        if stored.as_ref().is_none_or(|stored| stored.owner.is_none()) {
            store.add(Change::Owned(space, Some(Box::new(owner.clone()))));
        }
        let now_ms = now_ms();
        let pairs = stored.map(|stored| stored.pairs).unwrap_or_default();
        let live = pairs.into_iter().filter_map(|pair| {
            let left_ms = pair.left_at(now_ms);
            if left_ms == Some(0) {
                store.add(Change::Gone(space, pair.key));
                return None;
            }
            Some((pair.key, pair.value, left_ms))
        });
        let journal = Journal { local: Local::restored(live), store: store.clone(), space };
        let state = State::kept_by(journal, &owner.guest, metrics);
        self.on_disk.insert(space, Arc::clone(&state));
        state
    }
}

/// Where a guest's state is kept; one that cannot reach it needs none.
fn backend(guest: &config::Guest) -> StateBackend {
    if guest.grants.contains(&Grant::State) { guest.state } else { StateBackend::Memory }
}

fn owner(guest: &config::Guest) -> Owner {
    Owner::new(guest.tenant.as_ref().map(|tenant| tenant.value.as_str()), &guest.name)
}

/// Forgets what the configuration says to forget, and names what nobody uses.
fn keep_wanted(config: &Config, store: &Store, stored: Vec<StoredState>) -> HashMap<Space, StoredState> {
    let used: Vec<Space> =
        config.guests.iter().filter(|guest| backend(guest) == StateBackend::Disk).map(|guest| owner(guest).space()).collect();
    let forgotten = config.store.as_ref().map(|store| store.forget_state.as_slice()).unwrap_or_default();
    let mut kept = HashMap::new();
    for state in stored {
        let (name, keys) = (name(&state), state.pairs.len());
        if used.contains(&state.space) {
            tracing::info!(guest = name, keys, "state restored from the store");
        } else if forgotten.contains(&name) {
            tracing::warn!(guest = name, keys, "state removed from the store, as [store] forget_state says");
            for pair in state.pairs {
                store.add(Change::Gone(state.space, pair.key));
            }
            store.add(Change::Owned(state.space, None));
            continue;
        } else {
            tracing::info!(guest = name, keys, "the store holds state that no guest uses; `[store] forget_state` removes it");
        }
        kept.insert(state.space, state);
    }
    kept
}

/// How the configuration calls an owner: `guest`, `tenant/guest`, or the space's digest where that is damaged.
fn name(state: &StoredState) -> String {
    match &state.owner {
        Some(Owner { tenant: Some(tenant), guest }) => format!("{tenant}/{guest}"),
        Some(Owner { tenant: None, guest }) => guest.to_string(),
        None => state.space.to_string(),
    }
}

/// State in memory whose every change goes to the store.
#[derive(Debug)]
struct Journal {
    local: Local,
    store: Store,
    space: Space,
}

impl Journal {
    fn perform_now(&self, operation: Operation, bounds: Bounds) -> Performed {
        self.local.perform_at(operation, bounds, self.local.now_ms(), |noted| self.note(noted))
    }

    /// Called while the image is locked, so that the store's order is the image's.
    fn note(&self, noted: Noted<'_>) -> Stamp {
        let change = match noted {
            Noted::Kept { key, value, left_ms } => {
                let pair = Pair { key: key.into(), value: value.into(), written_at_ms: now_ms(), left_ms };
                Change::Kept(self.space, Box::new(pair))
            }
            Noted::Gone { key } => Change::Gone(self.space, key.into()),
        };
        let Ticket(number) = self.store.add(change);
        Stamp(number)
    }
}

impl Keeper for Journal {
    fn perform(&self, operation: Operation, bounds: Bounds) -> Performing<'_> {
        if operation.verb == Verb::Get || !self.store.is_full() {
            return Performing::Done(self.perform_now(operation, bounds));
        }
        Performing::Waiting(Box::pin(async move {
            match timeout(ROOM_WITHIN, self.store.room()).await {
                Ok(()) => self.perform_now(operation, bounds),
                Err(_elapsed) => {
                    let why = "the disk does not take what is to be written; the store's log lines say why".to_owned();
                    Performed { reply: Err(StateError::Unavailable(why)), stamp: Stamp::default() }
                }
            }
        }))
    }

    fn settled(&self, Stamp(number): Stamp) -> Option<Waiting<'_, ()>> {
        let ticket = Ticket(number);
        if self.store.has_committed(ticket) {
            return None;
        }
        Some(Box::pin(async move {
            // An error: nobody commits any more. The store outlives its states, so there is none.
            let _ = self.store.commits().wait_for(|committed| *committed >= ticket).await;
        }))
    }

    fn held(&self) -> Held {
        self.local.held()
    }
}

/// State in Redis.
#[derive(Debug)]
struct InRedis(Shared);

impl InRedis {
    async fn ask(&self, Operation { key, verb }: Operation, bounds: Bounds) -> Result<Reply, StateError> {
        let request = match &verb {
            Verb::Get => Request::Get,
            Verb::Put { value, ttl_s } => Request::Put(value, *ttl_s),
            Verb::PutIfAbsent { value, ttl_s } => Request::PutIfAbsent(value, *ttl_s),
            Verb::Add { delta, ttl_s } => Request::Add(*delta, *ttl_s),
            Verb::Remove => Request::Remove,
        };
        let asked = self.0.ask(&key, request, bounds.keys, bounds.bytes).await;
        match asked.map_err(|error| StateError::Unavailable(error.to_string()))? {
            Response::Value(value) => Ok(Reply::Value(value)),
            Response::Done if matches!(verb, Verb::PutIfAbsent { .. }) => Ok(Reply::New(true)),
            Response::Done => Ok(Reply::Done),
            Response::There => Ok(Reply::New(false)),
            Response::Sum(sum) => Ok(Reply::Sum(sum)),
            Response::Full => Err(StateError::Quota),
            Response::NotANumber => Err(StateError::NotANumber),
        }
    }
}

impl Keeper for InRedis {
    fn perform(&self, operation: Operation, bounds: Bounds) -> Performing<'_> {
        Performing::Waiting(Box::pin(async move {
            let reply = self.ask(operation, bounds).await;
            Performed { reply, stamp: Stamp::default() }
        }))
    }

    fn settled(&self, _: Stamp) -> Option<Waiting<'_, ()>> {
        None // what Redis has said, it keeps as well as it is set up to
    }

    fn held(&self) -> Held {
        let (keys, bytes) = self.0.held();
        Held { keys, bytes }
    }
}
