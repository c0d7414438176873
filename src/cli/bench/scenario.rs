//! What is measured: a configuration per scenario, with its guest beside it in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{command, run::Run, versions::Kind};
use crate::cli::Exit;

/// The guest's name in the configuration, and in the metrics.
pub(super) const GUEST: &str = "measured";
/// Longer than any run, so that nothing becomes stale in a queue.
const MAX_AGE_S: u32 = 3_600;
/// How new versions come into service in `swaps`: a fifth of the clients first, so that each has some; a message that a bad version
/// cannot judge is asked about again until the version before is back.
const CAREFUL: &str = "canary = { share = 0.2, for = \"100ms\", min_calls = 20, max_failure_ratio = 0.02 }\n";
const AGAIN: &str = "on_failure = { retry = 10, backoff = \"5ms\", then = \"deny\" }\n";
/// What the mode of the guest `hostile` stands behind in its file, and how long both are.
const MODE: &[u8] = b"hookgate-hostile-mode=";
const MODE_BYTES: usize = 48;

/// A set-up to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// Every message is judged by the verifier of the smart locks: HMAC, age, nonce
    Guest,
    /// No guest is asked
    NoGuest,
    /// A guest that does nothing: what the crossing alone costs
    Identity,
    /// librdkafka's own producer and nothing else: the same records, at the rate of `guest` if that was measured before
    Floor,
    /// The verifier's file is replaced again and again, by good versions and bad ones, after a time without
    Swaps,
    /// A tenant beside a hostile guest of another: its p99 alone and beside each, again and again
    Neighbour,
    /// The broker alone, beside mosquitto: a pool of publishers, one subscriber
    FanIn,
    /// The broker alone, beside mosquitto: one publisher, 1 000 subscribers of one topic
    FanOut,
    /// The broker alone: what a publish costs with 1 000, 10 000 and 100 000 filters subscribed
    Filters,
    /// The broker alone: thousands of clients, each subscribed to a topic of its own
    Fleet,
    /// All of them
    All,
}

impl Scenario {
    /// Every one that produces to Kafka and is asked for, once.
    pub(super) fn resolve(asked: &[Scenario]) -> Vec<Scenario> {
        Self::asked(&[Scenario::Guest, Scenario::NoGuest, Scenario::Identity, Scenario::Swaps], asked)
    }

    /// Every one of the broker alone that is asked for, once.
    pub(super) fn resolve_broker(asked: &[Scenario]) -> Vec<Scenario> {
        Self::asked(&[Scenario::FanIn, Scenario::FanOut, Scenario::Filters, Scenario::Fleet], asked)
    }

    /// Whether librdkafka's producer alone is asked for.
    pub(super) fn resolve_floor(asked: &[Scenario]) -> bool {
        !Self::asked(&[Scenario::Floor], asked).is_empty()
    }

    /// Whether the neighbour of hostile guests is asked for.
    pub(super) fn resolve_neighbour(asked: &[Scenario]) -> bool {
        !Self::asked(&[Scenario::Neighbour], asked).is_empty()
    }

    fn asked(each: &[Scenario], asked: &[Scenario]) -> Vec<Scenario> {
        each.iter().copied().filter(|scenario| asked.contains(scenario) || asked.contains(&Scenario::All)).collect()
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scenario::Guest => "guest",
            Scenario::NoGuest => "no-guest",
            Scenario::Identity => "identity",
            Scenario::Floor => "floor",
            Scenario::Swaps => "swaps",
            Scenario::Neighbour => "neighbour",
            Scenario::FanIn => "fan-in",
            Scenario::FanOut => "fan-out",
            Scenario::Filters => "filters",
            Scenario::Fleet => "fleet",
            Scenario::All => "all",
        }
    }

    fn guest_file(self) -> Option<&'static str> {
        match self {
            Scenario::Guest | Scenario::Swaps => Some("lock_command_verifier.wasm"),
            Scenario::Identity => Some("identity.wasm"),
            _ => None,
        }
    }
}

/// A scenario's files.
pub(super) struct SetUp {
    folder: TempDir,
    guest: Option<PathBuf>,
    /// The guest's component as it was built.
    component: Vec<u8>,
    /// A guest that misbehaves as told, for bad versions.
    hostile: Vec<u8>,
    versions: usize,
}

impl SetUp {
    /// Writes them.
    ///
    /// # Errors
    /// The guest was not built, or the disk says no.
    pub(super) fn new(run: &Run<'_>) -> Result<Self, Exit> {
        let folder = tempfile::tempdir().context("a folder for the benchmark")?;
        let (mut guest, mut component, mut hostile) = (None, Vec::new(), Vec::new());
        if let Some(file) = run.scenario.guest_file() {
            component = built(run.guests, file)?;
            let path = folder.path().join("guest.wasm");
            fs::write(&path, &component).context("copying the guest")?;
            guest = Some(path);
        }
        if run.scenario == Scenario::Swaps {
            hostile = built(run.guests, "hostile.wasm")?;
        }
        let set_up = SetUp { folder, guest, component, hostile, versions: 0 };
        fs::write(set_up.config(), text(run)).context("writing the configuration")?;
        Ok(set_up)
    }

