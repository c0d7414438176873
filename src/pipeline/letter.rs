//! Dead letters: what `on_failure = "dead-letter"` makes of an event that a guest gave no verdict on.

use std::sync::Arc;

use super::{ask::Heard, format, plan::Route, scope::Scope};
use crate::{
    config::{Format, PayloadEncoding},
    event::{Event, Header, Text, now_ms},
    guest::{Failure, Guest},
    kafka::{Record, RecordId},
    outbox::Way,
};

/// Who failed for whom, and how.
pub(super) struct Letter<'a> {
    route: &'a Route,
    guest: Arc<Guest>,
    failure: Failure,
    calls: u32,
}

impl<'a> Letter<'a> {
    /// About the last call of a guest.
    pub(super) fn new<T>(route: &'a Route, heard: &Heard<T>, failure: &Failure) -> Self {
        Letter { route, guest: Arc::clone(&heard.by), failure: failure.clone(), calls: heard.calls }
    }

    /// The name of the guest that failed.
    pub(super) fn guest(&self) -> &str {
        self.guest.name()
    }

    /// Where it goes.
    pub(super) fn way(&self) -> &'a Way {
        &self.route.way
    }

    /// The record: the whole event in the envelope, as it was before any guest saw it, and what went wrong in headers.
    pub(super) fn record(&self, topic: &Text, event: &Event, node: &Text) -> Record {
        let header = |name: &'static str, value: &str| Header { name: Text::from_static(name), value: value.into() };
        let mut headers = vec![
            header("route", &self.route.name),
            header("hook", event.detail.hook().name()),
            header("guest", self.guest.name()),
            header("version", self.guest.digest()),
            header("failure", self.failure.reason()),
            header("error", &self.failure.to_string()),
            header("attempts", &self.calls.to_string()),
            header("time", &now_ms().to_string()),
        ];
        if let [_, ..] = self.failure.functions() {
            headers.push(header("backtrace", &self.failure.functions().join("\n")));
        }
        Record {
            topic: topic.clone(),
            key: Some(event.client.client_id.clone().into_bytes()),
            value: format::value(&Scope::new(event, node), Format::Envelope, PayloadEncoding::Base64),
            id: Some(RecordId { event: event.id, part: 0 }),
            headers,
            timestamp_ms: event.time_ms,
            ..Record::default()
        }
    }
}
