//! `[[route]]`: which events meet which guests, and which records they become.

use std::{path::Path, time::Duration};

use super::{
    capture::Capture,
    delivery::Delivery,
    problem::{Placed, did_you_mean},
    reader::Table,
    record::RecordTemplate,
};
use crate::{
    hook::{DropReason, Hook, Kind},
    topic::{self, TopicFilter},
};

/// Which events go where.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// For logs and metrics; `hook filter` when it is not given.
    pub name: String,
    /// Where the table stands.
    pub place: Placed<()>,
    /// Which hook's events.
    pub hook: Hook,
    /// Of those, the ones whose topic matches one of these; empty: all.
    pub filters: Vec<TopicFilter>,
    /// But not the ones whose topic matches one of these.
    pub excluded: Vec<TopicFilter>,
    /// For `message.dropped`, the ones with one of these reasons; empty: all.
    pub reasons: Vec<DropReason>,
    /// Names of the guests asked, in order.
    pub guests: Vec<Placed<String>>,
    /// What is produced; `None`: nothing, the guests only decide.
    pub record: Option<RecordTemplate>,
    /// How the record reaches Kafka, and when the device is told.
    pub delivery: Delivery,
    /// What happens when a guest cannot answer.
    pub on_failure: OnFailure,
    /// How often it is asked again before that.
    pub retry: Option<Retry>,
    /// Which calls of its guests are recorded.
    pub capture: Option<Capture>,
}

/// How often a guest that gave no verdict is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further calls.
    pub times: u32,
    /// Before the first of them; twice as long before each further one.
    pub backoff: Duration,
}

impl Retry {
    /// The longest wait between two calls.
    pub const MAX_BACKOFF: Duration = Duration::from_secs(10);
}

/// What the routes are read beside.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The configuration's folder.
    pub(super) folder: &'a Path,
    pub(super) data_dir: Option<&'a Path>,
}

/// What happens to an event on which a guest trapped, overran, faulted or had no free instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Refuse the publish, or the client (0x83, implementation specific error).
    Deny,
    /// Go on as if the guest had passed it, or had nothing to say about the client.
    Pass,
    /// Swallow it.
    Drop,
    /// Produce it to the dead letter topic with the error; a publish is acknowledged once it is there, and reaches nobody else.
    DeadLetter,
}

impl Route {
    pub(super) fn read(table: &mut Table<'_>, around: Around<'_>) -> Option<Self> {
        let hook = Self::read_hook(table);
        let filters = read_filters(table, "filter", hook);
        let excluded = read_exclusions(table, hook, &filters);
        let reasons = read_reasons(table, hook);
        let guests = table.texts("guests");
        let record = RecordTemplate::read(table, hook);
        let is_produced = table.placed("topic").is_some();
        let delivery = Delivery::read(table, hook, is_produced, around.data_dir.is_some());
        let (on_failure, retry) = OnFailure::read(table);
        let capture = table.table("capture", |capture| Capture::read(capture, around.folder, around.data_dir)).flatten();
        if let (true, Some(place)) = (guests.is_empty(), table.placed("capture")) {
            table.refuse_at(&place, "capture", " does nothing without guests: it records their calls", "remove it, or name guests");
        }
        let name = table.text("name");
        let hook = hook?;
        if guests.is_empty() && record.is_none() && table.text("topic").is_none() {
            table.refuse("neither `guests` nor `topic`: this route does nothing", "name a Kafka topic, or the guests to ask");
        }
        if let (true, Some(place), Some(_)) = (guests.is_empty(), table.place_of("on_failure"), &retry) {
            table.refuse_at(&place, "on_failure", " does nothing without guests", "remove it, or name guests");
        } else if let Some(policy) = &on_failure {
            if guests.is_empty() {
                table.refuse_at(&policy.place, "on_failure", " does nothing without guests", "remove it, or name guests");
            } else if hook.kind() == Kind::Access && !matches!(policy.value, OnFailure::Deny | OnFailure::Pass) {
                let message = format_args!(": on {hook} somebody waits for yes or no");
                table.refuse_at(&policy.place, "on_failure", message, "deny, or pass to ask the next");
            } else if policy.value == OnFailure::Deny && hook.kind() == Kind::Observe {
                table.refuse_at(
                    &policy.place,
                    "on_failure",
                    format_args!(": {hook} has happened already, it cannot be denied"),
                    "pass, drop or dead-letter",
                );
            }
        }
        let default = if hook.kind() == Kind::Observe { OnFailure::DeadLetter } else { OnFailure::Deny };
        let label = || filters.iter().fold(hook.to_string(), |label, filter: &TopicFilter| format!("{label} {filter}"));
        Some(Route {
            name: name.map_or_else(label, |name| name.value),
            place: Placed { value: (), place: table.place().clone() },
            hook,
            reasons,
            guests,
            record,
            delivery,
            on_failure: on_failure.map_or(default, |policy| policy.value),
            retry,
            capture,
            filters,
            excluded,
        })
    }

