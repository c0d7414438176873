//! From a guest's file to a version in service.
//!
//! The order: digest (a version that is known to be bad goes no further, and here signatures would be compared with a tenant's keys) → compile
//! → imports ⊆ grants → `lifecycle.start` → samples → into service, or beside the running version as a canary or a shadow. Every refusal
//! names its step.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Entry, Registry, VaultError,
    candidate::Canary,
    ledger::Ledger,
    serving::{Beside, Probation, Serving},
    shadow::Shadow,
    trial::{self, TrialError},
    watch::Fingerprint,
};
use crate::{
    config::{self, Config, Problem},
    event::now_ms,
    guest::{self, Circuit, Guest, LoadError, State},
};

/// The largest component file that is read, bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// How long a file that cannot be a guest is given to become a whole one: it may be being written.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// Second looks at one file, as long as it goes on changing.
const MAX_LOOKS: usize = 50;

/// Why a guest was not taken.
pub(super) enum Refusal {
    /// Its file cannot be read.
    File(String),
    /// What was read is no guest.
    Load(Vec<LoadError>),
    /// It did not answer the samples as it should.
    Trial(TrialError),
    /// Its versions of earlier days cannot be read.
    Kept(VaultError),
}

/// What a version is loaded with.
pub(super) struct Berth<'a> {
    pub(super) config: &'a config::Guest,
    pub(super) keys: &'a [config::Key],
    pub(super) state: Arc<State>,
}

impl Entry {
    pub(super) fn berth(&self) -> Berth<'_> {
        Berth { config: &self.config, keys: &self.keys, state: Arc::clone(&self.state) }
    }

    /// The same guest served another way.
    pub(super) fn with(&self, serving: Arc<Serving>, ledger: Ledger) -> Entry {
        Entry { serving, ledger, ..self.clone() }
    }

    /// A version that the routes cannot ask any more does not come back by itself.
    pub(super) fn without_unfit_former(self, config: &Config) -> Entry {
        let former = self.serving.probation.as_ref().and_then(|probation| probation.former.clone());
        if former.is_none_or(|former| unserved_by(&former, config).is_empty()) {
            return self;
        }
        let serving = Serving::new(Arc::clone(&self.serving.current), None, self.serving.beside.clone());
        Entry { serving, ..self }
    }
}

