//! Every metric family on one screen. Names follow Prometheus (base units, `_total` for counters).

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The label of families that are counted per something named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Label {
    /// A hook, a guest, a Kafka topic or a reason, as the family's help says.
    pub name: String,
}

/// The labels of families that are counted per something named and a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// A guest, a hook or a Kafka topic, as the family's help says.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl From<&str> for Label {
    fn from(name: &str) -> Self {
        Label { name: name.to_owned() }
    }
}

/// The labels of what guests count themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GuestLabel {
    /// The guest.
    pub guest: String,
    /// The name that the guest gave it.
    pub name: String,
}

/// Gauges per name.
pub type GaugePerName = Family<Label, Gauge>;
/// Counters per name.
pub type PerName = Family<Label, Counter>;
/// Counters per name and reason.
pub type PerReason = Family<ReasonLabel, Counter>;
/// A sum of what may be negative.
pub type Sum = Gauge<f64, AtomicU64>;
/// Gauges per name of what has fractions.
pub type SharePerName = Family<Label, Sum>;
/// Counters per guest and name.
pub type PerGuest = Family<GuestLabel, Counter>;
/// Sums per guest and name.
pub type SumPerGuest = Family<GuestLabel, Sum>;

macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal, $help:literal;)*) => {
        /// All families; clone the `Arc`, not the struct.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Metrics {
            /// Registers every family once.
            pub fn new() -> Arc<Self> {
                let mut registry = Registry::with_prefix("hookgate");
                $(let $field = <$type>::default(); registry.register($name, $help, $field.clone());)*
                Arc::new(Metrics { registry, $($field,)* })
            }
        }
    };
}

