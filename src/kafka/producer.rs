//! The producer: records in, receipts settled.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
        mpsc,
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::KafkaError as NativeError,
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::{sync::watch, time::timeout};

use super::{
    KafkaError, Record,
    bounds::Bounds,
    delivery::{Context, End, Pending, Shared},
    embedded::Embedded,
    failures::Failures,
    keeper, limits,
    partition::Chance,
    settings,
    topics::{self, Topics},
};
use crate::{
    config::{Bootstrap, Kafka},
    event::{Outcome, Text},
    metrics::Metrics,
};

/// How long the start waits for Kafka before it goes on without.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// How long a purge may take to report every record, and how often it is repeated for records that were just coming in.
const PURGE_PATIENCE: Duration = Duration::from_millis(200);
const PURGES: usize = 20;

/// A producer for one cluster; clones share it.
///
/// Dropping the last clone blocks for up to a second while librdkafka ends, and leaves what is outstanding unknown:
/// [`Producer::drain`] first.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

/// What the keeper sees, too. Fields are dropped in order: librdkafka's producer before the embedded cluster.
pub(super) struct Inner {
    pub(super) native: ArcSwap<Native>,
    /// The generation of `native`, for those who wait for the next one.
    pub(super) generation: watch::Sender<u64>,
    pub(super) shared: Arc<Shared>,
    pub(super) client_config: ClientConfig,
    pub(super) servers: String,
    /// The configured topics.
    pub(super) topic_names: Vec<Text>,
    pub(super) topics: Topics,
    embedded: Option<Embedded>,
}

/// One librdkafka producer; another follows when it fails for good.
pub(super) struct Native {
    pub(super) producer: ThreadedProducer<Context>,
    pub(super) generation: u64,
}

impl Native {
    pub(super) fn start(config: &ClientConfig, generation: u64, shared: &Arc<Shared>) -> Result<Self, NativeError> {
        let producer = config.create_with_context(Context { shared: Arc::clone(shared), generation })?;
        Ok(Native { producer, generation })
    }

    /// Hands the record to librdkafka; gives the rest back when it does not take it.
    fn enqueue(&self, record: &Record, partition: Option<i32>, pending: Box<Pending>) -> Result<(), (RDKafkaErrorCode, Box<Pending>)> {
        let native = BaseRecord {
            topic: record.topic.as_ref(),
            partition,
            payload: Some(record.value.as_ref()),
            key: record.key.as_deref(),
            timestamp: i64::try_from(record.timestamp_ms).ok(),
            headers: record.native_headers(),
            delivery_opaque: pending,
        };
        self.producer.send::<[u8], [u8]>(native).map_err(|(error, back)| {
            let code = match error {
                NativeError::Nul(_) => RDKafkaErrorCode::InvalidTopic,
                error => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
            };
            (code, back.delivery_opaque)
        })
    }
}

impl Producer {
    /// Checks what [`Producer::connect`] would refuse, without connecting.
    ///
    /// # Errors
    /// The first property that librdkafka does not take.
    pub fn check(config: &Kafka) -> Result<(), KafkaError> {
        settings::client_config(config, "127.0.0.1:1").map(drop)
    }

