//! One transaction after the other: records, and a marker that says how far they got, together or not at all.
//!
//! The marker is an offset of a consumer group that nobody consumes with: `send_offsets_to_transaction` commits it with the records, for
//! one request a transaction, and it needs no topic of its own. Its metadata says whose it is.
//!
//! A [`Transactor`] blocks, and belongs to one thread. [`Transactor::open`] ends what an earlier one of the same name left open, in Kafka
//! and for good: after it the marker is final.
//!
//! `commit_transaction` of the crate flushes first, and its flush sleeps for a tenth of a second while anything is on its way. So nothing
//! is when it is called: the delivery reports, served by a thread beside, are waited for before.
//!
//! Absent: what a batch is, what the numbers mean, when to try again (`outbox::once`).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError as NativeError,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use super::{
    KafkaError, Producer, Record, delivery,
    settings::{self, Setup},
    tokens::Tokens,
    topics,
};
use crate::{
    config::Kafka,
    event::{Outcome, Text},
};

/// How long one step may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long Kafka keeps a transaction open that nobody ends, and records of it may wait for a broker.
const TRANSACTION_TIMEOUT_MS: &str = "60000";
/// At most so long a record of a batch waits for the others of it, which are handed over together.
const LINGER_MS: &str = "1";
/// After the first failure of a record nothing more is sent in its transaction; reports of its batch may still come.
const GRACE: Duration = Duration::from_millis(50);
/// How long the reader of the marker waits for the question for a token.
const TOKEN_PATIENCE: Duration = Duration::from_millis(200);
/// Topics that are remembered to be there.
const MOST_TOPICS: usize = 1_000;
/// Between looks at whether the last report is done with.
const MOMENT: Duration = Duration::from_micros(20);

/// How far the transactions of an owner got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The highest number that is stored.
    pub number: u64,
    /// Whose numbers they are.
    pub owner: u64,
    /// Which run of the owner committed it.
    pub epoch: u64,
}

/// Why a transaction, or the way to one, failed; what is to be done is in the variant.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// Nothing of it is stored, nor will be, once it is aborted.
    #[error("{reason}")]
    Abort {
        /// In librdkafka's words.
        reason: String,
        /// The records that failed, some of them perhaps only for being in one batch with another.
        failed: Vec<Failed>,
    },
    /// Another process began to use the same transactional id. Whether what was under way is stored is for the marker to say.
    #[error("another process uses the transactional id \"{0}\"")]
    Fenced(String),
    /// The producer is of no more use. Whether what was under way is stored is for the marker to say.
    #[error("{0}")]
    Lost(String),
    /// The topic that the marker is kept for is gone.
    #[error("there is no topic {0} any more to keep the marker for")]
    NoMarkerTopic(String),
}

/// A record that failed.
#[derive(Debug)]
pub struct Failed {
    /// Its index among those that were sent.
    pub index: usize,
    /// What that means.
    pub outcome: Outcome,
    /// The word that counts it.
    pub reason: &'static str,
    /// Whether it failed by itself, and not perhaps for another record of its batch.
    pub certain: bool,
}

impl Failed {
    /// How a record fails that is too large for its topic.
    pub fn too_large(index: usize, record: &Record) -> Self {
        let (outcome, reason) = delivery::judge(&record.topic, record.bytes(), RDKafkaErrorCode::MessageSizeTooLarge, false);
        Failed { index, outcome, reason, certain: true }
    }

    /// Whether it may have failed for its size.
    pub fn is_too_large(&self) -> bool {
        self.reason == "too-large"
    }
}

/// One transactional producer.
pub struct Transactor {
    producer: ThreadedProducer<Context>,
    reports: Arc<Reports>,
    group: BaseConsumer<Group>,
    name: String,
    setup: Arc<Setup>,
    /// Topics that Kafka has.
    topics: HashSet<Text>,
}

