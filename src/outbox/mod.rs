//! The ways out of this process: which cluster, how safe, how often.
//!
//! A [`Way`] belongs to a route and does with a record what the route's [`Delivery`] says; the [`Outbox`] holds what all ways share: a
//! producer for each cluster, and where a route wants it a worker for its transactions ([`once`]). Another configuration is taken in two
//! steps, [`Outbox::renew`] and [`Renewal::commit`], so that it can be refused as a whole. A cluster that stays keeps its producer, which
//! changes inside; a way to a cluster that goes holds on to it until the plan that the way belongs to is gone.
//!
//! Absent: what a record contains (the pipeline's), how it is sent (kafka's).

mod kept;
mod lane;
mod once;
mod refused;
mod renewal;
mod spooled;
mod way;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::timeout;

use self::{lane::Lanes, once::Once, refused::Letters, spooled::Spooled};
pub use self::{
    once::{Past, Together},
    renewal::Renewal,
    way::Way,
};
use crate::{
    config::{Ack, Bootstrap, Config, Delivery, Downlink, Guarantee, Kafka, OnFailure, OnRefusal, Problem, Route},
    event::Text,
    kafka::{Inspection, KafkaError, Producer, Transactor},
    metrics::Metrics,
    spool::SpoolError,
};

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A cluster's producer does not start.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A cluster's spool does not open.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl OutboxError {
    /// The same as a problem of the configuration, for those that are one.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            OutboxError::Kafka(error) => error.problem(),
            OutboxError::Spool(_) => None,
        }
    }
}

/// Every cluster that records can go to; clones share it.
#[derive(Clone, Debug)]
pub struct Outbox {
    clusters: Arc<ArcSwap<Clusters>>,
    /// Clusters that the configuration no longer names, while records are on their way to them.
    leaving: Arc<Mutex<Vec<Cluster>>>,
    /// What former processes left, for transactions.
    past: Option<Arc<Past>>,
}

type Clusters = HashMap<String, Cluster>;

/// One cluster with everything that is on its way to it.
#[derive(Clone, Debug)]
struct Cluster {
    producer: Producer,
    dead_letter_topic: Text,
    /// Who is under way to it in strict order, whichever plan it met.
    lanes: Arc<Lanes>,
    /// Who writes dead letters, once a route wants them.
    letters: OnceLock<Letters>,
    /// Where there is a `data_dir`.
    spooled: Option<Spooled>,
    once: Arc<Door>,
    metrics: Arc<Metrics>,
}

/// The way into a cluster's transactions, opened by the first route that wants it.
#[derive(Debug)]
struct Door {
    /// `None`: nothing outlives the process.
    settings: Option<once::Settings>,
    open: OnceLock<Option<Once>>,
}

impl Door {
    fn enter(&self) -> Option<Once> {
        let start = |settings: &once::Settings| {
            let started = Once::start(settings.clone());
            started.inspect_err(|error| tracing::error!("no thread for transactions with Kafka: {error}")).ok()
        };
        self.open.get_or_init(|| self.settings.as_ref().and_then(start)).clone()
    }

    fn opened(&self) -> Option<&Once> {
        self.open.get()?.as_ref()
    }

    /// How many clones of the cluster's producer it holds.
    fn holders(&self) -> usize {
        usize::from(self.settings.is_some()) + usize::from(self.opened().is_some())
    }
}

impl Cluster {
    fn connect(config: &Config, kafka: &Kafka, past: Option<&Arc<Past>>, metrics: &Arc<Metrics>) -> Result<Self, OutboxError> {
        let producer = Producer::connect(kafka, &topics(config, kafka), Arc::clone(metrics))?;
        let dead_letter_topic = Text::from(kafka.dead_letter_topic.as_str());
        let open = |spool| Spooled::open(&kafka.name, spool, &producer, &dead_letter_topic, metrics);
        let settings = past.map(|past| once::Settings {
            kafka: kafka.clone(),
            producer: producer.clone(),
            node: config.node.clone(),
            past: Arc::clone(past),
            metrics: Arc::clone(metrics),
        });
        Ok(Cluster {
            spooled: config.spool.as_ref().map(open).transpose()?,
            producer,
            dead_letter_topic,
            lanes: Arc::default(),
            letters: OnceLock::new(),
            once: Arc::new(Door { settings, open: OnceLock::new() }),
            metrics: Arc::clone(metrics),
        })
    }

