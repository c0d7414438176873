//! How a route makes its record of an event: the checked template of the configuration, made ready once.
//!
//! Texts that are always the same are kept ready; a key that is the client's id is not copied; nothing is asked of an event that no
//! template wants. What a template renders to may be no topic or no partition: such a record is refused, as Kafka would refuse it, never
//! put elsewhere in silence. A time that cannot be meant is replaced by the event's.

use std::collections::HashSet;

use parking_lot::RwLock;

use super::{complaints::Complaints, format, moment, scope::Scope};
use crate::{
    config::{self, Field, Format, Part, PartitionRule, PayloadEncoding, Template, TimestampRule},
    event::{Bytes, Header, Refusal, Text, now_ms},
    kafka::{Choice, RecordId},
    metrics::{Metrics, ReasonLabel},
};

/// No device meant an earlier time: 2000-01-01. Seconds that are taken for milliseconds are earlier.
const EARLIEST_MS: u64 = 946_684_800_000;
/// Kafka refuses records from further in the future (`log.message.timestamp.after.max.ms`), and with them their whole batch.
const MOST_AHEAD_MS: u64 = 3_600_000;
/// How many topics one template may name: librdkafka keeps each for ever, and devices may have a say in them.
const MOST_TOPICS: usize = 10_000;

/// How a route makes its record.
#[derive(Debug)]
pub(super) struct Recipe {
    topic: Words,
    as_written: Text,
    /// What the topic's template has rendered to.
    topics: RwLock<HashSet<Text>>,
    key: Words,
    headers: Vec<(Text, Words)>,
    partition: Partition,
    timestamp: Timestamp,
    format: Format,
    payload: PayloadEncoding,
    metadata: bool,
    pub(super) has_event_id: bool,
    complaints: Complaints,
}

/// A text that is made ready.
#[derive(Debug)]
enum Words {
    Constant(Text),
    Template(Vec<Part>),
}

#[derive(Debug)]
enum Partition {
    Choice(Choice),
    Template(Vec<Part>),
}

#[derive(Debug)]
enum Timestamp {
    Event,
    Now,
    Template(Vec<Part>),
}

/// A record as far as the route makes it: guests may put another topic, key or value in its place.
pub(super) struct Draft {
    /// Where it goes, or why it cannot go there.
    pub(super) topic: Result<Text, Unfit>,
    pub(super) partition: Result<Choice, Unfit>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
    /// The route's own headers; those of the format come before them, those of guests after them.
    pub(super) headers: Vec<Header>,
    pub(super) timestamp_ms: u64,
}

/// A template rendered to what Kafka cannot take.
#[derive(Clone, Debug)]
pub(super) struct Unfit {
    /// Counts it.
    pub(super) reason: &'static str,
    /// For the log and the publisher.
    pub(super) explanation: Text,
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        Refusal::Other(unfit.explanation)
    }
}

impl Words {
    fn new(template: &Template, route: &config::Route) -> Self {
        let parts = settle(template, route);
        match parts.as_slice() {
            [] => Words::Constant(Text::new()),
            [Part::Literal(text)] => Words::Constant(text.as_str().into()),
            _ => Words::Template(parts),
        }
    }

    fn text(&self, scope: &Scope<'_>) -> Text {
        match self {
            Words::Constant(text) => text.clone(),
            Words::Template(parts) => scope.fill(parts),
        }
    }
}

/// A template's parts with what is the same for all events of a route filled in.
fn settle(template: &Template, route: &config::Route) -> Vec<Part> {
    let mut settled: Vec<Part> = Vec::new();
    for part in template.parts() {
        let part = match part {
            Part::Field { field: Field::Route, .. } => Part::Literal(route.name.clone()),
            Part::Field { field: Field::Hook, .. } => Part::Literal(route.hook.name().to_owned()),
            part => part.clone(),
        };
        match (settled.last_mut(), part) {
            (Some(Part::Literal(before)), Part::Literal(text)) => before.push_str(&text),
            (_, part) => settled.push(part),
        }
    }
    settled
}

impl Recipe {
    /// `None`: the route makes no record.
    pub(super) fn new(route: &config::Route) -> Option<Self> {
        let record = route.record.as_ref()?;
        let headers = record.headers.iter().map(|(name, template)| (name.as_str().into(), Words::new(template, route)));
        let partition = match &record.partition {
            PartitionRule::Key => Partition::Choice(Choice::Key),
            PartitionRule::RoundRobin => Partition::Choice(Choice::RoundRobin),
            PartitionRule::Sticky => Partition::Choice(Choice::Sticky),
            PartitionRule::Random => Partition::Choice(Choice::Random),
            PartitionRule::Fixed(template) => match template.constant().and_then(|number| number.parse().ok()) {
                Some(number) => Partition::Choice(Choice::Fixed(number)),
                None => Partition::Template(settle(template, route)),
            },
        };
        let timestamp = match &record.timestamp {
            TimestampRule::Event => Timestamp::Event,
            TimestampRule::Now => Timestamp::Now,
            TimestampRule::Given(template) => Timestamp::Template(settle(template, route)),
        };
        Some(Recipe {
            topic: Words::new(&record.topic, route),
            as_written: record.topic.to_string().into(),
            topics: RwLock::default(),
            key: Words::new(&record.key, route),
            headers: headers.collect(),
            partition,
            timestamp,
            format: record.format,
            payload: record.payload,
            metadata: record.metadata,
            has_event_id: record.event_id,
            complaints: Complaints::default(),
        })
    }