impl std::fmt::Debug for Transactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactor").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Transactor {
    /// The transactional id and the group of a node.
    pub fn name(node: &str) -> String {
        format!("hookgate-{node}")
    }

    /// Checks what [`Transactor::open`] would refuse, without connecting.
    ///
    /// # Errors
    /// Settings that do not go with transactions.
    pub fn check(kafka: &Kafka, node: &str) -> Result<(), KafkaError> {
        let config = transactional(settings::client_config(kafka, "127.0.0.1:1")?, node);
        let created: Result<rdkafka::producer::BaseProducer, _> = config.create();
        created.map(drop).map_err(|error| settings::explain(kafka, error))
    }

    /// Connects to the cluster of a producer, ends what an earlier transactor of this node left open, and shuts it out. Blocks, for at
    /// most about half a minute.
    ///
    /// # Errors
    /// [`TransactionError::Lost`]; to be tried again.
    pub fn open(cluster: &Producer, node: &str) -> Result<Self, TransactionError> {
        let lost = |error: &dyn std::fmt::Display| TransactionError::Lost(error.to_string());
        let setup = cluster.setup();
        let config = transactional(setup.properties().into_owned(), node);
        let reports = Arc::new(Reports::default());
        let context = Context { reports: Arc::clone(&reports), tokens: setup.tokens.clone() };
        let producer: ThreadedProducer<Context> = config.create_with_context(context).map_err(|error| lost(&error))?;
        let group = Group { tokens: setup.tokens.clone() };
        let group = group_config(&config, node).create_with_context(group).map_err(|error| lost(&error))?;
        let transactor = Transactor { producer, reports, group, name: Self::name(node), setup, topics: HashSet::new() };
        transactor.producer.init_transactions(PATIENCE).map_err(|error| match transactor.explain(&error, &[]) {
            TransactionError::Abort { reason, .. } => TransactionError::Lost(reason),
            other => other,
        })?;
        Ok(transactor)
    }

    /// The marker that is kept for `topic`, final after [`Transactor::open`].
    ///
    /// # Errors
    /// [`TransactionError::Lost`]: it cannot be read now.
    pub fn marker(&self, topic: &str) -> Result<Option<Marker>, TransactionError> {
        if self.setup.tokens.is_some() {
            let _ = self.group.poll(TOKEN_PATIENCE); // librdkafka asks for a token when it is polled
        }
        let mut places = TopicPartitionList::new();
        places.add_partition(topic, 0);
        let found = self.group.committed_offsets(places, PATIENCE).map_err(|error| {
            let advice = format!("give the Kafka user DESCRIBE and READ on group {} and topic {topic}", self.name);
            TransactionError::Lost(format!("the marker cannot be read: {error}; {advice}"))
        })?;
        let Some(place) = found.find_partition(topic, 0) else { return Ok(None) };
        match place.error() {
            Ok(()) => {}
            Err(NativeError::OffsetFetch(code) | NativeError::Global(code)) if is_absence(code) => return Ok(None),
            Err(error) => return Err(TransactionError::Lost(format!("the marker cannot be read: {error}"))),
        }
        let Offset::Offset(number) = place.offset() else { return Ok(None) };
        let (owner, epoch) = read_metadata(place.metadata()).unwrap_or_default();
        Ok(Some(Marker { number: u64::try_from(number).unwrap_or(0), owner, epoch }))
    }

    /// Whether the producer of the cluster has other settings than those that it was opened with.
    pub fn is_stale(&self, cluster: &Producer) -> bool {
        !Arc::ptr_eq(&self.setup, &cluster.setup())
    }

    /// How long records may wait for company.
    pub fn linger(cluster: &Producer) -> Duration {
        let millis = cluster.setup().client_config.get("linger.ms").and_then(|text| text.parse().ok());
        Duration::from_millis(millis.unwrap_or_default())
    }

    /// Whether what counts for Kafka's limits is the size of a record as it is.
    pub fn is_plain(cluster: &Producer) -> bool {
        cluster.setup().client_config.get("compression.type").is_none_or(|compression| compression == "none")
    }

    /// Begins a transaction and sends records and the marker in it; Kafka has them when it returns, and shows them to nobody yet.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Abort`], and [`TransactionError::NoMarkerTopic`], it is still open.
    pub fn send(&mut self, cluster: &Producer, records: &[&Record], topic: &str, marker: Marker) -> Result<(), TransactionError> {
        self.producer.begin_transaction().map_err(|error| self.explain(&error, &[]))?;
        self.look_up(records)?;
        self.reports.begin();
        for (index, record) in records.iter().enumerate() {
            self.reports.sent();
            if let Err(code) = self.enqueue(record, cluster.partition(record), index) {
                self.reports.came(Some((index, code)));
            }
        }
        if let Some(failed) = self.reports.wait(PATIENCE) {
            return Err(self.judge(records, failed));
        }
        self.send_marker(topic, marker)
    }

    /// Asks for topics that were not used yet: records for one that is not there would hold up all others for half a minute.
    fn look_up(&mut self, records: &[&Record]) -> Result<(), TransactionError> {
        let mut new: Vec<Text> =
            records.iter().map(|record| &record.topic).filter(|topic| !self.topics.contains(*topic)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        new.sort();
        new.dedup();
        let topics::Answer { silence, missing, .. } = topics::look_up(self.producer.client(), &new, PATIENCE);
        if let Some(reason) = silence {
            return Err(TransactionError::Abort { reason, failed: Vec::new() });
        }
        new.retain(|topic| !missing.contains(topic));
        if self.topics.len() > MOST_TOPICS {
            self.topics.clear(); // guests may name topics
        }
        self.topics.extend(new.into_iter().map(|topic| Text::from(topic.to_string())));
        let failed = records.iter().enumerate().filter(|(_, record)| missing.contains(&record.topic));
        let failed: Vec<Failed> = failed
            .map(|(index, record)| {
                let (outcome, reason) = delivery::judge(&record.topic, record.bytes(), RDKafkaErrorCode::UnknownTopicOrPartition, false);
                Failed { index, outcome, reason, certain: true }
            })
            .collect();
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(TransactionError::Abort { reason: format!("{:?}", first.outcome), failed }),
        }
    }

    /// What reports of failures say about the records.
    fn judge(&mut self, records: &[&Record], failed: Vec<(usize, RDKafkaErrorCode)>) -> TransactionError {
        use RDKafkaErrorCode as C;
        self.topics.clear(); // one of them may be gone
        // Where Kafka refused before the first record was sent, the transaction knows why, and the records do not.
        let purged = !failed.is_empty() && failed.iter().all(|(_, code)| matches!(code, C::PurgeQueue | C::PurgeInflight));
        let cause = if purged { self.transaction_error() } else { None };
        let reason = cause.or(failed.first().map(|(_, code)| *code));
        let reason = reason.map_or("no answer from Kafka in time".to_owned(), |code| code.to_string());
        let failed = failed.into_iter().filter_map(|(index, code)| {
            let record = records.get(index)?;
            let (outcome, reason) = delivery::judge(&record.topic, record.bytes(), cause.unwrap_or(code), false);
            Some(Failed { index, outcome, certain: cause.is_none() && matches!(reason, "unauthorized" | "no-such-topic"), reason })
        });
        TransactionError::Abort { reason, failed: failed.collect() }
    }

    /// Why the open transaction failed: what every call says from then on.
    fn transaction_error(&self) -> Option<RDKafkaErrorCode> {
        let mut places = TopicPartitionList::new();
        places.add_partition_offset("-", 0, Offset::Offset(0)).ok()?;
        let error = self.producer.send_offsets_to_transaction(&places, &self.group.group_metadata()?, PATIENCE).err()?;
        code(&error)
    }

    fn enqueue(&self, record: &Record, partition: Option<i32>, index: usize) -> Result<(), RDKafkaErrorCode> {
        let native = BaseRecord {
            topic: record.topic.as_ref(),
            partition,
            payload: Some(record.value.as_ref()),
            key: record.key.as_deref(),
            timestamp: i64::try_from(record.timestamp_ms).ok(),
            headers: record.native_headers(),
            delivery_opaque: index,
        };
        self.producer.send::<[u8], [u8]>(native).map_err(|(error, _)| match error {
            NativeError::Nul(_) => RDKafkaErrorCode::InvalidTopic,
            error => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
        })
    }

    fn send_marker(&self, topic: &str, marker: Marker) -> Result<(), TransactionError> {
        let abort = |reason: String| TransactionError::Abort { reason, failed: Vec::new() };
        let mut places = TopicPartitionList::new();
        let mut place = places.add_partition(topic, 0);
        place.set_metadata(metadata(marker));
        place
            .set_offset(Offset::Offset(i64::try_from(marker.number).unwrap_or(i64::MAX)))
            .map_err(|error| abort(format!("the marker: {error}")))?;
        let Some(group) = self.group.group_metadata() else { return Err(abort("the group has no metadata".to_owned())) };
        self.producer.send_offsets_to_transaction(&places, &group, PATIENCE).map_err(|error| match code(&error) {
            Some(code) if is_absence(code) => TransactionError::NoMarkerTopic(topic.to_owned()),
            _ => self.explain(&error, &[("group", &self.name), ("topic", topic)]),
        })
    }

    /// Commits the open transaction: what is in it is stored, and seen by those who read committed records.
    ///
    /// # Errors
    /// [`TransactionError`]
    pub fn commit(&self) -> Result<(), TransactionError> {
        self.forget_reports();
        let start = Instant::now();
        loop {
            match self.producer.commit_transaction(PATIENCE) {
                Ok(()) => return Ok(()),
                // Going on with the same commit is all that is allowed.
                Err(NativeError::Transaction(error)) if error.is_retriable() && start.elapsed() < PATIENCE => {}
                Err(error) => match self.explain(&error, &[]) {
                    // It may have reached Kafka all the same.
                    TransactionError::Abort { reason, .. } if !requires_abort(&error) => return Err(TransactionError::Lost(reason)),
                    error => return Err(error),
                },
            }
        }
    }

    /// Ends the open transaction without effect.
    ///
    /// # Errors
    /// Another transactor is needed; it ends this one's transaction.
    pub fn abort(&self) -> Result<(), TransactionError> {
        self.producer.abort_transaction(PATIENCE).map_err(|error| match self.explain(&error, &[]) {
            TransactionError::Abort { reason, .. } => TransactionError::Lost(reason),
            other => other,
        })?;
        // A report that came later would count for the next transaction.
        if self.forget_reports() {
            Ok(())
        } else {
            Err(TransactionError::Lost("not every record of an aborted transaction came back".into()))
        }
    }

    /// Waits until librdkafka has forgotten the last record, after its report a matter of microseconds; whether it has.
    fn forget_reports(&self) -> bool {
        let start = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(MOMENT);
        }
        true
    }

    /// What an error asks for; `needs` is what the user must be allowed to read, for the advice.
    fn explain(&self, error: &NativeError, needs: &[(&str, &str)]) -> TransactionError {
        use RDKafkaErrorCode as C;
        let reason = match (error, code(error)) {
            (_, Some(C::TransactionalIdAuthorizationFailed)) => {
                format!("give the Kafka user WRITE and DESCRIBE on transactional id {}", self.name)
            }
            (_, Some(C::GroupAuthorizationFailed | C::TopicAuthorizationFailed)) => {
                let needs: Vec<String> = needs.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
                format!("{error}: give the Kafka user READ on {}", needs.join(" and "))
            }
            (NativeError::Transaction(error), _) => error.string(),
            (error, _) => error.to_string(),
        };
        match code(error) {
            Some(C::Fenced | C::ProducerFenced) => TransactionError::Fenced(self.name.clone()),
            _ if is_fatal(error) => TransactionError::Lost(reason),
            _ => TransactionError::Abort { reason, failed: Vec::new() },
        }
    }
}

