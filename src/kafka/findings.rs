//! What follows from what a cluster says: what is wrong with it, and what to change.

use rdkafka::types::RDKafkaErrorCode;

use super::{
    inspection::{End, Finding, Inspection, Severity, TopicFacts},
    settings::DEFAULT_RECORD_BYTES,
};
use crate::config::{Kafka, Sasl};

fn finding(severity: Severity, topic: Option<&str>, message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding { severity, topic: topic.map(str::to_owned), message: message.into(), help: help.into() }
}

/// There is nothing to prove who Hookgate is with.
pub(super) fn no_token(reason: &str) -> Finding {
    finding(Severity::Error, None, format!("there is no token for OAUTHBEARER: {reason}"), "look at sasl.token_url and what follows it")
}

/// The cluster does not answer, or not to this user.
pub(super) fn silent(servers: &str, reason: &str, advice: &str) -> Finding {
    let help = match advice.trim_start_matches("; ") {
        "" => "is Kafka running, is bootstrap_servers right, and does the listener speak what tls and sasl say?",
        advice => advice,
    };
    finding(Severity::Error, None, format!("{servers} does not answer: {reason}"), help)
}

/// A configured topic cannot be seen.
pub(super) fn no_topic(config: &Kafka, servers: &str, topic: &str, code: RDKafkaErrorCode) -> Finding {
    use RDKafkaErrorCode::{InvalidTopic, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition};
    match code {
        UnknownTopic | UnknownTopicOrPartition if config.create_topics.is_some() => {
            let message = "is not there; Hookgate creates it when it starts (create_topics)";
            finding(Severity::Warning, Some(topic), message, "nothing to do, unless this user may not create topics")
        }
        UnknownTopic | UnknownTopicOrPartition => {
            let command = format!(
                "kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions N --replication-factor N, \
                 or create_topics = {{ partitions = N, replication = N }}"
            );
            finding(Severity::Error, Some(topic), "is not there: its records will be refused", command)
        }
        TopicAuthorizationFailed => denied(config, servers, topic, "may not be seen by this user, or is not there"),
        InvalidTopic => finding(Severity::Error, Some(topic), "has a name that Kafka does not take", "name another"),
        code => finding(Severity::Error, Some(topic), format!("cannot be asked for: {code}"), "try again; look at the brokers' log"),
    }
}

fn denied(config: &Kafka, servers: &str, topic: &str, what: &str) -> Finding {
    let user = match config.sasl.as_ref().map(|sasl| &sasl.value) {
        Some(Sasl::Plain(it) | Sasl::ScramSha256(it) | Sasl::ScramSha512(it)) => it.username.as_str(),
        Some(Sasl::OauthBearer(it)) => it.client_id.as_str(),
        Some(Sasl::Gssapi(it)) => it.principal.as_str(),
        None if config.tls.as_ref().is_some_and(|tls| tls.value.identity.is_some()) => "NAME-IN-CERTIFICATE",
        None => "ANONYMOUS",
    };
    let command =
        format!("kafka-acls.sh --bootstrap-server {servers} --add --allow-principal 'User:{user}' --operation Write --topic {topic}");
    finding(Severity::Error, Some(topic), what, command)
}

/// What came of the question whether a topic may be written.
pub(super) fn about_writing(config: &Kafka, servers: &str, topic: &str, end: End) -> Option<Finding> {
    match end {
        End::Allowed => None,
        End::Denied => Some(denied(config, servers, topic, "may not be written by this user: no right")),
        End::Stored => {
            let message = "now holds one empty record with the key \"hookgate check\": these brokers, unlike Apache Kafka, stored the \
                           record that only asks for the right to write";
            Some(finding(Severity::Warning, Some(topic), message, "do not use --connect with them"))
        }
        End::Failed(code) => {
            let message = format!("does not tell whether it may be written: {code}");
            Some(finding(Severity::Error, Some(topic), message, "look at the brokers: has each partition a leader?"))
        }
    }
}

