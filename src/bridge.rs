//! The whole of Hookgate in one value: built bottom-up, drained top-down, reloaded as a whole.

mod keep;
mod operators;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::Mutex;

use crate::{
    access::Access,
    admin::Admin,
    config::{Config, Listener, Problem},
    event::Text,
    kafka::Producer,
    metrics::Metrics,
    pipeline::{Pipeline, Plan},
    registry::{Guests, Registry, Serving, States, Watch},
    source::mqtt::{Broker, BrokerError},
    store::Store,
};

/// A running Hookgate.
#[derive(Debug)]
pub struct Bridge {
    broker: Broker,
    admin: Option<Admin>,
    pipeline: Arc<Pipeline>,
    producer: Producer,
    registry: Registry,
    store: Option<Store>,
    metrics: Arc<Metrics>,
    service: Mutex<Service>,
}

/// What is in service: changed only as a whole.
#[derive(Debug)]
struct Service {
    config: Config,
    guests: Guests,
    access: Arc<Access>,
}

/// Why a Hookgate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or its guests are wrong; every problem at once.
    #[error("the configuration has {} problem(s), the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Problems(Vec<Problem>),
    /// The machine says no: a port in use, no memory.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Names of guests whose new version is in service.
    pub swapped: Vec<String>,
    /// What stayed as it was, and why.
    pub problems: Vec<Problem>,
}

