//! What two answers to the same question do not share, in words.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::{Outcome, Question, Verdict};
use crate::event::{Answer, Changes, Denial, ExchangeVerdict, Header, KafkaRecord, Message, ObserveVerdict, PublishVerdict};

/// What is shown of one value, characters.
const SHOWN: usize = 160;
/// What is shown before the first character that differs, characters.
const LEAD: usize = 20;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `verdict`, `payload`, `headers`, `record 1`, …
    pub what: String,
    /// As it was, shortened; `None`: it was not there.
    pub before: Option<String>,
    /// As it is, shortened; `None`: it is not there.
    pub after: Option<String>,
}

/// `verdict: pass → deny 0x87 "stale"`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |side: &Option<String>| side.clone().unwrap_or_else(|| "–".to_owned());
        write!(f, "{}: {} → {}", self.what, word(&self.before), word(&self.after))
    }
}

/// What differs between two answers to `question`; empty when whoever acts on them does the same. A change that changes nothing is a pass;
/// failures are the same when their reasons are.
pub fn differences(question: &Question, before: &Outcome, after: &Outcome) -> Vec<Difference> {
    let (before, after) = (facets(question, before), facets(question, after));
    let mut found = Vec::new();
    for facet in &before {
        let now = after.iter().find(|other| other.what == facet.what);
        if now.is_none_or(|now| now.value != facet.value) {
            found.push(difference(Some(facet), now));
        }
    }
    let new = after.iter().filter(|facet| !before.iter().any(|other| other.what == facet.what));
    found.extend(new.map(|facet| difference(None, Some(facet))));
    found
}

/// One part of an answer that can differ on its own.
struct Facet {
    what: String,
    /// What is compared.
    value: Vec<u8>,
    /// What is shown.
    words: String,
}

impl Facet {
    fn text(what: &str, text: impl Into<String>) -> Self {
        let words = text.into();
        Facet { what: what.to_owned(), value: words.clone().into_bytes(), words }
    }

    fn bytes(what: &str, bytes: &[u8]) -> Self {
        Facet { what: what.to_owned(), value: bytes.to_vec(), words: readable(bytes) }
    }
}

fn facets(question: &Question, outcome: &Outcome) -> Vec<Facet> {
    let verdict = |words: &str| vec![Facet::text("verdict", words)];
    match outcome {
        Err(failed) => {
            let mut facet = Facet::text("verdict", format!("failure {}", failed.reason));
            let _ = write!(facet.words, ": {}", failed.text); // the text may name addresses: it is shown, not compared
            vec![facet]
        }
        Ok(Verdict::Publish(PublishVerdict::Pass) | Verdict::Observe(ObserveVerdict::Pass)) => verdict("pass"),
        Ok(Verdict::Publish(PublishVerdict::Change(changes))) => change(question, changes),
        Ok(Verdict::Publish(PublishVerdict::Drop(why)) | Verdict::Observe(ObserveVerdict::Drop(why))) => verdict(&format!("drop {why:?}")),
        Ok(Verdict::Publish(PublishVerdict::Deny(denial)) | Verdict::Access(Answer::Deny(denial))) => verdict(&deny(denial)),
        Ok(Verdict::Observe(ObserveVerdict::Annotate(headers))) if headers.is_empty() => verdict("pass"),
        Ok(Verdict::Observe(ObserveVerdict::Annotate(headers))) => {
            vec![Facet::text("verdict", "annotate"), Facet::text("headers", pairs(headers))]
        }
        Ok(Verdict::Observe(ObserveVerdict::Emit(list))) => verdict("emit").into_iter().chain(records(list)).collect(),
        Ok(Verdict::Access(Answer::Allow) | Verdict::Exchange(ExchangeVerdict::Allow(_))) => verdict("allow"),
        Ok(Verdict::Access(Answer::Abstain) | Verdict::Exchange(ExchangeVerdict::Abstain)) => verdict("abstain"),
        Ok(Verdict::Exchange(ExchangeVerdict::Deny(denial))) => verdict(&deny(denial)),
        Ok(Verdict::Exchange(ExchangeVerdict::Proceed { .. })) => verdict("proceed"),
    }
}

fn deny(denial: &Denial) -> String {
    format!("deny {:#04x} {:?}", denial.reason_code, &*denial.reason)
}

