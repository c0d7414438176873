//! What a cluster says to the configuration: does it answer, does it know this user, are the topics there, may they be written, do they
//! take what devices may send.
//!
//! Nothing is written and nothing created. Whether a topic may be written is asked with a record that must not be stored: the request
//! wants two acknowledgements, which no Kafka knows (0, 1 and all are); a broker looks at the right to write first and refuses the number
//! afterwards, so that `INVALID_REQUIRED_ACKS` means yes and `TOPIC_AUTHORIZATION_FAILED` no.
//!
//! Absent: the embedded cluster, which has nothing to say.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::KafkaError as NativeError,
    metadata::Metadata,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use super::{
    KafkaError,
    failures::advice,
    findings,
    limits::{self, setting},
    producer::{servers, sorted},
    settings::{self, Setup},
    tokens::Tokens,
};
use crate::{
    config::{Bootstrap, Kafka},
    event::Text,
};

/// How long a cluster may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one question may take.
const STEP: Duration = Duration::from_secs(2);

/// What a cluster said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// `host:port,…`, or `embedded`.
    pub servers: String,
    /// How many brokers it has; `None`: it does not answer.
    pub brokers: Option<usize>,
    /// The configured topics that are there.
    pub topics: Vec<TopicFacts>,
    /// What is wrong, and what to do about it.
    pub findings: Vec<Finding>,
}

/// What is known of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// Copies of each partition, the fewest.
    pub replication: usize,
    /// How many copies must have a record before it counts as stored with acks = "all"; `None`: Kafka does not tell.
    pub min_insync_replicas: Option<usize>,
    /// The largest batch; `None`: Kafka does not tell.
    pub max_message_bytes: Option<usize>,
    /// Whether this user may write to it; `None`: that was not found out.
    pub may_write: Option<bool>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Records will not be stored.
    Error,
    /// They will, and something is not as it should be.
    Warning,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The topic, if it is about one.
    pub topic: Option<String>,
    /// What is so.
    pub message: String,
    /// What to change.
    pub help: String,
}

/// Asks the cluster that `config` describes about itself and `topics`; `largest_bytes` is what a device may send at most. Blocks, usually
/// for less than a second and at most about half a minute.
///
/// # Errors
/// Settings that librdkafka does not take.
pub fn inspect(config: &Kafka, topics: &[Text], largest_bytes: usize) -> Result<Inspection, KafkaError> {
    let servers = if config.bootstrap == Bootstrap::Embedded { "embedded".to_owned() } else { servers(config, None) };
    let mut inspection = Inspection { cluster: config.name.clone(), servers, brokers: None, topics: Vec::new(), findings: Vec::new() };
    if config.bootstrap == Bootstrap::Embedded {
        inspection.brokers = Some(1);
        return Ok(inspection);
    }
    let mut setup = Setup::new(config, &inspection.servers, None)?;
    setup.client_config.set("allow.auto.create.topics", "false");
    if let Some(Err(error)) = setup.tokens.as_ref().map(|tokens| tokens.refresh()) {
        inspection.findings.push(findings::no_token(&error.to_string()));
        return Ok(inspection);
    }
    let topics = sorted(topics);
    let (ear, client) = Ear::client(config, &setup, &setup.client_config)?;
    let answer = match first_answer(&client, &ear, topics.first()) {
        Ok(answer) => answer,
        Err((code, reason)) => {
            inspection.findings.push(findings::silent(&inspection.servers, &reason, code.map_or("", advice)));
            return Ok(inspection);
        }
    };
    inspection.brokers = Some(answer.brokers().len());
    for topic in &topics {
        match topic_facts(&client, topic) {
            Ok(facts) => inspection.topics.push(facts),
            Err(code) => inspection.findings.push(findings::no_topic(config, &inspection.servers, topic, code)),
        }
    }
    learn_settings(&setup, &mut inspection);
    let ends = ask_to_write(config, &setup, &inspection.topics)?;
    for (facts, end) in inspection.topics.iter_mut().zip(ends) {
        facts.may_write = end.may_write();
        inspection.findings.extend(findings::about_writing(config, &inspection.servers, &facts.name, end));
    }
    let may_begin = ear.0.denied.lock().is_none();
    inspection.findings.extend(findings::about_topics(config, &inspection, largest_bytes, may_begin));
    Ok(inspection)
}

/// What came of the question whether a topic may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The brokers refused only the number of acknowledgements.
    Allowed,
    /// They refused the writer.
    Denied,
    /// They stored it.
    Stored,
    /// Something else happened.
    Failed(RDKafkaErrorCode),
}

impl End {
    fn may_write(self) -> Option<bool> {
        match self {
            End::Allowed | End::Stored => Some(true),
            End::Denied => Some(false),
            End::Failed(_) => None,
        }
    }
}

/// What a client hears.
#[derive(Clone)]
struct Ear(Arc<Heard>);

