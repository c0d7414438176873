//! From an event to the Kafka records that a route makes of it.

use super::{
    plan::Route,
    recipe::{Draft, Recipe, Unfit},
    scope::Scope,
};
use crate::{
    event::{Header, KafkaRecord, Refusal, Text},
    kafka::{Choice, Record, RecordId},
    metrics::Metrics,
};

/// What a chain of guests asked for, beside its verdict.
#[derive(Debug, Default)]
pub(super) struct Shaping {
    /// More headers.
    pub(super) headers: Vec<Header>,
    /// These records instead of the route's own.
    pub(super) records: Option<Vec<KafkaRecord>>,
}

/// A record, or one that can be given to nobody.
pub(super) type Made = Result<Record, Box<Unmade>>;

/// A record without a topic or a partition that Kafka has.
#[derive(Debug)]
pub(super) struct Unmade {
    /// What there is of it; without a topic of its own it has the route's template as one.
    pub(super) record: Record,
    /// Why it goes nowhere.
    pub(super) refusal: Refusal,
}

/// The records that one event becomes on one route: the route's own, or those of its guests.
pub(super) type Records = std::iter::Chain<std::option::IntoIter<Made>, std::vec::IntoIter<Made>>;

/// The records that an event becomes on `route`; none when the route names no topic and the guests asked for none.
pub(super) fn records(route: &Route, scope: &Scope<'_>, shaping: Shaping, metrics: &Metrics) -> Records {
    let Shaping { headers, records } = shaping;
    let kitchen = Kitchen { route, scope, headers, metrics };
    let draft = route.recipe.as_ref().map(|recipe| recipe.make(&route.name, scope, metrics));
    let (own, emitted) = match (draft, records) {
        (None, None) => (None, Vec::new()),
        (Some(draft), None) => (Some(kitchen.own(draft)), Vec::new()),
        (draft, Some(asked)) => (None, kitchen.emitted(draft.as_ref(), asked)),
    };
    own.into_iter().chain(emitted)
}

/// What all records of an event on a route are made with.
struct Kitchen<'a, 'b> {
    route: &'b Route,
    scope: &'b Scope<'a>,
    /// Of guests of this route.
    headers: Vec<Header>,
    metrics: &'b Metrics,
}

impl Kitchen<'_, '_> {
    fn own(&self, draft: Draft) -> Made {
        let Draft { topic, partition, key, value, headers, timestamp_ms } = draft;
        let id = self.id(0);
        let headers = self.headers(id, headers, &[]);
        self.addressed(topic, partition, Record { key, value, id: self.shown(id), headers, timestamp_ms, ..Record::default() })
    }

    fn emitted(&self, draft: Option<&Draft>, asked: Vec<KafkaRecord>) -> Vec<Made> {
        (1..).zip(asked).filter_map(|(part, asked)| self.overlay(draft, asked, part)).collect()
    }

    /// A record as a guest asked for it, over the route's own. A record without any topic goes nowhere, and the log says so.
    fn overlay(&self, own: Option<&Draft>, asked: KafkaRecord, part: u32) -> Option<Made> {
        let route = &self.route.name;
        let topic = match (asked.topic, own) {
            (Some(topic), _) => Ok(topic),
            (None, Some(own)) => own.topic.clone(),
            (None, None) => {
                tracing::warn!(route, "a guest asked for a record without a topic, and the route has none: not produced");
                return None;
            }
        };
        let partition = own.map_or(Ok(Choice::Key), |own| own.partition.clone());
        let event = self.scope.event;
        let key = asked.key.or_else(|| own.map_or_else(|| Some(event.client.client_id.clone().into_bytes()), |own| own.key.clone()));
        let id = self.id(part);
        let record = Record {
            key,
            value: asked.value.or_else(|| own.map(|own| own.value.clone())).unwrap_or_default(),
            id: self.shown(id),
            headers: self.headers(id, own.map_or_else(Vec::new, |own| own.headers.clone()), &asked.headers),
            timestamp_ms: own.map_or(event.time_ms, |own| own.timestamp_ms),
            ..Record::default()
        };
        Some(self.addressed(topic, partition, record))
    }

    /// The record with its address, if it has one; else that is counted and logged.
    fn addressed(&self, topic: Result<Text, Unfit>, partition: Result<Choice, Unfit>, record: Record) -> Made {
        let (topic, unfit) = match (topic, partition) {
            (Ok(topic), Ok(partition)) => return Ok(Record { topic, partition, ..record }),
            (Ok(topic), Err(unfit)) => (topic, unfit),
            (Err(unfit), _) => (self.route.recipe.as_ref().map(Recipe::topic_as_written).unwrap_or_default(), unfit),
        };
        if let Some(recipe) = &self.route.recipe {
            recipe.complain(&self.route.name, &unfit, self.metrics);
        }
        Err(Box::new(Unmade { record: Record { topic, ..record }, refusal: unfit.into() }))
    }

    /// The format's, the route's, those that guests gave the message, those of this route's guests, those of the record itself. Without
    /// any of them nothing is allocated.
    fn headers(&self, id: RecordId, mut of_route: Vec<Header>, of_record: &[Header]) -> Vec<Header> {
        let mut headers = Vec::new();
        if let Some(recipe) = &self.route.recipe {
            recipe.format_headers(self.scope, id, &mut headers);
            headers.append(&mut of_route);
            if let Some(message) = self.scope.event.detail.message() {
                headers.extend_from_slice(&message.annotations);
            }
            headers.extend_from_slice(&self.headers);
        }
        headers.extend_from_slice(of_record);
        headers
    }

    fn id(&self, part: u32) -> RecordId {
        RecordId { event: self.scope.event.id, part }
    }

    /// The id, when the route's records carry it.
    fn shown(&self, id: RecordId) -> Option<RecordId> {
        self.route.recipe.as_ref().is_none_or(|recipe| recipe.has_event_id).then_some(id)
    }
}

#[cfg(test)]
mod tests;
