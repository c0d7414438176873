//! Real calls of a route's guests, written to files for `hookgate replay`.
//!
//! Which events are recorded is drawn from their numbers, so that all guests that an event meets on a route are recorded, or none; of a guest
//! that was asked again, the last call. Invariants: capture never delays an event: what finds no room in the queue is counted and dropped;
//! a route without it pays one branch per call. Absent: what is in a line (`guest::Sample`).

mod files;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use self::files::{Files, Refused};
use super::{Pipeline, ask::Heard, plan::Route};
use crate::{
    config,
    event::{Client, Text},
    guest::{Asked, Question, Sample, Trace, Verdict},
    metrics::{Metrics, ReasonLabel},
};

/// Samples that wait to be written.
const QUEUED: usize = 1_024;
/// Bytes of samples that wait to be written.
const QUEUED_BYTES: usize = 16 << 20;

/// Which calls of one route are recorded.
#[derive(Debug)]
pub(super) struct Capture {
    sample: f64,
    target: Arc<Target>,
}

/// Where the calls of one route go.
#[derive(Debug)]
struct Target {
    route: String,
    folder: PathBuf,
    max_bytes: u64,
}

impl Capture {
    pub(super) fn new(route: &str, config: &config::Capture) -> Self {
        let target = Target { route: route.to_owned(), folder: config.folder.clone(), max_bytes: config.max_bytes };
        Capture { sample: config.sample, target: Arc::new(target) }
    }

    /// Whether the calls of this event are recorded.
    fn wants(&self, event_id: u64) -> bool {
        self.sample >= 1.0 || fastrand::Rng::with_seed(event_id).f64() < self.sample
    }
}

impl Route {
    /// Where the calls for this event are written down; `None`: nowhere.
    pub(super) fn trace(&self, asked: Asked<'_>) -> Option<Arc<Trace>> {
        self.capture.as_ref().filter(|capture| capture.wants(asked.id)).map(|_| Trace::new())
    }
}

/// The writer's thread, as the pipeline sees it.
#[derive(Debug)]
pub(super) struct Recorder {
    orders: mpsc::Sender<Order>,
    queued_bytes: Arc<AtomicUsize>,
}

enum Order {
    Write(Arc<Target>, Box<Sample>, usize),
    Flush(oneshot::Sender<()>),
}

impl Pipeline {
    /// Hands a call that was traced to the writer.
    pub(super) fn note_call<T: Clone + Into<Verdict>>(
        &self,
        route: &Route,
        trace: &Trace,
        asked: Asked<'_>,
        client: &Arc<Client>,
        heard: &Heard<T>,
        question: Question,
    ) {
        let Some(capture) = &route.capture else { return };
        let Some(mut sample) = heard.by.sample(asked, client, question, trace, &heard.answer) else { return };
        sample.route = Some(route.name.as_str().into());
        let recorder = self.recorder.get_or_init(|| Recorder::start(&self.node, &self.metrics));
        let taken = recorder.as_ref().is_some_and(|recorder| recorder.offer(&capture.target, sample));
        if !taken {
            lost(&self.metrics, &route.name, "queue-full");
        }
    }

    /// Waits, not for ever, until everything that was recorded so far is written.
    pub async fn flush_captures(&self, patience: Duration) {
        let Some(Some(recorder)) = self.recorder.get() else { return };
        let (done, flushed) = oneshot::channel();
        let flushing = async {
            // A writer that has ended has nothing left to write.
            let _ = recorder.orders.send(Order::Flush(done)).await;
            let _ = flushed.await;
        };
        if tokio::time::timeout(patience, flushing).await.is_err() {
            tracing::warn!("the captures were not written in time; their last calls are lost");
        }
    }
}

fn lost(metrics: &Metrics, route: &str, reason: &str) {
    metrics.calls_not_captured.get_or_create(&ReasonLabel { name: route.to_owned(), reason: reason.to_owned() }).inc();
}

impl Recorder {
    /// Starts the writer, a thread that ends with its recorder; `None`: the system gives no thread.
    fn start(node: &Text, metrics: &Arc<Metrics>) -> Option<Self> {
        let (orders, received) = mpsc::channel(QUEUED);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            node: node.to_string(),
            metrics: Arc::clone(metrics),
            queued_bytes: Arc::clone(&queued_bytes),
            files: HashMap::new(),
            failing: false,
        };
        let started = std::thread::Builder::new().name("capture".to_owned()).spawn(move || writer.run(received));
        started.inspect_err(|error| tracing::error!(%error, "no thread for the captures: nothing is recorded")).ok()?;
        Some(Recorder { orders, queued_bytes })
    }

    /// Queues a sample; `false`: there is no room.
    fn offer(&self, target: &Arc<Target>, sample: Sample) -> bool {
        let bytes = sample.bytes();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= QUEUED_BYTES
            && self.orders.try_send(Order::Write(Arc::clone(target), Box::new(sample), bytes)).is_ok()
        {
            return true;
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }
}

/// The writer's thread.
struct Writer {
    node: String,
    metrics: Arc<Metrics>,
    queued_bytes: Arc<AtomicUsize>,
    files: HashMap<(PathBuf, String), (Files, Counter)>,
    /// Whether the last write failed, so that the log says it once.
    failing: bool,
}

impl Writer {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(_) => {
                    self.flush(); // whoever reads the files sees what was recorded, but for a moment
                    let Some(order) = orders.blocking_recv() else { return };
                    order
                }
            };
            match order {
                Order::Write(target, sample, bytes) => {
                    self.write(&target, &sample);
                    self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
                Order::Flush(done) => {
                    self.flush();
                    let _ = done.send(()); // whoever asked may have given up
                }
            }
        }
    }

    fn write(&mut self, target: &Target, sample: &Sample) {
        let (node, metrics) = (&self.node, &self.metrics);
        let place = (target.folder.clone(), target.route.clone());
        let (files, captured) = self.files.entry(place).or_insert_with(|| {
            let captured = metrics.calls_captured.get_or_create_owned(&target.route.as_str().into());
            (Files::new(&target.folder, &target.route, node), captured)
        });
        let line = match serde_json::to_vec(sample) {
            Ok(line) => line,
            Err(error) => return tracing::error!(%error, "a call could not be written as JSON"),
        };
        match files.write(line, target.max_bytes) {
            Ok(()) => {
                captured.inc();
                self.failing = false;
            }
            Err(refused) => self.note(&target.route, &refused),
        }
    }

    fn flush(&mut self) {
        let failed: Vec<_> =
            self.files.iter_mut().filter_map(|((_, route), (files, _))| Some((route.clone(), files.flush().err()?))).collect();
        failed.iter().for_each(|(route, refused)| self.note(route, refused));
    }

    fn note(&mut self, route: &str, refused: &Refused) {
        lost(&self.metrics, route, refused.reason());
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(route, error = %refused, "a call was not captured; the next failures are only counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_events_is_recorded() {
        for (sample, expected) in [(1.0, 100_000..=100_000), (0.5, 49_000..=51_000), (0.01, 850..=1_150), (0.000_001, 0..=5)] {
            let config = config::Capture { sample, max_bytes: 1, folder: PathBuf::new() };
            let capture = Capture::new("r", &config);
            let first = 1_700_000_000_000 << 20;
            let wanted = (first..first + 100_000).filter(|id| capture.wants(*id)).count();
            assert!(expected.contains(&wanted), "{sample}: {wanted}");
        }
    }
}
