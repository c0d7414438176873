//! The same state, whoever keeps it: every case runs in memory, on the disk and in a real Redis.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use futures_util::FutureExt as _;

use super::*;
use crate::store::Image;

/// Long enough for any step on any machine; nothing waits for its end.
const PATIENCE: Duration = Duration::from_secs(30);
const WIDE: Bounds = Bounds { keys: 1_000, bytes: 16 << 20 };

/// A Redis of the test's own.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `None`, said aloud, when it is not installed.
    fn start() -> Option<Server> {
        static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
        let port = loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut taken = TAKEN.lock();
            if !taken.contains(&port) {
                taken.push(port);
                break port;
            }
        };
        Server::start_at(port)
    }

    fn start_at(port: u16) -> Option<Server> {
        let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        match Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn() {
            Ok(child) => Some(Server { child, port }),
            Err(error) => {
                eprintln!("SKIPPED: redis-server does not start: {error}; install it to have this test");
                None
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with the guests `one` (of no tenant) and `acme`'s `two`, in a folder.
fn config(folder: &Path, backend: &str, port: u16, more: &str) -> Config {
    let redis =
        if backend == "redis" { format!("redis = {{ url = \"redis://127.0.0.1:{port}\", timeout = \"2s\" }}") } else { String::new() };
    let text = format!(
        r#"
        node = {{ name = "n1", data_dir = "data" }}
        listener = [{{ bind = "127.0.0.1:0" }}]
        kafka = {{ bootstrap_servers = "embedded" }}
        {redis}
        tenant = [{{ id = "acme" }}]
        guest = [
            {{ name = "one", path = "x", grants = ["state"], state = {{ backend = "{backend}" }} }},
            {{ name = "two", path = "x", grants = ["state"], state = {{ backend = "{backend}" }}, tenant = "acme" }},
        ]
        {more}"#
    );
    let (config, problems) = Config::parse(&folder.join("hookgate.toml"), &text);
    assert_eq!(problems, []);
    config
}

/// A store with what is in it, as the process opens them.
fn open(config: &Config, metrics: &Arc<Metrics>) -> (Store, States) {
    let (store, restored) = Store::open(config.store.as_ref().unwrap(), metrics).unwrap();
    let states = States::open(config, Some(store.clone()), restored.states, metrics);
    states.set_redis(config.redis.as_ref()).unwrap();
    (store, states)
}

/// Each keeper with an empty state, and what it stands on.
struct Kept {
    name: &'static str,
    state: Arc<State>,
    _folder: tempfile::TempDir,
    _server: Option<Server>,
}

fn all() -> Vec<Kept> {
    ["memory", "disk", "redis"].into_iter().filter_map(kept).collect()
}

fn kept(name: &'static str) -> Option<Kept> {
    let (folder, server) = (tempfile::tempdir().unwrap(), if name == "redis" { Some(Server::start()?) } else { None });
    let config = config(folder.path(), name, server.as_ref().map_or(1, |server| server.port), "");
    let (_, states) = open(&config, &Metrics::new());
    Some(Kept { name, state: states.of(&config.guests[0]), _folder: folder, _server: server })
}

fn operation(key: &str, verb: Verb) -> Operation {
    Operation { key: key.to_owned(), verb }
}

async fn ask(state: &State, key: &str, verb: Verb, bounds: Bounds) -> Result<Reply, StateError> {
    let began = Instant::now();
    loop {
        let performed = match state.perform(operation(key, verb.clone()), bounds) {
            Performing::Done(performed) => performed,
            Performing::Waiting(waiting) => waiting.await,
        };
        match performed.reply {
            // A Redis that has just been started is given time to come up.
            Err(StateError::Unavailable(why)) => assert!(began.elapsed() < PATIENCE, "{why}"),
            reply => return reply,
        }
    }
}

fn put(value: &[u8]) -> Verb {
    Verb::Put { value: value.to_vec(), ttl_s: None }
}

fn new(value: &[u8], ttl_s: u32) -> Verb {
    Verb::PutIfAbsent { value: value.to_vec(), ttl_s: Some(ttl_s) }
}

fn add(delta: i64) -> Verb {
    Verb::Add { delta, ttl_s: None }
}

fn holds(value: &[u8]) -> Result<Reply, StateError> {
    Ok(Reply::Value(Some(value.to_vec())))
}

const NOTHING: Result<Reply, StateError> = Ok(Reply::Value(None));
const DONE: Result<Reply, StateError> = Ok(Reply::Done);

#[tokio::test]
async fn every_operation_means_the_same_everywhere() {
    let any_bytes: Vec<u8> = (0..=255).collect();
    let (long, too_long) = ("k".repeat(1 << 10), "k".repeat((1 << 10) + 1));
    let (large, too_large) = (vec![7; 1 << 20], vec![7; (1 << 20) + 1]);
    let table = [
        ("a", Verb::Get, NOTHING),
        ("a", Verb::Remove, DONE),
        ("a", put(b"one"), DONE),
        ("a", Verb::Get, holds(b"one")),
        ("a", put(&any_bytes), DONE),
        ("a", Verb::Get, holds(&any_bytes)),
        ("a", new(b"other", 60), Ok(Reply::New(false))),
        ("a", Verb::Get, holds(&any_bytes)),
        ("", new(b"", 60), Ok(Reply::New(true))),
        ("", Verb::Get, holds(b"")),
        ("\0{é}:/\r\n", new(b"\r\n", u32::MAX), Ok(Reply::New(true))),
        ("\0{é}:/\r\n", Verb::Get, holds(b"\r\n")),
        ("a", Verb::Remove, DONE),
        ("a", Verb::Get, NOTHING),
        ("a", new(b"again", 60), Ok(Reply::New(true))),
        ("n", add(5), Ok(Reply::Sum(5))),
        ("n", add(-7), Ok(Reply::Sum(-2))),
        ("n", Verb::Get, holds(&(-2i64).to_le_bytes())),
        ("n", add(i64::MIN), Ok(Reply::Sum(i64::MIN))),
        ("n", add(-1), Ok(Reply::Sum(i64::MIN))),
        ("n", add(i64::MAX), Ok(Reply::Sum(-1))),
        ("n", add(i64::MAX), Ok(Reply::Sum(i64::MAX - 1))),
        ("n", add(i64::MAX), Ok(Reply::Sum(i64::MAX))),
        ("n", put(&0x1_0000_0000i64.to_le_bytes()), DONE),
        ("n", add(-1), Ok(Reply::Sum(0xFFFF_FFFF))),
        ("a", add(1), Err(StateError::NotANumber)),
        ("", add(1), Err(StateError::NotANumber)),
        (&long, put(&large), DONE),
        (&long, Verb::Get, holds(&large)),
        (&too_long, put(b""), Err(StateError::TooLarge)),
        (&too_long, add(1), Err(StateError::TooLarge)),
        (&too_long, Verb::Get, NOTHING),
        (&too_long, Verb::Remove, DONE),
        ("a", put(&too_large), Err(StateError::TooLarge)),
        ("a", new(&too_large, 1), Err(StateError::TooLarge)),
        ("a", Verb::Get, holds(b"again")),
    ];
    for kept in all() {
        for (row, (key, verb, expected)) in table.iter().enumerate() {
            assert_eq!(&ask(&kept.state, key, verb.clone(), WIDE).await, expected, "{}, row {row}", kept.name);
        }
        assert_eq!(kept.state.held().keys, 5, "{}", kept.name);
    }
}

#[tokio::test]
async fn bounds_hold_everywhere() {
    let bounds = Bounds { keys: 2, bytes: 2 * crate::guest::ENTRY_BYTES + 20 };
    let table = [
        ("a", put(&[0; 5]), DONE),
        ("b", put(&[0; 5]), DONE),
        ("c", put(b""), Err(StateError::Quota)),
        ("c", new(b"", 1), Err(StateError::Quota)),
        ("c", add(1), Err(StateError::Quota)),
        ("b", put(&[0; 14]), Err(StateError::Quota)),
        ("b", put(&[1; 13]), DONE),
        ("b", Verb::Get, holds(&[1; 13])),
        ("a", Verb::Remove, DONE),
        ("c", put(&[0; 5]), DONE),
    ];
    for kept in all() {
        for (row, (key, verb, expected)) in table.iter().enumerate() {
            assert_eq!(&ask(&kept.state, key, verb.clone(), bounds).await, expected, "{}, row {row}", kept.name);
        }
        let held = Held { keys: 2, bytes: bounds.bytes as u64 };
        assert_eq!(kept.state.held(), held, "{}", kept.name);
        let none = Bounds { keys: 0, bytes: 0 };
        assert_eq!(ask(&kept.state, "c", put(b""), none).await, Err(StateError::Quota), "{}", kept.name);
        assert_eq!(ask(&kept.state, "c", Verb::Remove, none).await, DONE, "{}", kept.name);
    }
}

/// Long random lives under tight bounds, in step with memory.
#[tokio::test]
async fn random_lives_are_the_same_everywhere() {
    for kept in all() {
        let (mut random, model) = (fastrand::Rng::with_seed(5), State::new());
        let bounds = Bounds { keys: 6, bytes: 1_000 };
        for step in 0..1_500 {
            let key = ["a", "b", "c", "d", "\u{e9}", "", "g", "h"][random.usize(..8)];
            let value_bytes = random.usize(..120);
            let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(value_bytes).collect();
            let ttl_s = [None, Some(600), Some(u32::MAX)][random.usize(..3)];
            let verb = match random.u8(..8) {
                0 => Verb::Get,
                1 | 2 => Verb::Put { value, ttl_s },
                3 | 4 => Verb::PutIfAbsent { value, ttl_s },
                5 => Verb::Put { value: random.i64(..).to_le_bytes().to_vec(), ttl_s },
                6 => Verb::Add { delta: random.i64(..), ttl_s },
                _ => Verb::Remove,
            };
            let expected = ask(&model, key, verb.clone(), bounds).await;
            assert_eq!(ask(&kept.state, key, verb.clone(), bounds).await, expected, "{}, step {step}: {verb:?} {key}", kept.name);
            if expected.is_ok() {
                assert_eq!(kept.state.held(), model.held(), "{}, step {step}: {verb:?} {key}", kept.name);
            }
        }
    }
}

#[tokio::test]
async fn keys_expire_everywhere() {
    let cases = all().into_iter().map(|kept| async move {
        let kept = kept; // with its server
        let (state, name) = (&kept.state, kept.name);
        let bounds = Bounds { keys: 2, ..WIDE };
        let counted = |delta| Verb::Add { delta, ttl_s: Some(4) };
        assert_eq!(ask(state, "n", counted(1), bounds).await, Ok(Reply::Sum(1)), "{name}");
        let began = Instant::now();
        assert_eq!(ask(state, "nonce", new(b"1", 1), bounds).await, Ok(Reply::New(true)), "{name}");
        assert_eq!(ask(state, "nonce", new(b"2", 1), bounds).await, Ok(Reply::New(false)), "{name}");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(ask(state, "nonce", Verb::Get, bounds).await, NOTHING, "{name}");
        assert_eq!(ask(state, "third", new(b"3", 1), bounds).await, Ok(Reply::New(true)), "{name}: what expired makes room");
        assert_eq!(ask(state, "n", counted(1), bounds).await, Ok(Reply::Sum(2)), "{name}");
        tokio::time::sleep(Duration::from_millis(4_200).saturating_sub(began.elapsed())).await;
        assert_eq!(ask(state, "n", counted(1), bounds).await, Ok(Reply::Sum(1)), "{name}: an addition does not prolong");
        assert_eq!(state.held().keys, 1, "{name}: writes sweep");
    });
    futures_util::future::join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_atomic_everywhere() {
    for kept in all() {
        let (state, first) = (Arc::clone(&kept.state), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (state, first) = (Arc::clone(&state), Arc::clone(&first));
                tokio::spawn(async move {
                    for round in 0..50 {
                        let reply = ask(&state, &format!("nonce/{round}"), new(b"", 60), WIDE).await;
                        first.fetch_add(usize::from(reply == Ok(Reply::New(true))), Ordering::Relaxed);
                        ask(&state, "n", add(1), WIDE).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(first.load(Ordering::Relaxed), 50, "{}", kept.name);
        assert_eq!(ask(&state, "n", add(0), WIDE).await, Ok(Reply::Sum(400)), "{}", kept.name);
    }
}

#[tokio::test]
async fn owners_do_not_meet() {
    for backend in ["memory", "disk", "redis"] {
        let Some(server) = Server::start() else { continue };
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), backend, server.port, "");
        let (_, states) = open(&config, &Metrics::new());
        let of_tenant = |tenant: Option<&str>, name: &str| {
            let tenant = tenant.map(|tenant| config::Placed { value: tenant.to_owned(), place: config.guests[0].place().clone() });
            states.of(&config::Guest { tenant, name: name.to_owned(), ..config.guests[0].clone() })
        };
        let owners = [(None, "a"), (Some("a"), "b"), (Some("a/b"), "c"), (Some("a"), "b/c"), (None, "a/b"), (None, "a}:values")];
        for (tenant, name) in owners {
            let reply = ask(&of_tenant(tenant, name), "k", new(name.as_bytes(), 60), WIDE).await;
            assert_eq!(reply, Ok(Reply::New(true)), "{backend} {tenant:?} {name}");
        }
    }
}

fn replied(state: &State, key: &str, verb: Verb) -> Performed {
    match state.perform(operation(key, verb), WIDE) {
        Performing::Done(performed) => performed,
        Performing::Waiting(_) => panic!("the disk is not waited for"),
    }
}

#[tokio::test]
async fn the_disk_gives_back_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "disk", 1, "");
    let metrics = Metrics::new();
    {
        let (store, states) = open(&config, &metrics);
        let (one, two) = (states.of(&config.guests[0]), states.of(&config.guests[1]));
        for (state, key, verb) in [
            (&one, "for ever", put(b"1")),
            (&one, "long", new(b"2", 600)),
            (&one, "short", new(b"3", 1)),
            (&one, "gone", put(b"4")),
            (&one, "gone", Verb::Remove),
            (&one, "n", add(41)),
            (&two, "long", new(b"of acme", 600)),
        ] {
            assert!(replied(state, key, verb).reply.is_ok());
        }
        assert!(Arc::ptr_eq(&one, &states.of(&config.guests[0])), "one image for each");
        let seen = replied(&one, "long", Verb::Get);
        if let Some(waiting) = settled(&store, seen.stamp) {
            waiting.await;
        }
        assert!(settled(&store, seen.stamp).is_none());
        store.close();
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for _ in 0..2 {
        let (store, states) = open(&config, &metrics);
        let (one, two) = (states.of(&config.guests[0]), states.of(&config.guests[1]));
        assert_eq!((one.held().keys, two.held().keys), (3, 1));
        for (state, key, verb, expected) in [
            (&one, "for ever", Verb::Get, holds(b"1")),
            (&one, "long", new(b"x", 1), Ok(Reply::New(false))),
            (&one, "short", Verb::Get, NOTHING),
            (&one, "gone", Verb::Get, NOTHING),
            (&one, "n", add(0), Ok(Reply::Sum(41))),
            (&two, "long", Verb::Get, holds(b"of acme")),
        ] {
            assert_eq!(replied(state, key, verb).reply, expected, "{key}");
        }
        let full = Bounds { keys: 3, bytes: 1 << 20 };
        assert_eq!(ask(&one, "one more", put(b""), full).await, Err(StateError::Quota), "what was restored counts");
        store.close();
    }
    assert_eq!(metrics.store_damaged.get(), 0);
}

fn settled(store: &Store, stamp: Stamp) -> Option<Waiting<'static, ()>> {
    let (store, ticket) = (store.clone(), Ticket(stamp.0));
    (!store.has_committed(ticket)).then(|| -> Waiting<'static, ()> {
        Box::pin(async move { drop(store.commits().wait_for(|committed| *committed >= ticket).await) })
    })
}

/// Also what somebody else wrote; and nothing else is waited for.
#[tokio::test]
async fn a_verdict_waits_for_what_it_rests_on() {
    let (folder, metrics, store) = (tempfile::tempdir().unwrap(), Metrics::new(), Store::detached());
    let config = config(folder.path(), "disk", 1, "");
    let state = States::open(&config, Some(store.clone()), Vec::new(), &metrics).of(&config.guests[0]);
    let stamp = |key: &str, verb| replied(&state, key, verb).stamp;
    let is_settled = |stamp| state.settled(stamp).now_or_never().is_some();
    let mut image = Image::default();
    assert!(is_settled(stamp("nobody's", Verb::Get)), "nothing was written");
    let (written, seen, met) = (stamp("k", put(b"v")), stamp("k", Verb::Get), stamp("k", new(b"w", 1)));
    for stamp in [written, seen, met] {
        assert!(!is_settled(stamp));
    }
    assert!(is_settled(stamp("nobody's", Verb::Get)), "another key rests on nothing new");
    assert!(store.commit_into(&mut image));
    for stamp in [written, seen, met, stamp("k", Verb::Get)] {
        assert!(is_settled(stamp));
    }
    let removed = stamp("k", Verb::Remove);
    assert!(!is_settled(removed) && !is_settled(stamp("k", Verb::Get)));
    assert_eq!(image.restore().states[0].pairs.len(), 1);
    assert!(store.commit_into(&mut image));
    assert!(is_settled(removed));
    assert_eq!(image.restore().states[0].pairs, []);
}

#[tokio::test]
async fn state_of_guests_that_are_gone_stays_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (both, metrics) = (config(folder.path(), "disk", 1, ""), Metrics::new());
    let in_memory = config(folder.path(), "memory", 1, "");
    let forgetting = config(folder.path(), "memory", 1, "store = { forget_state = [\"one\", \"acme/two\", \"nobody\"] }");
    let keys = |config: &Config| {
        let (store, states) = open(config, &metrics);
        let keys = [&config.guests[0], &config.guests[1]].map(|guest| states.of(guest).held().keys);
        store.close();
        keys
    };
    let (store, states) = open(&both, &metrics);
    both.guests.iter().for_each(|guest| drop(replied(&states.of(guest), "k", put(b"v"))));
    store.close();
    assert_eq!([keys(&in_memory), keys(&both)], [[0, 0], [1, 1]]);
    assert_eq!([keys(&forgetting), keys(&both)], [[0, 0], [0, 0]]);
}

#[tokio::test]
async fn a_backend_that_changes_is_looked_at_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, memory) = (config(folder.path(), "disk", 1, ""), config(folder.path(), "memory", 1, ""));
    let (_, states) = open(&disk, &Metrics::new());
    let (on_disk, in_memory) = (&disk.guests[0], &memory.guests[0]);
    assert!(replied(&states.of(on_disk), "k", put(b"v")).reply.is_ok());
    let of_acme = config::Guest { tenant: disk.guests[1].tenant.clone(), ..on_disk.clone() };
    assert_eq!(replied(&states.of(&of_acme), "k", Verb::Get).reply, NOTHING);
    let running = states.of(in_memory);
    assert_eq!(replied(&running, "k", Verb::Get).reply, NOTHING);
    assert!(Arc::ptr_eq(&running, &states.of(in_memory)), "as long as it runs");
    assert_eq!(replied(&states.of(on_disk), "k", Verb::Get).reply, holds(b"v"), "the disk's is where it was");
    let ungranted = config::Guest { grants: vec![], ..on_disk.clone() };
    assert_eq!(replied(&states.of(&ungranted), "k", Verb::Get).reply, NOTHING);
}

