//! What librdkafka reports, translated: the end of each record to its receipt, troubles to the log and the keeper.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message as _,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::KafkaError as NativeError,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};

use super::{bounds::Bounds, failures::Failures, partition::Partitions, tokens::Tokens, topics::Counters};
use crate::{
    event::{Outcome, Receipt, Refusal, Text},
    metrics::Metrics,
};

/// How many topics are asked for again at once; what is beyond comes up with its next record.
const MOST_DOUBTFUL: usize = 20;

/// What the keeper should look at.
#[derive(Debug)]
pub(super) enum Notice {
    /// librdkafka says that no broker can be reached.
    Unreachable,
    /// The producer of this generation is of no more use.
    Fatal(u64, String),
}

/// What records, reports and the keeper have in common; outlives each single librdkafka producer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bounds: Bounds,
    pub(super) metrics: Arc<Metrics>,
    pub(super) failures: Failures,
    pub(super) notices: mpsc::Sender<Notice>,
    /// Set until the keeper has found Kafka again.
    pub(super) suspect: AtomicBool,
    /// Topics that Kafka refused as a whole. librdkafka then refuses them itself, for minutes, unless somebody asks again.
    pub(super) doubtful: Mutex<BTreeSet<Text>>,
    /// The last trouble with a broker, for the log.
    pub(super) trouble: Mutex<String>,
    /// Of the next producer.
    pub(super) generations: AtomicU64,
}

impl Shared {
    fn doubt(&self, topic: &str) {
        let mut doubtful = self.doubtful.lock();
        if doubtful.len() < MOST_DOUBTFUL && !doubtful.contains(topic) {
            doubtful.insert(topic.into());
        }
    }
}

/// Who hears what became of a record.
pub enum End {
    /// A share of an acknowledgement; costs nothing beside the record.
    Receipt(Receipt),
    /// Called once, on librdkafka's thread: it must not block. Dropped uncalled when the producer is given up before Kafka has answered,
    /// which means that nobody knows.
    Call(Box<dyn FnOnce(Outcome) + Send + Sync>),
}

impl End {
    pub(super) fn tell(self, outcome: Outcome) {
        match self {
            End::Receipt(receipt) => receipt.settle(outcome),
            End::Call(call) => call(outcome),
        }
    }

    /// Whether the record would come before another of its publisher's that is going to be sent again; see [`Receipt::overtakes`]. Who is
    /// called asks for himself.
    fn overtakes(&self) -> bool {
        match self {
            End::Receipt(receipt) => receipt.overtakes(),
            End::Call(_) => false,
        }
    }
}

impl From<Receipt> for End {
    fn from(receipt: Receipt) -> Self {
        End::Receipt(receipt)
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Receipt(receipt) => f.debug_tuple("Receipt").field(receipt).finish(),
            End::Call(_) => f.write_str("Call(..)"),
        }
    }
}

/// One record on its way; rides through librdkafka. Dropping it gives its room back, and its outcome counts as unknown.
#[derive(Debug)]
pub(super) struct Pending {
    end: Option<End>,
    bytes: usize,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
}

impl Pending {
    pub(super) fn new(end: End, bytes: usize, counters: Arc<Counters>, shared: &Arc<Shared>) -> Self {
        counters.enqueued.inc();
        shared.metrics.records_outstanding.inc();
        Pending { end: Some(end), bytes, counters, shared: Arc::clone(shared) }
    }

    /// Those of its topic.
    pub(super) fn partitions(&self) -> &Partitions {
        &self.counters.partitions
    }

    /// Whether it must not be sent, because another comes first and comes again.
    pub(super) fn overtakes(&self) -> bool {
        self.end.as_ref().is_some_and(End::overtakes)
    }

    /// Ends it unsent: its publisher is going to send it again.
    pub(super) fn hold_back(self) {
        self.settle(Outcome::Unknown(Text::from_static("a message before it is not stored, and comes again first")));
    }

    fn store(self) {
        self.counters.took(self.bytes);
        self.settle(Outcome::Stored);
    }