    /// The same cluster under another configuration: who is under way to it stays so.
    fn renewed(&self, kafka: &Kafka) -> Self {
        let dead_letter_topic: Text = kafka.dead_letter_topic.as_str().into();
        let letters = if dead_letter_topic == self.dead_letter_topic { self.letters.clone() } else { OnceLock::new() };
        Cluster { dead_letter_topic, letters, ..self.clone() }
    }

    /// Waits until everything is answered, at most `patience`, then closes for good. Returns how many records were still unconfirmed; those
    /// that wait in the spool are safe, and not counted.
    async fn drain(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        let once = match self.once.opened() {
            Some(once) => once.drain(left()).await,
            None => 0,
        };
        if let Some(spooled) = &self.spooled {
            let rest = spooled.rest(left()).await;
            return once + rest.drain(&self.producer, self.letters.get(), left()).await;
        }
        if let Some(letters) = self.letters.get() {
            let _ = timeout(left(), letters.until_settled(&self.producer)).await; // what is left is counted below
        }
        once + self.producer.drain(left()).await
    }

    /// Who writes dead letters; must be called in a runtime.
    fn letters(&self) -> Letters {
        let start = || Letters::start(self.producer.clone(), self.dead_letter_topic.clone(), Arc::clone(&self.metrics));
        self.letters.get_or_init(start).clone()
    }
}

impl Outbox {
    fn new(clusters: Clusters, past: Option<Arc<Past>>) -> Self {
        Outbox { clusters: Arc::new(ArcSwap::from_pointee(clusters)), leaving: Arc::default(), past }
    }

    /// No cluster: nothing is produced.
    pub fn closed() -> Self {
        Outbox::new(Clusters::new(), None)
    }

    /// Connects to every cluster, and opens its spool where there is a `data_dir`; `past` is what former processes left. Blocks like
    /// [`Producer::connect`], and while a spool is read through; must be called in a runtime.
    ///
    /// # Errors
    /// The first cluster whose settings librdkafka does not take, or whose spool does not open.
    pub fn open(config: &Config, past: Option<Past>, metrics: &Arc<Metrics>) -> Result<Self, OutboxError> {
        let past = past.map(Arc::new);
        let mut clusters = HashMap::new();
        for kafka in config.all_clusters() {
            clusters.insert(kafka.name.clone(), Cluster::connect(config, kafka, past.as_ref(), metrics)?);
        }
        if let Some(spool) = &config.spool {
            let names: Vec<&str> = config.all_clusters().map(|kafka| kafka.name.as_str()).collect();
            spooled::warn_of_others(&spool.folder, &names);
        }
        Ok(Outbox::new(clusters, past))
    }

