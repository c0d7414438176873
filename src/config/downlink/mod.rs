//! `[[downlink]]`: records from Kafka that become MQTT messages, and for whom.

mod template;

use std::time::Duration;

pub use self::template::{RecordField, RecordPart, RecordText, RecordTextError};
use super::{
    Names,
    delivery::Delivery,
    kafka::Kafka,
    problem::{Placed, did_you_mean},
    reader::Table,
    record::check_kafka_topic,
    route::{OnFailure, Retry},
};

/// A consumer of Kafka topics whose records become MQTT messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Downlink {
    /// For logs, metrics and guests.
    pub name: String,
    /// Kafka topics; one that begins with `^` is a regular expression as librdkafka knows them.
    pub topics: Vec<Placed<String>>,
    /// The consumer group.
    pub group: String,
    /// Where a group begins that has read nothing yet.
    pub start: Start,
    /// Records that are fetched and not yet settled, at most.
    pub max_in_flight: usize,
    /// The message that a record becomes; `None`: only guests make messages.
    pub message: Option<MessageTemplate>,
    /// Names of the guests asked, in order.
    pub guests: Vec<Placed<String>>,
    /// What happens to a record on which a guest gave no verdict.
    pub on_failure: OnFailure,
    /// How often the guest is asked again before that.
    pub retry: Option<Retry>,
    /// What happens to a record that cannot become a message.
    pub on_refusal: OnUnfit,
    /// The cluster that it reads from, and how dead letters reach it.
    pub delivery: Delivery,
    /// Any further librdkafka property of a consumer, as written.
    pub properties: Vec<(String, Placed<String>)>,
}

/// Where a consumer group begins that has read nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At what comes from now on.
    Latest,
    /// At the oldest record that there is.
    Earliest,
}

/// What happens to a record that cannot become a message: its topic would be none, or a field that a template names is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnfit {
    /// It is left out, counted and logged.
    Drop,
    /// The same, and it goes to the cluster's dead letter topic with the reason.
    DeadLetter,
}

/// How a record becomes a message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageTemplate {
    /// MQTT topic.
    pub topic: RecordText,
    /// The payload; `None`: the record's value as it is.
    pub payload: Option<RecordText>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is its topic's retained message from then on.
    pub retain: bool,
    /// How long it is worth delivering, from the record's timestamp on.
    pub expiry: Option<Duration>,
    /// MQTT 5 content type.
    pub content_type: Option<RecordText>,
    /// MQTT 5 response topic.
    pub response_topic: Option<RecordText>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<RecordText>,
    /// Which of the record's headers become user properties.
    pub user_properties: UserProperties,
}

/// Which headers of a record become MQTT 5 user properties; those whose value is no text never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserProperties {
    /// None.
    None,
    /// All.
    All,
    /// Those with one of these names.
    Named(Vec<String>),
}

/// Properties that Hookgate sets itself, and the setting to use instead.
const OWN_PROPERTIES: &[(&str, &str)] = &[
    ("group.id", "group"),
    ("auto.offset.reset", "start"),
    ("enable.auto.commit", "nothing: what is settled is committed"),
    ("enable.auto.offset.store", "nothing: what is settled is committed"),
    ("statistics.interval.ms", "nothing"),
];

/// Settings that shape the message, and so do nothing without a topic.
const OF_MESSAGE: [&str; 8] = ["payload", "qos", "retain", "expiry", "content_type", "response_topic", "correlation_data", "headers"];

impl Downlink {
    /// `node`: this process's name, which the default of `group` has in it.
    pub(super) fn read(table: &mut Table<'_>, names: &Names, node: &str) -> Option<Self> {
        names.note(table, "downlink");
        let name = table.required_text("name", "\"commands\"");
        let cluster = table.text("cluster");
        let topics = read_topics(table);
        let group = table.text("group");
        let start = table.choice("start", &[("latest", Start::Latest), ("earliest", Start::Earliest)]);
        let max_in_flight = table.integer("max_in_flight", 1..=100_000, 1_000) as usize;
        let guests = table.texts("guests");
        let message = MessageTemplate::read(table, guests.is_empty());
        let (on_failure, retry) = read_on_failure(table, guests.is_empty());
        let on_refusal = table.choice("on_refusal", &[("drop", OnUnfit::Drop), ("dead-letter", OnUnfit::DeadLetter)]);
        let properties = table.free_texts("properties");
        for (name, value) in &properties {
            if let Some((_, setting)) = OWN_PROPERTIES.iter().find(|(own, _)| own == name) {
                table.refuse_at(&value.place, "properties", format_args!(".\"{name}\" is set by Hookgate"), format!("use {setting}"));
            }
        }
        let name = name?.value;
        let group = match group {
            Some(group) if group.value.is_empty() => {
                table.refuse_at(&group.place, "group", " is empty", "leave it out for one of this node's own");
                return None;
            }
            Some(group) => group.value,
            None => format!("hookgate-{node}-{name}"),
        };
        let here = || Placed { value: Kafka::DEFAULT.to_owned(), place: table.place().clone() };
        Some(Downlink {
            name,
            topics,
            group,
            start: start.map_or(Start::Latest, |start| start.value),
            max_in_flight,
            message,
            guests,
            on_failure: on_failure.map_or(OnFailure::DeadLetter, |policy| policy.value),
            retry,
            on_refusal: on_refusal.map_or(OnUnfit::DeadLetter, |policy| policy.value),
            delivery: Delivery::plain(cluster.unwrap_or_else(here)),
            properties,
        })
    }

