//! The ways out of this process: which cluster, how safe, how often.
//!
//! A [`Way`] belongs to a route and does with a record what the route's [`Delivery`] says; the [`Outbox`] holds what all ways share: a
//! producer for each cluster. Clusters are replaced as a whole by [`Outbox::renew`]; a way goes on with what it was made for until the
//! plan that holds it is gone.
//!
//! Absent: what a record contains (the pipeline's), how it is sent (kafka's).

mod kept;
mod lane;
mod refused;
mod spooled;
mod way;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::time::timeout;

pub use self::way::Way;
use self::{lane::Lanes, refused::Letters, spooled::Spooled};
use crate::{
    config::{self, Ack, Config, Delivery, Kafka, OnFailure, OnRefusal, Problem, Route},
    event::Text,
    kafka::{KafkaError, Producer},
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

/// Every cluster that records can go to.
#[derive(Clone, Debug)]
pub struct Outbox {
    clusters: Arc<HashMap<String, Cluster>>,
}

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
    metrics: Arc<Metrics>,
}

impl Cluster {
    fn connect(kafka: &Kafka, topics: &[Text], spool: Option<&config::Spool>, metrics: &Arc<Metrics>) -> Result<Self, OutboxError> {
        let producer = Producer::connect(kafka, topics, Arc::clone(metrics))?;
        let dead_letter_topic = Text::from(kafka.dead_letter_topic.as_str());
        let open = |spool| Spooled::open(&kafka.name, spool, &producer, &dead_letter_topic, metrics);
        Ok(Cluster {
            spooled: spool.map(open).transpose()?,
            producer,
            dead_letter_topic,
            lanes: Arc::default(),
            letters: OnceLock::new(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Who writes dead letters; must be called in a runtime.
    fn letters(&self) -> Letters {
        let start = || Letters::start(self.producer.clone(), self.dead_letter_topic.clone(), Arc::clone(&self.metrics));
        self.letters.get_or_init(start).clone()
    }
}

impl Outbox {
    /// No cluster: nothing is produced.
    pub fn closed() -> Self {
        Outbox { clusters: Arc::default() }
    }

    /// Connects to every cluster, and opens its spool where there is a `data_dir`. Blocks like [`Producer::connect`], and while a spool is
    /// read through; must be called in a runtime.
    ///
    /// # Errors
    /// The first cluster whose settings librdkafka does not take, or whose spool does not open.
    pub fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, OutboxError> {
        let mut clusters = HashMap::new();
        for kafka in config.all_clusters() {
            clusters.insert(kafka.name.clone(), Cluster::connect(kafka, &topics(config, kafka), config.spool.as_ref(), metrics)?);
        }
        if let Some(spool) = &config.spool {
            let names: Vec<&str> = config.all_clusters().map(|kafka| kafka.name.as_str()).collect();
            spooled::warn_of_others(&spool.folder, &names);
        }
        Ok(Outbox { clusters: Arc::new(clusters) })
    }

    /// Checks what [`Outbox::open`] would refuse, without connecting.
    ///
    /// # Errors
    /// For each cluster the first property that librdkafka does not take.
    pub fn check(config: &Config) -> Result<(), Vec<KafkaError>> {
        let errors: Vec<_> = config.all_clusters().filter_map(|kafka| Producer::check(kafka).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// How the records of a route leave; `None`: its cluster is not there. Must be called in a runtime.
    pub fn way(&self, delivery: &Delivery) -> Option<Way> {
        if self.clusters.is_empty() {
            return Some(Way::nowhere());
        }
        let cluster = self.clusters.get(&delivery.cluster.value)?;
        Some(Way::new(cluster, delivery))
    }

    /// The producer of the cluster of `[kafka]`.
    pub fn producer(&self) -> Option<&Producer> {
        self.clusters.get(Kafka::DEFAULT).map(|cluster| &cluster.producer)
    }

    /// Asks every cluster for the topics that a new configuration names. Blocks, at most about three seconds for each.
    pub fn prepare(&self, config: &Config) {
        for kafka in config.all_clusters() {
            if let Some(cluster) = self.clusters.get(&kafka.name) {
                cluster.producer.prepare(&topics(config, kafka));
            }
        }
    }

    /// Where any Kafka tool can read from the embedded cluster: `host:port`.
    pub fn embedded_address(&self) -> Option<String> {
        self.clusters.values().find_map(|cluster| cluster.producer.embedded_address())
    }

    /// Waits until everything is answered, at most `patience`, then closes for good. Returns how many records were still unconfirmed; those
    /// that wait in a spool are safe, and not counted.
    pub async fn drain(&self, patience: Duration) -> usize {
        let mut draining = tokio::task::JoinSet::new();
        for cluster in self.clusters.values() {
            let Cluster { producer, letters, spooled, .. } = cluster.clone();
            draining.spawn(async move {
                let (deadline, letters) = (Instant::now() + patience, letters.get());
                let left = || deadline.saturating_duration_since(Instant::now());
                if let Some(spooled) = spooled {
                    return spooled.rest(patience).await.drain(&producer, letters, left()).await;
                }
                if let Some(letters) = letters {
                    let _ = timeout(patience, letters.until_settled(&producer)).await; // what is left is counted below
                }
                producer.drain(left()).await
            });
        }
        draining.join_all().await.into_iter().sum()
    }
}

/// The Kafka topics of a cluster that a configuration can write to.
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
    if cluster.name == Kafka::DEFAULT {
        let shadows = config.guests.iter().filter_map(|guest| guest.rollout.shadow.as_ref()?.topic.as_deref());
        topics.extend(shadows.map(Text::from));
    }
    topics.sort();
    topics.dedup();
    topics
}
