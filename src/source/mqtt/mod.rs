//! The embedded MQTT broker: 3.1, 3.1.1 and 5 on one port, over TCP, TLS and WebSocket.
//!
//! ```text
//! socket ─ listener ─ connection ─ codec ─ session          one task per socket; the session is a pure state machine
//!              │ lane: publishes and events, in order, through the pipeline
//!              ├─ retained, subscriptions        whom an accepted message goes to
//!              └─ dispatch (rumqttd's Router) ─ mailbox ─ the receiver's session ─ its socket
//! ```
//!
//! An acknowledgement leaves when the receipt of its publish is settled, in the order of arrival; delivery to subscribers does not wait
//! for it, but where the store makes it durable. Sessions and retained messages live in memory; with a `data_dir` the store follows them,
//! and [`restore`] puts them back when the process starts again.
//!
//! Names of the codec crate appear in
//! [`codec`] only, rumqttd's in [`dispatch`] only.

mod aftermath;
mod codec;
mod connection;
mod dispatch;
mod figures;
mod forward;
mod hand;
mod inspect;
mod listener;
mod mailbox;
mod own;
mod packet;
mod publish;
mod rate;
mod reason;
mod restore;
mod retained;
#[cfg(test)]
mod samples;
mod session;
mod sessions;
#[cfg(test)]
mod simulator;
mod slow;
mod subscriptions;
mod sys;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use self::{
    aftermath::Aftermath,
    dispatch::Bus,
    listener::{Door, Setup},
    reason::Fault,
    retained::Retained,
    sessions::Sessions,
    slow::Slow,
    subscriptions::Subscriptions,
    sys::Sys,
};
pub use self::{
    hand::Hand,
    inspect::{Inspector, Part, SessionView, Wanted},
};
use crate::{
    config::{Config, Mqtt, Problem},
    event::Text,
    metrics::Metrics,
    pipeline::Pipeline,
    store::{Restored, Store},
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
    /// A listener's certificate cannot be used; every problem at once.
    #[error("{} listener(s) cannot be set up, the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Doors(Vec<Problem>),
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
    /// `[mqtt]`, for what concerns the whole broker; what holds for one connection came in with its [`listener::Arrival`].
    limits: ArcSwap<Mqtt>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    subscriptions: Subscriptions,
    retained: Retained,
    sys: Sys,
    sessions: Sessions,
    bus: Bus,
    aftermath: Aftermath,
    slow: Slow,
    store: Option<Store>,
    phase: watch::Sender<Phase>,
}

impl Shared {
    fn limits(&self) -> Arc<Mqtt> {
        self.limits.load_full()
    }

    /// Why connections end when the process does.
    fn shutting_down(&self) -> Fault {
        let code = if self.limits().server_reference.is_some() { reason::USE_ANOTHER_SERVER } else { reason::SERVER_SHUTTING_DOWN };
        Fault::new(code, "shutting-down", "the server is shutting down")
    }

    /// Where a client is sent that is told so: the server reference.
    fn server_reference(&self, fault: &Fault) -> Option<Text> {
        if fault.code == reason::USE_ANOTHER_SERVER { self.limits().server_reference.as_deref().map(Text::from) } else { None }
    }
}

/// A running broker; dropping it stops it at once, [`Broker::drain`] in order.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    doors: Vec<Arc<Door>>,
    addresses: Vec<(String, SocketAddr)>,
    /// Ends when the last connection has.
    alive: mpsc::Receiver<()>,
}