    /// Settles it as not confirmed, with everything that is said about that.
    pub(super) fn fail(self, topic: &str, code: RDKafkaErrorCode) {
        let (outcome, reason) = judge(topic, self.bytes, code, self.counters.takes(self.bytes));
        self.counters.failed(reason);
        self.shared.failures.note(reason, topic, code);
        if matches!(reason, "unauthorized" | "no-such-topic") {
            self.shared.doubt(topic);
        }
        self.settle(outcome);
    }

    /// The room is given back afterwards, by `drop`: when nothing is outstanding, every receipt is settled.
    fn settle(mut self, outcome: Outcome) {
        if let Some(end) = self.end.take() {
            self.shared.metrics.records_outstanding.dec();
            end.tell(outcome);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            self.shared.metrics.records_outstanding.dec();
            drop(end);
        }
        self.shared.bounds.leave(self.bytes);
    }
}

/// What an error code means for the record, and the word that counts it. `fits`: Kafka is known to take
/// records of this size.
pub(super) fn judge(topic: &str, bytes: usize, code: RDKafkaErrorCode, fits: bool) -> (Outcome, &'static str) {
    use RDKafkaErrorCode as C;
    let refused = |kind: fn(Text) -> Refusal, text: String| Outcome::Refused(kind(text.into()));
    match code {
        // Kafka's limit counts for the whole batch, and librdkafka fails all of it.
        C::MessageSizeTooLarge | C::MessageBatchTooLarge if fits => {
            let advice = "set batch_bytes in [kafka] to less than the topic's max.message.bytes";
            (Outcome::Unknown(format!("a record for topic {topic} shared a batch that was too large: {advice}").into()), "batch-too-large")
        }
        C::MessageSizeTooLarge | C::MessageBatchTooLarge | C::InvalidMessageSize => {
            let advice = "raise the topic's max.message.bytes, and message.max.bytes in [kafka.properties]";
            (refused(Refusal::TooLarge, format!("a record of {bytes} bytes is too large for topic {topic}: {advice}")), "too-large")
        }
        C::TopicAuthorizationFailed | C::ClusterAuthorizationFailed => {
            (refused(Refusal::Unauthorized, format!("no right to write to topic {topic}: give the Kafka user WRITE on it")), "unauthorized")
        }
        C::PolicyViolation | C::ThrottlingQuotaExceeded => (refused(Refusal::Quota, format!("topic {topic}: {code}")), "quota"),
        C::UnknownPartition => {
            (refused(Refusal::Other, format!("topic {topic} has no such partition: see its route's `partition`")), "no-such-partition")
        }
        C::UnknownTopicOrPartition | C::UnknownTopic | C::InvalidTopic => {
            (refused(Refusal::Other, format!("there is no topic {topic} in Kafka: create it")), "no-such-topic")
        }
        C::InvalidRecord | C::InvalidTimestamp | C::UnsupportedForMessageFormat | C::UnsupportedCompressionType => {
            (refused(Refusal::Other, format!("topic {topic} takes no such record: {code}")), "invalid-record")
        }
        C::MessageTimedOut | C::TimedOutQueue | C::OperationTimedOut | C::RequestTimedOut => {
            (Outcome::Unknown(format!("no answer from Kafka for topic {topic} within delivery_timeout_ms").into()), "timeout")
        }
        C::PurgeQueue | C::PurgeInflight => (Outcome::Unknown("given up while waiting for Kafka".into()), "given-up"),
        _ => (Outcome::Unknown(format!("topic {topic}: {code}").into()), "error"),
    }
}

/// A line of librdkafka's log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // Troubles with brokers arrive as errors, too.
    let about_brokers = matches!(facility, "FAIL" | "ERROR" | "BRKMAIN" | "FATAL");
    match level {
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {line}"),
        _ if about_brokers => tracing::debug!(facility, "librdkafka: {line}"),
        _ => tracing::warn!(facility, "librdkafka: {line}"),
    }
}

