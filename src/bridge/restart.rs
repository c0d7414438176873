//! What a reload cannot change, because the process was built around it.

use crate::config::{Bootstrap, Config, Kafka, Listener, Problem};

/// What cannot change while the process runs.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<Problem> {
    let place = &new.kafka.place.place;
    let tables = [
        ("[node]", old.node != new.node),
        ("[node] data_dir or [store]", old.store != new.store),
        ("[[listener]] name, bind or protocol", !same_doors(&old.listeners, &new.listeners)),
        ("[mqtt] max_retained_messages", old.mqtt.max_retained_messages != new.mqtt.max_retained_messages),
        ("[guests]", old.runtime != new.runtime),
        ("[admin]", old.admin != new.admin),
        ("bootstrap_servers from or to \"embedded\"", differs(old, new, |kafka| kafka.bootstrap == Bootstrap::Embedded)),
        (
            "max_outstanding_records, max_outstanding_bytes or max_outstanding_ms",
            differs(old, new, |it| (it.max_outstanding_records, it.max_outstanding_bytes, it.max_outstanding_ms)),
        ),
        ("[kafka] embedded_partitions", old.kafka.embedded_partitions != new.kafka.embedded_partitions),
        ("[spool]", old.spool != new.spool),
    ];
    let changed = tables.into_iter().filter(|(_, changed)| *changed);
    let problem =
        |(table, _)| Problem::new(place, format!("{table} cannot change while Hookgate runs")).help("restart to take it into service");
    changed.map(problem).collect()
}

/// Whether something differs of a cluster that both name.
fn differs<T: PartialEq>(old: &Config, new: &Config, part: impl Fn(&Kafka) -> T) -> bool {
    let old = |new: &Kafka| old.all_clusters().find(|old| old.name == new.name).map(&part);
    new.all_clusters().any(|new| old(new).is_some_and(|old| old != part(new)))
}

/// Whether the sockets are the same; what is behind them can change.
fn same_doors(old: &[Listener], new: &[Listener]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.is_same_door(new))
}
