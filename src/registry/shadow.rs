//! A new version that sees copies: the events of a share of the clients, after the version in service has answered, and with the state that it
//! read. Nothing acts on its verdicts, and nothing that it writes is kept; where they differ, it is said.
//!
//! Invariants: no event waits for a shadow. Copies go through a bounded queue to a thread of low priority; what finds no room is dropped and
//! counted. A shadow ends with its [`Shadow`]. Absent: rounds of enhanced authentication are not copied, a second answer is no use there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    canary::{Figures, Side},
    candidate::{Outcome, Tally},
    ledger::short,
};
use crate::{
    config,
    event::{Answer, Client, ObserveVerdict, PublishVerdict, Text},
    guest::{Asked, Beneath, CallOutcome, Failure, Guest, Question, Rehearsed, Sample, Trace, Verdict},
    metrics::Metrics,
};

/// Copies that wait.
const QUEUE: usize = 1_000;
/// What they may take together, bytes.
const QUEUE_BYTES: usize = 32 << 20;
/// Lines about differences in the log, per shadow and [`LOG_PERIOD`]; more are counted.
const LOGGED: u32 = 10;
/// See [`LOGGED`].
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// How much lower than the rest of the process its thread stands with the scheduler.
const NICENESS: i32 = 10;

/// A new version beside the one in service.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) guest: Arc<Guest>,
    /// Its component, to be kept when it takes over.
    pub(super) bytes: Arc<[u8]>,
    pub(super) settings: config::Shadow,
    pub(super) since_ms: u64,
    side: Side,
    queue: mpsc::Sender<Sample>,
    counts: Arc<Counts>,
}

/// What is counted of it, here and on the metrics page.
#[derive(Debug)]
struct Counts {
    waiting_bytes: AtomicUsize,
    tally: Tally,
    differences: AtomicU64,
    dropped: AtomicU64,
    all_calls: Counter,
    all_differences: Counter,
    all_dropped: Counter,
}

/// A difference of verdicts, for the topic that wants it.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The Kafka topic.
    pub topic: Text,
    /// Whose event it was: the key.
    pub client_id: Text,
    /// When the event arose, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The record, JSON: docs/rollout.md.
    pub value: Vec<u8>,
}

impl Counts {
    fn new(guest: &str, metrics: &Metrics) -> Self {
        let of = |family: &crate::metrics::PerName| family.get_or_create_owned(&guest.into());
        Counts {
            waiting_bytes: AtomicUsize::default(),
            tally: Tally::default(),
            differences: AtomicU64::default(),
            dropped: AtomicU64::default(),
            all_calls: of(&metrics.guest_shadow_calls),
            all_differences: of(&metrics.guest_shadow_differences),
            all_dropped: of(&metrics.guest_shadow_dropped),
        }
    }

    fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.all_dropped.inc();
    }

    fn note(&self, rehearsed: &Rehearsed) {
        self.tally.note(match &rehearsed.outcome {
            Err(_) => Outcome::Failed,
            Ok(verdict) if refuses(verdict) => Outcome::Refused,
            Ok(_) => Outcome::Fine,
        });
        self.all_calls.inc();
        if !rehearsed.differences.is_empty() {
            self.differences.fetch_add(1, Ordering::Relaxed);
            self.all_differences.inc();
        }
    }
}

fn refuses(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Publish(verdict) => matches!(verdict, PublishVerdict::Drop(_) | PublishVerdict::Deny(_)),
        Verdict::Observe(verdict) => matches!(verdict, ObserveVerdict::Drop(_)),
        Verdict::Access(answer) => matches!(answer, Answer::Deny(_)),
        Verdict::Exchange(_) => false,
    }
}