    /// Two members of one group share the records between them, so two downlinks of a node must not.
    pub(super) fn check_groups(table: &Table<'_>, downlinks: &[Downlink]) {
        for (index, downlink) in downlinks.iter().enumerate() {
            let same = |other: &&Downlink| other.group == downlink.group && other.cluster() == downlink.cluster();
            if let (Some(other), Some(topic)) = (downlinks.iter().take(index).find(same), downlink.topics.first()) {
                let message = format!(
                    "the downlinks \"{}\" and \"{}\" have one group: each would get a part of the records",
                    other.name, downlink.name
                );
                table.refuse_value(&topic.place, message, "give each a group of its own, or leave `group` out");
            }
        }
    }

    /// The name of the cluster that it reads from.
    pub fn cluster(&self) -> &str {
        &self.delivery.cluster.value
    }

    /// Whether it may write to the cluster's dead letter topic.
    pub fn buries(&self) -> bool {
        self.on_refusal == OnUnfit::DeadLetter || (self.on_failure == OnFailure::DeadLetter && !self.guests.is_empty())
    }
}

impl MessageTemplate {
    fn read(table: &mut Table<'_>, is_required: bool) -> Option<Self> {
        const FIELDS: &str =
            "a text with ${key}, ${value}, ${value.member}, ${header.name}, ${topic}, ${partition}, ${offset} or ${timestamp}";
        if is_required {
            table.require("topic", "\"devices/${key}/command\"");
        }
        let text = |key| table.parsed(key, FIELDS, RecordText::parse).map(|text| text.value);
        let (topic, payload, content_type) = (text("topic"), text("payload"), text("content_type"));
        let (response_topic, correlation_data) = (text("response_topic"), text("correlation_data"));
        let qos = table.integer("qos", 0..=2, 1) as u8;
        let retain = table.boolean("retain").unwrap_or(false);
        let expiry = table.duration("expiry", Duration::from_secs(1)..=Duration::from_secs(u64::from(u32::MAX) - 1));
        let user_properties = UserProperties::read(table);
        let Some(topic) = topic else {
            for key in OF_MESSAGE {
                if let (Some(place), None) = (table.placed(key), table.placed("topic")) {
                    table.refuse_at(&place, key, " does nothing without a topic", "name the MQTT topic");
                }
            }
            return None;
        };
        Some(MessageTemplate { topic, payload, qos, retain, expiry, content_type, response_topic, correlation_data, user_properties })
    }
}

impl UserProperties {
    fn read(table: &mut Table<'_>) -> Self {
        const ALL: &str = "user-properties";
        let Some(place) = table.placed("headers") else { return UserProperties::None };
        let texts = table.texts("headers");
        match &texts[..] {
            [] => UserProperties::None,
            [word] if table.text_is("headers") && word.value == ALL => UserProperties::All,
            [word] if table.text_is("headers") => {
                let message = format_args!(" = \"{}\" is not known", word.value);
                table.refuse_at(&place, "headers", message, format!("{}, or a list of names", did_you_mean(&word.value, &[ALL])));
                UserProperties::None
            }
            names => UserProperties::Named(names.iter().map(|name| name.value.clone()).collect()),
        }
    }
}

fn read_topics(table: &mut Table<'_>) -> Vec<Placed<String>> {
    table.require("topics", "[\"device_commands\"]");
    if let Some(place) = table.empty_list("topics") {
        table.refuse_at(&place, "topics", " is empty: there is nothing to read", "name the Kafka topics");
    }
    let topics = table.texts("topics");
    for topic in topics.iter().filter(|topic| !topic.value.starts_with('^')) {
        check_kafka_topic(table, topic);
    }
    topics
}

fn read_on_failure(table: &Table<'_>, is_without_guests: bool) -> (Option<Placed<OnFailure>>, Option<Retry>) {
    let (on_failure, retry) = OnFailure::read(table);
    match (table.placed("on_failure"), &on_failure) {
        (Some(place), _) if is_without_guests => {
            table.refuse_at(&place, "on_failure", " does nothing without guests", "remove it, or name guests");
        }
        (_, Some(Placed { value: OnFailure::Deny, place })) => {
            table.refuse_at(place, "on_failure", ": nobody waits for an answer to a record", "pass, drop or dead-letter");
        }
        _ => {}
    }
    (on_failure, retry)
}

#[cfg(test)]
mod tests;