    /// The configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("hookgate.toml")
    }

    /// Replaces the guest's file, by rename, with a new version; a custom section makes its digest another.
    ///
    /// # Errors
    /// The disk says no, or the hostile guest is not the one that is known here.
    pub(super) fn swap(&mut self, kind: Kind) -> anyhow::Result<()> {
        let Some(guest) = &self.guest else { return Ok(()) };
        self.versions += 1;
        let name = format!("version-{}", self.versions);
        let mut version = match kind {
            Kind::Good | Kind::Broken => self.component.clone(),
            Kind::Trapping => told(&self.hostile, "trap")?,
            Kind::Faulting => told(&self.hostile, "fault-nth")?,
        };
        version.extend([0, name.len() as u8 + 1, name.len() as u8]); // id, size, length of the name; the rest is empty
        version.extend(name.as_bytes());
        if kind == Kind::Broken {
            version.truncate(version.len() / 2 + self.versions);
        }
        let beside = self.folder.path().join("next.wasm");
        fs::write(&beside, version).and_then(|()| fs::rename(&beside, guest)).context("replacing the guest")
    }
}

/// A guest's component.
///
/// # Errors
/// It was not built.
pub(super) fn built(folder: &Path, file: &str) -> Result<Vec<u8>, Exit> {
    let path = folder.join(file);
    fs::read(&path).map_err(|error| {
        let help = "build the guests with `cargo xtask guests`, or name their folder with --guests";
        Exit::Usage(format!("{}: {error}\n    help: {help}", path.display()))
    })
}

/// The guest `hostile` with another mode written into its file.
fn told(hostile: &[u8], mode: &str) -> anyhow::Result<Vec<u8>> {
    let at = hostile.windows(MODE.len()).position(|bytes| bytes == MODE).context("the guest hostile has no place for its mode")?;
    let mut told = hostile.to_vec();
    let place = told.get_mut(at + MODE.len()..at + MODE_BYTES).context("the guest hostile is cut off")?;
    place.fill(b' ');
    place.iter_mut().zip(mode.bytes()).for_each(|(place, byte)| *place = byte);
    Ok(told)
}

fn text(run: &Run<'_>) -> String {
    let mut text = head(run.shape.in_flight, run.kafka, run.kafka_properties);
    text += &route(run.topic);
    match run.scenario {
        // The identity guest imports nothing, so it is granted nothing.
        Scenario::Identity => text += &format!("guests = [\"{GUEST}\"]\n[[guest]]\nname = \"{GUEST}\"\npath = \"guest.wasm\"\n"),
        Scenario::Guest => text += &format!("guests = [\"{GUEST}\"]\n{}", verifier("")),
        Scenario::Swaps => text += &format!("guests = [\"{GUEST}\"]\n{AGAIN}{}[admin]\nbind = \"127.0.0.1:0\"\n", verifier(CAREFUL)),
        _ => {}
    }
    text
}

/// Doors and Kafka.
pub(super) fn head(in_flight: u16, kafka: Option<&str>, properties: &[(String, String)]) -> String {
    let properties: Vec<String> = properties.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n\
         [mqtt]\nreceive_maximum = {in_flight}\n\
         [kafka]\nbootstrap_servers = \"{}\"\nacks = \"all\"\nproperties = {{ {} }}\n",
        kafka.unwrap_or("embedded"),
        properties.join(", "),
    )
}

/// The route of the commands, to which more may be added.
pub(super) fn route(topic: &str) -> String {
    format!("[[route]]\nhook = \"message.publish\"\nfilter = \"devices/+/command\"\ntopic = \"{topic}\"\nformat = \"raw\"\n")
}

/// The verifier, with more settings of its own, and its key.
pub(super) fn verifier(more: &str) -> String {
    format!(
        "[[key]]\nname = \"bench\"\nkind = \"hmac\"\ntext = \"{}\"\n\
         [[guest]]\nname = \"{GUEST}\"\npath = \"guest.wasm\"\n\
         grants = [\"log\", \"settings\", \"state\", \"metrics\", \"crypto\"]\nkeys = [\"bench\"]\n\
         settings = {{ key = \"bench\", max_age_s = \"{MAX_AGE_S}\" }}\n\
         limits = {{ state_keys = 100000000, state_bytes = 17179869184 }}\n{more}",
        command::KEY
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{load::Shape, packet::Protocol},
        *,
    };
    use crate::config::Config;

    #[test]
    fn every_configuration_is_fine() {
        for scenario in Scenario::resolve(&[Scenario::All]) {
            let run = Run {
                scenario,
                shape: Shape { clients: 1, qos: 1, protocol: Protocol::V5, in_flight: 64, rate: 0, messages: None },
                payload_bytes: 1024,
                warm_up: Duration::ZERO,
                length: Duration::ZERO,
                swaps: 1,
                bad: 0,
                guests: Path::new(""),
                kafka: None,
                kafka_properties: &[("socket.nagle.disable".to_owned(), "true".to_owned())],
                topic: "bench_1",
            };
            for kafka in [None, Some("127.0.0.1:9092")] {
                let (config, problems) = Config::parse(Path::new("hookgate.toml"), &text(&Run { kafka, ..run }));
                assert_eq!(problems, [], "{scenario:?}");
                assert_eq!(config.guests.len(), usize::from(scenario != Scenario::NoGuest));
            }
        }
    }
    #[test]
    fn the_hostile_guest_is_told_its_mode_in_its_file() {
        let component = [&b"..."[..], b"hookgate-hostile-mode=pass                      ", b"..."].concat();
        let told = told(&component, "fault-nth").unwrap();
        assert_eq!(told, [&b"..."[..], b"hookgate-hostile-mode=fault-nth                 ", b"..."].concat());
        assert!(super::told(b"another guest", "trap").is_err());
    }
}
