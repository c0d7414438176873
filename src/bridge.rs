//! The whole of Hookgate in one value: built bottom-up, drained top-down, reloaded as a whole.

mod keep;
mod operators;
mod works;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::mpsc;

use self::works::{Present, Works};

use crate::{
    access::Access,
    admin::Admin,
    config::{Bootstrap, Config, Kafka, Listener, Problem},
    event::Receipt,
    kafka::{Inspection, Record},
    metrics::Metrics,
    outbox::{Outbox, Past, Renewal},
    pipeline::{Pipeline, Plan},
    registry::{Difference, Guests, Registry, States, Watch},
    source::{
        downlink::Downlinks,
        mqtt::{Broker, BrokerError},
    },
    store::Store,
};

/// Differences that shadows found and that are not yet on their way to Kafka.
const DIFFERENCES: usize = 1_000;

/// A running Hookgate.
#[derive(Debug)]
pub struct Bridge {
    broker: Broker,
    downlinks: Downlinks,
    admin: Option<Admin>,
    store: Option<Store>,
    works: Arc<Works>,
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
    /// Names of guests of which another version is in service, or runs beside the one in service.
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
        let (differences, found) = mpsc::channel(DIFFERENCES);
        let registry = Registry::new(&config.runtime, &metrics, differences).context("starting the guest engine")?.keeping(states);
        let guests = registry.load(&config, &Guests::default()).await.map_err(StartError::Problems)?;
        let access = read_access(&config).await.map_err(StartError::Problems)?;
        let past = kept.as_ref().map(|(store, restored)| Past::new(store, restored));
        let outbox = connect(&config, past, &metrics).await?;
        let plan = plan(&config, &access, &outbox, &guests)?;
        let pipeline = Pipeline::new(&config.node, Arc::clone(&metrics));
        pipeline.install(plan);
        pipeline.raise_refusals();
        let broker = Broker::start(&config, Arc::clone(&pipeline), kept).await.map_err(|error| match error {
            BrokerError::Doors(problems) => StartError::Problems(problems),
            error => StartError::Failed(anyhow::Error::new(error).context("opening the doors")),
        })?;
        let downlinks = Downlinks::new(broker.hand(), &pipeline);
        downlinks.start(&config, &outbox).await.map_err(|error| match error.problem() {
            Some(problem) => StartError::Problems(vec![problem]),
            None => StartError::Failed(error.into()),
        })?;
        let opened = match &config.admin {
            Some(admin) => Some(Admin::start(admin.bind.value, Arc::clone(&metrics)).await.context("opening the admin interface")?),
            None => None,
        };
        tokio::spawn(produce_differences(found, outbox.clone()));
        let guests = registry.commit(guests, &Guests::default()).await;
        let works = Works::start(pipeline, outbox, registry, metrics, Present { config, guests, access });
        let admin = opened.map(|(admin, commands)| {
            tokio::spawn(operators::answer(commands, broker.inspector(), Arc::downgrade(&works)));
            admin
        });
        Ok(Bridge { broker, downlinks, admin, store, works })
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
        self.works.outbox.embedded_address()
    }

    /// This process's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.works.metrics
    }

    /// Takes a new configuration into service as a whole, or keeps the old one.
    ///
    /// Routes, guests, keys, certificates, limits and clusters change at once for all events that arrive from now on; events in flight
    /// finish on what they met.
    ///
    /// # Errors
    /// Every problem; the old configuration goes on.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, Vec<Problem>> {
        let mut present = self.works.present.lock().await;
        let problems = needs_restart(&present.config, &config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let problems = Downlinks::check(&config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let guests = self.works.registry.load(&config, &present.guests).await?;
        let access = read_access(&config).await?;
        let swapped = works::changed(&present.guests, &guests);
        let renewal = renew(&self.works, &config).await?;
        let plan = plan(&config, &access, renewal.next(), &guests)
            .map_err(|error| vec![Problem::new(&config.kafka.place.place, error.to_string())])?;
        self.broker.reconfigure(&config)?;
        // A downlink that changes ends on the plan that it began with.
        self.downlinks.retire(&config, Duration::from_millis(config.kafka.drain_timeout_ms)).await;
        renewal.commit();
        self.works.pipeline.install(plan);
        if let Err(error) = self.downlinks.start(&config, &self.works.outbox).await {
            tracing::error!(%error, "a downlink does not start; the next reload tries again");
        }
        self.works.metrics.config_reloads.inc();
        let guests = self.works.registry.commit(guests, &present.guests).await;
        *present = Present { config, guests, access };
        Ok(Reloaded { swapped, problems: Vec::new() })
    }

    /// Looks at the guests' files again: each new version is compiled beside the running one, tried, and taken into service or beside the
    /// running one; a broken one is refused and its old version goes on.
    pub async fn refresh_guests(&self) -> Reloaded {
        self.works.refresh(None).await
    }

    /// Reads the password file again; one that is wrong is refused, and the users that are known go on.
    pub async fn refresh_passwords(&self) {
        let mut service = self.works.present.lock().await;
        let refreshed = read_access(&service.config).await.and_then(|access| {
            match plan(&service.config, &access, &self.works.outbox, &service.guests) {
                Ok(plan) => Ok((access, plan)),
                Err(error) => Err(vec![Problem::new(&service.config.kafka.place.place, error.to_string())]),
            }
        });
        match refreshed {
            Ok((access, plan)) => {
                self.works.pipeline.install(plan);
                service.access = access;
                tracing::info!("password file read again");
            }
            Err(problems) => {
                self.works.metrics.config_reloads_refused.inc();
                for problem in problems {
                    tracing::error!(%problem, "password file refused; the users that are known go on");
                }
            }
        }
    }

    /// Takes a configuration file into service as a whole, or keeps the old one; the log says which, and why. Under a configuration that was
    /// refused, new versions of guests are taken all the same, as if only their files had changed.
    pub async fn reload_file(&self, file: &Path) {
        if !self.take_file(file).await {
            self.log_refresh().await;
        }
    }

    /// Whether the configuration was taken.
    async fn take_file(&self, file: &Path) -> bool {
        let reloaded = match Config::load(file) {
            Ok(config) => self.reload(config).await,
            Err(problems) => Err(problems),
        };
        match reloaded {
            Ok(reloaded) => {
                tracing::info!(swapped = reloaded.swapped.join(","), "configuration reloaded");
                true
            }
            Err(problems) => {
                self.works.metrics.config_reloads_refused.inc();
                for problem in problems {
                    tracing::error!(%problem, "configuration refused; the old one goes on");
                }
                false
            }
        }
    }

    async fn log_refresh(&self) {
        let reloaded = self.refresh_guests().await;
        if !reloaded.swapped.is_empty() {
            tracing::info!(guests = reloaded.swapped.join(","), "new guest versions taken");
        }
        for problem in reloaded.problems {
            tracing::error!(%problem, "guest refused; its old version goes on");
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
        self.log_refresh().await; // what was put there between the start and now
        loop {
            let changed = watch.changed().await;
            if changed.iter().any(|path| same_file(path, file)) {
                let taken = self.take_file(file).await;
                watch.set_paths(self.watched(file).await);
                if taken || changed.len() == 1 {
                    continue;
                }
                // What changed along with a configuration that was refused is taken under the old one.
            }
            if self.are_of_clusters(&changed).await {
                self.take_file(file).await; // reads certificates and passwords for Kafka again
            }
            if self.is_password_file(&changed).await {
                self.refresh_passwords().await;
            }
            self.refresh_certificates(&changed);
            self.log_refresh().await;
        }
    }

    async fn watched(&self, file: &Path) -> Vec<PathBuf> {
        let service = self.works.present.lock().await;
        let guests = service.config.guests.iter().map(|guest| guest.path.value.clone());
        let certificates = service.config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates = certificates.flat_map(|tls| tls.files().map(Path::to_owned));
        let passwords = service.config.access.password_file.iter().map(|file| file.value.clone());
        let clusters = service.config.all_clusters().flat_map(Kafka::files).map(Path::to_owned);
        std::iter::once(file.to_owned()).chain(guests).chain(certificates).chain(passwords).chain(clusters).collect()
    }

    /// Whether one of these holds a certificate, a key or a password for Kafka.
    async fn are_of_clusters(&self, paths: &[PathBuf]) -> bool {
        let service = self.works.present.lock().await;
        service.config.all_clusters().flat_map(Kafka::files).any(|file| paths.iter().any(|path| path == file))
    }

    async fn is_password_file(&self, paths: &[PathBuf]) -> bool {
        let service = self.works.present.lock().await;
        service.config.access.password_file.as_ref().is_some_and(|file| paths.contains(&file.value))
    }

    /// Stops accepting, settles what is in flight, and ends: the doors first, then Kafka, the store last.
    ///
    /// Returns the number of records whose fate is unknown; none of them was acknowledged.
    pub async fn drain(self) -> usize {
        let deadline = Duration::from_millis(self.works.present.lock().await.config.kafka.drain_timeout_ms);
        if let Some(admin) = &self.admin {
            admin.drain();
        }
        self.works.pipeline.hurry();
        self.downlinks.drain(deadline).await;
        self.broker.drain(deadline).await;
        self.works.pipeline.flush_captures(deadline).await;
        // What goes exactly once is noted in the store before Kafka has it.
        let unconfirmed = self.works.outbox.drain(deadline).await;
        keep::close(self.store).await;
        unconfirmed
    }
}

/// Connecting waits for Kafka's first answer, which must not hold up a thread of the runtime.
async fn connect(config: &Config, past: Option<Past>, metrics: &Arc<Metrics>) -> Result<Outbox, StartError> {
    let (config, metrics) = (config.clone(), Arc::clone(metrics));
    let connected =
        tokio::task::spawn_blocking(move || Outbox::open(&config, past, &metrics)).await.context("starting the Kafka producer")?;
    connected.map_err(|error| match error.problem() {
        Some(problem) => StartError::Problems(vec![problem]),
        None => StartError::Failed(error.into()),
    })
}

/// Connects to what the new configuration names, beside what is in service.
async fn renew(works: &Works, config: &Config) -> Result<Renewal, Vec<Problem>> {
    let (outbox, metrics, asked) = (works.outbox.clone(), Arc::clone(&works.metrics), config.clone());
    let place = &config.kafka.place.place;
    let problem = |error: String| vec![Problem::new(place, error)];
    let renewed = tokio::task::spawn_blocking(move || outbox.renew(&asked, &metrics)).await;
    let renewed = renewed.map_err(|error| problem(format!("connecting to Kafka stopped: {error}")))?;
    renewed.map_err(|error| error.problem().map_or_else(|| problem(error.to_string()), |problem| vec![problem]))
}

fn plan(config: &Config, access: &Arc<Access>, outbox: &Outbox, guests: &Guests) -> anyhow::Result<Plan> {
    Plan::new(config, access, outbox, |name| guests.get(name).cloned()).map_err(|missing| anyhow::anyhow!(missing))
}

/// Reads the password file, off the runtime's threads.
async fn read_access(config: &Config) -> Result<Arc<Access>, Vec<Problem>> {
    let (settings, place) = (config.access.clone(), config.kafka.place.place.clone());
    let read = tokio::task::spawn_blocking(move || Access::load(&settings)).await;
    read.unwrap_or_else(|error| Err(vec![Problem::new(&place, format!("the password file was not read: {error}"))]))
}

/// Takes the differences that shadows find to their topics. A slow Kafka fills the channel, and the shadows count what finds no room.
async fn produce_differences(mut found: mpsc::Receiver<Difference>, outbox: Outbox) {
    while let Some(Difference { topic, client_id, time_ms, value }) = found.recv().await {
        let key = Some(client_id.into_bytes());
        let Some(producer) = outbox.producer() else { continue };
        producer.send(Record { topic, key, value: value.into(), timestamp_ms: time_ms, ..Record::default() }, Receipt::nobody()).await;
    }
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
        ("[guests]", old.runtime != new.runtime),
        ("[admin]", old.admin != new.admin),
        ("bootstrap_servers from or to \"embedded\"", differs(old, new, |kafka| kafka.bootstrap == Bootstrap::Embedded)),
        (
            "max_outstanding_records, max_outstanding_bytes or max_outstanding_ms",
            differs(old, new, |it| (it.max_outstanding_records, it.max_outstanding_bytes, it.max_outstanding_ms)),
        ),
        ("[kafka] embedded_partitions", old.kafka.embedded_partitions != new.kafka.embedded_partitions),
        ("[spool]", old.spool != new.spool),
    ];
    let changed = tables.into_iter().filter(|(_, changed)| *changed);
    let problem =
        |(table, _)| Problem::new(place, format!("{table} cannot change while Hookgate runs")).help("restart to take it into service");
    changed.map(problem).collect()
}

