//! What was measured, as a table for people and as JSON in which every figure has its unit.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    process::CpuTime,
    versions::{Fates, Kind},
};

/// One scenario's result.
pub(super) struct Measured {
    pub(super) scenario: &'static str,
    pub(super) stages: Vec<Stage>,
    pub(super) guest: Option<GuestTime>,
    /// Whether Kafka was part of the measured process.
    pub(super) embedded: bool,
    pub(super) memory_bytes: u64,
    pub(super) peak_memory_bytes: u64,
    /// Of the guest's new versions.
    pub(super) fates: Fates,
    /// Messages a second asked for; 0: as fast as it goes.
    pub(super) rate: u64,
    /// Records compared with what was sent.
    pub(super) verified: u64,
    /// Broken promises, in words.
    pub(super) broken: Vec<String>,
}

/// What was measured between two marks.
pub(super) struct Stage {
    /// Empty when the scenario has only one.
    pub(super) name: &'static str,
    /// Messages confirmed.
    pub(super) messages: u64,
    pub(super) seconds: f64,
    pub(super) cpu: CpuTime,
    /// The part of the whole machine that was busy, publishers and reader included, 0 to 1.
    pub(super) busy: f64,
    /// From publish to PUBACK (QoS 2: PUBREC), microseconds.
    pub(super) acknowledgement: Histogram<u64>,
    /// From publish to the reader, microseconds.
    pub(super) storing: Histogram<u64>,
}

/// Calls into the guest, the warm-up included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GuestTime {
    calls: u64,
    us_per_call: f64,
}

impl GuestTime {
    /// Reads them from a page of metrics; `None` when the guest was never called.
    pub(super) fn read(page: &str, guest: &str) -> Option<Self> {
        let count = |family: &str| {
            let name = format!("hookgate_{family}_total{{name=\"{guest}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(name.as_str())?.parse::<u64>().ok())
        };
        let (calls, ns) = (count("guest_calls")?, count("guest_call_nanoseconds")?);
        (calls > 0).then(|| GuestTime { calls, us_per_call: ns as f64 / calls as f64 / 1_000.0 })
    }
}

/// A number that says what it counts.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// A stage's figures for machines.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    name: String,
    figures: Vec<Figure>,
    /// Broken promises of its scenario, in words; empty: all kept.
    broken: Vec<String>,
}

impl Stage {
    fn per_message(&self, us: u64) -> f64 {
        us as f64 / self.messages.max(1) as f64
    }

    pub(super) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds.max(f64::EPSILON)
    }

    /// CPU time by kind of thread, the biggest first; those that did next to nothing are left out.
    fn threads(&self) -> Vec<(&str, f64)> {
        let mut threads: Vec<(&str, f64)> =
            self.cpu.threads_us.iter().map(|(name, us)| (name.as_str(), self.per_message(*us))).filter(|(_, us)| *us >= 0.05).collect();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        threads
    }
}

impl Measured {
    fn label(&self, stage: &Stage) -> String {
        format!("{} {}", self.scenario, stage.name).trim().to_owned()
    }

    /// Every figure, one entry per stage.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.stages
            .iter()
            .map(|stage| Entry { name: self.label(stage), figures: self.figures(stage), broken: self.broken.clone() })
            .collect()
    }

    fn figures(&self, stage: &Stage) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name: String, value: f64, unit| figures.push(Figure { name, value, unit });
        add("messages confirmed".into(), stage.messages as f64, "messages");
        add("time".into(), stage.seconds, "s");
        add("rate asked for, 0 as fast as it goes".into(), self.rate as f64, "messages/s");
        add("throughput".into(), stage.rate(), "messages/s");
        add("CPU of the process".into(), stage.per_message(stage.cpu.process_us), "us/message");
        if self.embedded {
            add("CPU of the embedded Kafka, included above".into(), stage.per_message(stage.cpu.mock_us()), "us/message");
        }
        for (thread, us) in stage.threads() {
            add(format!("CPU of threads {thread}"), us, "us/message");
        }
        for (what, histogram) in [("publish to acknowledgement", &stage.acknowledgement), ("publish to Kafka's reader", &stage.storing)] {
            for (name, value) in
                [("p50", histogram.value_at_quantile(0.5)), ("p99", histogram.value_at_quantile(0.99)), ("max", histogram.max())]
            {
                add(format!("{what}, {name}"), value as f64, "us");
            }
        }
        if let Some(guest) = self.guest {
            add("guest calls, warm-up included".into(), guest.calls as f64, "calls");
            add("guest time".into(), guest.us_per_call, "us/call");
        }
        add("resident memory at the end".into(), self.memory_bytes as f64, "bytes");
        add("resident memory at its peak".into(), self.peak_memory_bytes as f64, "bytes");
        add("machine busy, publishers and reader included".into(), stage.busy * 100.0, "%");
        for kind in std::iter::once(Kind::Good).chain(Kind::BAD) {
            add(format!("guest versions of the whole run, {}", kind.name()), self.fates.count(kind) as f64, "versions");
        }
        add("records verified, warm-up included".into(), self.verified as f64, "records");
        figures
    }
}

/// How much longer than without, the p99 with swaps may be.
const SWAPS_RATIO: f64 = 1.5;