impl Bridge {
    /// Loads and tries the guests, connects to Kafka, and opens the doors last.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let mut kept = keep::open(&config, &metrics).await?;
        let store = kept.as_ref().map(|(store, _)| store.clone());
        let stored = kept.as_mut().map(|(_, restored)| std::mem::take(&mut restored.states)).unwrap_or_default();
        let states = States::open(&config, store.clone(), stored, &metrics);
        let registry = Registry::new(&config.runtime, &metrics).context("starting the guest engine")?.keeping(states);
        let guests = registry.load(&config, &Guests::default()).await.map_err(StartError::Problems)?;
        let access = read_access(&config).await.map_err(StartError::Problems)?;
        let plan = plan(&config, &access, &guests)?;
        let producer = connect(&config, &metrics).await?;
        let pipeline = Pipeline::new(&config.node, producer.clone(), Arc::clone(&metrics));
        pipeline.install(plan);
        let broker = Broker::start(&config, Arc::clone(&pipeline), kept).await.map_err(|error| match error {
            BrokerError::Doors(problems) => StartError::Problems(problems),
            error => StartError::Failed(anyhow::Error::new(error).context("opening the doors")),
        })?;
        let admin = match &config.admin {
            Some(admin) => {
                let opened = Admin::start(admin.bind.value, Arc::clone(&metrics)).await;
                let (admin, commands) = opened.context("opening the admin interface")?;
                tokio::spawn(operators::answer(commands, broker.inspector()));
                Some(admin)
            }
            None => None,
        };
        Ok(Bridge { broker, admin, pipeline, producer, registry, store, metrics, service: Mutex::new(Service { config, guests, access }) })
    }

    /// The listeners' names and bound addresses, in configuration order.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        self.broker.addresses()
    }

    /// Where the admin interface listens, when there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The address of the embedded Kafka, when it is embedded.
    pub fn embedded_kafka(&self) -> Option<String> {
        self.producer.embedded_address()
    }

    /// This process's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Takes a new configuration into service as a whole, or keeps the old one.
    ///
    /// Routes, guests, keys, certificates and limits change at once for all events that arrive from now on; events in flight finish on what they met.
    ///
    /// # Errors
    /// Every problem; the old configuration goes on.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, Vec<Problem>> {
        let mut service = self.service.lock().await;
        let problems = needs_restart(&service.config, &config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let guests = self.registry.load(&config, &service.guests).await?;
        let access = read_access(&config).await?;
        let swapped = changed(&service.guests, &guests);
        let plan = plan(&config, &access, &guests).map_err(|error| vec![Problem::new(&config.kafka.place.place, error.to_string())])?;
        let (producer, topics) = (self.producer.clone(), topics(&config));
        // A Kafka that does not answer now answers the records later.
        let _ = tokio::task::spawn_blocking(move || producer.prepare(&topics)).await;
        self.broker.reconfigure(&config)?;
        self.pipeline.install(plan);
        self.metrics.config_reloads.inc();
        *service = Service { config, guests, access };
        Ok(Reloaded { swapped, problems: Vec::new() })
    }

    /// Looks at the guests' files again: each new version is compiled beside the running one, tried, and swapped in; a broken one is
    /// refused and its old version goes on.
    pub async fn refresh_guests(&self) -> Reloaded {
        let mut service = self.service.lock().await;
        let (guests, problems) = self.registry.refresh(&service.config, &service.guests).await;
        let swapped = changed(&service.guests, &guests);
        if !swapped.is_empty() {
            match plan(&service.config, &service.access, &guests) {
                Ok(plan) => {
                    self.pipeline.install(plan);
                    service.guests = guests;
                }
                Err(error) => tracing::error!(%error, "the new guests do not fit the configuration; the old ones go on"),
            }
        }
        Reloaded { swapped, problems }
    }

    /// Reads the password file again; one that is wrong is refused, and the users that are known go on.
    pub async fn refresh_passwords(&self) {
        let mut service = self.service.lock().await;
        let refreshed = read_access(&service.config).await.and_then(|access| match plan(&service.config, &access, &service.guests) {
            Ok(plan) => Ok((access, plan)),
            Err(error) => Err(vec![Problem::new(&service.config.kafka.place.place, error.to_string())]),
        });
        match refreshed {
            Ok((access, plan)) => {
                self.pipeline.install(plan);
                service.access = access;
                tracing::info!("password file read again");
            }
            Err(problems) => {
                self.metrics.config_reloads_refused.inc();
                for problem in problems {
                    tracing::error!(%problem, "password file refused; the users that are known go on");
                }
            }
        }
    }

    /// Takes a configuration file into service as a whole, or keeps the old one; the log says which, and why.
    pub async fn reload_file(&self, file: &Path) {
        let reloaded = match Config::load(file) {
            Ok(config) => self.reload(config).await,
            Err(problems) => Err(problems),
        };
        match reloaded {
            Ok(reloaded) => tracing::info!(swapped = reloaded.swapped.join(","), "configuration reloaded"),
            Err(problems) => {
                self.metrics.config_reloads_refused.inc();
                for problem in problems {
                    tracing::error!(%problem, "configuration refused; the old one goes on");
                }
            }
        }
    }

    /// Looks at certificates again whose files have changed: connections go on with those that they met, new ones meet the new; what cannot
    /// be used is refused and the old one goes on.
    pub fn refresh_certificates(&self, changed: &[PathBuf]) {
        let (listeners, problems) = self.broker.refresh(changed);
        if !listeners.is_empty() {
            tracing::info!(listeners = listeners.join(","), "new certificates in service");
        }
        for problem in problems {
            tracing::error!(%problem, "certificate refused; the old one goes on");
        }
    }

    /// Follows changes of the configuration file, of the guests' files, of certificates and of the password file, for ever.
    pub async fn follow(&self, file: &Path) {
        let mut watch = Watch::new(self.watched(file).await);
        loop {
            let changed = watch.changed().await;
            if changed.iter().any(|path| same_file(path, file)) {
                self.reload_file(file).await;
                watch.set_paths(self.watched(file).await);
            } else {
                if self.is_password_file(&changed).await {
                    self.refresh_passwords().await;
                }
                self.refresh_certificates(&changed);
                let reloaded = self.refresh_guests().await;
                if !reloaded.swapped.is_empty() {
                    tracing::info!(guests = reloaded.swapped.join(","), "new guest versions in service");
                }
                for problem in reloaded.problems {
                    tracing::error!(%problem, "guest refused; its old version goes on");
                }
            }
        }
    }

    async fn watched(&self, file: &Path) -> Vec<PathBuf> {
        let service = self.service.lock().await;
        let guests = service.config.guests.iter().map(|guest| guest.path.value.clone());
        let certificates = service.config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates = certificates.flat_map(|tls| tls.files().map(Path::to_owned));
        let passwords = service.config.access.password_file.iter().map(|file| file.value.clone());
        std::iter::once(file.to_owned()).chain(guests).chain(certificates).chain(passwords).collect()
    }

    async fn is_password_file(&self, paths: &[PathBuf]) -> bool {
        let service = self.service.lock().await;
        service.config.access.password_file.as_ref().is_some_and(|file| paths.contains(&file.value))
    }

    /// Stops accepting, settles what is in flight, and ends: the doors first, Kafka last.
    ///
    /// Returns the number of records whose fate is unknown; none of them was acknowledged.
    pub async fn drain(self) -> usize {
        let deadline = Duration::from_millis(self.service.into_inner().config.kafka.drain_timeout_ms);
        if let Some(admin) = &self.admin {
            admin.drain();
        }
        self.pipeline.hurry();
        self.broker.drain(deadline).await;
        self.pipeline.flush_captures(deadline).await;
        keep::close(self.store).await;
        self.producer.drain(deadline).await
    }
}