metrics! {
    connections: Gauge = "connections", "Connections that are in";
    connections_accepted: Counter = "connections_accepted", "Sockets accepted";
    connections_refused: PerName = "connections_refused", "Connections refused before or at CONNECT, per reason";
    listener_connections: GaugePerName = "listener_connections", "Sockets that are open or whose messages are not finished, per listener";
    listener_certificate_ends: GaugePerName = "listener_certificate_ends_seconds", "When the certificate expires, Unix time, per listener";
    listener_certificate_reloads: PerName = "listener_certificate_reloads", "Changed certificates taken into service, per listener";
    listener_certificate_reloads_refused: PerName = "listener_certificate_reloads_refused", "Changed certificates that could not be used, per listener";
    reads_paused: PerName = "reads_paused", "Times that reading paused because a client exceeded its rate, per listener";
    sessions: Gauge = "sessions", "Sessions, connected or waiting for their client";
    subscriptions: Gauge = "subscriptions", "Subscriptions of all sessions";
    retained_messages: Gauge = "retained_messages", "Retained messages";
    messages_received: Counter = "messages_received", "PUBLISH packets accepted from clients";
    messages_sent: Counter = "messages_sent", "PUBLISH packets written to clients";
    messages_dropped: PerName = "messages_dropped", "Messages dropped, per reason of message.dropped";
    sys_messages_dropped: Counter = "sys_messages_dropped", "Figures under $SYS/ that a subscriber had no room for";
    packets_received: Counter = "packets_received", "MQTT packets of any type from clients";
    packets_sent: Counter = "packets_sent", "MQTT packets of any type to clients";
    bytes_received: Counter = "bytes_received", "Bytes read from clients";
    bytes_sent: Counter = "bytes_sent", "Bytes written to clients";
    payload_bytes_received: Counter = "payload_bytes_received", "Payload bytes of PUBLISH packets from clients";
    payload_bytes_sent: Counter = "payload_bytes_sent", "Payload bytes of PUBLISH packets to clients";
    sessions_expired: Counter = "sessions_expired", "Sessions that outlived their expiry interval";
    bus_restarts: Counter = "bus_restarts", "Times that the in-process bus was started again";
    hook_events: PerName = "hook_events", "Events raised, whether a route wanted them or not, per hook";
    hooks: PerName = "hooks", "Events raised that a route wanted, per hook";
    guest_calls: PerName = "guest_calls", "Calls into guests, per guest";
    guest_call_nanoseconds: PerName = "guest_call_nanoseconds", "Time spent in calls, per guest";
    guest_cpu_nanoseconds: PerName = "guest_cpu_nanoseconds", "Processor time that calls took, per guest";
    guest_overruns: PerName = "guest_overruns", "Calls that did not end within their slice and went on in the slow lane, per guest";
    guest_throttled: PerName = "guest_throttled", "Calls that waited because the guest had used up its share of the processor, per guest";
    guest_waits: PerName = "guest_waits", "Calls that waited for a free instance, per guest";
    guest_instances: GaugePerName = "guest_instances", "Instances that exist, per guest";
    guest_instances_idle: GaugePerName = "guest_instances_idle", "Instances that no call uses, per guest";
    guest_instances_recycled: PerReason = "guest_instances_recycled", "Instances that were replaced, per guest and reason: calls, memory or failure";
    guest_memory_bytes: GaugePerName = "guest_memory_bytes", "Linear memory of all instances, per guest";
    guest_failures: PerReason = "guest_failures", "Calls that gave no verdict, per guest and reason";
    guest_circuit: GaugePerName = "guest_circuit", "0 while the guest's circuit is closed, 1 half-open, 2 open (the sum over its versions), per guest";
    guest_circuit_openings: PerName = "guest_circuit_openings", "Times that a circuit opened, or opened again after a trial, per guest";
    guest_retries: PerName = "guest_retries", "Further calls because of retry, per guest";
    guest_dead_letters: PerName = "guest_dead_letters", "Events kept as dead letters, per guest that failed";
    guest_refusals: PerReason = "guest_refusals", "Messages that guests denied or dropped, per guest and reason";
    access_refusals: PerReason = "access_refusals", "Clients, publishes and subscriptions refused, per hook and who refused";
    guest_state_operations: PerGuest = "guest_state_operations", "Operations on guests' state, per guest and function";
    guest_state_failures: PerReason = "guest_state_failures", "Operations on guests' state that did not happen, per guest and reason";
    guest_state_keys: GaugePerName = "guest_state_keys", "Keys in the state as of the last write, per guest";
    guest_state_bytes: GaugePerName = "guest_state_bytes", "Bytes in the state as of the last write, per guest";
    guest_state_waits: PerName = "guest_state_waits", "Verdicts that waited until what they rest on was on the disk, per guest";
    guest_state_wait_nanoseconds: PerName = "guest_state_wait_nanoseconds", "Time spent in these waits, per guest";
    guest_log_lines_dropped: PerName = "guest_log_lines_dropped", "Log lines over the limit, per guest";
    guest_counts: PerGuest = "guest_counts", "What guests count through `metrics`, per guest and name";
    guest_observations: PerGuest = "guest_observations", "Values that guests observed through `metrics`, per guest and name";
    guest_observations_sum: SumPerGuest = "guest_observations_sum", "Sum of the values that guests observed, per guest and name";
    guest_swaps: PerName = "guest_swaps", "New versions taken into service, per guest";
    guest_swaps_refused: PerName = "guest_swaps_refused", "New versions refused, per guest";
    guest_versions: GaugePerName = "guest_versions", "Versions that somebody meets or that see copies: 1, and 2 while a new one is beside, per guest";
    guest_canary_share: SharePerName = "guest_canary_share", "The part of the clients whose events a new version beside sees, 0 without one, per guest";
    guest_canary_calls: PerName = "guest_canary_calls", "Calls into canaries, per guest";
    guest_canary_failures: PerName = "guest_canary_failures", "Calls into canaries that gave no verdict, per guest";
    guest_shadow_calls: PerName = "guest_shadow_calls", "Copies of events that shadows answered, per guest";
    guest_shadow_differences: PerName = "guest_shadow_differences", "Answers of shadows that differ from those of the version in service, per guest";
    guest_shadow_dropped: PerName = "guest_shadow_dropped", "Copies that no shadow saw and differences that were not produced, for want of room or of a secret, per guest";
    guest_promotions: PerName = "guest_promotions", "Canaries and shadows that took over, per guest";
    guest_rollbacks: PerReason = "guest_rollbacks", "Versions that were rolled back or discarded, per guest and reason";
    guest_file_refused: GaugePerName = "guest_file_refused", "1 while the version in the file was rolled back and stays out, per guest";
    guest_history_failures: Counter = "guest_history_failures", "Times that a guest's versions could not be written down";
    guest_compilations: Counter = "guest_compilations", "Components compiled";
    guest_cache_hits: Counter = "guest_cache_hits", "Components that were found compiled";
    calls_captured: PerName = "calls_captured", "Calls of guests written to captures, per route";
    calls_not_captured: PerReason = "calls_not_captured", "Calls of guests drawn for a capture and not written, per route and reason";
    records_enqueued: PerName = "records_enqueued", "Records handed to the producer, per Kafka topic";
    records_confirmed: PerName = "records_confirmed", "Records confirmed by Kafka, per Kafka topic";
    records_failed: PerReason = "records_failed", "Records that Kafka did not confirm, per Kafka topic and reason";
    publishes_repeated: PerName = "publishes_repeated", "Publishes not produced again by exactly-once routes, per cluster";
    transactions: PerName = "transactions", "Transactions of exactly-once routes, per end: committed or aborted";
    records_dead_lettered: PerReason = "records_dead_lettered", "Records that Kafka refused and that are on the dead letter topic, per refusing Kafka topic and reason";
    records_unfit: PerReason = "records_unfit", "Records whose template rendered to no Kafka topic or no partition and that nobody got, per route and reason";
    record_timestamps_replaced: PerName = "record_timestamps_replaced", "Records that have the event's time because their template rendered to none, per route";
    records_outstanding: Gauge = "records_outstanding", "Records handed to the producer and not yet confirmed";
    downlink_records: PerName = "downlink_records", "Records taken from Kafka, per downlink";
    downlink_messages: PerName = "downlink_messages", "Messages given to the broker, per downlink";
    downlink_dropped: PerReason = "downlink_dropped", "Records that became no message, per downlink and reason";
    downlink_dead_letters: PerName = "downlink_dead_letters", "Records kept as dead letters, per downlink";
    downlink_repeats: PerName = "downlink_repeats", "Records published again because nobody could say whether the broker had them, per downlink";
    downlink_in_flight: GaugePerName = "downlink_in_flight", "Records taken from Kafka and not yet settled, per downlink";
    downlink_lag: GaugePerName = "downlink_lag", "Records of the assigned partitions that are not committed, per downlink";
    kafka_reachable: GaugePerName = "kafka_reachable", "1 while this cluster answers, else 0";
    kafka_producer_restarts: Counter = "kafka_producer_restarts", "Producers that failed for good and were replaced";
    store_commits: Counter = "store_commits", "Groups of changes made durable";
    store_changes: Counter = "store_changes", "Changes in these groups";
    store_failures: Counter = "store_failures", "Times that the store could not be written";
    store_writable: Gauge = "store_writable", "1 while the store takes changes, 0 while it fails or there is none";
    store_damaged: Counter = "store_damaged", "Records of the store that could not be read at the start";
    spool_bytes: GaugePerName = "spool_bytes", "Bytes of records on the disk, per cluster";
    spool_records: GaugePerName = "spool_records", "Records on the disk that Kafka has not confirmed, per cluster";
    spool_oldest_age: GaugePerName = "spool_oldest_age_seconds", "Age of the oldest of them, 0 without any, per cluster";
    spool_late: GaugePerName = "spool_late", "1 while the oldest is older than alarm_age, else 0, per cluster";
    spool_writable: GaugePerName = "spool_writable", "1 while the disk takes records, else 0, per cluster";
    spool_appended: PerName = "spool_appended", "Records made durable, per cluster";
    spool_forwarded: PerName = "spool_forwarded", "Records and dead letters from the spool that Kafka confirmed, per cluster";
    spool_resent: PerName = "spool_resent", "Records sent again because nobody knew whether Kafka had them or one before, per cluster";
    spool_refused: PerName = "spool_refused", "Records that found no room, per cluster";
    spool_given_up: PerReason = "spool_given_up", "Records lost because Kafka refused them and their dead letters, per cluster and reason";
    spool_failures: PerName = "spool_failures", "Times that the spool could not be written, per cluster";
    spool_tails_cut: PerName = "spool_tails_cut", "Ends of a log in the middle of a record that were cut off at the start, per cluster";
    spool_lost: PerName = "spool_lost", "Acknowledged records that the start could not read any more, per cluster";
    redis_operations: Counter = "redis_operations", "Questions to Redis";
    redis_failures: Counter = "redis_failures", "Questions to Redis that had no answer";
    redis_nanoseconds: Counter = "redis_nanoseconds", "Time between these questions and their answers";
    redis_reachable: Gauge = "redis_reachable", "1 while Redis answers, else 0";
    config_reloads: Counter = "config_reloads", "Configurations taken into service after the first";
    config_reloads_refused: Counter = "config_reloads_refused", "Configurations refused while running";
}

impl Metrics {
    /// The families in Prometheus' text format (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_render_with_their_labels() {
        let metrics = Metrics::new();
        metrics.messages_dropped.get_or_create(&"denied".into()).inc();
        assert!(metrics.render().contains("hookgate_messages_dropped_total{name=\"denied\"} 1"));
    }
}
