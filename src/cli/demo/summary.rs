//! The end of the demo: what was promised, beside what Kafka and the locks hold.

use std::collections::BTreeMap;

use serde::Serialize;

use super::board::{Colour, Kind, Notes, say};

/// The summary, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Whether every promise was kept.
    pub(super) ok: bool,
    /// Every broken promise, in words.
    broken: Vec<String>,
    reports_acknowledged: usize,
    commands: BTreeMap<&'static str, Counts>,
    commands_that_reached_locks: usize,
    verifier_swaps: usize,
    kafka_records: BTreeMap<String, usize>,
    records_with_verified_header: usize,
    records_with_low_battery_header: usize,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    sent: usize,
    accepted: usize,
    refused: usize,
}

impl Summary {
    pub(super) fn new(notes: &Notes, verifier_swaps: usize) -> Self {
        let mut commands: BTreeMap<&'static str, Counts> = BTreeMap::new();
        for answer in &notes.answers {
            let counts = commands.entry(word(answer.attempt.kind)).or_default();
            counts.sent += 1;
            *(if answer.accepted { &mut counts.accepted } else { &mut counts.refused }) += 1;
        }
        let broken = broken_promises(notes, verifier_swaps);
        Summary {
            ok: broken.is_empty(),
            broken,
            reports_acknowledged: notes.reports.len(),
            commands,
            commands_that_reached_locks: notes.reached.values().sum(),
            verifier_swaps,
            kafka_records: notes.records.clone().into_iter().collect(),
            records_with_verified_header: notes.verified,
            records_with_low_battery_header: notes.low_battery,
        }
    }

    /// For people.
    pub(super) fn print(&self) {
        say("\nWhat Kafka holds", Colour::Bold);
        for (topic, records) in &self.kafka_records {
            say(&format!("  {topic:<22} {records:>6} records"), Colour::Plain);
        }
        say("What the app tried", Colour::Bold);
        for (kind, counts) in &self.commands {
            say(&format!("  {kind:<22} {:>6} sent, {} accepted, {} refused", counts.sent, counts.accepted, counts.refused), Colour::Plain);
        }
        say("What was promised", Colour::Bold);
        let lines = [
            format!("{} state reports were acknowledged: each is in Kafka exactly once", self.reports_acknowledged),
            format!("{} commands reached a lock: each was good, once, and is on message_command", self.commands_that_reached_locks),
            "every refused command is on message_audit with its reason, and reached no lock".to_owned(),
            format!("the verifier was swapped {} time(s) while this ran; nothing was lost", self.verifier_swaps),
        ];
        if self.ok {
            lines.iter().for_each(|line| say(&format!("  ✓ {line}"), Colour::Green));
        } else {
            self.broken.iter().for_each(|line| say(&format!("  ✗ {line}"), Colour::Red));
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Good => "good",
        Kind::Forged => "forged",
        Kind::Stale => "stale",
        Kind::Replayed => "replayed",
    }
}

/// Whether Kafka holds as much as was acknowledged; until then the summary can wait.
pub(super) fn is_complete(notes: &Notes) -> bool {
    let wanted = |kind_refused: bool| notes.answers.iter().filter(|answer| answer.accepted != kind_refused).count();
    notes.reports.iter().all(|report| notes.states.contains_key(report))
        && notes.commands.len() >= wanted(false)
        && notes.audits.values().sum::<usize>() >= wanted(true)
}

fn broken_promises(notes: &Notes, verifier_swaps: usize) -> Vec<String> {
    let mut broken = Vec::new();
    for report in &notes.reports {
        match notes.states.get(report).copied().unwrap_or_default() {
            1 => {}
            times => broken.push(format!("report {report} was acknowledged and is on message_state {times} times")),
        }
    }
    for answer in &notes.answers {
        let id = &answer.attempt.process_id;
        let expected = answer.attempt.kind.refusal();
        if answer.accepted != expected.is_none() || answer.words.as_deref() != expected {
            broken.push(format!("{} command {id}: accepted={}, {:?}", word(answer.attempt.kind), answer.accepted, answer.words));
        }
        match expected {
            None => {
                for (what, times) in [("reached its lock", notes.reached.get(id)), ("is on message_command", notes.commands.get(id))] {
                    if times != Some(&1) {
                        broken.push(format!("good command {id} {what} {} times", times.copied().unwrap_or_default()));
                    }
                }
            }
            Some(reason) => {
                if notes.audits.get(&(id.clone(), reason.to_owned())) != Some(&1) {
                    broken.push(format!("{reason} command {id} is not on message_audit exactly once"));
                }
                if answer.attempt.kind != Kind::Replayed && notes.reached.contains_key(id) {
                    broken.push(format!("{reason} command {id} reached a lock"));
                }
            }
        }
    }
    if notes.reports.is_empty() || notes.answers.is_empty() {
        broken.push("nothing happened: no report was acknowledged, or no command answered".to_owned());
    }
    if verifier_swaps == 0 {
        broken.push("the verifier was not swapped".to_owned());
    }
    broken
}