/// Connecting waits for Kafka's first answer, which must not hold up a thread of the runtime.
async fn connect(config: &Config, metrics: &Arc<Metrics>) -> Result<Producer, StartError> {
    let (kafka, topics, metrics) = (config.kafka.clone(), topics(config), Arc::clone(metrics));
    let connected =
        tokio::task::spawn_blocking(move || Producer::connect(&kafka, &topics, metrics)).await.context("starting the Kafka producer")?;
    connected.map_err(|error| match error.problem() {
        Some(problem) => StartError::Problems(vec![problem]),
        None => StartError::Failed(error.into()),
    })
}

fn plan(config: &Config, access: &Arc<Access>, guests: &Guests) -> anyhow::Result<Plan> {
    Plan::new(config, access, |name| guests.get(name).cloned()).map_err(|name| anyhow::anyhow!("guest \"{name}\" is not loaded"))
}

/// Reads the password file, off the runtime's threads.
async fn read_access(config: &Config) -> Result<Arc<Access>, Vec<Problem>> {
    let (settings, place) = (config.access.clone(), config.kafka.place.place.clone());
    let read = tokio::task::spawn_blocking(move || Access::load(&settings)).await;
    read.unwrap_or_else(|error| Err(vec![Problem::new(&place, format!("the password file was not read: {error}"))]))
}

/// The Kafka topics that a configuration can write to.
fn topics(config: &Config) -> Vec<Text> {
    let mut topics: Vec<Text> = config.routes.iter().filter_map(|route| Some(route.record.as_ref()?.topic.as_str().into())).collect();
    let dead_letters =
        config.routes.iter().any(|route| route.on_failure == crate::config::OnFailure::DeadLetter && !route.guests.is_empty());
    if dead_letters {
        topics.push(config.kafka.dead_letter_topic.as_str().into());
    }
    topics.sort();
    topics.dedup();
    topics
}

/// The guests whose version differs.
fn changed(old: &Guests, new: &Guests) -> Vec<String> {
    let differs = |guest: &&Arc<Serving>| old.get(guest.name()).is_none_or(|old| !Arc::ptr_eq(old, guest));
    let mut names: Vec<String> = new.iter().filter(differs).map(|guest| guest.name().to_owned()).collect();
    names.sort();
    names
}

fn same_file(path: &Path, file: &Path) -> bool {
    path == file || std::path::absolute(file).is_ok_and(|file| path == file)
}

/// What cannot change while the process runs.
fn needs_restart(old: &Config, new: &Config) -> Vec<Problem> {
    let place = &new.kafka.place.place;
    let tables = [
        ("[node]", old.node != new.node),
        ("[node] data_dir or [store]", old.store != new.store),
        ("[[listener]] name, bind or protocol", !same_doors(&old.listeners, &new.listeners)),
        ("[mqtt] max_retained_messages", old.mqtt.max_retained_messages != new.mqtt.max_retained_messages),
        ("[admin]", old.admin != new.admin),
        ("[kafka]", old.kafka != new.kafka),
        ("[guests]", old.runtime != new.runtime),
    ];
    let changed = tables.into_iter().filter(|(_, changed)| *changed);
    let problem =
        |(table, _)| Problem::new(place, format!("{table} cannot change while Hookgate runs")).help("restart to take it into service");
    changed.map(problem).collect()
}

/// Whether the sockets are the same; what is behind them can change.
fn same_doors(old: &[Listener], new: &[Listener]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.is_same_door(new))
}

/// Every problem of a configuration file, its guests included, without opening a door.
///
/// # Errors
/// The engine that tries guests cannot start.
pub async fn check(file: &Path) -> anyhow::Result<Vec<Problem>> {
    let (config, mut problems) = match Config::inspect(file) {
        Ok(read) => read,
        Err(problems) => return Ok(problems),
    };
    let registry = Registry::new(&config.runtime, &Metrics::new()).context("starting the guest engine")?;
    if let Err(more) = registry.load(&config, &Guests::default()).await {
        problems.extend(more);
    }
    problems.extend(read_access(&config).await.err().unwrap_or_default());
    problems.extend(Broker::check(&config));
    problems.extend(Producer::check(&config.kafka).err().and_then(|error| error.problem()));
    problems.sort();
    problems.dedup();
    Ok(problems)
}