/// One attempt, as a guest makes it.
async fn once(state: &State, key: &str, verb: Verb) -> Result<Reply, StateError> {
    match state.perform(operation(key, verb), WIDE) {
        Performing::Done(performed) => performed.reply,
        Performing::Waiting(waiting) => waiting.await.reply,
    }
}

#[tokio::test]
async fn another_redis_is_another_place() {
    let (Some(first), Some(second)) = (Server::start(), Server::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (config(folder.path(), "redis", first.port, ""), config(folder.path(), "redis", second.port, ""));
    let (_, states) = open(&one, &Metrics::new());
    let state = states.of(&one.guests[0]);
    assert_eq!(ask(&state, "k", put(b"v"), WIDE).await, DONE);
    assert!(Arc::ptr_eq(&state, &states.of(&one.guests[0])));
    states.set_redis(other.redis.as_ref()).unwrap();
    assert_eq!(ask(&states.of(&other.guests[0]), "k", Verb::Get, WIDE).await, NOTHING);
    assert_eq!(ask(&state, "k", Verb::Get, WIDE).await, holds(b"v"), "who still has the former goes on");
    states.set_redis(one.redis.as_ref()).unwrap();
    assert_eq!(ask(&states.of(&one.guests[0]), "k", Verb::Get, WIDE).await, holds(b"v"));
}

#[tokio::test]
async fn a_redis_that_is_gone_is_unavailable_and_comes_back_by_itself() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = config(folder.path(), "redis", server.port, "");
    let mut config = text.clone();
    config.redis.as_mut().unwrap().timeout = Duration::from_millis(200);
    let metrics = Metrics::new();
    let (_, states) = open(&config, &metrics);
    let state = states.of(&config.guests[0]);
    assert_eq!(ask(&state, "k", put(b"v"), WIDE).await, DONE);
    assert_eq!(metrics.redis_reachable.get(), 1);
    let port = server.port;
    signal(&server, "STOP");
    let began = Instant::now();
    let error = once(&state, "k", Verb::Get).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Redis at 127.0.0.1:{port} has not answered within 200ms"));
    assert!(began.elapsed() < PATIENCE);
    signal(&server, "CONT");
    assert_eq!(ask(&state, "k", Verb::Get, WIDE).await, holds(b"v"), "it was only slow");
    drop(server);
    for _ in 0..3 {
        assert!(matches!(once(&state, "k", Verb::Get).await, Err(StateError::Unavailable(_))));
    }
    assert_eq!(metrics.redis_reachable.get(), 0);
    let server = Server::start_at(port);
    assert_eq!(ask(&state, "k", Verb::Get, WIDE).await, NOTHING, "another server, without the script");
    assert_eq!(metrics.redis_reachable.get(), 1);
    assert!(metrics.redis_failures.get() >= 4);
    drop(server);
}