fn change(question: &Question, changes: &Changes) -> Vec<Facet> {
    let mut facets = match (question, &changes.message) {
        (Question::Publish(original), Some(changed)) => message(original, changed),
        _ => Vec::new(),
    };
    if !changes.headers.is_empty() {
        facets.push(Facet::text("headers", pairs(&changes.headers)));
    }
    facets.extend(changes.records.as_ref().map(|list| records(list)).into_iter().flatten());
    let verdict = Facet::text("verdict", if facets.is_empty() { "pass" } else { "change" });
    std::iter::once(verdict).chain(facets).collect()
}

/// What `changed` has another way than `original`.
fn message(original: &Message, changed: &Message) -> Vec<Facet> {
    let mut facets = Vec::new();
    let mut note = |what: &str, differs: bool, value: Vec<u8>| {
        if differs {
            facets.push(Facet::bytes(what, &value));
        }
    };
    note("topic", original.topic != changed.topic, changed.topic.as_bytes().to_vec());
    note("payload", original.payload != changed.payload, changed.payload.to_vec());
    note("qos", original.qos != changed.qos, changed.qos.level().to_string().into_bytes());
    note("retain", original.retain != changed.retain, changed.retain.to_string().into_bytes());
    let (of, now) = (original.properties.clone().unwrap_or_default(), changed.properties.clone().unwrap_or_default());
    let or_none = |value: Option<Vec<u8>>| value.unwrap_or_else(|| b"none".to_vec());
    note("expiry_s", of.expiry_s != now.expiry_s, or_none(now.expiry_s.map(|seconds| seconds.to_string().into_bytes())));
    note("content_type", of.content_type != now.content_type, or_none(now.content_type.map(|text| text.as_bytes().to_vec())));
    note("response_topic", of.response_topic != now.response_topic, or_none(now.response_topic.map(|text| text.as_bytes().to_vec())));
    note("correlation_data", of.correlation_data != now.correlation_data, or_none(now.correlation_data.map(|data| data.to_vec())));
    note("user_properties", of.user_properties != now.user_properties, pairs(&now.user_properties).into_bytes());
    facets
}

fn records(list: &[KafkaRecord]) -> Vec<Facet> {
    let record = |(index, record): (usize, &KafkaRecord)| {
        let part = |name: &str, bytes: Option<&[u8]>| bytes.map_or_else(String::new, |bytes| format!("{name} {} ", readable(bytes)));
        let topic = part("topic", record.topic.as_ref().map(|topic| &**topic.as_bytes()));
        let (key, value) = (part("key", record.key.as_deref()), part("value", record.value.as_deref()));
        Facet::text(&format!("record {}", index + 1), format!("{topic}{key}{value}headers [{}]", pairs(&record.headers)))
    };
    std::iter::once(Facet::text("records", list.len().to_string())).chain(list.iter().enumerate().map(record)).collect()
}

fn pairs(headers: &[Header]) -> String {
    headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect::<Vec<_>>().join(", ")
}

/// Text as it is, other bytes in hexadecimal.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
            text
        }),
    }
}

fn difference(before: Option<&Facet>, after: Option<&Facet>) -> Difference {
    let words = |facet: Option<&Facet>| facet.map(|facet| facet.words.chars().collect::<Vec<char>>());
    let (one, other) = (words(before), words(after));
    let shared = match (&one, &other) {
        (Some(one), Some(other)) => one.iter().zip(other).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let longest = [&one, &other].into_iter().flatten().map(Vec::len).max().unwrap_or(0);
    let start = if longest > SHOWN { shared.saturating_sub(LEAD) } else { 0 };
    let what = before.or(after).map(|facet| facet.what.clone()).unwrap_or_default();
    Difference { what, before: one.map(|words| shown(&words, start)), after: other.map(|words| shown(&words, start)) }
}

/// A part of a text that fits on a line and cannot steer a terminal.
fn shown(words: &[char], start: usize) -> String {
    let part = words.iter().skip(start).take(SHOWN).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { *c });
    let ends = words.len() > start + SHOWN;
    let cut = |cut: bool| if cut { "…" } else { "" };
    format!("{}{}{}", cut(start > 0), part.collect::<String>(), cut(ends))
}
