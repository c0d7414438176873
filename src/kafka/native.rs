//! One librdkafka producer, with what it was started from. Another takes its place when it fails for good, or when its settings change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    error::KafkaError as NativeError,
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use super::{
    KafkaError, Record, admin,
    delivery::{Context, Pending, Shared},
    limits,
    settings::{self, Setup},
    topics::{self, Answer, Topics},
};
use crate::{
    config::{Kafka, NewTopics},
    event::Text,
};

/// How long a start waits for Kafka before it goes on without.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(3);

/// A running producer of librdkafka's.
pub(super) struct Native {
    pub(super) producer: ThreadedProducer<Context>,
    pub(super) generation: u64,
    pub(super) setup: Arc<Setup>,
    /// Whether it takes records: not before its predecessor has answered for its own.
    open: AtomicBool,
}

impl Native {
    /// Every one has a generation of its own, higher than those before.
    pub(super) fn start(setup: &Arc<Setup>, shared: &Arc<Shared>) -> Result<Self, NativeError> {
        let generation = shared.generations.fetch_add(1, Ordering::Relaxed);
        let context = Context::new(Arc::clone(shared), generation, setup.tokens.clone());
        let producer = setup.properties().create_with_context(context)?;
        Ok(Native { producer, generation, setup: Arc::clone(setup), open: AtomicBool::new(true) })
    }

    /// Whether it takes records.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Takes records from now on, or none.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Hands the record to librdkafka; gives the rest back when it does not take it.
    pub(super) fn enqueue(
        &self,
        record: &Record,
        partition: Option<i32>,
        pending: Box<Pending>,
    ) -> Result<(), (RDKafkaErrorCode, Box<Pending>)> {
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

    /// What librdkafka calls back.
    pub(super) fn context(&self) -> &Context {
        self.producer.client().context()
    }

    /// Records that it holds and has not reported.
    pub(super) fn unanswered(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or_default()
    }

    /// Gives everything back as unknown, with its next reports.
    pub(super) fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

/// What a producer is opened for.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) config: &'a Kafka,
    /// The topics that are configured.
    pub(super) topics: &'a [Text],
    pub(super) shared: &'a Arc<Shared>,
    pub(super) counters: &'a Topics,
    /// Not the mock cluster.
    pub(super) is_real: bool,
}

impl Ground<'_> {
    /// Starts a producer and asks Kafka for the topics; creates those that are missing, where that is wanted; and starts it once more
    /// when a topic takes only smaller batches. Blocks, milliseconds as a rule and never more than about ten seconds. The answer says why
    /// Kafka is silent, when it is.
    pub(super) fn open(self, mut setup: Setup) -> Result<(Native, Answer), KafkaError> {
        let Ground { config, topics, shared, .. } = self;
        if let Some(tokens) = &setup.tokens
            && let Err(error) = tokens.refresh()
        {
            tracing::error!("no token for Kafka: {error}");
        }
        let start = |setup: Setup| {
            let setup = Arc::new(setup);
            Native::start(&setup, shared).map_err(|error| settings::explain(config, error))
        };
        let mut native = start(setup.clone())?;
        let mut answer = topics::look_up(native.producer.client(), topics, START_PATIENCE);
        if let Some(silence) = &mut answer.silence {
            let trouble = std::mem::take(&mut *shared.trouble.lock());
            if !trouble.is_empty() {
                *silence = trouble;
            }
            return Ok((native, answer));
        }
        if create_missing(&setup, &answer.missing) {
            answer = topics::look_up(native.producer.client(), topics, START_PATIENCE);
        }
        answer.warn();
        if self.is_real && self.learn_limits(&mut setup) {
            native = start(setup)?;
            topics::look_up(native.producer.client(), topics, START_PATIENCE);
        }
        Ok((native, answer))
    }

    /// Asks how large batches may be; whether they have to be smaller than they are.
    fn learn_limits(self, setup: &mut Setup) -> bool {
        if setup.tokens.is_some() {
            tracing::debug!("librdkafka's admin client takes no tokens: how large batches may be stays unknown");
            return false;
        }
        let limits = match limits::learn(&setup.client_config, self.topics, START_PATIENCE) {
            Ok(limits) => limits,
            Err(error) => {
                tracing::info!("Kafka does not tell how large batches may be: {error}; lower batch_bytes in [kafka] if it refuses them");
                return false;
            }
        };
        for (topic, limit) in &limits {
            self.counters.counters(topic).fits(limit.saturating_sub(limits::OVERHEAD_BYTES));
        }
        let Some((topic, limit)) = limits.iter().min_by_key(|(_, limit)| *limit) else { return false };
        let smaller = setup.limit_batches(self.config, *limit);
        if smaller {
            tracing::info!("batches are kept to {limit} bytes, as topic {topic} takes no larger ones (max.message.bytes)");
        }
        smaller
    }
}

/// Creates topics that are missing, if that is wanted; whether there is a new one. Blocks.
pub(super) fn create_missing(setup: &Setup, missing: &[Text]) -> bool {
    let Some(new) = setup.create_topics.filter(|_| !missing.is_empty()) else { return false };
    let NewTopics { partitions, replication } = new;
    let mut created = 0;
    for (topic, end) in admin::create_topics(&setup.client_config, missing, new) {
        match end {
            Ok(()) => {
                created += 1;
                tracing::info!(%topic, partitions, replication, "Kafka had no topic {topic}: created it");
            }
            Err(error) => tracing::error!(%topic, "topic {topic} is not in Kafka and was not created: {error}"),
        }
    }
    created > 0
}
