//! The thread of a consumer: polls, pauses, commits, and begins again when librdkafka's consumer is lost for good.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError as NativeError,
    message::{BorrowedMessage, Headers as _},
};
use tokio::sync::mpsc;

use super::{
    Lease, Shared,
    context::{Context, commit},
};
use crate::{
    event::{Bytes, Fetched, RecordHeader, Text},
    kafka::KafkaError,
};

/// How long one poll may wait: so soon it sees that it is to end.
const TICK: Duration = Duration::from_millis(100);
/// How often it commits.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How long it waits for room before it pauses, which costs what librdkafka has fetched ahead.
const ROOM: Duration = Duration::from_millis(250);
/// Before another consumer follows one that was lost.
const RECOVERY: Duration = Duration::from_secs(1);

/// What the thread has.
pub(super) struct Fetcher {
    client_config: ClientConfig,
    topics: Vec<String>,
    shared: Arc<Shared>,
    records: mpsc::Sender<(Fetched, Lease)>,
    consumer: Option<BaseConsumer<Context>>,
}

/// Why a consumer is not polled any more.
enum End {
    Closed,
    Lost(String),
}

impl Fetcher {
    pub(super) fn new(
        client_config: ClientConfig,
        topics: Vec<String>,
        shared: Arc<Shared>,
        records: mpsc::Sender<(Fetched, Lease)>,
    ) -> Result<Self, KafkaError> {
        let mut fetcher = Fetcher { client_config, topics, shared, records, consumer: None };
        let name = &fetcher.shared.name;
        fetcher.consumer = Some(fetcher.join().map_err(|error| KafkaError::Consumer { name: name.clone(), reason: error.to_string() })?);
        Ok(fetcher)
    }

    fn join(&self) -> Result<BaseConsumer<Context>, NativeError> {
        let consumer: BaseConsumer<Context> = self.client_config.create_with_context(Context { shared: Arc::clone(&self.shared) })?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        Ok(consumer)
    }

    /// Until the consumer is closed.
    pub(super) fn run(mut self) {
        let name = self.shared.name.clone();
        while !self.shared.is_closing() {
            let end = match self.consumer.take().map_or_else(|| self.join(), Ok) {
                Ok(consumer) => self.consume(&consumer), // and leaves the group when it is dropped
                Err(error) => End::Lost(error.to_string()),
            };
            self.shared.marks.lock().forget_all();
            self.shared.lag.set(0);
            if let End::Lost(reason) = end {
                tracing::error!(
                    downlink = name,
                    reason,
                    "Kafka's consumer failed for good; another follows, what was not committed comes again"
                );
                std::thread::sleep(RECOVERY);
            }
        }
        drop(self.consumer.take());
    }

    fn consume(&self, consumer: &BaseConsumer<Context>) -> End {
        let (mut is_paused, mut committed) = (false, Instant::now());
        let mut topic = Text::new();
        loop {
            if self.shared.is_closing() {
                commit(consumer, &self.shared, CommitMode::Sync);
                return End::Closed;
            }
            if committed.elapsed() >= COMMIT_EVERY {
                commit(consumer, &self.shared, CommitMode::Async);
                committed = Instant::now();
            }
            if self.shared.reassigned.swap(false, Ordering::AcqRel) {
                is_paused = false;
            }
            is_paused = self.make_room(consumer, is_paused);
            match consumer.poll(if is_paused { Duration::ZERO } else { TICK }) {
                None => {}
                Some(Ok(message)) => self.hand_over(&message, &mut topic),
                Some(Err(NativeError::MessageConsumptionFatal(code))) => return End::Lost(code.to_string()),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) => self.shared.failures.trouble(code, &format!("downlink {}: {error}", self.shared.name)),
                    None => tracing::warn!(downlink = self.shared.name, %error, "reading from Kafka"),
                },
            }
        }
    }

    /// Waits a moment when there is no room, then pauses until there is; whether fetching is paused now.
    fn make_room(&self, consumer: &BaseConsumer<Context>, is_paused: bool) -> bool {
        let has_room = self.shared.has_room_within(if is_paused { TICK } else { ROOM });
        if has_room != is_paused {
            return is_paused;
        }
        let assigned = match consumer.assignment() {
            Ok(assigned) => assigned,
            Err(error) => {
                tracing::debug!(%error, "no assignment to pause");
                return is_paused;
            }
        };
        let done = if has_room { consumer.resume(&assigned) } else { consumer.pause(&assigned) };
        match done {
            Ok(()) => !is_paused,
            Err(error) => {
                tracing::debug!(%error, "fetching is not paused or resumed");
                is_paused
            }
        }
    }

    fn hand_over(&self, message: &BorrowedMessage<'_>, topic: &mut Text) {
        if **topic != *message.topic() {
            *topic = message.topic().into();
        }
        let Some(fetched) = fetched(message, topic) else { return };
        let lease = self.shared.marks.lock().fetched(topic, fetched.partition, fetched.offset, fetched.bytes());
        // Waits only when librdkafka hands over much after it was paused; an error: nobody reads any more.
        let _ = self.records.blocking_send((fetched, lease));
    }
}

/// A record in our own words; `None` never happens: Kafka counts from 0.
fn fetched(message: &BorrowedMessage<'_>, topic: &Text) -> Option<Fetched> {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| RecordHeader {
        name: header.key.into(),
        value: header.value.map(Bytes::copy_from_slice),
    };
    Some(Fetched {
        topic: topic.clone(),
        partition: u32::try_from(message.partition()).ok()?,
        offset: u64::try_from(message.offset()).ok()?,
        timestamp_ms: message.timestamp().to_millis().and_then(|time| u64::try_from(time).ok()),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default(),
    })
}
