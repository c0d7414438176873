//! Who runs what: the guests of a configuration, as a snapshot that is swapped whole.
//!
//! Deploying a guest goes: read the file, digest, imports ⊆ grants, compile, trial run, then the new [`Guests`] exist beside the old. Any
//! failure keeps the old and says why. Invariants: a snapshot never changes; a guest whose configuration, keys and file are the same keeps
//! its instances over a reload; a guest's state goes with its name. Absent: tenants, signatures, canaries.

mod serving;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use self::watch::Fingerprint;
pub use self::{
    serving::{Answered, Serving},
    state::States,
    watch::Watch,
};
use crate::{
    config::{self, Config, Problem, Route},
    guest::{Engine, EngineError, Guest, LoadError, State},
    metrics::Metrics,
};

/// The largest component file that is read, bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// How long a file that cannot be a guest is given to become a whole one: it may be being written.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// Second looks at one file, as long as it goes on changing.
const MAX_LOOKS: usize = 50;

/// The guests that run, by name; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<BTreeMap<String, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    serving: Arc<Serving>,
    state: Arc<State>,
    config: config::Guest,
    keys: Vec<config::Key>,
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
}

/// Loads guests.
#[derive(Clone, Debug)]
pub struct Registry {
    engine: Engine,
    states: States,
    metrics: Arc<Metrics>,
}

/// Why a guest was not taken.
enum Refusal {
    /// Its file cannot be read.
    File(String),
    /// What was read is no guest.
    Load(Vec<LoadError>),
}

impl Registry {
    /// Sets up the engine; guests' state is in memory, until [`Registry::keeping`].
    ///
    /// # Errors
    /// The machine lacks what the engine needs.
    pub fn new(runtime: &config::Runtime, metrics: &Arc<Metrics>) -> Result<Self, EngineError> {
        Ok(Registry { engine: Engine::new(runtime)?, states: States::in_memory(metrics), metrics: Arc::clone(metrics) })
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
                None => self.entry(wanted, keys, None).await,
            };
            match loaded {
                Ok(entry) => {
                    problems.extend(unserved(&entry.serving, &config.routes));
                    entries.insert(wanted.name.clone(), entry);
                }
                Err(refusal) => problems.extend(refusal.problems(wanted)),
            }
        }
        if problems.is_empty() {
            self.count_swaps(&entries, current);
            return Ok(Guests(Arc::new(entries)));
        }
        problems.sort();
        Err(problems)
    }

    /// Looks at the guests' files again and takes new versions, each guest on its own: one that is refused goes on with the version that
    /// it has, and the problem says why.
    pub async fn refresh(&self, config: &Config, current: &Guests) -> (Guests, Vec<Problem>) {
        let mut entries = BTreeMap::clone(&current.0);
        let mut problems: Vec<Problem> = self.states.set_redis(config.redis.as_ref()).err().into_iter().collect();
        for wanted in &config.guests {
            let running = current.0.get(&wanted.name);
            let mut found = Vec::new();
            match self.settled_entry(wanted, keys_of(wanted, &config.keys), running).await {
                Ok(entry) => {
                    found.extend(unserved(&entry.serving, &config.routes));
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
        self.count_swaps(&entries, current);
        problems.sort();
        (Guests(Arc::new(entries)), problems)
    }

    /// Like [`Self::entry`], but a file that is no guest is looked at again while it goes on changing.
    async fn settled_entry(&self, wanted: &config::Guest, keys: Vec<config::Key>, running: Option<&Entry>) -> Result<Entry, Refusal> {
        let path = &wanted.path.value;
        let mut seen = Fingerprint::of(path);
        for _ in 0..MAX_LOOKS {
            let refusal = match self.entry(wanted, keys.clone(), running).await {
                Err(refusal) if refusal.may_pass() => refusal,
                settled => return settled,
            };
            tokio::time::sleep(SECOND_LOOK).await;
            let now = Fingerprint::of(path);
            if now == seen {
                return Err(refusal);
            }
            seen = now;
        }
        self.entry(wanted, keys, running).await
    }

    async fn entry(&self, wanted: &config::Guest, keys: Vec<config::Key>, running: Option<&Entry>) -> Result<Entry, Refusal> {
        let bytes = read(&wanted.path.value).await.map_err(Refusal::File)?;
        let state = self.states.of(wanted);
        let is_same = |entry: &&Entry| entry.config == *wanted && entry.keys == keys && Arc::ptr_eq(&entry.state, &state);
        if let Some(entry) = running.filter(is_same).filter(|entry| entry.serving.current().is_made_of(&bytes)) {
            return Ok(entry.clone());
        }
        let loaded = Guest::load(&self.engine, wanted, &keys, bytes, Arc::clone(&state), &self.metrics).await;
        let guest = loaded.map_err(Refusal::Load)?;
        Ok(Entry { serving: Serving::new(guest), state, config: wanted.clone(), keys })
    }

    fn count_swaps(&self, entries: &BTreeMap<String, Entry>, before: &Guests) {
        let swapped = entries.iter().filter(|(name, entry)| before.get(name).is_some_and(|old| !Arc::ptr_eq(old, &entry.serving)));
        for (name, _) in swapped {
            self.metrics.guest_swaps.get_or_create(&name.as_str().into()).inc();
        }
    }
}

impl Refusal {
    /// Whether the file may be half-written.
    fn may_pass(&self) -> bool {
        match self {
            Refusal::File(_) => true,
            Refusal::Load(errors) => errors.iter().any(|error| matches!(error, LoadError::Broken(_))),
        }
    }

    fn problems(self, wanted: &config::Guest) -> Vec<Problem> {
        let (name, file, place) = (&wanted.name, wanted.path.value.display(), &wanted.path.place);
        match self {
            Refusal::File(error) => {
                let message = format!("guest \"{name}\": {file} cannot be read: {error}");
                vec![Problem::new(place, message).help("a relative path starts at the configuration's folder")]
            }
            Refusal::Load(errors) => {
                let problem = |error: LoadError| Problem::new(place, format!("guest \"{name}\" ({file}): {error}")).help(error.help());
                errors.into_iter().map(problem).collect()
            }
        }
    }
}

/// The routes that ask this guest for what it does not serve.
fn unserved(guest: &Serving, routes: &[Route]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for route in routes {
        for asked in route.guests.iter().filter(|asked| asked.value == guest.name() && !guest.wants(route.hook)) {
            let (name, hook, interface) = (guest.name(), route.hook, route.hook.kind().interface());
            let (message, help) = if guest.current().exports(hook.kind()) {
                let message = format!("guest \"{name}\" does not want {hook}: its manifest names other hooks");
                (message, "ask another guest, or let this one's lifecycle.start name the hook".to_owned())
            } else {
                let message = format!("guest \"{name}\" cannot be asked on {hook}: it does not export the interface `{interface}`");
                (message, format!("ask another guest, or build this one with `export {interface}` in its world"))
            };
            problems.push(Problem::new(&asked.place, message).help(help));
        }
    }
    problems
}

fn keys_of(guest: &config::Guest, keys: &[config::Key]) -> Vec<config::Key> {
    keys.iter().filter(|key| guest.keys.iter().any(|name| name.value == key.name.value)).cloned().collect()
}

async fn read(path: &Path) -> Result<Arc<[u8]>, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&path)?.len();
        if length > MAX_FILE_BYTES {
            return Err(std::io::Error::other(format!("it has {length} bytes, and more than {MAX_FILE_BYTES} are not taken")));
        }
        std::fs::read(&path).map(Arc::from)
    });
    reading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
