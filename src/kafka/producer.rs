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
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::types::RDKafkaErrorCode;
use tokio::{sync::watch, time::timeout};

use super::{
    KafkaError, Record,
    bounds::Bounds,
    delivery::{End, Pending, Shared},
    embedded::Embedded,
    failures::Failures,
    keeper,
    native::{Ground, Native},
    partition::Chance,
    renewal::Former,
    settings::{self, Setup},
    tokens::Tokens,
    topics::Topics,
};
use crate::{
    config::{Bootstrap, Kafka},
    event::{Outcome, Text},
    metrics::{Label, Metrics},
};

/// How long a purge may take to report every record, and how often it is repeated for records that were just coming in.
const PURGE_PATIENCE: Duration = Duration::from_millis(200);
const PURGES: usize = 20;

/// A producer for one cluster; clones share it.
///
/// Dropping the last clone blocks for up to a second while librdkafka ends, and leaves what is outstanding unknown:
/// [`Producer::drain`] first.
#[derive(Clone)]
pub struct Producer {
    pub(super) inner: Arc<Inner>,
}

/// What the keeper sees, too. Fields are dropped in order: librdkafka's producer before the embedded cluster.
pub(super) struct Inner {
    pub(super) native: ArcSwap<Native>,
    /// The newest generation that takes records, for those who wait for it.
    pub(super) generation: watch::Sender<u64>,
    pub(super) shared: Arc<Shared>,
    /// 1 while Kafka answers.
    pub(super) reachable: Gauge,
    /// The configured topics.
    pub(super) topic_names: ArcSwap<Vec<Text>>,
    pub(super) topics: Topics,
    /// Held off by a renewal: nobody else puts another producer in place meanwhile.
    pub(super) renewing: AtomicBool,
    /// Those that were replaced and still hold records.
    pub(super) former: Former,
    pub(super) embedded: Option<Embedded>,
}

impl Producer {
    /// Checks what [`Producer::connect`] would refuse, without connecting.
    ///
    /// # Errors
    /// The first property that librdkafka does not take; certificates and keys that it cannot use.
    pub fn check(config: &Kafka) -> Result<(), KafkaError> {
        let client = settings::client_config(config, "127.0.0.1:1")?;
        if config.tls.is_some() { settings::try_out(config, &client) } else { Ok(()) }
    }