/// What the topics' settings mean for this configuration. `may_begin`: an idempotent producer was given its id.
pub(super) fn about_topics(config: &Kafka, inspection: &Inspection, largest_bytes: usize, may_begin: bool) -> Vec<Finding> {
    let brokers = inspection.brokers.unwrap_or_default();
    let about = |facts| about_topic(config, facts, brokers, largest_bytes);
    let mut findings: Vec<Finding> = inspection.topics.iter().flat_map(about).collect();
    if !may_begin && inspection.topics.iter().all(|facts| facts.may_write != Some(false)) {
        let message = "the brokers give this user no producer id, which idempotent records need";
        findings.push(finding(Severity::Error, None, message, "give it IDEMPOTENT_WRITE on the cluster (brokers before 3.0 ask for it)"));
    }
    let property = config.properties.iter().find(|(name, _)| name == "message.max.bytes");
    let own_limit = property.and_then(|(_, value)| value.value.parse().ok()).unwrap_or(DEFAULT_RECORD_BYTES);
    if own_limit < largest_bytes {
        let message = format!("[mqtt] lets messages of {largest_bytes} bytes in, and this cluster's producer takes {own_limit}");
        let help = "raise \"message.max.bytes\" in the cluster's properties, or lower max_payload_bytes in [mqtt]";
        findings.push(finding(Severity::Warning, None, message, help));
    }
    findings
}

fn about_topic(config: &Kafka, facts: &TopicFacts, brokers: usize, largest_bytes: usize) -> Vec<Finding> {
    let topic = Some(facts.name.as_str());
    let copies = facts.replication;
    let mut findings = Vec::new();
    match facts.min_insync_replicas {
        Some(least) if least > copies => {
            let message = format!("has {copies} copies of each partition and wants {least} of them to have a record: it takes none");
            findings.push(finding(Severity::Error, topic, message, "lower min.insync.replicas, or raise the replication"));
        }
        Some(least) if least == copies && copies > 1 => {
            let message = format!("wants all of its {copies} copies to have a record: it takes none while one broker is away");
            findings.push(finding(Severity::Warning, topic, message, "lower min.insync.replicas by one"));
        }
        Some(1) if copies > 1 && config.acks == "all" => {
            let message =
                "counts a record as stored when one broker has it, also with acks = \"all\": its death can lose what was acknowledged";
            findings.push(finding(Severity::Warning, topic, message, "set the topic's min.insync.replicas to 2"));
        }
        _ => {}
    }
    if copies == 1 && brokers > 1 {
        let message = format!("has one copy of each partition on a cluster of {brokers} brokers: what is on a lost disk is lost");
        findings.push(finding(Severity::Warning, topic, message, "give it three copies (kafka-reassign-partitions.sh)"));
    }
    if let Some(limit) = facts.max_message_bytes.filter(|limit| *limit < largest_bytes) {
        let message = format!("takes at most {limit} bytes, and [mqtt] lets messages of {largest_bytes} bytes in: larger ones are refused");
        let help = "raise the topic's max.message.bytes, or lower max_payload_bytes in [mqtt]; base64 in JSON needs a third more";
        findings.push(finding(Severity::Warning, topic, message, help));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Arc};

    use super::*;
    use crate::config::Place;

    fn kafka() -> Kafka {
        Kafka::embedded(Place { file: Arc::new(PathBuf::from("h.toml")), line: 1, column: 1 })
    }

    fn facts(replication: usize, least: Option<usize>, most: Option<usize>) -> TopicFacts {
        TopicFacts {
            name: "t".into(),
            partitions: 3,
            replication,
            min_insync_replicas: least,
            max_message_bytes: most,
            may_write: Some(true),
        }
    }

    #[test]
    fn what_topics_mean() {
        let cases: &[(TopicFacts, usize, &[&str])] = &[
            (facts(3, Some(2), Some(2_000)), 3, &[]),
            (facts(1, Some(1), Some(2_000)), 1, &[]),
            (facts(3, None, None), 3, &[]),
            (facts(1, Some(2), None), 1, &["takes none"]),
            (facts(3, Some(3), None), 3, &["while one broker is away"]),
            (facts(3, Some(1), None), 3, &["one broker has it"]),
            (facts(1, Some(1), None), 3, &["one copy"]),
            (facts(3, Some(2), Some(999)), 3, &["at most 999 bytes"]),
        ];
        for (facts, brokers, expected) in cases {
            let found = about_topic(&kafka(), facts, *brokers, 1_000);
            assert_eq!(found.len(), expected.len(), "{facts:?}: {found:#?}");
            for (finding, words) in found.iter().zip(*expected) {
                assert!(finding.message.contains(words), "{finding:?}");
            }
        }
    }

    #[test]
    fn who_has_no_right_is_told_how_to_get_it() {
        let finding = about_writing(&kafka(), "k:9092", "t", End::Denied).unwrap();
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.help.contains("--allow-principal 'User:ANONYMOUS' --operation Write --topic t"), "{finding:?}");
        assert_eq!(about_writing(&kafka(), "k:9092", "t", End::Allowed), None);
    }
}