/// Titles and units.
const COLUMNS: &[(&str, &str)] = &[
    ("scenario", ""),
    ("messages", ""),
    ("time", "s"),
    ("rate", "msg/s"),
    ("machine", "%"),
    ("CPU", "µs/msg"),
    ("of it mock", "µs/msg"),
    ("ack p50", "ms"),
    ("p99", "ms"),
    ("max", "ms"),
    ("Kafka p50", "ms"),
    ("p99", "ms"),
    ("max", "ms"),
    ("guest", "µs/call"),
    ("memory", "MiB"),
];

/// The table, with what it means below.
pub(super) fn table(all: &[Measured]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut rows: Vec<Vec<String>> =
        vec![COLUMNS.iter().map(|(title, _)| (*title).to_owned()).collect(), COLUMNS.iter().map(|(_, unit)| (*unit).to_owned()).collect()];
    rows.extend(all.iter().flat_map(|measured| measured.stages.iter().map(|stage| row(measured, stage))));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text += "\nack: publish to PUBACK (QoS 2: PUBREC). Kafka: publish until the reader has the record, its fetch included. guest: by the clock.\n";
    if all.iter().any(|measured| measured.embedded) {
        text += "CPU includes the embedded Kafka's own thread, \"mock\", which also serves the reader.\n";
    }
    for measured in all {
        if let [without, with] = &measured.stages[..] {
            text += &swaps_in_words(measured, without, with);
        }
        for stage in &measured.stages {
            let threads: Vec<String> = stage.threads().iter().map(|(name, us)| format!("{name} {us:.1}")).collect();
            text += &format!("CPU of {} by thread, µs/msg: {}\n", measured.label(stage), threads.join(", "));
        }
    }
    text
}

/// What came of the new versions, and how far they were felt.
fn swaps_in_words(measured: &Measured, without: &Stage, with: &Stage) -> String {
    let p99_ms = |stage: &Stage| stage.acknowledgement.value_at_quantile(0.99) as f64 / 1_000.0;
    let (before, during) = (p99_ms(without), p99_ms(with));
    let ratio = during / before.max(f64::EPSILON);
    let count = |kind: &Kind| measured.fates.count(*kind);
    let bad: Vec<String> =
        Kind::BAD.iter().filter(|kind| count(kind) > 0).map(|kind| format!("{}: {}", kind.name(), count(kind))).collect();
    let bad = if bad.is_empty() { String::new() } else { format!(", and bad ones were kept out or sent back ({})", bad.join(", ")) };
    let held = if ratio <= SWAPS_RATIO { "✓" } else { "✗" };
    format!(
        "{} good guest versions came{bad} in {:.1} s under load\n\
         {held} p99 to the acknowledgement {during:.2} ms during, {before:.2} ms without: {ratio:.2} times (at most {SWAPS_RATIO})\n",
        measured.fates.count(Kind::Good),
        with.seconds,
    )
}

fn row(measured: &Measured, stage: &Stage) -> Vec<String> {
    let latency = |histogram: &Histogram<u64>| {
        let quantiles = [histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99), histogram.max()];
        quantiles.map(|us| if histogram.is_empty() { "–".to_owned() } else { format!("{:.2}", us as f64 / 1_000.0) })
    };
    let mut cells = vec![
        measured.label(stage),
        stage.messages.to_string(),
        format!("{:.1}", stage.seconds),
        format!("{:.0}", stage.rate()),
        format!("{:.0}", stage.busy * 100.0),
        format!("{:.1}", stage.per_message(stage.cpu.process_us)),
        if measured.embedded { format!("{:.1}", stage.per_message(stage.cpu.mock_us())) } else { "–".to_owned() },
    ];
    cells.extend(latency(&stage.acknowledgement));
    cells.extend(latency(&stage.storing));
    cells.push(measured.guest.map_or_else(|| "–".to_owned(), |guest| format!("{:.2}", guest.us_per_call)));
    cells.push(format!("{:.0}", measured.memory_bytes as f64 / f64::from(1 << 20)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_time_is_read_from_the_page() {
        let page = "# HELP x\nhookgate_guest_calls_total{name=\"g\"} 4\nhookgate_guest_call_nanoseconds_total{name=\"g\"} 6000\n";
        assert_eq!(GuestTime::read(page, "g"), Some(GuestTime { calls: 4, us_per_call: 1.5 }));
        assert_eq!(GuestTime::read(page, "h"), None);
    }

    #[test]
    fn columns_are_aligned_and_have_a_cell_in_every_row() {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record(1_500).unwrap();
        let cpu = CpuTime { process_us: 300, threads_us: [("rdk:mock".to_owned(), 20)].into() };
        let storing = Histogram::new(3).unwrap();
        let stage = Stage { name: "", messages: 10, seconds: 2.0, cpu, busy: 0.5, acknowledgement: histogram, storing };
        let measured = Measured {
            scenario: "guest",
            stages: vec![stage],
            guest: None,
            embedded: true,
            memory_bytes: 1 << 20,
            peak_memory_bytes: 1 << 21,
            fates: Fates::default(),
            rate: 0,
            verified: 10,
            broken: Vec::new(),
        };
        let text = table(&[measured]);
        let lines: Vec<&str> = text.lines().take(3).collect();
        let cells: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(cells, ["guest", "10", "2.0", "5", "50", "30.0", "2.0", "1.50", "1.50", "1.50", "–", "–", "–", "–", "1"]);
        assert_eq!(lines[0].chars().count(), lines[2].chars().count());
    }
}
