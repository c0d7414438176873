//! Who runs what: the guests of a configuration, as a snapshot that is swapped whole, and the way of a new version into it.
//!
//! - [`deploy`] takes a version from its file: digest, compile, imports ⊆ grants, `lifecycle.start`, samples; any failure keeps the old version
//!   and says at which step.
//! - [`Serving`] is one name in service: its version, and the new one that a part of the clients meets first ([`candidate`], [`canary`]).
//! - [`operate`] ends what has come to its end, and does what operators ask for.
//! - [`ledger`] and [`vault`] remember versions, so that one can go back.
//!
//! Invariants: a snapshot never changes; a guest whose configuration, keys and version are the same keeps its instances over a reload; a guest's
//! state goes with its name. What a snapshot says counts, and is written down, when it is [committed](Registry::commit): one that its caller
//! could not take leaves no trace. Absent: tenants, signatures (their place is in [`deploy`], between the digest and the compiler).

mod canary;
mod candidate;
mod deploy;
mod ledger;
mod operate;
mod serving;
mod shadow;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod vault;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::{Notify, mpsc};

pub use self::{
    canary::Figures,
    ledger::{Cause, Kept, NoVersion, Refused},
    operate::{OperateError, View, Way, WayOf},
    serving::{Answered, Serving},
    shadow::Difference,
    state::States,
    vault::VaultError,
    watch::Watch,
};
use self::{
    deploy::{keys_of, unserved},
    ledger::{Ledger, short},
    serving::Beside,
    vault::Vault,
};
use crate::{
    config::{self, Config, Problem, Runtime},
    guest::{Engine, EngineError, State},
    metrics::{Metrics, ReasonLabel},
};

/// The guests that run, by name; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<BTreeMap<String, Entry>>);

/// One guest with all that is known of it.
#[derive(Clone, Debug)]
struct Entry {
    serving: Arc<Serving>,
    state: Arc<State>,
    config: config::Guest,
    keys: Vec<config::Key>,
    ledger: Ledger,
}

impl Guests {
    /// A guest by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<Serving>> {
        self.0.get(name).map(|entry| &entry.serving)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Serving>> {
        self.0.values().map(|entry| &entry.serving)
    }

    /// When [`Registry::settle`] has something to do, at the latest; `None`: not before it is woken.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let of = |serving: &Serving| {
            let probation = serving.probation.as_ref().map(|probation| probation.until);
            let beside = serving.beside.as_ref().and_then(|beside| beside.due(now));
            probation.into_iter().chain(beside).min()
        };
        self.iter().filter_map(|serving| of(serving)).min()
    }
}

/// Loads guests.
#[derive(Clone, Debug)]
pub struct Registry {
    engine: Engine,
    states: States,
    metrics: Arc<Metrics>,
    vault: Vault,
    wake: Arc<Notify>,
    differences: mpsc::Sender<Difference>,
}

impl Registry {
    /// Sets up the engine; guests' state is in memory, until [`Registry::keeping`]. Differences between shadows and what is in service go to `differences`, where a topic wants them.
    ///
    /// # Errors
    /// The machine lacks what the engine needs.
    pub fn new(settings: &Runtime, metrics: &Arc<Metrics>, differences: mpsc::Sender<Difference>) -> Result<Self, EngineError> {
        let (engine, vault) = (Engine::new(settings)?.with_cache(settings, metrics), Vault::new(settings));
        let states = States::in_memory(metrics);
        Ok(Registry { engine, states, metrics: Arc::clone(metrics), vault, wake: Arc::new(Notify::new()), differences })
    }

    /// One that leaves nothing on the disk: for trying a configuration.
    ///
    /// # Errors
    /// The machine lacks what the engine needs.
    pub fn for_trial(settings: &Runtime, metrics: &Arc<Metrics>) -> Result<Self, EngineError> {
        let (differences, _nobody) = mpsc::channel(1);
        Self::new(&Runtime { folder: None, ..settings.clone() }, metrics, differences)
    }

    /// With guests' state kept there.
    #[must_use]
    pub fn keeping(self, states: States) -> Self {
        Registry { states, ..self }
    }

    /// Loads the guests of a configuration; what is the same as in `current` is kept.
    ///
    /// # Errors
    /// Every problem of every guest, and every route that asks a guest for what it does not export, in the order of their places.
    pub async fn load(&self, config: &Config, current: &Guests) -> Result<Guests, Vec<Problem>> {
        let mut entries = BTreeMap::new();
        let mut problems: Vec<Problem> = self.states.set_redis(config.redis.as_ref()).err().into_iter().collect();
        for wanted in &config.guests {
            let keys = keys_of(wanted, &config.keys);
            let running = current.0.get(&wanted.name);
            let loaded = match running {
                Some(_) => self.settled_entry(wanted, keys, running).await,
                None => self.deploy(wanted, keys, None).await,
            };
            match loaded {
                Ok(entry) => {
                    problems.extend(unserved(&entry.serving, config));
                    entries.insert(wanted.name.clone(), entry.without_unfit_former(config));
                }
                Err(refusal) => problems.extend(refusal.problems(wanted)),
            }
        }
        if problems.is_empty() {
            return Ok(Guests(Arc::new(entries)));
        }
        problems.sort();
        Err(problems)
    }