struct Heard {
    tokens: Option<Arc<Tokens>>,
    /// The last trouble with a broker.
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// Why it may not even begin to write.
    denied: Mutex<Option<String>>,
    ends: Mutex<Vec<(usize, End)>>,
}

impl Ear {
    fn client(config: &Kafka, setup: &Setup, properties: &ClientConfig) -> Result<(Ear, ThreadedProducer<Ear>), KafkaError> {
        let heard = Heard { tokens: setup.tokens.clone(), trouble: Mutex::default(), denied: Mutex::default(), ends: Mutex::default() };
        let ear = Ear(Arc::new(heard));
        let client = properties.create_with_context(ear.clone()).map_err(|error| settings::explain(config, error))?;
        Ok((ear, client))
    }
}

impl ClientContext for Ear {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Ok(self.0.tokens.as_ref().ok_or("no sasl settings say where tokens come from")?.token()?)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, "librdkafka: {line}");
    }

    fn error(&self, error: NativeError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        match code {
            RDKafkaErrorCode::AllBrokersDown => {} // says less than what came before
            RDKafkaErrorCode::Fatal => *self.0.denied.lock() = Some(reason.to_owned()),
            code => *self.0.trouble.lock() = Some((code, reason.to_owned())),
        }
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        use RDKafkaErrorCode::{ClusterAuthorizationFailed, InvalidRequiredAcks, TopicAuthorizationFailed, Unknown};
        let end = match result {
            Ok(_) => End::Stored,
            Err((error, _)) => match error.rdkafka_error_code() {
                Some(InvalidRequiredAcks) => End::Allowed,
                Some(TopicAuthorizationFailed | ClusterAuthorizationFailed) => End::Denied,
                code => End::Failed(code.unwrap_or(Unknown)),
            },
        };
        self.0.ends.lock().push((*index, end));
    }
}

/// Waits for the first answer; what is wrong for certain is not waited for.
fn first_answer(client: &ThreadedProducer<Ear>, ear: &Ear, topic: Option<&Text>) -> Result<Metadata, (Option<RDKafkaErrorCode>, String)> {
    use RDKafkaErrorCode::{Authentication, Resolve, SSL, SaslAuthenticationFailed};
    let start = Instant::now();
    loop {
        let error = match client.client().fetch_metadata(topic.map(|topic| &**topic), STEP) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let trouble = ear.0.trouble.lock().clone();
        let is_certain = matches!(trouble, Some((Authentication | Resolve | SSL | SaslAuthenticationFailed, _)));
        if is_certain || start.elapsed() >= PATIENCE {
            return Err(trouble.map_or_else(|| (None, error.to_string()), |(code, reason)| (Some(code), reason)));
        }
    }
}

fn topic_facts(client: &ThreadedProducer<Ear>, topic: &Text) -> Result<TopicFacts, RDKafkaErrorCode> {
    let asked = client.client().fetch_metadata(Some(topic), PATIENCE);
    let metadata = asked.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))?;
    let found = metadata.topics().first().ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    let replication = found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default();
    Ok(TopicFacts { name: topic.to_string(), partitions: found.partitions().len(), replication, ..TopicFacts::default() })
}

/// What the topics' settings say; without the right to see them, nothing.
fn learn_settings(setup: &Setup, inspection: &mut Inspection) {
    if setup.tokens.is_some() {
        return; // librdkafka's admin client takes none
    }
    let names: Vec<Text> = inspection.topics.iter().map(|facts| Text::from(facts.name.as_str())).collect();
    match limits::describe(&setup.client_config, &names, PATIENCE) {
        Ok(described) => {
            for facts in &mut inspection.topics {
                if let Some((_, entries)) = described.iter().find(|(topic, _)| **topic == facts.name) {
                    facts.min_insync_replicas = setting(entries, "min.insync.replicas");
                    facts.max_message_bytes = setting(entries, "max.message.bytes");
                }
            }
        }
        Err(error) => tracing::debug!("the topics' settings are not told: {error}"),
    }
}

/// One question for each topic, in their order.
fn ask_to_write(config: &Kafka, setup: &Setup, topics: &[TopicFacts]) -> Result<Vec<End>, KafkaError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let mut properties = setup.client_config.clone();
    properties.set("enable.idempotence", "false").set("acks", "2").set("linger.ms", "0").set("message.timeout.ms", "10000");
    let (ear, client) = Ear::client(config, setup, &properties)?;
    for (index, facts) in topics.iter().enumerate() {
        let record = BaseRecord::with_opaque_to(&facts.name, Box::new(index)).key("hookgate check").payload("");
        if let Err((error, _)) = client.send::<str, str>(record) {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            ear.0.ends.lock().push((index, End::Failed(code)));
        }
    }
    let _ = client.flush(PATIENCE + STEP); // what is not answered then has no end in the list
    let ends = ear.0.ends.lock();
    let end = |index| ends.iter().find(|(of, _)| *of == index).map_or(End::Failed(RDKafkaErrorCode::MessageTimedOut), |(_, end)| *end);
    Ok((0..topics.len()).map(end).collect())
}
