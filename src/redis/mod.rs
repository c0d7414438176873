//! Guests' state that several processes share, in Redis. The only place that names the crate.
//!
//! Each operation is one script, so that it is atomic and a single round trip; all keys of one guest stand in one hash slot. One connection
//! carries the operations of all guests at once; it comes back by itself.
//!
//! Invariants: an operation ends within the configured time, whatever Redis does; one that failed may have happened. Absent: Redis Cluster
//! (all keys of one guest are on one node of it, but nobody follows its redirections), and retries: whoever asked decides about those.

mod advice;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    Client, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisResult, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};

use crate::{config, metrics::Metrics};

/// What Redis runs.
const OPERATION: &str = include_str!("operation.lua");
/// Between attempts to connect, at most.
const RECONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Operations that may wait for their turn on the connection.
const MAX_WAITING: usize = 4_096;
/// How long the network may leave bytes without a word before the connection counts as lost.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The `url` names no Redis.
    #[error("`url` is no address of a Redis ({0}); write redis://host:6379 or rediss://user:password@host:6380/0")]
    Url(String),
    /// No answer in time.
    #[error("Redis at {address} has not answered within {}", humantime::format_duration(*.within))]
    Silent {
        /// Host and port.
        address: String,
        /// `[redis] timeout`
        within: Duration,
    },
    /// It answered with an error: out of memory, read-only, no right to do this.
    #[error("Redis at {address} refuses: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// Its words.
        reason: String,
    },
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Read it.
    Get,
    /// Write it, for so many seconds.
    Put(&'a [u8], Option<u32>),
    /// Write it unless it is there, for so many seconds.
    PutIfAbsent(&'a [u8], Option<u32>),
    /// Add to it; a new one is kept for so many seconds.
    Add(i64, Option<u32>),
    /// Forget it.
    Remove,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// What the key holds.
    Value(Option<Vec<u8>>),
    /// It is done.
    Done,
    /// The key is there already; nothing was written.
    There,
    /// The sum.
    Sum(i64),
    /// There is no room; nothing was written.
    Full,
    /// What the key holds is no number; nothing was written.
    NotANumber,
}

/// A Redis; cheap to clone.
#[derive(Clone, Debug)]
pub struct Redis {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: ConnectionManager,
    address: String,
    prefix: String,
    within: Duration,
    script: Script,
    reachable: AtomicBool,
    metrics: Arc<Metrics>,
    /// Where the connection lives; those who ask may run elsewhere, where there is no network.
    runtime: Handle,
    /// Connects, and goes on trying.
    connecting: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

impl Redis {
    /// Whether the settings can be used.
    ///
    /// # Errors
    /// [`RedisError::Url`]
    pub fn check(config: &config::Redis) -> Result<(), RedisError> {
        client(config).map(drop)
    }

    /// Begins to connect and does not wait for it. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Url`]
    pub fn open(config: &config::Redis, metrics: &Arc<Metrics>) -> Result<Self, RedisError> {
        let client = client(config)?;
        let address = client.get_connection_info().addr().to_string();
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.timeout.max(RECONNECT_WITHIN)))
            .set_response_timeout(None) // each operation has its own
            .set_min_delay(RECONNECT_WITHIN / 10)
            .set_max_delay(RECONNECT_WITHIN)
            .set_number_of_retries(usize::MAX)
            .set_pipeline_buffer_size(MAX_WAITING);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings).map_err(|error| url(&error))?;
        let connecting = tokio::spawn(advice::connect(client, connection.clone(), address.clone()));
        let inner = Inner {
            connection,
            address,
            prefix: config.prefix.clone(),
            within: config.timeout,
            script: Script::new(OPERATION),
            reachable: AtomicBool::new(true),
            metrics: Arc::clone(metrics),
            runtime: Handle::current(),
            connecting,
        };
        Ok(Redis { inner: Arc::new(inner) })
    }

    /// The state of one guest, of one tenant or of none.
    pub fn shared(&self, tenant: Option<&str>, guest: &str) -> Shared {
        // The braces make it one hash slot; names cannot close them, nor reach over into another's.
        let tenant = tenant.map(plain).unwrap_or_default();
        let slot = format!("{{{}:{tenant}/{}}}", plain(&self.inner.prefix), plain(guest));
        let keys = ["values", "expiries", "bytes"].map(|part| format!("{slot}:{part}"));
        Shared { redis: self.clone(), keys, held_keys: AtomicU64::new(0), held_bytes: AtomicU64::new(0) }
    }
}