impl Shadow {
    /// Begins now. Differences that a topic wants go to `differences`.
    pub(super) fn new(
        (guest, bytes): (Arc<Guest>, Arc<[u8]>),
        settings: config::Shadow,
        since_ms: u64,
        differences: &mpsc::Sender<Difference>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let (queue, copies) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::new(guest.name(), metrics));
        let player = Player {
            guest: Arc::clone(&guest),
            counts: Arc::clone(&counts),
            topic: settings.topic.as_deref().map(Text::from),
            differences: differences.clone(),
            log: LogRoom { until: Instant::now(), left: 0, passed_over: 0 },
        };
        if let Err(error) = std::thread::Builder::new().name("guest-shadow".to_owned()).spawn(|| player.play(copies)) {
            tracing::error!(guest = guest.name(), %error, "no thread for a shadow: all its copies are dropped");
        }
        Arc::new(Shadow { side: Side::new(guest.digest(), settings.share), guest, bytes, settings, since_ms, queue, counts })
    }

    /// Whether it sees this client's events.
    pub(super) fn takes(&self, client_id: &str) -> bool {
        self.side.takes(client_id)
    }

    /// Copies a call that has ended. `trace` was given along with the question.
    pub(super) fn copy<T: Clone + Into<Verdict>>(
        &self,
        by: &Guest,
        (asked, trace): (Asked<'_>, &Trace),
        client: &Arc<Client>,
        question: Question,
        answer: &Result<T, Failure>,
    ) {
        let Some(sample) = by.sample(asked, client, question, trace, answer) else { return self.counts.dropped() };
        let bytes = sample.bytes();
        let waiting = self.counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > QUEUE_BYTES || self.queue.try_send(sample).is_err() {
            self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped();
        }
    }

    /// What was counted of its calls.
    pub(super) fn figures(&self) -> Figures {
        self.counts.tally.figures()
    }

    /// Answers that differ, and copies that were dropped.
    pub(super) fn differences(&self) -> (u64, u64) {
        (self.counts.differences.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed))
    }
}

/// Who asks the copies, on a thread of its own.
struct Player {
    guest: Arc<Guest>,
    counts: Arc<Counts>,
    topic: Option<Text>,
    differences: mpsc::Sender<Difference>,
    log: LogRoom,
}

/// How many lines may still be written.
struct LogRoom {
    until: Instant,
    left: u32,
    passed_over: u64,
}

impl LogRoom {
    /// Whether a line may be written now, and how many were not before it.
    fn enter(&mut self, now: Instant) -> Option<u64> {
        if now >= self.until {
            (self.until, self.left) = (now + LOG_PERIOD, LOGGED);
        }
        if self.left == 0 {
            self.passed_over += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.passed_over))
    }
}

impl Player {
    fn play(mut self, mut copies: mpsc::Receiver<Sample>) {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "a shadow's thread keeps its priority");
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(guest = self.guest.name(), %error, "no runtime for a shadow: all its copies are dropped");
                return;
            }
        };
        runtime.block_on(async {
            while let Some(sample) = copies.recv().await {
                self.counts.waiting_bytes.fetch_sub(sample.bytes(), Ordering::Relaxed);
                match self.guest.rehearse(&sample, Beneath::RealState).await {
                    Some(rehearsed) => self.compare(&sample, &rehearsed),
                    None => self.counts.dropped(), // its record is cut short, or a secret is missing
                }
            }
        });
    }

    fn compare(&mut self, sample: &Sample, rehearsed: &Rehearsed) {
        self.counts.note(rehearsed);
        if rehearsed.differences.is_empty() {
            return;
        }
        if let Some(passed_over) = self.log.enter(Instant::now()) {
            let words = rehearsed.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let (guest, shadow) = (self.guest.name(), short(self.guest.digest()));
            let (hook, client_id) = (sample.question.hook(), &sample.client.client_id);
            tracing::info!(guest, shadow, %hook, %client_id, words, passed_over, "a shadow answers another way");
        }
        let Some(topic) = &self.topic else { return };
        let difference = Difference {
            topic: topic.clone(),
            client_id: sample.client.client_id.clone(),
            time_ms: sample.time_ms,
            value: record(sample, &self.guest, rehearsed).to_string().into_bytes(),
        };
        if self.differences.try_send(difference).is_err() {
            self.counts.dropped();
        }
    }
}

/// The sample as a capture writes it, with the shadow's answer beside the running version's.
fn record(sample: &Sample, shadow: &Guest, rehearsed: &Rehearsed) -> Value {
    let line =
        |outcome: &CallOutcome| serde_json::to_value(Sample { outcome: Some(outcome.clone()), ..sample.clone() }).unwrap_or_default();
    let mut record = serde_json::to_value(sample).unwrap_or_default();
    let other = line(&rehearsed.outcome);
    let mut beside = json!({ "digest": shadow.digest(), "differences": rehearsed.differences });
    for part in ["verdict", "failure"] {
        if let (Some(value), Some(beside)) = (other.get(part), beside.as_object_mut()) {
            beside.insert(part.to_owned(), value.clone());
        }
    }
    if let Some(record) = record.as_object_mut() {
        record.insert("shadow".to_owned(), beside);
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_say_how_many_there_were() {
        let start = Instant::now();
        let mut room = LogRoom { until: start, left: 0, passed_over: 0 };
        let entered = (0..25).filter_map(|_| room.enter(start)).count();
        assert_eq!(entered, LOGGED as usize);
        assert_eq!(room.enter(start + LOG_PERIOD), Some(15));
        assert_eq!(room.enter(start + LOG_PERIOD), Some(0));
    }
}