impl Registry {
    /// Like [`Self::deploy`], but a file that is no guest is looked at again while it goes on changing.
    pub(super) async fn settled_entry(
        &self,
        wanted: &config::Guest,
        keys: Vec<config::Key>,
        running: Option<&Entry>,
    ) -> Result<Entry, Refusal> {
        let path = &wanted.path.value;
        let mut seen = Fingerprint::of(path);
        for _ in 0..MAX_LOOKS {
            let refusal = match self.deploy(wanted, keys.clone(), running).await {
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
        self.deploy(wanted, keys, running).await
    }

    /// Takes what the guest's file holds.
    pub(super) async fn deploy(&self, wanted: &config::Guest, keys: Vec<config::Key>, running: Option<&Entry>) -> Result<Entry, Refusal> {
        let (bytes, digest) = read(&wanted.path.value).await.map_err(Refusal::File)?;
        let mut ledger = match running {
            Some(entry) => entry.ledger.clone(),
            None => self.vault.read(&wanted.name).await.map_err(Refusal::Kept)?,
        };
        ledger.saw(&digest);
        let state = self.states.of(wanted);
        let same = running.filter(|entry| entry.config == *wanted && entry.keys == keys && Arc::ptr_eq(&entry.state, &state));
        let berth = Berth { config: wanted, keys: &keys, state };
        let goes_on = ledger.running().is_some_and(|kept| kept.digest == digest) || ledger.refuses(&digest);
        let serving = match (same, goes_on) {
            (Some(entry), true) if entry.serving.beside.is_none() => Arc::clone(&entry.serving),
            (Some(entry), true) => Serving::new(Arc::clone(&entry.serving.current), entry.serving.probation.clone(), None),
            (None, true) => self.running_version(&berth, &digest, &bytes, &ledger, running.is_some()).await?,
            (Some(entry), false) if entry.serving.beside.as_ref().is_some_and(|beside| beside.guest().digest() == digest) => {
                Arc::clone(&entry.serving)
            }
            (same, false) => self.new_version(&berth, bytes, &digest, &mut ledger, same).await?,
        };
        let state = berth.state;
        Ok(Entry { serving, state, config: wanted.clone(), keys, ledger })
    }

    /// The version that the ledger has in service: the process starts, or the guest's settings have changed.
    async fn running_version(
        &self,
        berth: &Berth<'_>,
        digest: &str,
        bytes: &Arc<[u8]>,
        ledger: &Ledger,
        changed: bool,
    ) -> Result<Arc<Serving>, Refusal> {
        let guest = match ledger.running() {
            Some(kept) if kept.digest != digest => {
                let bytes = self.vault.component(&berth.config.name, kept).await.map_err(Refusal::Kept)?;
                self.guest(berth, bytes).await?
            }
            _ => self.guest(berth, Arc::clone(bytes)).await?,
        };
        if changed {
            self.try_samples(berth.config, &guest).await?;
        }
        let probation = self.probation(berth.config, &guest, ledger, None);
        Ok(Serving::new(guest, probation, None))
    }

    /// A version that was not in service: into it, or beside the running one.
    async fn new_version(
        &self,
        berth: &Berth<'_>,
        bytes: Arc<[u8]>,
        digest: &str,
        ledger: &mut Ledger,
        same: Option<&Entry>,
    ) -> Result<Arc<Serving>, Refusal> {
        let guest = self.guest(berth, Arc::clone(&bytes)).await?;
        self.try_samples(berth.config, &guest).await?;
        if let (Some(beside), Some((current, probation))) =
            (self.beside(berth.config, &guest, &bytes), self.base(berth, ledger, same).await?)
        {
            return Ok(Serving::new(current, probation, Some(beside)));
        }
        ledger.enter(digest, Some(bytes), now_ms(), self.vault.keep());
        let former = same.map(|entry| Arc::clone(&entry.serving.current));
        let probation = self.probation(berth.config, &guest, ledger, former);
        Ok(Serving::new(guest, probation, None))
    }

    /// The running version, beside which a new one begins; `None` when there is none.
    async fn base(
        &self,
        berth: &Berth<'_>,
        ledger: &Ledger,
        same: Option<&Entry>,
    ) -> Result<Option<(Arc<Guest>, Option<Arc<Probation>>)>, Refusal> {
        if let Some(Serving { current, probation, .. }) = same.map(|entry| &*entry.serving) {
            return Ok(Some((Arc::clone(current), probation.clone())));
        }
        let Some(kept) = ledger.running() else { return Ok(None) };
        match self.vault.component(&berth.config.name, kept).await {
            Ok(bytes) => Ok(Some((self.guest(berth, bytes).await?, None))),
            Err(error) => {
                let guest = &berth.config.name;
                tracing::error!(guest, %error, "the version that was in service is lost; everybody meets the new one at once");
                Ok(None)
            }
        }
    }

    /// The way that a new version takes, if it is not the straight one.
    fn beside(&self, config: &config::Guest, guest: &Arc<Guest>, bytes: &Arc<[u8]>) -> Option<Beside> {
        let version = || (Arc::clone(guest), Arc::clone(bytes));
        let canary = |settings| Canary::new(version(), settings, now_ms(), &self.wake, &self.metrics);
        let shadow = |settings: &config::Shadow| Shadow::new(version(), settings.clone(), now_ms(), &self.differences, &self.metrics);
        let canary = config.rollout.canary.map(canary).map(Beside::Canary);
        canary.or_else(|| config.rollout.shadow.as_ref().map(shadow).map(Beside::Shadow))
    }

    /// Makes a guest of a component.
    pub(super) async fn guest(&self, berth: &Berth<'_>, bytes: Arc<[u8]>) -> Result<Arc<Guest>, Refusal> {
        let loading = Guest::load(&self.engine, berth.config, berth.keys, bytes, Arc::clone(&berth.state), &self.metrics);
        loading.await.map_err(Refusal::Load)
    }

    /// The last part of the trial.
    pub(super) async fn try_samples(&self, config: &config::Guest, guest: &Arc<Guest>) -> Result<(), Refusal> {
        let Some(settings) = &config.rollout.trial else { return Ok(()) };
        let asked = trial::run(settings, guest).await.map_err(Refusal::Trial)?;
        tracing::info!(guest = guest.name(), digest = super::short(guest.digest()), asked, "a version has answered its samples");
        Ok(())
    }

    /// The time in which the version before comes back if this one's circuit opens; `None` when it is over, not wanted, or there is no version
    /// before.
    pub(super) fn probation(
        &self,
        config: &config::Guest,
        guest: &Arc<Guest>,
        ledger: &Ledger,
        former: Option<Arc<Guest>>,
    ) -> Option<Arc<Probation>> {
        let running = ledger.running().filter(|kept| !kept.returned)?;
        ledger.former(None).ok()?;
        let age = Duration::from_millis(now_ms().saturating_sub(running.since_ms));
        let left = config.breaker.probation.checked_sub(age).filter(|left| config.breaker.rollback && !left.is_zero())?;
        let probation = Probation::new(former, Instant::now().checked_add(left)?);
        self.watch_circuit(guest, &probation);
        Some(probation)
    }

    /// Ends a probation badly when the circuit opens; the task ends with the version or with the probation.
    fn watch_circuit(&self, guest: &Arc<Guest>, probation: &Arc<Probation>) {
        let (mut circuit, watched, wake) = (guest.circuit_changes(), Arc::downgrade(probation), Arc::clone(&self.wake));
        let until = probation.until;
        tokio::spawn(async move {
            let opened = circuit.wait_for(|circuit| *circuit == Circuit::Open);
            let Ok(Ok(_open)) = tokio::time::timeout_at(until.into(), opened).await else { return };
            if let Some(probation) = watched.upgrade() {
                probation.fail();
                wake.notify_one();
            }
        });
    }
}

impl Refusal {
    /// Whether the file may be half-written.
    fn may_pass(&self) -> bool {
        match self {
            Refusal::File(_) => true,
            Refusal::Load(errors) => errors.iter().any(|error| matches!(error, LoadError::Broken(_))),
            Refusal::Trial(_) | Refusal::Kept(_) => false,
        }
    }

    pub(super) fn problems(self, wanted: &config::Guest) -> Vec<Problem> {
        let (name, file, place) = (&wanted.name, wanted.path.value.display(), &wanted.path.place);
        match self {
            Refusal::File(error) => {
                let message = format!("guest \"{name}\": {file} cannot be read: {error}");
                vec![Problem::new(place, message).help("a relative path starts at the configuration's folder")]
            }
            Refusal::Load(errors) => {
                let problem = |error: LoadError| {
                    let message = format!("guest \"{name}\" ({file}), at the step {}: {error}", error.step());
                    Problem::new(place, message).help(error.help())
                };
                errors.into_iter().map(problem).collect()
            }
            Refusal::Trial(error) => {
                let place = wanted.rollout.trial.as_ref().map_or(place, |trial| &trial.samples.place);
                let message = format!("guest \"{name}\" ({file}), at the step samples: {error}");
                vec![Problem::new(place, message).help(error.help())]
            }
            Refusal::Kept(error) => vec![Problem::new(place, format!("guest \"{name}\": {error}"))],
        }
    }
}

/// The routes and downlinks that ask this guest for what one of its versions does not serve.
pub(super) fn unserved(serving: &Serving, config: &Config) -> Vec<Problem> {
    serving.versions().flat_map(|version| unserved_by(version, config)).collect()
}

pub(super) fn unserved_by(guest: &Guest, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let below = config.downlinks.iter().flat_map(|downlink| &downlink.guests).filter(|_| !guest.descends());
    for asked in below.filter(|asked| asked.value == guest.name()) {
        let message = format!("guest \"{}\" cannot be asked by a downlink: it does not export the interface `downlink`", guest.name());
        let help = "ask another guest, or build this one with `export downlink` in its world";
        problems.push(Problem::new(&asked.place, message).help(help));
    }
    for route in &config.routes {
        for asked in route.guests.iter().filter(|asked| asked.value == guest.name() && !guest.wants(route.hook)) {
            let (name, hook, interface) = (guest.name(), route.hook, route.hook.kind().interface());
            let (message, help) = if guest.exports(hook.kind()) {
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

pub(super) fn keys_of(guest: &config::Guest, keys: &[config::Key]) -> Vec<config::Key> {
    keys.iter().filter(|key| guest.keys.iter().any(|name| name.value == key.name.value)).cloned().collect()
}

/// A file with its digest; both take their time where the file is long.
pub(super) async fn read(path: &Path) -> Result<(Arc<[u8]>, String), String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&path)?.len();
        if length > MAX_FILE_BYTES {
            return Err(std::io::Error::other(format!("it has {length} bytes, and more than {MAX_FILE_BYTES} are not taken")));
        }
        let bytes: Arc<[u8]> = std::fs::read(&path)?.into();
        let digest = guest::digest(&bytes);
        Ok((bytes, digest))
    });
    reading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