    /// Starts a producer, and asks Kafka for the configured topics and what they take, so that their first records need not wait; creates
    /// those that are missing, where that is wanted. Blocks meanwhile, milliseconds as a rule and never more than about ten seconds; a
    /// Kafka that does not answer is logged after three and does not hinder the start.
    ///
    /// # Errors
    /// Settings that librdkafka does not take; no embedded cluster.
    pub fn connect(config: &Kafka, topics: &[Text], metrics: Arc<Metrics>) -> Result<Self, KafkaError> {
        let topic_names = sorted(topics);
        let embedded = match &config.bootstrap {
            Bootstrap::Embedded => Some(Embedded::start(&topic_names, config.embedded_partitions)?),
            Bootstrap::Servers(_) => None,
        };
        let servers = servers(config, embedded.as_ref());
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
            generations: AtomicU64::new(0),
        });
        if let Some(Embedded { address, .. }) = &embedded {
            let topic = topic_names.first().map_or("TOPIC", |topic| topic.as_ref());
            tracing::info!("embedded Kafka at {address}; nothing is kept on disk; read with: kcat -b {address} -t {topic} -C");
        }
        let counters = Topics::new(&topic_names, &metrics);
        let ground = Ground { config, topics: &topic_names, shared: &shared, counters: &counters, is_real: embedded.is_none() };
        let (native, answer) = ground.open(Setup::new(config, &servers, None)?)?;
        counters.learn(&answer);
        let silence = answer.silence;
        let reachable = metrics.kafka_reachable.get_or_create_owned(&Label::from(config.name.as_str()));
        reachable.set(i64::from(silence.is_none()));
        match &silence {
            Some(silence) => {
                tracing::error!(
                    "Kafka at {servers} does not answer: {silence}; starting without it, what waits for it is not acknowledged"
                );
            }
            None if embedded.is_none() => tracing::info!("Kafka at {servers} answers"),
            None => {}
        }
        let inner = Arc::new(Inner {
            generation: watch::Sender::new(native.generation),
            native: ArcSwap::from_pointee(native),
            shared,
            reachable,
            topic_names: ArcSwap::from_pointee(topic_names),
            topics: counters,
            renewing: AtomicBool::new(false),
            former: Former::default(),
            embedded,
        });
        keeper::start(&inner, notices_in, silence.is_none())?;
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
        let mut pending = Box::new(Pending::new(end, bytes, counters, shared));
        loop {
            // The first generation that may take it.
            let generation = {
                let native = self.inner.native.load();
                if native.is_open() {
                    // It may have waited for room, or for the successor of a producer that left others of its publisher unknown.
                    if pending.overtakes() {
                        return pending.hold_back();
                    }
                    // After it is known which producer takes it: another cluster may have fewer partitions.
                    let partition = pending.partitions().choose(record.partition, Chance::now);
                    match native.enqueue(&record, partition, pending) {
                        Ok(()) => return,
                        Err((RDKafkaErrorCode::Fatal, back)) if !shared.bounds.is_closed() => {
                            native.context().give_up("a fatal error");
                            if let Some(code) = native.context().denial() {
                                return back.fail(&record.topic, code);
                            }
                            pending = back; // it was not taken, so the next producer may have it
                            native.generation + 1
                        }
                        Err((code, back)) => return back.fail(&record.topic, code),
                    }
                } else if shared.bounds.is_closed() {
                    return pending.fail(&record.topic, RDKafkaErrorCode::PurgeQueue);
                } else {
                    native.generation
                }
            };
            // Cannot fail: the sending side lives as long as `self`.
            let _ = self.inner.generation.subscribe().wait_for(|newest| *newest >= generation).await;
        }
    }

    /// How many clones there are of this producer.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    /// Whether this is a clone of `other`.
    pub fn is(&self, other: &Producer) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// How another client of the same cluster is to be set up, as long as nothing changes.
    pub(super) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.inner.native.load().setup)
    }

    /// The partition of a record, if its key does not choose it.
    pub(super) fn partition(&self, record: &Record) -> Option<i32> {
        self.inner.topics.counters(&record.topic).partitions.choose(record.partition, Chance::now)
    }

    /// Records handed over and not yet answered.
    pub fn outstanding(&self) -> usize {
        self.inner.shared.bounds.outstanding()
    }

    /// Where its brokers are (`host:port,…`; of the embedded cluster its address), and who it is there.
    pub(super) fn connection(&self) -> (String, Option<Arc<Tokens>>) {
        let native = self.inner.native.load();
        (native.setup.servers.clone(), native.setup.tokens.clone())
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
            self.inner.native.load().purge();
            self.inner.former.purge();
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
    /// Tells those who wait that this generation takes records.
    pub(super) fn announce(&self, generation: u64) {
        self.generation.send_if_modified(|newest| {
            let is_newer = *newest < generation;
            *newest = generation.max(*newest);
            is_newer
        });
    }
}

/// Where the brokers are.
pub(super) fn servers(config: &Kafka, embedded: Option<&Embedded>) -> String {
    match (&config.bootstrap, embedded) {
        (Bootstrap::Servers(servers), _) => servers.clone(),
        (Bootstrap::Embedded, embedded) => embedded.map(|embedded| embedded.address.clone()).unwrap_or_default(),
    }
}

/// Each topic once.
pub(super) fn sorted(topics: &[Text]) -> Vec<Text> {
    let mut names = topics.to_vec();
    names.sort();
    names.dedup();
    names
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Producer");
        debug.field("servers", &self.inner.native.load().setup.servers).field("outstanding", &self.outstanding()).finish_non_exhaustive()
    }
}
