//! `hookgate demo`: the main job with everything embedded and simulated locks, and the verifier swapped half-way.

mod board;
mod devices;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ring::hmac;
use tokio::{signal, sync::watch, task::JoinSet};

use self::{
    board::{Board, Colour, say},
    devices::LOCKS,
    summary::{Summary, is_complete},
};
use super::Exit;
use crate::{
    bridge::{Bridge, StartError},
    config::Config,
    kafka::Reader,
};

/// The set-up is the smart-lock example itself, on free ports.
const EXAMPLE: &str = include_str!("../../../examples/smart-lock/hookgate.toml");
/// Where the example's guests are, seen from its folder.
const EXAMPLE_GUESTS: &str = "../../guests/target/wasm32-wasip2/release/";
/// The address that the example binds.
const EXAMPLE_BIND: &str = "127.0.0.1:1883";
const VERIFIER: &str = "lock_command_verifier.wasm";
const GUESTS: &[&str] = &[VERIFIER, "low_battery.wasm"];
/// How long the end waits for Kafka to hold what was acknowledged.
const PATIENCE: Duration = Duration::from_secs(15);
/// When the verifier is swapped if the demo runs until Ctrl-C.
const FIRST_SWAP: Duration = Duration::from_secs(10);

/// Arguments of `hookgate demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long it runs, for example 20s or 2m; until Ctrl-C when not given.
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    length: Option<Duration>,
    /// Where the sample guests were built (`cargo xtask guests`).
    #[arg(long, value_name = "FOLDER", default_value = "guests/target/wasm32-wasip2/release")]
    guests: PathBuf,
    /// End with a summary as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    let folder = tempfile::tempdir().context("a folder for the demo")?;
    let file = set_up(&args.guests, folder.path())?;
    let config = Config::load(&file).map_err(Exit::Problems)?;
    let key = config.keys.first().map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key.bytes)).context("the example has a key")?;
    let topics = config.routes.iter().filter_map(|route| Some(route.record.as_ref()?.constant_topic()?.to_owned())).collect();
    let bridge = Bridge::start(config).await.map_err(|error| match error {
        StartError::Problems(problems) => Exit::Problems(problems),
        StartError::Failed(error) => Exit::Failed(error),
    })?;
    let kafka = bridge.embedded_kafka().context("the demo's Kafka is embedded")?;
    let address = bridge.addresses().first().map(|(_, address)| *address).context("the demo has a listener")?;
    say("Hookgate demo: smart locks, a verifier guest, Kafka; everything inside this process", Colour::Bold);
    say(&format!("  MQTT   {address}      mosquitto_sub -V 5 -q 1 -p {} -t 'devices/#' -v", address.port()), Colour::Plain);
    say(&format!("  Kafka  {kafka}      kcat -b {kafka} -t message_audit -C", kafka = kafka), Colour::Plain);
    say(&format!("  Guests {}\n", folder.path().display()), Colour::Plain);

    let board = Arc::new(Board::default());
    let reading = read_kafka(kafka, topics, Arc::clone(&board));
    let (stop, stopped) = watch::channel(false);
    let mut fleet = JoinSet::new();
    for lock in LOCKS {
        fleet.spawn(devices::lock(lock, address, Arc::clone(&board), stopped.clone()));
    }
    fleet.spawn(devices::app(address, key, Arc::clone(&board), stopped));

    let swaps = play(&bridge, &file, folder.path(), args.length).await?;
    say("\nstopping: the fleet waits for its last acknowledgements", Colour::Bold);
    let _ = stop.send(true);
    if tokio::time::timeout(PATIENCE, async { while fleet.join_next().await.is_some() {} }).await.is_err() {
        say("some devices still wait for an acknowledgement", Colour::Red);
    }
    let deadline = Instant::now() + PATIENCE;
    while !board.read(is_complete) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reading.stop();
    let summary = board.read(|notes| Summary::new(notes, swaps));
    summary.print();
    if args.json {
        println!("{}", serde_json::to_string(&summary).context("writing the summary")?);
    }
    bridge.drain().await;
    if summary.ok { Ok(()) } else { Err(Exit::Failed(anyhow::anyhow!("a promise was broken"))) }
}

/// Writes the example into `folder` with its guests beside it.
fn set_up(guests: &Path, folder: &Path) -> Result<PathBuf, Exit> {
    for guest in GUESTS {
        let from = guests.join(guest);
        if let Err(error) = fs::copy(&from, folder.join(guest)) {
            return Err(Exit::Usage(format!(
                "{}: {error}\n    help: build the guests with `cargo xtask guests`, or name their folder with --guests",
                from.display()
            )));
        }
    }
    let text = EXAMPLE.replace(EXAMPLE_GUESTS, "").replace(EXAMPLE_BIND, "127.0.0.1:0");
    let file = folder.join("hookgate.toml");
    fs::write(&file, text).context("writing the demo's configuration")?;
    Ok(file)
}

/// Lets the fleet play until the end, swapping the verifier half-way; returns how many swaps came into service.
async fn play(bridge: &Bridge, file: &Path, folder: &Path, length: Option<Duration>) -> anyhow::Result<usize> {
    let started = Instant::now();
    let half = length.map_or(FIRST_SWAP, |length| length / 2);
    let swaps = || bridge.metrics().guest_swaps.get_or_create(&"lock-command-verifier".into()).get() as usize;
    let before = swaps();
    let follow = bridge.follow(file);
    tokio::pin!(follow);
    let (mut swapped, mut told) = (false, false);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = signal::ctrl_c() => break,
            () = &mut follow => {}
            _ = tick.tick() => {}
        }
        if length.is_some_and(|length| started.elapsed() >= length) {
            break;
        }
        if !swapped && started.elapsed() >= half {
            swapped = true;
            say("\n≈≈≈ a new version of the verifier replaces the file, while commands are on their way ≈≈≈", Colour::Bold);
            replace_verifier(folder)?;
        }
        if swapped && !told && swaps() > before {
            told = true;
            say("≈≈≈ the new version was compiled, tried and swapped in ≈≈≈\n", Colour::Bold);
        }
    }
    Ok(swaps() - before)
}

/// The same logic as a new version: a custom section changes the component's digest and nothing else.
fn replace_verifier(folder: &Path) -> anyhow::Result<()> {
    let mut component = fs::read(folder.join(VERIFIER)).context("reading the verifier")?;
    let name = b"second-version";
    component.extend([0, name.len() as u8 + 1, name.len() as u8]);
    component.extend(name);
    let beside = folder.join("new.wasm");
    fs::write(&beside, component).and_then(|()| fs::rename(&beside, folder.join(VERIFIER))).context("replacing the verifier")
}

/// A thread that reads every topic of the example from the beginning.
struct Reading {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Reading {
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

fn read_kafka(bootstrap: String, topics: Vec<String>, board: Arc<Board>) -> Reading {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let reader = match Reader::open(&bootstrap, &topics, PATIENCE) {
            Ok(reader) => reader,
            Err(error) => return say(&format!("{error}"), Colour::Red),
        };
        while !stopping.load(Ordering::Relaxed) {
            match reader.next(Duration::from_millis(100)) {
                Ok(Some(record)) => board.stored(&record),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "reading back"),
            }
        }
    });
    Reading { stop, thread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_still_says_what_the_demo_replaces() {
        for part in [EXAMPLE_BIND, EXAMPLE_GUESTS, VERIFIER, "name = \"lock-command-verifier\""] {
            assert!(EXAMPLE.contains(part), "examples/smart-lock/hookgate.toml lacks {part}");
        }
    }
}
