//! What all publishers and the reader share: the clock, the stages of a run, and what is counted.
//!
//! A run warms up, then passes its stages one after the other, then ends. A message belongs to the stage in which it was sent.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::{CreationError, Histogram};
use parking_lot::Mutex;

use super::{command::Commands, packet::Protocol};

/// The longest latency that is told from a longer one, microseconds.
const LONGEST_US: u64 = 60_000_000;

/// What is asked of the publishers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) clients: u32,
    pub(super) qos: u8,
    pub(super) protocol: Protocol,
    /// Messages of one client that wait for their acknowledgement, at most.
    pub(super) in_flight: u16,
    /// Messages a second of all clients together; 0: as fast as it goes.
    pub(super) rate: u64,
    /// Messages to send after the warm-up; `None`: until the end is called.
    pub(super) messages: Option<u64>,
}

/// Latencies of each stage, microseconds, three digits exact.
pub(super) struct Latencies(Vec<Histogram<u64>>);

impl Latencies {
    fn new(stages: usize) -> Result<Self, CreationError> {
        (0..stages).map(|_| Histogram::new_with_max(LONGEST_US, 3)).collect::<Result<_, _>>().map(Latencies)
    }

    fn record(&mut self, stage: Option<usize>, nanoseconds: u64) {
        if let Some(histogram) = stage.and_then(|stage| self.0.get_mut(stage)) {
            histogram.saturating_record(nanoseconds / 1_000);
        }
    }

    pub(super) fn into_stages(self) -> Vec<Histogram<u64>> {
        self.0
    }
}

/// A run of load.
pub(super) struct Load {
    pub(super) shape: Shape,
    pub(super) commands: Commands,
    started: Instant,
    /// When each stage and the end began, nanoseconds since the start; `u64::MAX`: not yet.
    begun: Vec<AtomicU64>,
    /// Messages that may still be sent.
    budget: AtomicI64,
    /// Messages written to a socket.
    pub(super) sent: AtomicU64,
    /// Messages acknowledged; at QoS 0, where nothing is, the same as `sent`.
    pub(super) acknowledged: AtomicU64,
    /// Records read back from Kafka.
    pub(super) stored: AtomicU64,
    acknowledgements: Mutex<Latencies>,
    storing: Mutex<Latencies>,
}

impl Load {
    /// A load that passes `stages` stages.
    ///
    /// # Errors
    /// There is no such histogram, which cannot be.
    pub(super) fn new(shape: Shape, commands: Commands, stages: usize) -> Result<Self, CreationError> {
        let budget = shape.messages.map_or(i64::MAX, |messages| i64::try_from(messages).unwrap_or(i64::MAX));
        Ok(Load {
            shape,
            commands,
            started: Instant::now(),
            begun: (0..=stages).map(|_| AtomicU64::new(u64::MAX)).collect(),
            budget: AtomicI64::new(budget),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            acknowledgements: Mutex::new(Latencies::new(stages)?),
            storing: Mutex::new(Latencies::new(stages)?),
        })
    }

    fn stages(&self) -> usize {
        self.begun.len() - 1
    }

    /// Nanoseconds since the run began.
    pub(super) fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// The instant that is `ns` nanoseconds after the start.
    pub(super) fn instant(&self, ns: u64) -> Instant {
        self.started + Duration::from_nanos(ns)
    }

    /// Begins a stage.
    pub(super) fn begin(&self, stage: usize) {
        if let Some(begun) = self.begun.get(stage) {
            begun.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    /// Ends the sending; what is in flight is still waited for.
    pub(super) fn end(&self) {
        self.begin(self.stages());
    }

    /// Whether the sending has ended.
    pub(super) fn is_over(&self) -> bool {
        self.has_begun(self.stages(), u64::MAX - 1) || self.budget.load(Ordering::Relaxed) <= 0
    }

    /// Whether the end came more than `patience` ago.
    pub(super) fn is_over_since(&self, patience: Duration) -> bool {
        self.has_begun(self.stages(), self.now_ns().saturating_sub(patience.as_nanos() as u64))
    }

    /// Asks to send one message now.
    pub(super) fn may_send(&self, now_ns: u64) -> bool {
        let counts = self.shape.messages.is_some() && self.stage(now_ns).is_some();
        !self.is_over() && (!counts || self.budget.fetch_sub(1, Ordering::Relaxed) > 0)
    }

    /// Notes acknowledgements of messages sent at the times in `sent`, and empties it.
    pub(super) fn note_acknowledged(&self, sent: &mut Vec<u64>) {
        self.acknowledged.fetch_add(sent.len() as u64, Ordering::Relaxed);
        self.note(&self.acknowledgements, sent);
    }

    /// The same for records read back from Kafka.
    pub(super) fn note_stored(&self, sent: &mut Vec<u64>) {
        self.note(&self.storing, sent);
    }

    fn note(&self, latencies: &Mutex<Latencies>, sent: &mut Vec<u64>) {
        let now_ns = self.now_ns();
        let mut latencies = latencies.lock();
        for sent_ns in sent.drain(..) {
            latencies.record(self.stage(sent_ns), now_ns.saturating_sub(sent_ns));
        }
    }

    /// Latencies until the acknowledgement and until the reader saw the record, by stage; what is noted later is lost.
    pub(super) fn take_latencies(&self) -> Result<(Latencies, Latencies), CreationError> {
        let take = |latencies: &Mutex<Latencies>| Ok(std::mem::replace(&mut *latencies.lock(), Latencies::new(self.stages())?));
        Ok((take(&self.acknowledgements)?, take(&self.storing)?))
    }

    /// The stage of a message sent at a time; `None`: the warm-up.
    fn stage(&self, sent_ns: u64) -> Option<usize> {
        (0..self.stages()).rev().find(|stage| self.has_begun(*stage, sent_ns))
    }

    fn has_begun(&self, stage: usize, by_ns: u64) -> bool {
        self.begun.get(stage).is_some_and(|begun| begun.load(Ordering::Relaxed) <= by_ns)
    }
}
