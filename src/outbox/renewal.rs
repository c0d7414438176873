//! Another configuration for all clusters at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Cluster, Clusters, Outbox, OutboxError, topics};
use crate::{config::Config, kafka, metrics::Metrics};

/// How often a cluster that goes is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A change that is ready; dropped without [`Renewal::commit`], everything stays as it was.
#[must_use]
pub struct Renewal {
    outbox: Outbox,
    /// The clusters as they will be, apart from those that are.
    next: Outbox,
    changes: Vec<kafka::Renewal>,
    patience: Duration,
}

impl Outbox {
    /// Prepares another configuration; nothing has changed yet. Blocks like [`Outbox::open`].
    ///
    /// # Errors
    /// The first cluster whose settings librdkafka does not take, or with whose new settings no Kafka answers while one answers with the
    /// old ones; a new cluster whose spool does not open.
    pub fn renew(&self, config: &Config, metrics: &Arc<Metrics>) -> Result<Renewal, OutboxError> {
        let present = self.clusters.load();
        let (mut next, mut changes) = (Clusters::new(), Vec::new());
        for kafka in config.all_clusters() {
            let topics = topics(config, kafka);
            let cluster = match present.get(&kafka.name) {
                Some(cluster) => {
                    changes.push(cluster.producer.renew(kafka, &topics)?);
                    cluster.renewed(kafka)
                }
                None => Cluster::connect(config, kafka, self.past.as_ref(), metrics)?,
            };
            next.insert(kafka.name.clone(), cluster);
        }
        let patience = Duration::from_millis(config.kafka.drain_timeout_ms);
        Ok(Renewal { outbox: self.clone(), next: Outbox::new(next, self.past.clone()), changes, patience })
    }
}

impl Renewal {
    /// The ways out as they will be: a plan is made of them before it is known whether it will be taken.
    pub fn next(&self) -> &Outbox {
        &self.next
    }

    /// Takes the new configuration into service. Clusters that it does not name are given up as soon as no plan sends to them any more
    /// and everything on its way is answered, or after `drain_timeout_ms`.
    pub fn commit(self) {
        let Renewal { outbox, next, changes, patience } = self;
        changes.into_iter().for_each(kafka::Renewal::commit);
        let next = next.clusters.load_full();
        let former = outbox.clusters.swap(Arc::clone(&next));
        for Cluster { producer, dead_letter_topic, spooled, .. } in next.values() {
            if let Some(spooled) = spooled {
                spooled.aim(producer, dead_letter_topic);
            }
        }
        for (name, cluster) in former.iter().filter(|(name, _)| !next.contains_key(*name)) {
            tracing::info!(cluster = name, unanswered = cluster.producer.outstanding(), "the cluster is not in the configuration any more");
            outbox.leaving.lock().push(cluster.clone());
            tokio::spawn(leave(outbox.clone(), name.clone(), cluster.clone(), patience));
        }
    }
}

/// Waits until nobody can send any more, then drains. This task, the list of those that leave, whoever writes dead letters, the spool,
/// whoever makes transactions, and nobody else hold the producer then.
async fn leave(outbox: Outbox, name: String, cluster: Cluster, patience: Duration) {
    let start = Instant::now();
    let others = usize::from(cluster.letters.get().is_some()) + usize::from(cluster.spooled.is_some()) + cluster.once.holders();
    while cluster.producer.holders() > 2 + others && start.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
    }
    let unconfirmed = cluster.drain(patience.saturating_sub(start.elapsed())).await;
    if unconfirmed > 0 {
        tracing::error!(
            cluster = name,
            unconfirmed,
            "a cluster that is gone from the configuration got no answer in time: its records count as unknown"
        );
    }
    cluster.metrics.kafka_reachable.remove(&name.as_str().into());
    outbox.leaving.lock().retain(|other| !other.producer.is(&cluster.producer));
    // Dropping the last one waits for librdkafka's threads.
    let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
}