#[tokio::test]
async fn a_redis_that_refuses_says_why() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "redis", server.port, "");
    let (_, states) = open(&config, &Metrics::new());
    let state = states.of(&config.guests[0]);
    assert_eq!(ask(&state, "k", put(b"v"), WIDE).await, DONE);
    let limited = Command::new("redis-cli").args(["-p", &server.port.to_string(), "config", "set", "maxmemory", "1"]).output();
    let Ok(limited) = limited else { return eprintln!("SKIPPED: redis-cli does not start; install it to have this test") };
    assert!(limited.status.success(), "{limited:?}");
    let error = once(&state, "k", put(b"w")).await.unwrap_err().to_string();
    assert!(error.contains("refuses") && error.contains("maxmemory"), "{error}");
    assert_eq!(once(&state, "k", Verb::Get).await, holds(b"v"), "nothing was evicted, and reading goes on");
}

fn signal(server: &Server, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &server.child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_redis_that_cannot_be_named_is_a_problem() {
    for url in ["nonsense", "http://127.0.0.1", "redis://127.0.0.1:port"] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), "redis", 1, "");
        config.redis.as_mut().unwrap().url.value = url.to_owned();
        let problem = States::in_memory(&Metrics::new()).set_redis(config.redis.as_ref()).unwrap_err();
        assert!(problem.message.contains("is no address of a Redis"), "{problem}");
    }
}

