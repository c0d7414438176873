//! What is told in the end, in words and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::{Findings, Tally};

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// How long load and faults went on, seconds.
    pub(crate) seconds: f64,
    pub(crate) brokers: usize,
    pub(crate) faults: u64,
    pub(crate) faults_by_kind: BTreeMap<&'static str, u64>,
    pub(crate) classes: Vec<ClassReport>,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Records that the judge has seen.
    pub(crate) records: u64,
    pub(crate) repeats: u64,
    pub(crate) connections: u64,
    /// Starts of Hookgate that failed because something was broken, and were tried again.
    pub(crate) failed_starts: u64,
    /// Longest time without any acknowledgement, seconds.
    pub(crate) longest_silence: f64,
    pub(crate) violations: Vec<String>,
}

/// One class of messages.
#[derive(Debug, Serialize)]
pub(crate) struct ClassReport {
    class: &'static str,
    sent: u64,
    acknowledged: u64,
    refused: u64,
    stored: u64,
    repeats: u64,
}

impl Report {
    /// Enters what the judge says.
    pub(crate) fn judged(&mut self, findings: &Findings, tallies: Vec<Tally>, records: u64) {
        self.records = records;
        self.violations = findings.lines();
        for Tally { class, sent, acknowledged, refused, stored, repeats } in tallies {
            self.sent += sent;
            self.acknowledged += acknowledged;
            self.refused += refused;
            self.repeats += repeats;
            self.classes.push(ClassReport { class, sent, acknowledged, refused, stored, repeats });
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn print(&self) {
        println!("\nfaults: {} within {:.0} s", self.faults, self.seconds);
        for (name, count) in &self.faults_by_kind {
            println!("  {count:5}  {name}");
        }
        println!("messages:  sent         acknowledged  refused   in Kafka      repeated");
        for class in &self.classes {
            let ClassReport { class, sent, acknowledged, refused, stored, repeats } = class;
            println!("  {class:<7}  {sent:<11}  {acknowledged:<12}  {refused:<8}  {stored:<12}  {repeats}");
        }
        println!(
            "  all      {:<11}  {:<12}  {:<8}  {} records read, {} repeated",
            self.sent, self.acknowledged, self.refused, self.records, self.repeats
        );
        println!(
            "acknowledged messages: {:.0} a second; longest silence {:.1} s",
            self.acknowledged as f64 / self.seconds,
            self.longest_silence
        );
        println!("connections: {}; starts of Hookgate that had to be tried again: {}", self.connections, self.failed_starts);
        if self.is_good() {
            println!(
                "✓ every acknowledged message is in Kafka, in its client's order, as often as promised, and nothing else (seed {})",
                self.seed
            );
        }
        for line in &self.violations {
            println!("✗ {line}");
        }
    }
}
