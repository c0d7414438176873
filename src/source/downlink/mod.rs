//! From Kafka to devices: records become MQTT messages.
//!
//! ```text
//! kafka::Consumer ─ line: templates ─ pipeline (guests) ─ mqtt::Hand ─▶ retained, receivers
//!        ▲                                                     │
//!        └────────────── commit ◀──────── Receipt settled ◀────┘
//! ```
//!
//! A line is a task for each `[[downlink]]`; it takes records in the order of their partitions. A record is committed when the broker has
//! all of its messages (those for sessions that are kept on disk, and retained ones, on the disk), or when its end is told: counted, logged,
//! its dead letter in Kafka. So a record reaches the broker at least once, whatever dies in between.
//!
//! No route of `message.publish` sees these messages, so that nothing can go round in circles; what happens to them afterwards is raised as
//! for every message. Absent: delivery to devices (the broker's).

mod letter;
mod line;
mod message;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

use self::line::{Line, client};
use super::mqtt::Hand;
use crate::{
    config::{Config, Downlink, Kafka, Problem},
    kafka::{Consumer, KafkaError, Wanted},
    outbox::Outbox,
    pipeline::Pipeline,
};

/// The downlinks of a process.
#[derive(Debug)]
pub struct Downlinks {
    hand: Hand,
    pipeline: Arc<Pipeline>,
    running: Mutex<Vec<Running>>,
}

/// A downlink at work.
#[derive(Debug)]
struct Running {
    settings: Downlink,
    cluster: Kafka,
    stop: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

impl Downlinks {
    /// None yet; messages go through `hand`.
    pub fn new(hand: Hand, pipeline: &Arc<Pipeline>) -> Self {
        Downlinks { hand, pipeline: Arc::clone(pipeline), running: Mutex::default() }
    }

    /// What [`Downlinks::start`] would refuse, without connecting.
    pub fn check(config: &Config) -> Vec<Problem> {
        let each = config.downlinks.iter().filter_map(|downlink| {
            let error = Consumer::check(cluster(config, downlink)?, &wanted(downlink)).err()?;
            error.problem()
        });
        each.collect()
    }

    /// Ends those that a configuration does not have, or has otherwise: they settle and commit what is in flight, at most for `patience`.
    /// The others go on.
    pub async fn retire(&self, config: &Config, patience: Duration) {
        let mut running = self.running.lock().await;
        let (stays, goes): (Vec<_>, Vec<_>) = running.drain(..).partition(|running| running.is_in(config) && !running.task.is_finished());
        *running = stays;
        end(goes, patience).await;
    }

    /// Starts those of a configuration that do not run.
    ///
    /// # Errors
    /// The first that does not start; the others run.
    pub async fn start(&self, config: &Config, outbox: &Outbox) -> Result<(), KafkaError> {
        let mut running = self.running.lock().await;
        let mut result = Ok(());
        for settings in &config.downlinks {
            if running.iter().any(|running| running.settings.name == settings.name) {
                continue;
            }
            match self.begin(settings, config, outbox) {
                Ok(begun) => running.extend(begun),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// `None`: there is no cluster of this name, or no Kafka at all.
    fn begin(&self, settings: &Downlink, config: &Config, outbox: &Outbox) -> Result<Option<Running>, KafkaError> {
        let found = cluster(config, settings).zip(outbox.producer_of(settings.cluster())).zip(outbox.way(&settings.delivery));
        let Some(((cluster, producer), way)) = found else { return Ok(None) };
        let lag = self.pipeline.metrics().downlink_lag.get_or_create_owned(&settings.name.as_str().into());
        let (consumer, records) = Consumer::start(cluster, &producer, &wanted(settings), lag)?;
        let line = Line::new(settings, &self.pipeline, &self.hand, way, client(&settings.name));
        let (stop, stopped) = watch::channel(None);
        let task = tokio::spawn(line.run(consumer, records, stopped));
        tracing::info!(downlink = settings.name, group = settings.group, "the way down from Kafka is open");
        Ok(Some(Running { settings: settings.clone(), cluster: cluster.clone(), stop, task }))
    }

    /// Ends all: no more records are taken, what is in flight is settled and committed, at most for `patience`.
    pub async fn drain(&self, patience: Duration) {
        let all = std::mem::take(&mut *self.running.lock().await);
        end(all, patience).await;
    }
}

impl Running {
    /// Whether a configuration has it just so.
    fn is_in(&self, config: &Config) -> bool {
        let same = config.downlinks.contains(&self.settings);
        same && cluster(config, &self.settings) == Some(&self.cluster)
    }
}

/// Tells all of them first, so that they end side by side.
async fn end(running: Vec<Running>, patience: Duration) {
    for line in &running {
        line.stop.send_replace(Some(patience));
    }
    for line in running {
        if let Err(error) = line.task.await {
            tracing::error!(downlink = line.settings.name, %error, "a downlink's task did not end well; its records come again");
        }
    }
}

fn cluster<'a>(config: &'a Config, downlink: &Downlink) -> Option<&'a Kafka> {
    config.all_clusters().find(|kafka| kafka.name == downlink.cluster())
}

fn wanted(downlink: &Downlink) -> Wanted<'_> {
    let Downlink { name, topics, group, start, max_in_flight, properties, .. } = downlink;
    Wanted { name, topics, group, start: *start, max_in_flight: *max_in_flight, properties }
}
