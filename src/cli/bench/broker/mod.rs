//! The broker alone: no guest, no Kafka, subscribers on real sockets; mosquitto beside it in the same run, where it is installed.
//!
//! Every scenario is a closed loop: a message is published only when few enough are under way to their subscribers, so that no queue
//! grows, nothing is dropped, and the rate is what the broker delivers, not what it swallows.

mod fan;
mod filters;
mod fleet;
mod peer;
mod report;

use std::time::Duration;

use self::{fan::Fan, peer::Broker};
pub(super) use self::{
    fleet::worker,
    report::{Measured, table},
};
use super::scenario::Scenario;

/// Bytes of a message's payload; its first eight are the time at which it was sent.
const PAYLOAD_BYTES: usize = 100;
/// The longest latency that is told from a longer one, microseconds.
const LONGEST_US: u64 = 60_000_000;

/// How the broker scenarios are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    /// Clients of the fleet.
    pub(super) fleet: u32,
}

impl Plan {
    /// Runs one scenario.
    ///
    /// # Errors
    /// Something did not start, or broke down under way.
    pub(super) async fn measure(&self, scenario: Scenario) -> anyhow::Result<Vec<Measured>> {
        match scenario {
            Scenario::FanIn => self.beside(scenario, Fan { publishers: 20, subscribers: 1, window: 100, under_way: 2_000 }).await,
            Scenario::FanOut => self.beside(scenario, Fan { publishers: 1, subscribers: 1_000, window: 20, under_way: 20 }).await,
            Scenario::Filters => filters::measure(self).await,
            Scenario::Fleet => Ok(vec![fleet::measure(self.fleet).await?]),
            _ => Ok(Vec::new()),
        }
    }

    /// Hookgate and mosquitto, one after the other.
    async fn beside(&self, scenario: Scenario, fan: Fan) -> anyhow::Result<Vec<Measured>> {
        let mut measured = Vec::new();
        let brokers = [Some(Broker::hookgate().await?), Broker::mosquitto().await?];
        if brokers.iter().any(Option::is_none) {
            eprintln!("mosquitto is not installed: {} is measured without it", scenario.name());
        }
        for broker in brokers.into_iter().flatten() {
            measured.push(fan.measure(self, scenario.name(), &broker).await?);
            broker.stop().await?;
        }
        Ok(measured)
    }
}