    /// Looks at the guests' files again, or at one guest's, and takes new versions, each guest on its own: one that is refused goes on with the
    /// version that it has, and the problem says why.
    pub async fn refresh(&self, config: &Config, current: &Guests, only: Option<&str>) -> (Guests, Vec<Problem>) {
        let mut entries = BTreeMap::clone(&current.0);
        let mut problems: Vec<Problem> = self.states.set_redis(config.redis.as_ref()).err().into_iter().collect();
        for wanted in config.guests.iter().filter(|guest| only.is_none_or(|name| guest.name == name)) {
            let running = current.0.get(&wanted.name);
            let mut found = Vec::new();
            match self.settled_entry(wanted, keys_of(wanted, &config.keys), running).await {
                Ok(entry) => {
                    found.extend(unserved(&entry.serving, config));
                    if found.is_empty() {
                        entries.insert(wanted.name.clone(), entry);
                    }
                }
                Err(refusal) => found.extend(refusal.problems(wanted)),
            }
            if !found.is_empty() {
                self.metrics.guest_swaps_refused.get_or_create(&wanted.name.as_str().into()).inc();
            }
            problems.append(&mut found);
        }
        problems.sort();
        (Guests(Arc::new(entries)), problems)
    }

    /// The snapshot is in service instead of `before`: counts and logs what has changed, and makes it durable. What is on disk leaves the
    /// memory, so the answer is the snapshot to keep.
    pub async fn commit(&self, mut guests: Guests, before: &Guests) -> Guests {
        for (name, entry) in Arc::make_mut(&mut guests.0) {
            let old = before.0.get(name);
            self.note(name, old, entry);
            if old.is_some_and(|old| old.ledger == entry.ledger) {
                continue;
            }
            if let Err(error) = self.vault.write(name, &mut entry.ledger).await {
                self.metrics.guest_history_failures.inc();
                tracing::error!(guest = name, %error, "this guest's versions could not be written down; a restart will not know of this change");
            }
        }
        for gone in before.0.keys().filter(|name| !guests.0.contains_key(*name)) {
            self.metrics.guest_versions.get_or_create(&gone.as_str().into()).set(0);
        }
        self.engine.keep_compiled(guests.0.len(), self.vault.keep());
        self.wake.notify_one(); // there may be something new to wait for
        guests
    }

    /// Wakes whoever waits for [`Registry::woken`].
    pub fn rouse(&self) {
        self.wake.notify_one();
    }

    /// Until [`Registry::settle`] has something to do that cannot wait for [`Guests::due`], or there is another snapshot.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    fn note(&self, name: &str, old: Option<&Entry>, new: &Entry) {
        let (label, serving) = (name.into(), &new.serving);
        let share = serving.beside.as_ref().map_or(0.0, Beside::share);
        self.metrics.guest_versions.get_or_create(&label).set(1 + i64::from(serving.beside.is_some()));
        self.metrics.guest_canary_share.get_or_create(&label).set(share);
        self.metrics.guest_file_refused.get_or_create(&label).set(i64::from(new.ledger.refused.is_some()));
        let Some(old) = old else {
            if let Some(refused) = &new.ledger.refused {
                let (digest, instead) = (short(&refused.digest), short(serving.current.digest()));
                tracing::warn!(guest = name, digest, instead, why = refused.why, "the version in the file was rolled back and stays out");
            }
            return;
        };
        let digest = short(serving.current.digest());
        if !Arc::ptr_eq(&old.serving.current, &serving.current) {
            self.metrics.guest_swaps.get_or_create(&label).inc();
            tracing::info!(guest = name, digest, former = short(old.serving.current.digest()), "a version is in service");
        }
        let of = |entry: &Entry| entry.serving.beside.as_ref().map(|beside| beside.guest().digest().to_owned());
        let (before, now) = (of(old), of(new));
        if before.as_deref() == Some(serving.current.digest()) {
            self.metrics.guest_promotions.get_or_create(&label).inc();
            tracing::info!(guest = name, digest, "promoted: everybody meets the new version");
        }
        if let Some(beside) = serving.beside.as_ref().filter(|_| now != before) {
            let (kind, share) = (beside.kind(), beside.share());
            tracing::info!(
                guest = name,
                digest = short(beside.guest().digest()),
                kind,
                share,
                "a new version runs beside the one in service"
            );
        }
        if let Some(refused) = new.ledger.refused.as_ref().filter(|refused| old.ledger.refused.as_ref() != Some(refused)) {
            let reason = ReasonLabel { name: name.to_owned(), reason: refused.cause.word().to_owned() };
            self.metrics.guest_rollbacks.get_or_create(&reason).inc();
            let bad = short(&refused.digest);
            tracing::warn!(
                guest = name,
                bad,
                instead = digest,
                why = refused.why,
                "rolled back; the file's version stays out until it changes"
            );
        }
    }
}
