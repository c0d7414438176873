//! What the devices saw, and what Kafka holds: noted as it happens, compared at the end.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use serde::Serialize;

use super::devices::LOCKS;
use crate::kafka::StoredRecord;

/// What the app tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Good,
    Forged,
    Stale,
    Replayed,
}

impl Kind {
    pub(super) const ALL: &'static [Kind] = &[Kind::Good, Kind::Forged, Kind::Stale, Kind::Replayed];

    /// The verifier's reason for refusing it; none for a good one.
    pub(super) fn refusal(self) -> Option<&'static str> {
        match self {
            Kind::Good => None,
            Kind::Forged => Some("bad-signature"),
            Kind::Stale => Some("stale"),
            Kind::Replayed => Some("replayed"),
        }
    }
}

/// One command on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) lock: &'static str,
    pub(super) process_id: String,
    pub(super) kind: Kind,
}

/// One command and its answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) attempt: Attempt,
    pub(super) accepted: bool,
    pub(super) words: Option<String>,
}

/// Everything noted.
#[derive(Debug, Default)]
pub(super) struct Board {
    ready_locks: AtomicUsize,
    app_gone: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Process ids of state reports that were acknowledged.
    pub(super) reports: HashSet<String>,
    /// The app's commands, in order.
    pub(super) answers: Vec<Answer>,
    /// How often each command reached its lock.
    pub(super) reached: HashMap<String, usize>,
    /// Records per Kafka topic.
    pub(super) records: HashMap<String, usize>,
    /// How often Kafka holds each report, executed command, and refused command with its reason.
    pub(super) states: HashMap<String, usize>,
    pub(super) commands: HashMap<String, usize>,
    pub(super) audits: HashMap<(String, String), usize>,
    /// Records that carry the verifier's header.
    pub(super) verified: usize,
    /// Records that carry the low-battery header.
    pub(super) low_battery: usize,
}

impl Board {
    pub(super) fn lock_ready(&self) {
        self.ready_locks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn locks_are_ready(&self) -> bool {
        self.ready_locks.load(Ordering::Relaxed) >= LOCKS.len()
    }

    pub(super) fn app_left(&self) {
        self.app_gone.store(true, Ordering::Relaxed);
    }

    /// A lock stays until the app is gone and everything accepted for it has arrived.
    pub(super) fn lock_may_leave(&self, lock: &str) -> bool {
        let notes = self.notes.lock();
        let arrived = |answer: &&Answer| notes.reached.contains_key(&answer.attempt.process_id);
        self.app_gone.load(Ordering::Relaxed)
            && notes.answers.iter().filter(|answer| answer.accepted && answer.attempt.lock == lock).all(|answer| arrived(&answer))
    }

    pub(super) fn report_acknowledged(&self, report: String) {
        self.notes.lock().reports.insert(report);
    }

    pub(super) fn command_reached(&self, lock: &str, payload: &[u8]) {
        let Some(id) = process_id(payload) else { return };
        *self.notes.lock().reached.entry(id.clone()).or_default() += 1;
        say(&format!("          lock …{} has command {id}", tail(lock)), Colour::Green);
    }

    pub(super) fn answered(&self, attempt: Attempt, accepted: bool, words: Option<String>) {
        let what = match attempt.kind.refusal() {
            None => "good command    ",
            Some("bad-signature") => "FORGED command  ",
            Some("stale") => "STALE command   ",
            Some(_) => "REPLAYED command",
        };
        let answer = match (&words, accepted) {
            (_, true) => "accepted".to_owned(),
            (Some(words), false) => format!("refused: {words}"),
            (None, false) => "refused".to_owned(),
        };
        let colour = if accepted { Colour::Plain } else { Colour::Red };
        say(&format!("app  ──▶ lock …{}  {what} {}  {answer}", tail(attempt.lock), attempt.process_id), colour);
        self.notes.lock().answers.push(Answer { attempt, accepted, words });
    }

    pub(super) fn stored(&self, record: &StoredRecord) {
        let mut notes = self.notes.lock();
        *notes.records.entry(record.topic.clone()).or_default() += 1;
        notes.verified += usize::from(has_header(record, "verified"));
        notes.low_battery += usize::from(has_header(record, "low-battery"));
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&record.value) else { return };
        let payload = json["payload"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        let Some(id) = process_id(&payload) else { return };
        match record.topic.as_str() {
            "message_state" => *notes.states.entry(id).or_default() += 1,
            "message_command" => *notes.commands.entry(id).or_default() += 1,
            "message_audit" => {
                let reason = json["explanation"].as_str().unwrap_or_default().to_owned();
                *notes.audits.entry((id, reason)).or_default() += 1;
            }
            _ => {}
        }
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Notes) -> T) -> T {
        look(&self.notes.lock())
    }
}

fn has_header(record: &StoredRecord, name: &str) -> bool {
    record.headers.iter().any(|header| header.name == name && header.value == "true")
}

fn process_id(payload: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
    Some(json["process_id"].as_str()?.to_owned())
}

fn tail(lock: &str) -> &str {
    lock.get(lock.len().saturating_sub(4)..).unwrap_or(lock)
}

/// How a line of the demo is coloured on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Green,
    Red,
    Bold,
}

/// Prints a line of the demo to standard error, so that standard output stays free for `--json`.
pub(super) fn say(line: &str, colour: Colour) {
    use std::io::IsTerminal as _;
    let code = match colour {
        Colour::Plain => "",
        Colour::Green => "\x1b[32m",
        Colour::Red => "\x1b[31m",
        Colour::Bold => "\x1b[1m",
    };
    if code.is_empty() || !std::io::stderr().is_terminal() {
        eprintln!("{line}");
    } else {
        eprintln!("{code}{line}\x1b[0m");
    }
}
