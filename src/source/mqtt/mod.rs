//! The embedded MQTT broker: 3.1, 3.1.1 and 5 on one port.
//!
//! ```text
//! socket ─ connection ─ codec ─ session          one task per socket; the session is a pure state machine
//!              │ lane: publishes and events, in order, through the pipeline
//!              ├─ retained, subscriptions        whom an accepted message goes to
//!              └─ dispatch (rumqttd's Router) ─ mailbox ─ the receiver's session ─ its socket
//! ```
//!
//! An acknowledgement leaves when the receipt of its publish is settled, in the order of arrival; delivery to subscribers does not wait
//! for it. Sessions and retained messages live in memory.
//!
//! Absent: authentication, TLS, WebSocket, shared subscriptions, topic aliases towards clients. Names of the codec crate appear in
//! [`codec`] only, rumqttd's in [`dispatch`] only.

mod aftermath;
mod codec;
mod connection;
mod dispatch;
mod forward;
mod listener;
mod mailbox;
mod own;
mod packet;
mod publish;
mod reason;
mod retained;
#[cfg(test)]
mod samples;
mod session;
mod sessions;
#[cfg(test)]
mod simulator;
mod subscriptions;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use self::{aftermath::Aftermath, dispatch::Bus, retained::Retained, sessions::Sessions, subscriptions::Subscriptions};
use crate::{
    config::{Config, Mqtt},
    metrics::Metrics,
    pipeline::Pipeline,
};

/// Routers of the bus, at most: each is a thread.
const MAX_BUS_SHARDS: usize = 4;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program has the address, it is not of this machine, or the right to it is missing.
    #[error("listener \"{name}\" cannot listen on {address}; free the address or change `bind`")]
    Bind {
        /// The listener's name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The in-process bus did not come up.
    #[error("the broker's bus did not start")]
    Bus(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new connections, nothing is read; what was read is finished.
    Draining,
    /// What is not finished is given up.
    Stopped,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    limits: ArcSwap<Mqtt>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    subscriptions: Subscriptions,
    retained: Retained,
    sessions: Sessions,
    bus: Bus,
    aftermath: Aftermath,
    phase: watch::Sender<Phase>,
}

impl Shared {
    fn limits(&self) -> Arc<Mqtt> {
        self.limits.load_full()
    }
}

/// A running broker; dropping it stops it at once, [`Broker::drain`] in order.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    addresses: Vec<(String, SocketAddr)>,
    /// Ends when the last connection has.
    alive: mpsc::Receiver<()>,
}

impl Broker {
    /// Opens every listener of `config`. Needs a running tokio runtime with time and I/O.
    ///
    /// # Errors
    /// A listener's address cannot be had, or the bus does not start.
    pub async fn start(config: &Config, pipeline: Arc<Pipeline>) -> Result<Self, BrokerError> {
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let (name, address) = (&listener.name, listener.bind.value);
            let fault = |source| BrokerError::Bind { name: name.clone(), address, source };
            let socket = TcpListener::bind(address).await.map_err(fault)?;
            let address = socket.local_addr().map_err(fault)?;
            listeners.push((name.clone(), address, socket));
        }
        let metrics = Arc::clone(pipeline.metrics());
        let (aftermath, pending) = Aftermath::new();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let bus = Bus::start(threads.min(MAX_BUS_SHARDS), &metrics, &aftermath).map_err(|error| BrokerError::Bus(Box::new(error)))?;
        let shared = Arc::new(Shared {
            limits: ArcSwap::from_pointee(config.mqtt.clone()),
            pipeline,
            subscriptions: Subscriptions::default(),
            retained: Retained::new(config.mqtt.max_retained_messages, Arc::clone(&metrics)),
            metrics,
            sessions: Sessions::new(),
            bus,
            aftermath,
            phase: watch::Sender::new(Phase::Running),
        });
        pending.start(&shared);
        tokio::spawn(sessions::expire(Arc::downgrade(&shared)));
        let (hold, alive) = mpsc::channel(1);
        let mut addresses = Vec::new();
        for (name, address, socket) in listeners {
            tracing::info!(listener = name, %address, "listening for MQTT");
            tokio::spawn(listener::listen(Arc::clone(&shared), name.clone(), socket, hold.clone()));
            addresses.push((name, address));
        }
        Ok(Broker { shared, addresses, alive })
    }

    /// Where each listener listens, by name; port 0 of the configuration is resolved.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Takes other limits into service, for connections and sessions that begin from now on. Listeners, and the bound on retained
    /// messages, stay as they are.
    pub fn reconfigure(&self, limits: &Mqtt) {
        self.shared.limits.store(Arc::new(limits.clone()));
    }

    /// Ends in order: accepts no more, reads no more, waits at most `patience` until every publish that was read is settled and
    /// acknowledged, tells clients, and publishes their wills, also those that wait for their delay: sessions end with the process.
    ///
    /// Whether everything was finished in time.
    pub async fn drain(mut self, patience: Duration) -> bool {
        self.shared.phase.send_replace(Phase::Draining);
        let orderly = async {
            while self.alive.recv().await.is_some() {}
            sessions::publish_waiting_wills(&self.shared).await;
            self.shared.aftermath.flush().await;
            sessions::end_with_process(&self.shared).await;
            self.shared.aftermath.flush().await;
        };
        let finished = tokio::time::timeout(patience, orderly).await.is_ok();
        if !finished {
            tracing::warn!(patience_ms = patience.as_millis(), "not every connection could be finished in time");
            self.shared.phase.send_replace(Phase::Stopped);
            // Connections end at once now; their sockets get a moment for DISCONNECT.
            let _ = tokio::time::timeout(Duration::from_secs(1), async { while self.alive.recv().await.is_some() {} }).await;
        }
        finished
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Stopped);
    }
}
