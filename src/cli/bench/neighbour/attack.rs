//! The hostile suite as the benchmark meets it, and the configuration in which two tenants live side by side.

use super::Plan;
use crate::cli::bench::scenario::{GUEST, head, route, verifier};

/// What all guests' memory may take together.
const GUESTS_BYTES: u64 = 512 << 20;
/// What the process may take beside it: its code and the compiled guests, the broker, the embedded Kafka with its records, the state.
const BASE_BYTES: u64 = 384 << 20;
/// The bound of the process's memory.
pub(super) const BOUND_BYTES: u64 = GUESTS_BYTES + BASE_BYTES;
/// The hostile guest's name.
pub(super) const HOSTILE: &str = "hostile";

/// A hostile guest.
#[derive(Debug)]
pub(in crate::cli::bench) struct Attack {
    /// Its component.
    pub(super) component: &'static str,
    /// What it does: the setting `mode`, where it has modes.
    pub(super) mode: &'static str,
    /// Limits beyond those of all.
    limits: &'static str,
}

const fn attack(component: &'static str, mode: &'static str) -> Attack {
    Attack { component, mode, limits: "" }
}

const CODE: &str = "hostile.wasm";
const IMPORTS: &str = "greedy.wasm";

/// Every guest of the suite; `return-64mib` has the memory to make its answer.
#[rustfmt::skip]
const SUITE: &[Attack] = &[
    attack(CODE, "loop"),
    attack(CODE, "block"),
    attack(CODE, "watch-clock"),
    attack(CODE, "allocate"),
    attack(CODE, "leak"),
    attack(CODE, "recurse"),
    attack(CODE, "trap"),
    attack(CODE, "trap-nth"),
    attack(CODE, "exit"),
    Attack { limits: ", memory_bytes = 201326592", ..attack(CODE, "return-64mib") },
    attack(CODE, "return-headers"),
    attack(CODE, "return-records"),
    attack(CODE, "invalid-topic"),
    attack(CODE, "log-flood"),
    attack(CODE, "stderr-flood"),
    attack(CODE, "fault-internal"),
    attack(IMPORTS, "trap-at-restart"),
    attack(IMPORTS, "read-state"),
    attack(IMPORTS, "write-state"),
    attack(IMPORTS, "fill-state"),
    attack(IMPORTS, "read-settings"),
    attack(IMPORTS, "digest"),
    attack(IMPORTS, "log"),
    attack(IMPORTS, "count"),
    attack(IMPORTS, "random"),
    attack(IMPORTS, "hold-alarms"),
    attack("hostile_tables.wasm", "grow-tables"),
];

/// Those that are named; all when none is.
///
/// # Errors
/// A name is unknown, in words for the user.
pub(in crate::cli::bench) fn attacks(named: &[String]) -> Result<Vec<&'static Attack>, String> {
    let known = |name: &String| SUITE.iter().any(|attack| attack.mode == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let modes: Vec<&str> = SUITE.iter().map(|attack| attack.mode).collect();
        return Err(format!("there is no hostile guest \"{unknown}\"; there are {}", modes.join(", ")));
    }
    Ok(SUITE.iter().filter(|attack| named.is_empty() || named.iter().any(|name| name == attack.mode)).collect())
}

impl Attack {
    /// Two tenants. The hostile one has what an operator would give a customer whom he does not know: a tenth of the processor, four
    /// instances. Its circuit never opens, so that it is the walls that are measured, and not that nobody asks it any more.
    pub(super) fn configuration(&self, plan: &Plan<'_>) -> String {
        let (Attack { mode, limits, .. }, topic) = (self, plan.topic);
        let node = if plan.disk { "[node]\ndata_dir = \"data\"\n" } else { "" };
        let head = head(plan.shape.in_flight, plan.kafka, plan.kafka_properties);
        let (route, honest) = (route(topic), verifier("tenant = \"b\"\n"));
        format!(
            "{node}{head}\
             [guests]\nmemory_bytes = {GUESTS_BYTES}\ninstances = 64\n\
             [[tenant]]\nid = \"b\"\n\
             [[tenant]]\nid = \"a\"\nceilings = {{ cpu_share = 0.1, instances = 4 }}\n\
             {route}guests = [\"{GUEST}\"]\n{honest}\
             [[route]]\nhook = \"message.publish\"\nfilter = \"hostile/#\"\nguests = [\"{HOSTILE}\"]\ntopic = \"{topic}_hostile\"\n\
             [[guest]]\nname = \"{HOSTILE}\"\ntenant = \"a\"\npath = \"hostile.wasm\"\n\
             grants = [\"log\", \"settings\", \"state\", \"metrics\", \"crypto\"]\nsettings = {{ mode = \"{mode}\" }}\n\
             limits = {{ instances = 4, cpu_share = 0.1, state_keys = 10000, state_bytes = 16777216{limits} }}\n\
             breaker = {{ max_failure_ratio = 1.0 }}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        cli::bench::{load::Shape, packet::Protocol},
        config::Config,
    };

    #[test]
    fn every_configuration_is_fine() {
        let plan = Plan {
            shape: Shape { clients: 1, qos: 1, protocol: Protocol::V5, in_flight: 64, rate: 1, messages: None },
            payload_bytes: 1024,
            warm_up: Duration::ZERO,
            length: Duration::ZERO,
            pairs: 1,
            disk: true,
            guests: Path::new(""),
            kafka: None,
            kafka_properties: &[],
            topic: "bench_1",
        };
        for attack in SUITE {
            let (config, problems) = Config::parse(Path::new("hookgate.toml"), &attack.configuration(&plan));
            assert_eq!(problems, [], "{attack:?}");
            assert_eq!((config.guests.len(), config.tenants.len(), config.routes.len()), (2, 2, 2));
        }
    }

    #[test]
    fn an_unknown_name_is_told_which_there_are() {
        assert_eq!(attacks(&[]).unwrap().len(), SUITE.len());
        assert_eq!(attacks(&["loop".to_owned()]).unwrap().len(), 1);
        assert!(attacks(&["leap".to_owned()]).unwrap_err().contains("there are loop, "));
    }
}
