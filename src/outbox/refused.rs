//! Dead letters of records that Kafka refuses for good: the record itself, on the cluster's dead letter topic, with the reason in headers.
//!
//! Delivery reports come on librdkafka's thread, which must not wait; so a task of the cluster writes the letters, from a bounded queue. What
//! finds no room there, and what the dead letter topic refuses as well, is reported as refused, as without dead letters.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use super::kept::Stay;
use crate::{
    event::{Header, Outcome, Refusal, Text, now_ms},
    kafka::{Choice, End, Producer, Record},
    metrics::{Metrics, ReasonLabel},
};

/// Letters that wait to be written.
const QUEUE: usize = 4_096;

/// A record that Kafka refused.
#[derive(Debug)]
struct Letter {
    record: Record,
    refusal: Refusal,
    stay: Stay,
    open: Open,
}

/// The way to the task; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Letters {
    queue: mpsc::Sender<Letter>,
    counted: Arc<Counted>,
}

/// Letters that are not settled yet.
#[derive(Debug, Default)]
struct Counted {
    open: AtomicUsize,
    none: Notify,
}

/// One of them.
#[derive(Debug)]
struct Open(Arc<Counted>);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl Letters {
    /// Starts the task, which ends when the last clone is gone.
    pub(super) fn start(producer: Producer, topic: Text, metrics: Arc<Metrics>) -> Self {
        let (queue, letters) = mpsc::channel(QUEUE);
        tokio::spawn(write(letters, producer, topic, metrics));
        Letters { queue, counted: Arc::default() }
    }

    /// Hands over what Kafka refused; never waits.
    pub(super) fn add(&self, record: Record, refusal: Refusal, stay: Stay) {
        self.counted.open.fetch_add(1, Ordering::AcqRel);
        let letter = Letter { record, refusal, stay, open: Open(Arc::clone(&self.counted)) };
        let (TrySendError::Full(letter) | TrySendError::Closed(letter)) = match self.queue.try_send(letter) {
            Ok(()) => return,
            Err(error) => error,
        };
        letter.stay.settle(Outcome::Refused(letter.refusal));
    }

    /// Waits until there is neither a letter nor a record that may still become one.
    pub(super) async fn until_settled(&self, producer: &Producer) {
        loop {
            producer.until_idle().await;
            let mut none = std::pin::pin!(self.counted.none.notified());
            none.as_mut().enable();
            if self.counted.open.load(Ordering::Acquire) == 0 {
                return; // a letter is counted before its record counts as answered
            }
            none.await;
        }
    }
}

async fn write(mut letters: mpsc::Receiver<Letter>, producer: Producer, topic: Text, metrics: Arc<Metrics>) {
    while let Some(Letter { record, refusal, stay, open }) = letters.recv().await {
        let label = ReasonLabel { name: record.topic.to_string(), reason: refusal.word().to_owned() };
        let dead = dead(record, &refusal, &topic, now_ms());
        let metrics = Arc::clone(&metrics);
        let end = move |outcome: Outcome| match outcome {
            Outcome::Stored => {
                metrics.records_dead_lettered.get_or_create(&label).inc();
                stay.settle(Outcome::Stored);
            }
            Outcome::Refused(_) => stay.settle(Outcome::Refused(refusal)),
            unknown => stay.settle(unknown),
        };
        let end = move |outcome| {
            end(outcome);
            drop(open);
        };
        producer.send(dead, End::Call(Box::new(end))).await;
    }
}

/// The record as it was, and what became of it.
pub(super) fn dead(record: Record, refusal: &Refusal, topic: &Text, now_ms: u64) -> Record {
    let header = |name: &'static str, value: Text| Header { name: Text::from_static(name), value };
    let mut headers = record.headers;
    headers.extend([
        header("refused-topic", record.topic),
        header("error", Text::from_static(refusal.word())),
        header("reason", refusal.text().clone()),
        header("time", now_ms.to_string().into()),
    ]);
    // By its key: the partition that it was to have is another topic's.
    Record { topic: topic.clone(), headers, partition: Choice::default(), ..record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::RecordId;

    #[test]
    fn a_letter_is_the_record_with_the_reason() {
        let header = |name: &'static str, value: &'static str| Header { name: name.into(), value: value.into() };
        let own = header("verified", "true");
        let record = Record {
            topic: "t".into(),
            key: Some("k".into()),
            partition: Choice::Fixed(3),
            value: "v".into(),
            id: Some(RecordId { event: 255, part: 0 }),
            headers: vec![own.clone()],
            timestamp_ms: 7,
        };
        let letter = dead(record.clone(), &Refusal::TooLarge("a record of 9 bytes".into()), &"dead".into(), 12);
        let expected = [
            own,
            header("refused-topic", "t"),
            header("error", "too-large"),
            header("reason", "a record of 9 bytes"),
            header("time", "12"),
        ];
        assert_eq!(letter, Record { topic: "dead".into(), headers: expected.to_vec(), partition: Choice::default(), ..record });
    }
}