impl Inner {
    /// One round trip, within its time.
    async fn ask<T: FromRedisValue>(&self, asking: impl Future<Output = RedisResult<T>>) -> Result<T, RedisError> {
        let began = Instant::now();
        let mut asking = pin!(async { timeout(self.within, asking).await });
        let answered = poll_fn(|cx| {
            let _here = self.runtime.enter();
            asking.as_mut().poll(cx)
        });
        let answered = answered.await;
        self.metrics.redis_operations.inc();
        self.metrics.redis_nanoseconds.inc_by(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let address = self.address.clone();
        let answer = match answered {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
                Err(RedisError::Refused { address, reason: error.to_string() })
            }
            Ok(Err(error)) => {
                tracing::debug!(address, %error, "Redis cannot be asked");
                Err(RedisError::Silent { address, within: self.within })
            }
            Err(_elapsed) => Err(RedisError::Silent { address, within: self.within }),
        };
        self.note(answer.as_ref().err());
        answer
    }

    /// Counts a failure; says once when Redis is gone, and once when it is back.
    fn note(&self, failed: Option<&RedisError>) {
        let reachable = failed.is_none();
        if !reachable {
            self.metrics.redis_failures.inc();
        }
        self.metrics.redis_reachable.set(reachable.into());
        if self.reachable.swap(reachable, Ordering::Relaxed) != reachable {
            match failed {
                Some(error) => {
                    tracing::error!(%error, "state in Redis is unavailable; guests are told so, and their routes' on_failure decides")
                }
                None => tracing::info!(address = self.address, "state in Redis is available again"),
            }
        }
    }
}

/// The keys and values of one guest.
#[derive(Debug)]
pub struct Shared {
    redis: Redis,
    /// Of the script: values, expiries, bytes.
    keys: [String; 3],
    held_keys: AtomicU64,
    held_bytes: AtomicU64,
}

impl Shared {
    /// Carries out one operation, in which at most so many keys and bytes may be held.
    ///
    /// # Errors
    /// There is no answer, or an error; it may have happened nevertheless.
    pub async fn ask(&self, key: &str, request: Request<'_>, most_keys: usize, most_bytes: usize) -> Result<Response, RedisError> {
        let Inner { script, connection, .. } = &*self.redis.inner;
        let summand;
        let (verb, given, ttl_s) = match request {
            Request::Get => ("get", &[][..], None),
            Request::Put(value, ttl_s) => ("put", value, ttl_s),
            Request::PutIfAbsent(value, ttl_s) => ("put-if-absent", value, ttl_s),
            Request::Add(delta, ttl_s) => {
                summand = delta.to_le_bytes();
                ("add", &summand[..], ttl_s)
            }
            Request::Remove => ("remove", &[][..], None),
        };
        let ttl_s = ttl_s.map(|ttl_s| ttl_s.to_string()).unwrap_or_default();
        let mut invocation = script.prepare_invoke();
        invocation.key(&self.keys).arg(verb).arg(key).arg(given).arg(ttl_s).arg(most_keys).arg(most_bytes);
        let mut connection = connection.clone();
        let asking = invocation.invoke_async::<(i64, Option<Vec<u8>>, u64, u64)>(&mut connection);
        let (code, payload, keys, bytes) = self.redis.inner.ask(asking).await?;
        self.held_keys.store(keys, Ordering::Relaxed);
        self.held_bytes.store(bytes, Ordering::Relaxed);
        self.response(request, code, payload)
    }

    fn response(&self, request: Request<'_>, code: i64, payload: Option<Vec<u8>>) -> Result<Response, RedisError> {
        let sum = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok().map(i64::from_le_bytes);
        match (code, request, payload) {
            (0, Request::Get, value) => Ok(Response::Value(value)),
            (0, Request::Add(..), Some(bytes)) if bytes.len() == 8 => Ok(Response::Sum(sum(&bytes).unwrap_or_default())),
            (0, Request::Put(..) | Request::PutIfAbsent(..) | Request::Remove, _) => Ok(Response::Done),
            (1, ..) => Ok(Response::There),
            (2, ..) => Ok(Response::Full),
            (3, ..) => Ok(Response::NotANumber),
            (code, ..) => {
                let (address, reason) = (self.redis.inner.address.clone(), format!("it answered {code}, which means nothing here"));
                Err(RedisError::Refused { address, reason })
            }
        }
    }

    /// Keys and bytes held, as of the last answer.
    pub fn held(&self) -> (u64, u64) {
        (self.held_keys.load(Ordering::Relaxed), self.held_bytes.load(Ordering::Relaxed))
    }
}

/// A part of a name that stands between others.
fn plain(name: &str) -> String {
    let escape = |c: char| match c {
        '%' | '/' | ':' | '{' | '}' => format!("%{:02X}", c as u32),
        c => c.to_string(),
    };
    name.chars().map(escape).collect()
}

fn client(config: &config::Redis) -> Result<Client, RedisError> {
    let info: ConnectionInfo = config.url.value.as_str().into_connection_info().map_err(|error| url(&error))?;
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(MAX_SILENCE.max(2 * config.timeout));
    Client::open(info.set_tcp_settings(settings)).map_err(|error| url(&error))
}

fn url(error: &redis::RedisError) -> RedisError {
    RedisError::Url(error.to_string())
}