    /// Starts a producer, and asks Kafka for the configured topics and what they take, so that their first records need not wait. Blocks
    /// meanwhile, milliseconds as a rule and never more than about ten seconds; a Kafka that does not answer is logged after three and
    /// does not hinder the start.
    ///
    /// # Errors
    /// Settings that librdkafka does not take; no embedded cluster.
    pub fn connect(config: &Kafka, topics: &[Text], metrics: Arc<Metrics>) -> Result<Self, KafkaError> {
        let mut topic_names = topics.to_vec();
        topic_names.sort();
        topic_names.dedup();
        let embedded = match &config.bootstrap {
            Bootstrap::Embedded => Some(Embedded::start(&topic_names, config.embedded_partitions)?),
            Bootstrap::Servers(_) => None,
        };
        let servers = match (&config.bootstrap, &embedded) {
            (Bootstrap::Servers(servers), _) => servers.clone(),
            (Bootstrap::Embedded, embedded) => embedded.as_ref().map(|embedded| embedded.address.clone()).unwrap_or_default(),
        };
        let client_config = settings::client_config(config, &servers)?;
        let (notices, notices_in) = mpsc::channel();
        let shared = Arc::new(Shared {
            bounds: Bounds::new(
                config.max_outstanding_records,
                config.max_outstanding_bytes,
                Duration::from_millis(config.max_outstanding_ms),
            ),
            metrics: Arc::clone(&metrics),
            failures: Failures::default(),
            notices,
            suspect: AtomicBool::new(false),
            doubtful: Mutex::default(),
            trouble: Mutex::default(),
            sound: AtomicU64::new(0),
        });
        let native = Native::start(&client_config, 0, &shared).map_err(|error| settings::explain(config, error))?;
        let mut inner = Inner {
            native: ArcSwap::from_pointee(native),
            generation: watch::Sender::new(0),
            shared,
            client_config,
            servers,
            topics: Topics::new(&topic_names, &metrics),
            topic_names,
            embedded,
        };
        let reachable = inner.greet();
        if reachable && inner.embedded.is_none() {
            inner.learn_limits(config)?;
        }
        let inner = Arc::new(inner);
        keeper::start(&inner, notices_in, reachable)?;
        Ok(Producer { inner })
    }

    /// Hands a record to Kafka, after waiting for room; `end` (mostly a receipt) hears when Kafka has answered. One caller's records keep
    /// the order of its calls.
    ///
    /// Cancel-safe while it waits: the record is not sent, and its outcome is unknown.
    pub async fn send(&self, record: Record, end: impl Into<End>) {
        let end = end.into();
        let Inner { shared, topics, .. } = &*self.inner;
        let bytes = record.bytes();
        let Ok(()) = shared.bounds.enter(bytes).await else {
            return end.tell(Outcome::Unknown(Text::from_static("the way to Kafka is being closed")));
        };
        let counters = topics.counters(&record.topic);
        let partition = counters.partitions.choose(record.partition, Chance::now);
        let mut pending = Box::new(Pending::new(end, bytes, counters, shared));
        loop {
            let (code, back, generation) = {
                let native = self.inner.native.load();
                match native.enqueue(&record, partition, pending) {
                    Ok(()) => return,
                    Err((code, back)) => (code, back, native.generation),
                }
            };
            if code != RDKafkaErrorCode::Fatal || shared.bounds.is_closed() {
                return back.fail(&record.topic, code);
            }
            // This record was not taken, so the next producer may have it.
            pending = back;
            shared.give_up(generation, "a fatal error");
            // Cannot fail: the sending side lives as long as `self`.
            let _ = self.inner.generation.subscribe().wait_for(|next| *next > generation).await;
        }
    }

    /// Asks Kafka for topics that a new configuration names, so that their first records need not wait, and warns of those that are
    /// missing. Blocks, at most about three seconds.
    pub fn prepare(&self, topics: &[Text]) {
        let answer = topics::look_up(self.inner.native.load().producer.client(), topics, START_PATIENCE);
        self.inner.topics.learn(&answer);
        topics::warn_of_missing(&answer.missing);
    }

    /// How another client of the same cluster is to be configured.
    pub(super) fn client_config(&self) -> ClientConfig {
        self.inner.client_config.clone()
    }

    /// The partition of a record, if its key does not choose it.
    pub(super) fn partition(&self, record: &Record) -> Option<i32> {
        self.inner.topics.counters(&record.topic).partitions.choose(record.partition, Chance::now)
    }

    /// Records handed over and not yet answered.
    pub fn outstanding(&self) -> usize {
        self.inner.shared.bounds.outstanding()
    }