/// The figures of docs/state.md: `cargo test --lib registry::state::tests::figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and takes its time"]
async fn figures() {
    const ROUNDS: usize = 2_000;
    for kept in all() {
        ask(&kept.state, "n", add(1), WIDE).await.unwrap();
        for tasks in [1, 16, 128] {
            let began = Instant::now();
            let working: Vec<_> = (0..tasks)
                .map(|task| {
                    let state = Arc::clone(&kept.state);
                    tokio::spawn(async move {
                        let bounds = Bounds { keys: 1 << 30, bytes: 1 << 40 };
                        for round in 0..ROUNDS / tasks.min(10) {
                            let performing =
                                state.perform(operation(&format!("nonce/{tasks}/{task}/{round}"), new(b"sixteen bytes of", 120)), bounds);
                            let performed = match performing {
                                Performing::Done(performed) => performed,
                                Performing::Waiting(waiting) => waiting.await,
                            };
                            assert_eq!(performed.reply, Ok(Reply::New(true)));
                            state.settled(performed.stamp).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in working {
                task.await.unwrap();
            }
            let (took, operations) = (began.elapsed(), tasks * (ROUNDS / tasks.min(10)));
            let each = took * tasks as u32 / operations as u32;
            println!("{}: {tasks} at once: {:.0}/s, {each:?} each", kept.name, operations as f64 / took.as_secs_f64());
        }
    }
}
