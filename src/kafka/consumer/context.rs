//! librdkafka's callbacks of a consumer: partitions come and go, commits are answered, figures and troubles are told. All of them run on the
//! consumer's thread, inside its poll, but for the log.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError as NativeError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::{Shared, marks::Place};
use crate::config::Start;

/// How long a partition that is taken away waits for what is under way of it.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long one question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a group that begins asks where.
const QUESTIONS: usize = 24;

/// Of one librdkafka consumer.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.begin(consumer, partitions);
            if is_cooperative { consumer.incremental_assign(partitions) } else { consumer.assign(partitions) }
        } else {
            self.end(consumer, partitions);
            if is_cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
        };
        self.shared.reassigned.store(true, Ordering::Release);
        if let Err(error) = done {
            tracing::error!(downlink = self.shared.name, %error, "Kafka's partitions could not be taken over or given up");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, partitions: &TopicPartitionList) {
        let refused: Vec<Place> = partitions
            .elements()
            .iter()
            .filter(|place| result.is_err() || place.error().is_err())
            .filter_map(|it| place(it.topic(), it.partition()))
            .collect();
        let Some((topic, partition)) = refused.first() else { return };
        if let Err(NativeError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) = result {
            return; // nothing was to be committed
        }
        let error = result.err().map_or_else(|| "refused".to_owned(), |error| error.to_string());
        tracing::debug!(downlink = self.shared.name, %topic, partition, error, "a commit failed and is repeated");
        let mut marks = self.shared.marks.lock();
        refused.iter().for_each(|place| marks.again(place));
    }
}

impl Context {
    /// Where a partition begins that the group has never read: at "latest" at its end now, but for one that came into being since the group
    /// began with the topic. That is noted, to be committed, so that it holds from now on.
    fn begin(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        tracing::info!(downlink = self.shared.name, partitions = partitions.count(), "reading from Kafka");
        if self.shared.start == Start::Earliest {
            return;
        }
        for _ in 0..QUESTIONS {
            match self.first_offsets(consumer, partitions) {
                Ok(begun) => {
                    let mut marks = self.shared.marks.lock();
                    for (place, offset) in begun {
                        marks.begin(&place, offset);
                    }
                    return;
                }
                Err(error) if self.shared.is_closing() => return tracing::debug!(%error, "the downlink ends before it began"),
                Err(error) => {
                    tracing::warn!(downlink = self.shared.name, %error, "Kafka does not say where the topics end; asking again");
                    std::thread::sleep(Duration::from_secs(1)); // the thread is ours, and there is nothing to read yet
                }
            }
        }
    }

    fn first_offsets(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> KafkaResult<Vec<(Place, u64)>> {
        let committed = consumer.committed_offsets(partitions.clone(), PATIENCE)?;
        let known = committed.elements();
        let has_begun = |topic: &str| known.iter().any(|it| it.topic() == topic && matches!(it.offset(), Offset::Offset(_)));
        let mut begun = Vec::new();
        for new in known.iter().filter(|it| !matches!(it.offset(), Offset::Offset(_))) {
            let (low, high) = consumer.fetch_watermarks(new.topic(), new.partition(), PATIENCE)?;
            let offset = if has_begun(new.topic()) { low } else { high };
            begun.extend(place(new.topic(), new.partition()).zip(u64::try_from(offset).ok()));
            partitions.set_partition_offset(new.topic(), new.partition(), Offset::Offset(offset))?;
        }
        Ok(begun)
    }

    /// Partitions go to others: what is under way of them is finished, if that does not take long, and committed.
    fn end(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let places: Vec<Place> = partitions.elements().iter().filter_map(|it| place(it.topic(), it.partition())).collect();
        let is_done = self.shared.is_done_within(&places, FAREWELL);
        let name = &self.shared.name;
        tracing::info!(
            downlink = name,
            partitions = places.len(),
            is_done,
            "Kafka gives partitions to another member, or the downlink ends"
        );
        if !consumer.assignment_lost() {
            commit(consumer, &self.shared, CommitMode::Sync);
        }
        self.shared.marks.lock().forget(&places);
    }
}

/// Commits the marks that have moved.
pub(super) fn commit(consumer: &BaseConsumer<Context>, shared: &Shared, mode: CommitMode) {
    let moved = shared.marks.lock().moved();
    if moved.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(moved.len());
    for ((topic, partition), offset) in &moved {
        let (Ok(partition), Ok(offset)) = (i32::try_from(*partition), i64::try_from(*offset)) else { continue };
        // An error: an offset that is none.
        let _ = list.add_partition_offset(topic, partition, Offset::Offset(offset));
    }
    if let Err(error) = consumer.commit(&list, mode) {
        tracing::debug!(downlink = shared.name, %error, "a commit failed and is repeated");
        let mut marks = shared.marks.lock();
        moved.iter().for_each(|(place, _)| marks.again(place));
    }
}

fn place(topic: &str, partition: i32) -> Option<Place> {
    Some((topic.into(), u32::try_from(partition).ok()?))
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.shared.tokens.as_ref().ok_or("no sasl settings say where tokens come from")?;
        Ok(tokens.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // Troubles with brokers arrive as errors, too.
        let about_brokers = matches!(facility, "FAIL" | "ERROR" | "BRKMAIN" | "FATAL");
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {line}"),
            _ if about_brokers => tracing::debug!(facility, "librdkafka: {line}"),
            _ => tracing::warn!(facility, "librdkafka: {line}"),
        }
    }

    fn error(&self, error: NativeError, reason: &str) {
        use RDKafkaErrorCode::{BrokerTransportFailure, OperationTimedOut};
        let reason = if reason.is_empty() { Cow::Owned(error.to_string()) } else { Cow::Borrowed(reason) };
        match error.rdkafka_error_code() {
            Some(BrokerTransportFailure | OperationTimedOut) => tracing::debug!("Kafka: {reason}"),
            // No broker, wrong credentials, certificates, host names: they repeat at each attempt to connect.
            Some(code) => self.shared.failures.trouble(code, &format!("downlink {}: {reason}", self.shared.name)),
            None => tracing::warn!(downlink = self.shared.name, "Kafka: {reason}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions.filter(|partition| partition.desired).map(|partition| partition.consumer_lag.max(0)).sum();
        self.shared.lag.set(lag);
    }
}
