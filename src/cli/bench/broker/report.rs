//! What the broker scenarios measured: a table for people, figures with their units for machines.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One scenario on one broker.
pub(in super::super) struct Measured {
    pub(super) scenario: String,
    pub(super) broker: &'static str,
    /// Messages that reached a subscriber.
    pub(super) deliveries: u64,
    pub(super) seconds: f64,
    /// CPU time of the broker, microseconds.
    pub(super) cpu_us: u64,
    /// From publish to the subscriber, microseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) memory_bytes: u64,
    /// What only this scenario measures.
    pub(super) more: Vec<Figure>,
}

/// A number that says what it counts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    pub(super) fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Figure { name: name.to_owned(), value, unit }
    }
}

impl Measured {
    fn rate(&self) -> f64 {
        self.deliveries as f64 / self.seconds.max(f64::EPSILON)
    }

    fn cpu_us_each(&self) -> f64 {
        self.cpu_us as f64 / self.deliveries.max(1) as f64
    }

    /// Every figure, in the shape of the other scenarios' entries.
    pub(in super::super) fn entry(&self) -> serde_json::Value {
        let mut figures = vec![
            Figure::new("messages delivered", self.deliveries as f64, "messages"),
            Figure::new("time", self.seconds, "s"),
            Figure::new("throughput", self.rate(), "messages/s"),
            Figure::new("CPU of the process", self.cpu_us_each(), "us/message"),
            Figure::new("resident memory", self.memory_bytes as f64, "bytes"),
        ];
        for (name, us) in
            [("p50", self.latencies.value_at_quantile(0.5)), ("p99", self.latencies.value_at_quantile(0.99)), ("max", self.latencies.max())]
        {
            figures.push(Figure::new(&format!("publish to subscriber, {name}"), us as f64, "us"));
        }
        figures.extend(self.more.iter().cloned());
        serde_json::json!({ "name": format!("{} on {}", self.scenario, self.broker), "figures": figures, "broken": [] })
    }
}

/// The table, with the ratios to the peer below.
pub(in super::super) fn table(all: &[Measured]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<18} {:<10} {:>11} {:>11} {:>9} {:>9} {:>9} {:>8}\n{:<29} {:>11} {:>11} {:>9} {:>9} {:>9} {:>8}\n",
        "broker alone", "broker", "rate", "CPU", "p50", "p99", "max", "memory", "100 B, QoS 1", "msg/s", "µs/msg", "ms", "ms", "ms", "MiB"
    );
    for measured in all {
        let ms = |us: u64| us as f64 / 1_000.0;
        let latencies = &measured.latencies;
        text += &format!(
            "{:<18} {:<10} {:>11.0} {:>11.2} {:>9.2} {:>9.2} {:>9.2} {:>8.0}\n",
            measured.scenario,
            measured.broker,
            measured.rate(),
            measured.cpu_us_each(),
            ms(latencies.value_at_quantile(0.5)),
            ms(latencies.value_at_quantile(0.99)),
            ms(latencies.max()),
            measured.memory_bytes as f64 / f64::from(1 << 20),
        );
    }
    text += "\nrate: messages that reached a subscriber and were acknowledged by it. p50, p99, max: publish to subscriber.\n";
    for pair in all.windows(2) {
        if let [own, peer] = pair
            && own.scenario == peer.scenario
        {
            text += &format!(
                "{}: {:.2} times the messages of {} a second, {:.2} times its CPU per message\n",
                own.scenario,
                own.rate() / peer.rate(),
                peer.broker,
                own.cpu_us_each() / peer.cpu_us_each()
            );
        }
    }
    for measured in all {
        for Figure { name, value, unit } in &measured.more {
            text += &format!("{}: {name}: {value:.1} {unit}\n", measured.scenario);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_states_the_ratio_to_the_peer() {
        let measured = |broker, deliveries, cpu_us| Measured {
            scenario: "fan-in".to_owned(),
            broker,
            deliveries,
            seconds: 2.0,
            cpu_us,
            latencies: Histogram::new(3).unwrap(),
            memory_bytes: 1 << 20,
            more: vec![Figure::new("something else", 7.0, "bytes")],
        };
        let text = table(&[measured("hookgate", 200, 1_000), measured("mosquitto", 100, 1_000)]);
        assert!(text.contains("fan-in: 2.00 times the messages of mosquitto a second, 0.50 times its CPU per message"), "{text}");
        assert!(text.contains("fan-in: something else: 7.0 bytes"), "{text}");
        assert_eq!(table(&[]), "");
    }
}