    /// The record of an event, but for what guests say.
    pub(super) fn make(&self, route: &str, scope: &Scope<'_>, metrics: &Metrics) -> Draft {
        let key = self.key.text(scope).into_bytes();
        Draft {
            topic: self.topic(scope),
            partition: self.partition(scope),
            key: (!key.is_empty()).then_some(key),
            value: format::value(scope, self.format, self.payload),
            headers: self.headers.iter().map(|(name, words)| Header { name: name.clone(), value: words.text(scope) }).collect(),
            timestamp_ms: self.timestamp_ms(route, scope, metrics),
        }
    }

    /// The headers of the format, for the record of this id.
    pub(super) fn format_headers(&self, scope: &Scope<'_>, id: RecordId, headers: &mut Vec<Header>) {
        format::headers(scope, self.format, self.metadata, id, headers);
    }

    fn topic(&self, scope: &Scope<'_>) -> Result<Text, Unfit> {
        match &self.topic {
            Words::Constant(text) => Ok(text.clone()),
            Words::Template(parts) => {
                let name = scope.fill(parts);
                if self.topics.read().contains(&name) {
                    return Ok(name);
                }
                if !config::is_kafka_topic(&name) {
                    let explanation = format!("\"{}\" is no Kafka topic name", shown(&name)).into();
                    return Err(Unfit { reason: "illegal-topic", explanation });
                }
                self.admit(name)
            }
        }
    }

    /// A topic that this template has not named before.
    fn admit(&self, name: Text) -> Result<Text, Unfit> {
        let mut topics = self.topics.write();
        if topics.len() >= MOST_TOPICS {
            let explanation = format!("topic \"{name}\" would be one too many: this route has named {MOST_TOPICS} others").into();
            return Err(Unfit { reason: "too-many-topics", explanation });
        }
        topics.insert(name.to_string().into()); // the text may be a slice of a large buffer, which must not be kept for it
        Ok(name)
    }

    fn partition(&self, scope: &Scope<'_>) -> Result<Choice, Unfit> {
        match &self.partition {
            Partition::Choice(choice) => Ok(*choice),
            Partition::Template(parts) => {
                let text = scope.fill(parts);
                let number = text.parse().ok().filter(|number: &i32| !number.is_negative());
                number.map(Choice::Fixed).ok_or_else(|| Unfit {
                    reason: "illegal-partition",
                    explanation: format!("\"{}\" is no number of a partition", shown(&text)).into(),
                })
            }
        }
    }

    fn timestamp_ms(&self, route: &str, scope: &Scope<'_>, metrics: &Metrics) -> u64 {
        let event_ms = scope.event.time_ms;
        let parts = match &self.timestamp {
            Timestamp::Event => return event_ms,
            Timestamp::Now => return now_ms(),
            Timestamp::Template(parts) => parts,
        };
        let text = scope.fill(parts);
        let given = moment::parse_ms(&text).filter(|ms| (EARLIEST_MS..=event_ms.saturating_add(MOST_AHEAD_MS)).contains(ms));
        given.unwrap_or_else(|| {
            metrics.record_timestamps_replaced.get_or_create(&route.into()).inc();
            if let Some(before) = self.complaints.about("timestamp", now_ms()) {
                tracing::warn!(
                    route,
                    before,
                    "\"{}\" is no time that a record could have: the event's is taken ({before} more before it)",
                    shown(&text)
                );
            }
            event_ms
        })
    }

    /// The topic's template, for records that have no topic.
    pub(super) fn topic_as_written(&self) -> Text {
        self.as_written.clone()
    }

    /// A record cannot be made as the route says: counted and logged.
    pub(super) fn complain(&self, route: &str, unfit: &Unfit, metrics: &Metrics) {
        let label = ReasonLabel { name: route.to_owned(), reason: unfit.reason.to_owned() };
        metrics.records_unfit.get_or_create(&label).inc();
        if let Some(before) = self.complaints.about(unfit.reason, now_ms()) {
            let (reason, explanation) = (unfit.reason, &*unfit.explanation);
            tracing::error!(route, reason, before, "a record cannot be produced: {explanation} ({before} more before it)");
        }
    }
}

/// The beginning of a text that a device may have written.
fn shown(text: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_wrote_is_shown_in_part() {
        assert_eq!(shown("a\n\u{1b}b"), "a\\n\\u{1b}b");
        assert_eq!(shown(&"ä".repeat(65)), format!("{}…", "ä".repeat(64)));
    }
}
