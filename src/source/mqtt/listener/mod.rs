//! Doors for devices: TCP, TLS, WebSocket and both together, each behind PROXY protocol or not.
//!
//! ```text
//! accept ─ limits ─ a task of its own ─ PROXY header ─ TLS ─ WebSocket ─ connection
//! ```
//! The accept loop only accepts and counts; whatever waits for the device happens in the connection's own task, all of it together with
//! CONNECT within the connect timeout. What a device finds behind a door is the [`Setup`] of the moment of its arrival; a reload puts
//! another one in its place and touches nobody who is in.
//!
//! Absent: revocation lists, checking of WebSocket's Origin (MQTT's own authentication decides who may come in, and browsers are as
//! welcome as devices).

mod door;
mod entry;
mod name;
mod proxy;
mod tls;
mod websocket;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, time::Instant};

pub(super) use self::door::{Arrival, Door, Setup};
use self::entry::Entry;
use super::{Phase, Shared, rate::Rate};
use crate::config::DoorProtocol;

/// How long to wait when accepting fails, as it does when the process is out of file descriptors.
const RECOVERY: Duration = Duration::from_millis(100);
/// How often a certificate's end is thought of.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Accepts until the broker drains. `alive` is held as long as any connection lasts.
pub(super) async fn listen(shared: Arc<Shared>, door: Arc<Door>, listener: TcpListener, alive: mpsc::Sender<()>) {
    let mut phase = shared.phase.subscribe();
    let mut daily = tokio::time::interval_at(Instant::now() + DAY, DAY);
    let mut pace = Pace::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            _ = daily.tick() => {
                door.setup().warn_of_expiry();
                continue;
            }
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = door.name(), %error, "cannot accept a connection");
                tokio::time::sleep(RECOVERY).await;
                continue;
            }
        };
        shared.metrics.connections_accepted.inc();
        let setup = door.setup();
        if !pace.allows(&setup) {
            shared.metrics.connections_refused.get_or_create(&"connect-rate".into()).inc();
            tracing::debug!(listener = door.name(), %peer, "closed: too many connections per second");
            continue;
        }
        // Only behind a plain door a refusal costs little enough to be told.
        match door.seat(&setup, &alive).filter(|seat| !seat.is_spare() || door.protocol() == DoorProtocol::Mqtt) {
            Some(seat) => Entry::new(&shared, &door, setup, peer, seat).spawn(socket),
            None => {
                shared.metrics.connections_refused.get_or_create(&"too-many-connections".into()).inc();
                tracing::debug!(listener = door.name(), %peer, "closed: too many connections");
            }
        }
    }
}

/// How fast connections come.
#[derive(Default)]
struct Pace {
    /// `connects_per_s` and `connects_burst`.
    set: (u64, u64),
    rate: Option<Rate>,
}

impl Pace {
    fn allows(&mut self, setup: &Setup) -> bool {
        let now = std::time::Instant::now();
        let set = (setup.listener.connects_per_s, setup.listener.connects_burst);
        if self.set != set {
            *self = Pace { set, rate: Rate::new(set.0, set.1, now) };
        }
        self.rate.as_mut().is_none_or(|rate| rate.take(now))
    }
}