/// Whether something differs of a cluster that both name.
fn differs<T: PartialEq>(old: &Config, new: &Config, part: impl Fn(&Kafka) -> T) -> bool {
    let old = |new: &Kafka| old.all_clusters().find(|old| old.name == new.name).map(&part);
    new.all_clusters().any(|new| old(new).is_some_and(|old| old != part(new)))
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
    let registry = Registry::for_trial(&config.runtime, &Metrics::new()).context("starting the guest engine")?;
    if let Err(more) = registry.load(&config, &Guests::default()).await {
        problems.extend(more);
    }
    problems.extend(read_access(&config).await.err().unwrap_or_default());
    problems.extend(Broker::check(&config));
    problems.extend(Downlinks::check(&config));
    problems.extend(Outbox::check(&config).err().into_iter().flatten().filter_map(|error| error.problem()));
    problems.sort();
    problems.dedup();
    Ok(problems)
}

/// What works in a configuration file, and should not be so; and what its clusters say to it, if they are to be asked.
///
/// # Errors
/// The file cannot be read, or librdkafka does not take what it says.
pub async fn look_closer(file: &Path, connect: bool) -> anyhow::Result<(Vec<Problem>, Vec<Inspection>)> {
    let Ok((config, _)) = Config::inspect(file) else { return Ok((Vec::new(), Vec::new())) };
    let warnings = config.warnings();
    if !connect {
        return Ok((warnings, Vec::new()));
    }
    let inspections = tokio::task::spawn_blocking(move || Outbox::inspect(&config)).await.context("asking Kafka")??;
    Ok((warnings, inspections))
}
