//! What is measured: a configuration per scenario, with its guest beside it in a folder of its own.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{command, run::Run};
use crate::cli::Exit;

/// The guest's name in the configuration, and in the metrics.
pub(super) const GUEST: &str = "measured";
/// Longer than any run, so that nothing becomes stale in a queue.
const MAX_AGE_S: u32 = 3_600;

/// A set-up to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// Every message is judged by the verifier of the smart locks: HMAC, age, nonce
    Guest,
    /// No guest is asked
    NoGuest,
    /// A guest that does nothing: what the crossing alone costs
    Identity,
    /// The verifier's file is replaced again and again, after an equal time without
    Swaps,
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

    fn asked(each: &[Scenario], asked: &[Scenario]) -> Vec<Scenario> {
        each.iter().copied().filter(|scenario| asked.contains(scenario) || asked.contains(&Scenario::All)).collect()
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scenario::Guest => "guest",
            Scenario::NoGuest => "no-guest",
            Scenario::Identity => "identity",
            Scenario::Swaps => "swaps",
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
    swaps: usize,
}

impl SetUp {
    /// Writes them.
    ///
    /// # Errors
    /// The guest was not built, or the disk says no.
    pub(super) fn new(run: &Run<'_>) -> Result<Self, Exit> {
        let folder = tempfile::tempdir().context("a folder for the benchmark")?;
        let (mut guest, mut component) = (None, Vec::new());
        if let Some(file) = run.scenario.guest_file() {
            let built = run.guests.join(file);
            component = fs::read(&built).map_err(|error| {
                let help = "build the guests with `cargo xtask guests`, or name their folder with --guests";
                Exit::Usage(format!("{}: {error}\n    help: {help}", built.display()))
            })?;
            let path = folder.path().join("guest.wasm");
            fs::write(&path, &component).context("copying the guest")?;
            guest = Some(path);
        }
        let set_up = SetUp { folder, guest, component, swaps: 0 };
        fs::write(set_up.config(), text(run)).context("writing the configuration")?;
        Ok(set_up)
    }

    /// The configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("hookgate.toml")
    }

    /// Replaces the guest's file, by rename, with a new version of the same logic: a custom section changes its digest.
    ///
    /// # Errors
    /// The disk says no.
    pub(super) fn swap(&mut self) -> anyhow::Result<()> {
        let Some(guest) = &self.guest else { return Ok(()) };
        self.swaps += 1;
        let name = format!("version-{}", self.swaps);
        let mut component = self.component.clone();
        component.extend([0, name.len() as u8 + 1, name.len() as u8]); // id, size, length of the name; the rest is empty
        component.extend(name.as_bytes());
        let beside = self.folder.path().join("next.wasm");
        fs::write(&beside, component).and_then(|()| fs::rename(&beside, guest)).context("replacing the guest")
    }
}

fn text(run: &Run<'_>) -> String {
    let properties: Vec<String> = run.kafka_properties.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    let mut text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n\
         [mqtt]\nreceive_maximum = {}\n\
         [kafka]\nbootstrap_servers = \"{}\"\nacks = \"all\"\nproperties = {{ {} }}\n\
         [[route]]\nhook = \"message.publish\"\nfilter = \"devices/+/command\"\ntopic = \"{}\"\nformat = \"raw\"\n",
        run.shape.in_flight,
        run.kafka.unwrap_or("embedded"),
        properties.join(", "),
        run.topic,
    );
    match run.scenario {
        // The identity guest imports nothing, so it is granted nothing.
        Scenario::Identity => text += &format!("guests = [\"{GUEST}\"]\n[[guest]]\nname = \"{GUEST}\"\npath = \"guest.wasm\"\n"),
        Scenario::Guest | Scenario::Swaps => {
            text += &format!(
                "guests = [\"{GUEST}\"]\n\
                 [[key]]\nname = \"bench\"\nkind = \"hmac\"\ntext = \"{}\"\n\
                 [[guest]]\nname = \"{GUEST}\"\npath = \"guest.wasm\"\n\
                 grants = [\"log\", \"settings\", \"state\", \"metrics\", \"crypto\"]\nkeys = [\"bench\"]\n\
                 settings = {{ key = \"bench\", max_age_s = \"{MAX_AGE_S}\" }}\n\
                 limits = {{ state_keys = 100000000, state_bytes = 17179869184 }}\n",
                command::KEY
            );
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

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
                guests: Path::new(""),
                kafka: None,
                kafka_properties: &[("batch.num.messages".to_owned(), "1".to_owned())],
                topic: "bench_1",
            };
            for kafka in [None, Some("127.0.0.1:9092")] {
                let (config, problems) = Config::parse(Path::new("hookgate.toml"), &text(&Run { kafka, ..run }));
                assert_eq!(problems, [], "{scenario:?}");
                assert_eq!(config.guests.len(), usize::from(scenario != Scenario::NoGuest));
            }
        }
    }
}
