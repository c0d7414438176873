//! A door: what devices find behind it, who is in, and what is known of one that arrives.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::sync::mpsc;

use super::tls::ServerTls;
use crate::{
    config::{Config, DoorProtocol, Listener, Mqtt, Problem},
    event::Text,
    metrics::Metrics,
};

/// Connections over the limit that are told so, at one time; those beyond are just closed.
const SPARE_SEATS: usize = 64;

/// What devices find behind a door; replaced as a whole.
#[derive(Debug)]
pub(in crate::source::mqtt) struct Setup {
    pub(super) listener: Listener,
    pub(super) tls: Option<ServerTls>,
}

impl Setup {
    /// Reads what a listener needs: its certificates.
    ///
    /// # Errors
    /// What is wrong with them, and where they are named.
    pub(super) fn load(listener: &Listener) -> Result<Self, Problem> {
        let tls = listener.tls.as_ref().map(|tls| ServerTls::load(tls).map_err(|error| error.problem(&listener.name, tls)));
        Ok(Setup { listener: listener.clone(), tls: tls.transpose()? })
    }

    /// The setups of all listeners, in their order.
    ///
    /// # Errors
    /// Every problem.
    pub(in crate::source::mqtt) fn load_all(config: &Config) -> Result<Vec<Self>, Vec<Problem>> {
        let (mut setups, mut problems) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            match Setup::load(listener) {
                Ok(setup) => setups.push(setup),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(setups) } else { Err(problems) }
    }

    /// The listener's name, and where it is to listen.
    pub(in crate::source::mqtt) fn place(&self) -> (&String, SocketAddr) {
        (&self.listener.name, self.listener.bind.value)
    }

    /// Says when its certificate is about to end.
    pub(super) fn warn_of_expiry(&self) {
        if let Some(tls) = &self.tls {
            tls.warn_of_expiry(&self.listener.name);
        }
    }
}

/// A listener in service.
#[derive(Debug)]
pub(in crate::source::mqtt) struct Door {
    name: String,
    protocol: DoorProtocol,
    setup: ArcSwap<Setup>,
    seated: AtomicUsize,
    spare: AtomicUsize,
    connections: Gauge,
    certificate_ends: Gauge,
    /// Counts how often reading from one of its clients paused because the client was too fast.
    pub(in crate::source::mqtt) reads_paused: Counter,
}

impl Door {
    /// A door with nobody in.
    pub(in crate::source::mqtt) fn new(setup: Setup, metrics: &Metrics) -> Arc<Self> {
        let name = setup.listener.name.clone();
        let label = name.as_str().into();
        let door = Door {
            protocol: setup.listener.protocol,
            seated: AtomicUsize::new(0),
            spare: AtomicUsize::new(0),
            connections: metrics.listener_connections.get_or_create(&label).clone(),
            certificate_ends: if setup.tls.is_some() {
                metrics.listener_certificate_ends.get_or_create(&label).clone()
            } else {
                Gauge::default()
            },
            reads_paused: metrics.reads_paused.get_or_create(&label).clone(),
            setup: ArcSwap::from_pointee(setup),
            name,
        };
        door.announce();
        Arc::new(door)
    }

    pub(in crate::source::mqtt) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn protocol(&self) -> DoorProtocol {
        self.protocol
    }

    /// What those who arrive now find.
    pub(super) fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Takes another setup into service for those who arrive from now on.
    pub(in crate::source::mqtt) fn install(&self, setup: Setup) {
        self.setup.store(Arc::new(setup));
        self.announce();
    }

    fn announce(&self) {
        let setup = self.setup();
        setup.warn_of_expiry();
        if let Some(tls) = &setup.tls {
            self.certificate_ends.set(tls.ends_s());
        }
    }

    /// Reads its certificates again if one of the `changed` files is among them; `None`: none is.
    ///
    /// # Errors
    /// They cannot be used; the old ones go on.
    pub(in crate::source::mqtt) fn refresh(&self, changed: &[std::path::PathBuf]) -> Option<Result<(), Problem>> {
        let listener = &self.setup().listener;
        let mut files = listener.tls.as_ref()?.files();
        files.find(|file| changed.iter().any(|changed| changed == file))?;
        Some(Setup::load(listener).map(|setup| self.install(setup)))
    }

    /// A seat for a connection: a spare one when all are taken, or none at all. Called by the accept loop only.
    pub(super) fn seat(self: &Arc<Self>, setup: &Setup, alive: &mpsc::Sender<()>) -> Option<Seat> {
        let is_spare = self.seated.load(Ordering::Relaxed) >= setup.listener.max_connections;
        if is_spare && self.spare.load(Ordering::Relaxed) >= SPARE_SEATS {
            return None;
        }
        let seat = Seat { door: Arc::clone(self), is_spare, _alive: alive.clone() };
        seat.count().fetch_add(1, Ordering::Relaxed);
        self.connections.inc();
        Some(seat)
    }
}

/// A place behind a door; given back when it is dropped.
#[derive(Debug)]
pub(in crate::source::mqtt) struct Seat {
    door: Arc<Door>,
    is_spare: bool,
    _alive: mpsc::Sender<()>,
}

impl Seat {
    /// Its connection is one too many and is to be told so.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    fn count(&self) -> &AtomicUsize {
        if self.is_spare { &self.door.spare } else { &self.door.seated }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
        self.door.connections.dec();
    }
}

/// A device that has come through a door and is about to say CONNECT.
#[derive(Debug)]
pub(in crate::source::mqtt) struct Arrival {
    /// Its own address, also from behind a proxy.
    pub(in crate::source::mqtt) peer: SocketAddr,
    pub(in crate::source::mqtt) door: Arc<Door>,
    /// What holds for it.
    pub(in crate::source::mqtt) limits: Arc<Mqtt>,
    /// When CONNECT must be there.
    pub(in crate::source::mqtt) deadline: Instant,
    /// The name in its verified certificate.
    pub(in crate::source::mqtt) certificate_name: Option<Text>,
    /// What counts instead of CONNECT's user name.
    pub(in crate::source::mqtt) username: Option<Text>,
    /// Held until everything that the connection brought is finished.
    pub(super) seat: Seat,
}

impl Arrival {
    /// All seats are taken: it may only be told so.
    pub(in crate::source::mqtt) fn is_one_too_many(&self) -> bool {
        self.seat.is_spare
    }
}