fn transactional(mut config: ClientConfig, node: &str) -> ClientConfig {
    config
        .set("transactional.id", Transactor::name(node))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        // Records wait for nobody outside of their transaction.
        .set("message.timeout.ms", TRANSACTION_TIMEOUT_MS)
        .set("linger.ms", LINGER_MS);
    config
}

/// Reads and names the marker; it never joins the group.
fn group_config(producer: &ClientConfig, node: &str) -> ClientConfig {
    let mut config = producer.clone();
    for name in ["transactional.id", "transaction.timeout.ms"] {
        config.remove(name);
    }
    config
        .set("group.id", Transactor::name(node))
        .set("enable.auto.commit", "false")
        // So that an offset is not read while a transaction that writes it is being ended.
        .set("isolation.level", "read_committed")
        .set_log_level(RDKafkaLogLevel::Emerg); // it would say that it has no use for a producer's settings
    config
}

fn metadata(Marker { owner, epoch, .. }: Marker) -> String {
    format!("hookgate {owner:016x} {epoch}")
}

fn read_metadata(text: &str) -> Option<(u64, u64)> {
    let mut words = text.strip_prefix("hookgate ")?.split(' ');
    let (owner, epoch) = (words.next()?, words.next()?);
    Some((u64::from_str_radix(owner, 16).ok()?, epoch.parse().ok()?))
}