    /// Waits until no record is outstanding.
    pub async fn until_idle(&self) {
        self.inner.shared.bounds.until_empty().await;
    }

    /// Where any Kafka tool can read from the embedded cluster: `host:port`.
    pub fn embedded_address(&self) -> Option<String> {
        self.inner.embedded.as_ref().map(|embedded| embedded.address.clone())
    }

    /// Waits until everything is answered, at most `patience`; then closes for good. Returns how many records were still unconfirmed;
    /// they are settled as unknown, and so is whatever is sent from now on.
    pub async fn drain(&self, patience: Duration) -> usize {
        let Inner { shared, generation, .. } = &*self.inner;
        let _ = timeout(patience, shared.bounds.until_empty()).await; // what is left is counted below
        shared.bounds.close();
        generation.send_replace(u64::MAX);
        let unconfirmed = shared.bounds.outstanding();
        for _ in 0..PURGES {
            if shared.bounds.outstanding() == 0 {
                break;
            }
            self.inner.native.load().producer.purge(PurgeConfig::default().queue().inflight());
            let _ = timeout(PURGE_PATIENCE, shared.bounds.until_empty()).await; // the loop looks again
        }
        shared.failures.flush_all();
        unconfirmed
    }

    #[cfg(test)]
    pub(super) fn embedded(&self) -> Option<&Embedded> {
        self.inner.embedded.as_ref()
    }
}

impl Inner {
    /// Asks Kafka for the configured topics and says in the log what it answers; false when it does not.
    fn greet(&self) -> bool {
        let (servers, names) = (&self.servers, &self.topic_names);
        if self.embedded.is_some() {
            let topic = names.first().map_or("TOPIC", |topic| topic.as_ref());
            tracing::info!("embedded Kafka at {servers}; nothing is kept on disk; read with: kcat -b {servers} -t {topic} -C");
        }
        let answer = topics::look_up(self.native.load().producer.client(), names, START_PATIENCE);
        self.shared.metrics.kafka_reachable.set(i64::from(answer.silence.is_none()));
        if let Some(silence) = &answer.silence {
            tracing::error!("Kafka at {servers} does not answer: {silence}; starting without it, what waits for it is not acknowledged");
        } else if self.embedded.is_none() {
            tracing::info!("Kafka at {servers} answers");
        }
        self.topics.learn(&answer);
        topics::warn_of_missing(&answer.missing);
        answer.silence.is_none()
    }

    /// Asks how large batches may be, and starts librdkafka's producer once more if it has to make smaller ones.
    fn learn_limits(&mut self, config: &Kafka) -> Result<(), KafkaError> {
        let limits = match limits::learn(&self.client_config, &self.topic_names, START_PATIENCE) {
            Ok(limits) => limits,
            Err(error) => {
                tracing::info!(
                    "Kafka does not tell how large batches may be: {error}; lower batch.size in [kafka.properties] if it refuses them"
                );
                return Ok(());
            }
        };
        for (topic, limit) in &limits {
            self.topics.counters(topic).fits(limit.saturating_sub(limits::OVERHEAD_BYTES));
        }
        let lowest = limits.iter().min_by_key(|(_, limit)| *limit);
        if let Some((topic, limit)) = lowest
            && settings::limit_batches(&mut self.client_config, config, *limit)
        {
            tracing::info!("batches are kept to {limit} bytes, as topic {topic} takes no larger ones (max.message.bytes)");
            let native = Native::start(&self.client_config, 1, &self.shared).map_err(|error| settings::explain(config, error))?;
            self.native.store(Arc::new(native));
            self.generation.send_replace(1);
            topics::look_up(self.native.load().producer.client(), &self.topic_names, START_PATIENCE);
        }
        Ok(())
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Producer");
        debug.field("servers", &self.inner.servers).field("outstanding", &self.outstanding()).finish_non_exhaustive()
    }
}