/// What librdkafka calls back, for one generation of the producer.
pub(super) struct Context {
    shared: Arc<Shared>,
    generation: u64,
    /// For SASL OAUTHBEARER.
    tokens: Option<Arc<Tokens>>,
    /// Whether the keeper knows that this producer is of no more use.
    lost: AtomicBool,
    /// Whether it is so because it may write nothing at all.
    denied: AtomicBool,
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>, generation: u64, tokens: Option<Arc<Tokens>>) -> Self {
        Context { shared, generation, tokens, lost: AtomicBool::new(false), denied: AtomicBool::new(false) }
    }

    /// Tells the keeper, once, to start another producer.
    pub(super) fn give_up(&self, reason: impl Into<String>) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            // Without a keeper the producer is being dropped, and needs no successor.
            let _ = self.shared.notices.send(Notice::Fatal(self.generation, reason.into()));
        }
    }

    /// What the brokers say to every record of a producer that failed because it may write nothing.
    pub(super) fn denial(&self) -> Option<RDKafkaErrorCode> {
        self.denied.load(Ordering::Acquire).then_some(RDKafkaErrorCode::ClusterAuthorizationFailed)
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        match result {
            Ok(_) => pending.store(),
            Err((error, message)) => {
                let mut code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                if code == RDKafkaErrorCode::Fatal {
                    self.give_up(error.to_string());
                    code = self.denial().unwrap_or(code);
                }
                pending.fail(message.topic(), code);
            }
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no [kafka] sasl settings say where tokens come from")?;
        Ok(tokens.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: NativeError, reason: &str) {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Fatal, OperationTimedOut};
        let reason = if reason.is_empty() { Cow::Owned(error.to_string()) } else { Cow::Borrowed(reason) };
        match error.rdkafka_error_code() {
            Some(AllBrokersDown) => {
                if !self.shared.suspect.swap(true, Ordering::AcqRel) {
                    let _ = self.shared.notices.send(Notice::Unreachable); // no keeper: being dropped
                }
            }
            Some(Fatal) => {
                // The cause is only in the text: "Fatal error: CLUSTER_AUTHORIZATION_FAILED: …", when it is given no producer id.
                self.denied.store(reason.contains("AUTHORIZATION_FAILED") || reason.contains("uthorization failed"), Ordering::Release);
                self.give_up(reason);
            }
            Some(BrokerTransportFailure | OperationTimedOut) => {
                tracing::debug!("Kafka: {reason}");
                *self.shared.trouble.lock() = reason.into_owned();
            }
            Some(code) => {
                // Wrong credentials, certificates, host names: they repeat at each attempt to connect.
                self.shared.failures.trouble(code, &reason);
                *self.shared.trouble.lock() = reason.into_owned();
            }
            None => tracing::warn!("Kafka: {reason}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // Only with `statistics.interval.ms` in [kafka.properties].
        tracing::info!("{}", String::from_utf8_lossy(statistics));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sending_again_cannot_help_is_refused() {
        use RDKafkaErrorCode as C;
        let cases = [
            (C::MessageSizeTooLarge, "too-large"),
            (C::MessageBatchTooLarge, "too-large"),
            (C::TopicAuthorizationFailed, "unauthorized"),
            (C::ClusterAuthorizationFailed, "unauthorized"),
            (C::PolicyViolation, "quota"),
            (C::ThrottlingQuotaExceeded, "quota"),
            (C::UnknownPartition, "no-such-partition"),
            (C::UnknownTopicOrPartition, "no-such-topic"),
            (C::UnknownTopic, "no-such-topic"),
            (C::InvalidRecord, "invalid-record"),
            (C::MessageTimedOut, "timeout"),
            (C::PurgeQueue, "given-up"),
            (C::PurgeInflight, "given-up"),
            (C::Fatal, "error"),
            (C::OutOfOrderSequenceNumber, "error"),
            (C::InvalidProducerEpoch, "error"),
            (C::NotEnoughReplicas, "error"),
        ];
        for (code, word) in cases {
            let (outcome, reason) = judge("t", 10, code, false);
            assert_eq!(reason, word, "{code:?}");
            let refused = !matches!(word, "timeout" | "given-up" | "error");
            assert_eq!(matches!(outcome, Outcome::Refused(_)), refused, "{code:?}");
            assert_eq!(matches!(outcome, Outcome::Unknown(_)), !refused, "{code:?}");
        }
        let (outcome, reason) = judge("t", 10, C::MessageSizeTooLarge, true);
        assert!(matches!(outcome, Outcome::Unknown(_)) && reason == "batch-too-large", "alone it would be taken");
    }
}