    /// Checks what [`Outbox::open`] would refuse, without connecting.
    ///
    /// # Errors
    /// For each cluster the first property that librdkafka does not take.
    pub fn check(config: &Config) -> Result<(), Vec<KafkaError>> {
        let is_once = |kafka: &Kafka| {
            let mut routes = config.routes.iter().filter(|route| route.delivery.guarantee == Guarantee::ExactlyOnce);
            routes.any(|route| route.delivery.cluster.value == kafka.name)
        };
        let check = |kafka: &Kafka| {
            Producer::check(kafka)?;
            if is_once(kafka) { Transactor::check(kafka, &config.node) } else { Ok(()) }
        };
        let errors: Vec<_> = config.all_clusters().filter_map(|kafka| check(kafka).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Asks every cluster about itself and the topics that the configuration can write to, without [`Outbox::open`]: nothing is written
    /// and nothing created. Blocks, at most about half a minute for each.
    ///
    /// # Errors
    /// The first cluster whose settings librdkafka does not take.
    pub fn inspect(config: &Config) -> Result<Vec<Inspection>, KafkaError> {
        let largest_bytes = config.mqtt.max_payload_bytes.min(config.mqtt.max_packet_bytes as usize);
        config.all_clusters().map(|kafka| crate::kafka::inspect(kafka, &topics(config, kafka), largest_bytes)).collect()
    }

    /// How the records of a route leave; `None`: its cluster, or what it needs to be exactly once, is not there. Must be called in a
    /// runtime.
    pub fn way(&self, delivery: &Delivery) -> Option<Way> {
        let clusters = self.clusters.load();
        if clusters.is_empty() {
            return Some(Way::nowhere());
        }
        let cluster = clusters.get(&delivery.cluster.value)?;
        let once = match delivery.guarantee {
            Guarantee::AtLeastOnce => None,
            Guarantee::ExactlyOnce => Some(cluster.once.enter()?),
        };
        Some(Way::new(cluster, delivery, once))
    }

    /// The producer of the cluster of `[kafka]`.
    pub fn producer(&self) -> Option<Producer> {
        self.clusters.load().get(Kafka::DEFAULT).map(|cluster| cluster.producer.clone())
    }

    /// The producer of a cluster.
    pub fn producer_of(&self, cluster: &str) -> Option<Producer> {
        self.clusters.load().get(cluster).map(|cluster| cluster.producer.clone())
    }

    /// Where any Kafka tool can read from the embedded cluster: `host:port`.
    pub fn embedded_address(&self) -> Option<String> {
        self.clusters.load().values().find_map(|cluster| cluster.producer.embedded_address())
    }

    /// Waits until everything is answered, at most `patience`, then closes for good. Returns how many records were still unconfirmed; those
    /// that wait in a spool are safe, and not counted.
    pub async fn drain(&self, patience: Duration) -> usize {
        let mut draining = tokio::task::JoinSet::new();
        let leaving = std::mem::take(&mut *self.leaving.lock());
        let present = self.clusters.load_full();
        for cluster in present.values().chain(&leaving) {
            let cluster = cluster.clone();
            draining.spawn(async move { cluster.drain(patience).await });
        }
        draining.join_all().await.into_iter().sum()
    }
}

/// The Kafka topics of a cluster that a configuration can write to; of the embedded one, where they come into being with it, also those that
/// it reads.
pub fn topics(config: &Config, cluster: &Kafka) -> Vec<Text> {
    let routes = || config.routes.iter().filter(|route| route.delivery.cluster.value == cluster.name);
    let mut topics: Vec<Text> = routes().filter_map(|route| Some(route.record.as_ref()?.constant_topic()?.into())).collect();
    let buries = |route: &Route| {
        let Delivery { ack, on_refusal, .. } = route.delivery;
        let refused = route.record.is_some() && (on_refusal == OnRefusal::DeadLetter || ack == Ack::Spool);
        refused || (route.on_failure == OnFailure::DeadLetter && !route.guests.is_empty())
    };
    if routes().any(buries) {
        topics.push(cluster.dead_letter_topic.as_str().into());
    }
    let downlinks = || config.downlinks.iter().filter(|downlink| downlink.cluster() == cluster.name);
    if downlinks().any(Downlink::buries) {
        topics.push(cluster.dead_letter_topic.as_str().into());
    }
    if cluster.bootstrap == Bootstrap::Embedded {
        let read = downlinks().flat_map(|downlink| &downlink.topics).filter(|topic| !topic.value.starts_with('^'));
        topics.extend(read.map(|topic| Text::from(topic.value.as_str())));
    }
    if cluster.name == Kafka::DEFAULT {
        let shadows = config.guests.iter().filter_map(|guest| guest.rollout.shadow.as_ref()?.topic.as_deref());
        topics.extend(shadows.map(Text::from));
    }
    topics.sort();
    topics.dedup();
    topics
}