fn code(error: &NativeError) -> Option<RDKafkaErrorCode> {
    match error {
        NativeError::Transaction(error) => Some(error.code()),
        error => error.rdkafka_error_code(),
    }
}

fn is_fatal(error: &NativeError) -> bool {
    matches!(error, NativeError::Transaction(error) if error.is_fatal()) || code(error) == Some(RDKafkaErrorCode::Fatal)
}

fn requires_abort(error: &NativeError) -> bool {
    matches!(error, NativeError::Transaction(error) if error.txn_requires_abort())
}

fn is_absence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(code, UnknownPartition | UnknownTopic | UnknownTopicOrPartition)
}

/// The delivery reports of one transaction.
#[derive(Debug, Default)]
struct Reports {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    failed: Vec<(usize, RDKafkaErrorCode)>,
}

impl Reports {
    fn begin(&self) {
        *self.state.lock() = State::default();
    }

    fn sent(&self) {
        self.state.lock().open += 1;
    }

    fn came(&self, failure: Option<(usize, RDKafkaErrorCode)>) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        let wake = state.open == 0 || failure.is_some();
        state.failed.extend(failure);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Waits for all reports; `Some`: what failed of them, or nothing when the time is up.
    fn wait(&self, patience: Duration) -> Option<Vec<(usize, RDKafkaErrorCode)>> {
        let mut deadline = Instant::now() + patience;
        let mut failed = false;
        let mut state = self.state.lock();
        while state.open > 0 {
            if !failed && !state.failed.is_empty() {
                failed = true;
                deadline = Instant::now() + GRACE.min(patience);
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() && state.open > 0 {
                return Some(std::mem::take(&mut state.failed));
            }
        }
        (!state.failed.is_empty()).then(|| std::mem::take(&mut state.failed))
    }
}

struct Context {
    reports: Arc<Reports>,
    tokens: Option<Arc<Tokens>>,
}

/// What the reader of the marker calls back.
struct Group {
    tokens: Option<Arc<Tokens>>,
}

impl ConsumerContext for Group {}

impl ClientContext for Group {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token(self.tokens.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        delivery::log(level, facility, line);
    }
}

fn token(tokens: Option<&Arc<Tokens>>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    Ok(tokens.ok_or("no [kafka] sasl settings say where tokens come from")?.token()?)
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token(self.tokens.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        delivery::log(level, facility, line);
    }

    fn error(&self, error: NativeError, reason: &str) {
        tracing::debug!("Kafka, exactly once: {error} {reason}"); // it comes back from the call that it is about
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let failure = result.as_ref().err().map(|(error, message)| {
            tracing::debug!(topic = message.topic(), "a record of a transaction: {error}");
            (index, error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))
        });
        self.reports.came(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_markers_owner_is_in_its_metadata() {
        let marker = Marker { number: 7, owner: u64::MAX - 1, epoch: 3 };
        assert_eq!(metadata(marker), "hookgate fffffffffffffffe 3");
        assert_eq!(read_metadata(&metadata(marker)), Some((marker.owner, marker.epoch)));
        for foreign in ["", "hookgate", "hookgate x 1", "hookgate 1", "somebody else"] {
            assert_eq!(read_metadata(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn reports_are_waited_for_and_failures_kept() {
        let reports = Reports::default();
        reports.begin();
        assert_eq!(reports.wait(Duration::ZERO), None, "nothing was sent");
        reports.sent();
        reports.sent();
        reports.came(None);
        assert_eq!(reports.wait(Duration::ZERO), Some(Vec::new()), "not in time");
        reports.came(Some((1, RDKafkaErrorCode::MessageSizeTooLarge)));
        assert_eq!(reports.wait(Duration::ZERO).map(|failed| failed.len()), Some(1));
        reports.begin();
        assert_eq!(reports.wait(Duration::ZERO), None);
    }
}