impl Broker {
    /// Opens every listener of `config`, with what the store held in its place. Needs a running tokio runtime with time and I/O.
    ///
    /// # Errors
    /// A listener's certificate cannot be used or its address not be had, or the bus does not start.
    pub async fn start(config: &Config, pipeline: Arc<Pipeline>, kept: Option<(Store, Restored)>) -> Result<Self, BrokerError> {
        let (store, restored) = kept.map_or_else(|| (None, Restored::default()), |(store, restored)| (Some(store), restored));
        let mut listeners = Vec::new();
        for setup in Setup::load_all(config).map_err(BrokerError::Doors)? {
            let (name, address) = setup.place();
            let fault = |source| BrokerError::Bind { name: name.clone(), address, source };
            let socket = TcpListener::bind(address).await.map_err(fault)?;
            let address = socket.local_addr().map_err(fault)?;
            listeners.push((setup, address, socket));
        }
        let metrics = Arc::clone(pipeline.metrics());
        let (aftermath, pending) = Aftermath::new();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let bus = Bus::start(threads.min(MAX_BUS_SHARDS), &metrics, &aftermath, store.as_ref())
            .map_err(|error| BrokerError::Bus(Box::new(error)))?;
        let shared = Arc::new(Shared {
            limits: ArcSwap::from_pointee(config.mqtt.clone()),
            pipeline,
            subscriptions: Subscriptions::new(config.mqtt.shared_strategy),
            retained: Retained::new(config.mqtt.max_retained_messages, Arc::clone(&metrics), store.clone()),
            metrics,
            sys: Sys::default(),
            sessions: Sessions::new(),
            bus,
            aftermath,
            slow: Slow::default(),
            store,
            phase: watch::Sender::new(Phase::Running),
        });
        pending.start(&shared);
        restore::put_back(&shared, restored).await;
        tokio::spawn(sessions::expire(Arc::downgrade(&shared)));
        tokio::spawn(sys::publish(Arc::downgrade(&shared), config.node.as_str().into()));
        let (hold, alive) = mpsc::channel(1);
        let (mut doors, mut addresses) = (Vec::new(), Vec::new());
        for (setup, address, socket) in listeners {
            let door = Door::new(setup, &shared.metrics);
            tracing::info!(listener = door.name(), %address, "listening for MQTT");
            addresses.push((door.name().to_owned(), address));
            doors.push(Arc::clone(&door));
            tokio::spawn(listener::listen(Arc::clone(&shared), door, socket, hold.clone()));
        }
        Ok(Broker { shared, doors, addresses, alive })
    }

    /// Every problem of the listeners' files, without opening a door.
    pub fn check(config: &Config) -> Vec<Problem> {
        Setup::load_all(config).err().unwrap_or_default()
    }

    /// Where each listener listens, by name; port 0 of the configuration is resolved.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Takes the listeners' certificates, limits and other settings into service, for connections, sessions and groups that begin from now
    /// on. Which listeners there are, where, and the bound on retained messages stay as they are.
    ///
    /// # Errors
    /// Every problem with certificates; everything stays as it is.
    pub fn reconfigure(&self, config: &Config) -> Result<(), Vec<Problem>> {
        let setups = Setup::load_all(config)?;
        for setup in setups {
            if let Some(door) = self.doors.iter().find(|door| door.name() == setup.place().0) {
                door.install(setup);
            }
        }
        self.shared.subscriptions.set_strategy(config.mqtt.shared_strategy);
        self.shared.limits.store(Arc::new(config.mqtt.clone()));
        Ok(())
    }

    /// Reads the certificates again that are made of `changed` files, each listener's on its own: one whose files cannot be used goes on
    /// with those that it has.
    ///
    /// The names of the listeners with new certificates, and what is wrong with the others.
    pub fn refresh(&self, changed: &[PathBuf]) -> (Vec<String>, Vec<Problem>) {
        let (mut refreshed, mut problems) = (Vec::new(), Vec::new());
        let metrics = &self.shared.metrics;
        for door in &self.doors {
            match door.refresh(changed) {
                None => {}
                Some(Ok(())) => {
                    metrics.listener_certificate_reloads.get_or_create(&door.name().into()).inc();
                    refreshed.push(door.name().to_owned());
                }
                Some(Err(problem)) => {
                    metrics.listener_certificate_reloads_refused.get_or_create(&door.name().into()).inc();
                    problems.push(problem);
                }
            }
        }
        (refreshed, problems)
    }

    /// Ends in order: accepts no more, reads no more, waits at most `patience` until every publish that was read is settled and
    /// acknowledged, tells clients, and publishes their wills. Without a store sessions end with the process, and
    /// so wills that wait for their delay are published too; with one, sessions that outlive their connection stay in it.
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