    fn read_hook(table: &mut Table<'_>) -> Option<Hook> {
        let known: Vec<(&str, Hook)> = Hook::ALL.iter().map(|hook| (hook.name(), *hook)).collect();
        table.require("hook", "\"message.publish\"");
        table.choice("hook", &known).map(|hook| hook.value)
    }
}

impl OnFailure {
    const WORDS: [(&'static str, OnFailure); 4] =
        [("deny", OnFailure::Deny), ("pass", OnFailure::Pass), ("drop", OnFailure::Drop), ("dead-letter", OnFailure::DeadLetter)];

    /// `on_failure = "deny"`, or `{ retry = 3, backoff = "20ms", then = "deny" }`.
    pub(super) fn read(table: &Table<'_>) -> (Option<Placed<Self>>, Option<Retry>) {
        if !table.is_table("on_failure") {
            return (table.choice("on_failure", &Self::WORDS), None);
        }
        let place = table.place_of("on_failure");
        let read = |inner: &mut Table<'_>| {
            inner.require("retry", "3, the number of further calls");
            let times = inner.integer("retry", 1..=10, 3) as u32;
            let backoff = inner.duration("backoff", Duration::ZERO..=Retry::MAX_BACKOFF).unwrap_or(Duration::from_millis(20));
            (inner.choice("then", &Self::WORDS), Retry { times, backoff })
        };
        match (table.table("on_failure", read), place) {
            (Some((then, retry)), Some(_)) => (then, Some(retry)),
            _ => (None, None),
        }
    }
}

fn read_filters(table: &Table<'_>, key: &'static str, hook: Option<Hook>) -> Vec<TopicFilter> {
    let texts = table.texts(key);
    if let (Some(first), Some(hook)) = (texts.first(), hook.filter(|hook| !hook.has_topic())) {
        table.refuse_at(&first.place, key, format_args!(" does nothing: {hook} has no topic"), "remove it");
    }
    let mut filters = Vec::new();
    for text in texts {
        match TopicFilter::parse(&text.value) {
            Ok(filter) => filters.push(filter),
            Err(error) => {
                let help = "an MQTT topic filter, for example \"devices/+/state\"";
                table.refuse_at(&text.place, key, format_args!(" = \"{}\" is no topic filter: {error}", text.value), help);
            }
        }
    }
    filters
}

/// Filters that take events out again; each must do so, and something must be left.
fn read_exclusions(table: &Table<'_>, hook: Option<Hook>, filters: &[TopicFilter]) -> Vec<TopicFilter> {
    let excluded = read_filters(table, "exclude", hook);
    let Some(place) = table.placed("exclude") else { return excluded };
    for out in &excluded {
        if !filters.is_empty() && !filters.iter().any(|filter| topic::overlaps(filter.as_str(), out.as_str())) {
            let message = format_args!(" = \"{out}\" does nothing: no topic of `filter` matches it");
            table.refuse_at(&place, "exclude", message, "remove it");
        }
    }
    let is_out = |filter: &str| excluded.iter().any(|out| topic::covers(out.as_str(), filter));
    let nothing_left = if filters.is_empty() { is_out("#") } else { filters.iter().all(|filter| is_out(filter.as_str())) };
    if nothing_left {
        table.refuse_at(&place, "exclude", ": it leaves nothing of `filter`, this route does nothing", "name less, or remove the route");
    }
    excluded
}

fn read_reasons(table: &mut Table<'_>, hook: Option<Hook>) -> Vec<DropReason> {
    let texts = table.texts("reasons");
    if let (Some(first), Some(hook)) = (texts.first(), hook.filter(|hook| *hook != Hook::MessageDropped)) {
        table.refuse_at(&first.place, "reasons", format_args!(" do nothing: {hook} has none"), "only message.dropped has reasons");
    }
    let known: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let mut reasons = Vec::new();
    for text in texts {
        match DropReason::ALL.iter().find(|reason| reason.name() == text.value) {
            Some(reason) => reasons.push(*reason),
            None => table.refuse_at(
                &text.place,
                "reasons",
                format_args!(": \"{}\" is no reason", text.value),
                did_you_mean(&text.value, &known),
            ),
        }
    }
    reasons
}
