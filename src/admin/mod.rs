//! The interface for operators: HTTP/1.1 with JSON, on this machine only.
//!
//! It knows nothing of the broker: each request becomes a [`Command`] with a place for its answer, and whoever holds the other end of the
//! channel answers. So it is bounded by that channel: when it is full, requests wait, and give up after [`PATIENCE`].
//!
//! Absent: authentication, and therefore any door but the loopback interface. A request whose `Host` names anything else is refused, so that
//! a web page in an operator's browser cannot reach it under a name of its own.

mod api;
mod wire;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use self::wire::{
    Beside, CallFigures, Client, Done, Figures, Guest, Page, Problem, RefusedVersion, Retained, Session, SessionDetail, Subscription,
    Version,
};
use crate::metrics::Metrics;

/// Commands that wait to be answered, at most.
const QUEUE: usize = 64;
/// How long a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a command's answer goes.
pub type Reply<T> = oneshot::Sender<T>;

/// Which part of a list of clients or sessions is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only what comes after this client id.
    pub after: String,
    /// At most so many.
    pub limit: usize,
    /// Only client ids that begin with this.
    pub prefix: String,
    /// Only those of this user.
    pub username: Option<String>,
}

/// What an operator asks for.
#[derive(Debug)]
pub enum Command {
    /// The clients that are in.
    Clients(Query, Reply<Page<Client>>),
    /// One of them.
    Client(String, Reply<Option<Client>>),
    /// End its connection, and its session too if asked for; whether it was in.
    Kick {
        /// Whose.
        client_id: String,
        /// The session as well.
        end_session: bool,
        /// Whether it was in.
        reply: Reply<bool>,
    },
    /// The sessions, also those that wait for their client.
    Sessions(Query, Reply<Page<Session>>),
    /// One of them, with its subscriptions.
    Session(String, Reply<Option<SessionDetail>>),
    /// End it, and its connection if it has one; whether it was there.
    EndSession(String, Reply<bool>),
    /// The retained messages under a filter.
    Retained {
        /// An MQTT topic filter; valid.
        filter: String,
        /// Only what comes after this topic.
        after: String,
        /// At most so many.
        limit: usize,
        /// The messages by topic.
        reply: Reply<Page<Retained>>,
    },
    /// Forget the retained message of a topic; whether there was one.
    ForgetRetained(String, Reply<bool>),
    /// The guests with their versions, by name.
    Guests(Reply<Vec<Guest>>),
    /// Change which of a guest's versions is in service; the guest as it is then.
    ChangeGuest {
        /// Which guest.
        name: String,
        /// What is to happen.
        change: GuestChange,
        /// The guest as it is then, or why not.
        reply: Reply<Result<Guest, Denied>>,
    },
}

/// What can happen to a guest's versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestChange {
    /// A former version comes back: the one with this digest or its beginning, else the one before.
    RollBack(Option<String>),
    /// The new version beside the one in service takes its place.
    Promote,
    /// The new version beside the one in service goes.
    Discard,
    /// Its file is looked at again.
    Reload,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Whether there is no such guest.
    pub unknown: bool,
    /// What is wrong, and what to do next.
    pub problem: Problem,
}

/// The interface could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the admin interface cannot listen on {address}; free the address or change `bind` of [admin]")]
pub struct AdminError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The open interface; dropping it closes it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    draining: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Opens it, and gives the end where its commands come out. Needs a running tokio runtime.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<(Self, mpsc::Receiver<Command>), AdminError> {
        let fault = |source| AdminError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let (commands, asked) = mpsc::channel(QUEUE);
        let draining = Arc::new(AtomicBool::new(false));
        let router = api::router(api::Desk { commands, metrics, draining: Arc::clone(&draining) });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin interface has ended");
            }
        });
        tracing::info!(%address, "listening for operators");
        Ok((Admin { address, draining, task }, asked))
    }

    /// Where it listens; port 0 of the configuration is resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/ready` says no.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}
