//! `[kafka]` and `[[cluster]]` → librdkafka's properties.

use std::{borrow::Cow, sync::Arc};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError as NativeError, producer::BaseProducer};

use super::{KafkaError, tokens::Tokens};
use crate::config::{Credentials, Kafka, KafkaTls, NewTopics, Place, Placed, Sasl, Secret, Tuning};

/// Properties that would turn the producer into something else, and why.
const REFUSED: &[(&str, &str)] = &[
    ("transactional.id", "Hookgate's producer is not transactional; records are idempotent with acks = \"all\""),
    ("test.mock.num.brokers", "write bootstrap_servers = \"embedded\""),
    ("log.queue", "Hookgate reads the log itself"),
    ("enable.ssl.certificate.verification", "it would send credentials to anybody; name the authority with tls = { ca = \"ca.pem\" }"),
];

/// librdkafka's default.
const DEFAULT_BATCH_BYTES: u64 = 1_000_000;
/// Of one record, unless a property says otherwise: what Kafka's topics take unless they are told otherwise.
pub(super) const DEFAULT_RECORD_BYTES: usize = 1_048_588;
/// What the network may take beyond the brokers' own time, milliseconds.
const ON_THE_WAY_MS: u64 = 5_000;

/// One client of a cluster: what a librdkafka producer is started with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) client_config: ClientConfig,
    /// Bytes of a batch that every topic takes, when that is less than is wanted.
    pub(super) batch_limit: Option<usize>,
    /// `host:port,…`
    pub(super) servers: String,
    /// For SASL OAUTHBEARER.
    pub(super) tokens: Option<Arc<Tokens>>,
    /// How topics are created that Kafka does not have.
    pub(super) create_topics: Option<NewTopics>,
}

impl Setup {
    /// `servers` are those of the embedded cluster, if it is that; tokens of `old` go on when they come from the same place.
    pub(super) fn new(kafka: &Kafka, servers: &str, old: Option<&Setup>) -> Result<Self, KafkaError> {
        let tokens = match &kafka.sasl {
            Some(Placed { value: Sasl::OauthBearer(settings), .. }) => {
                let kept = old.and_then(|old| old.tokens.clone()).filter(|tokens| tokens.are_of(settings));
                Some(kept.unwrap_or_else(|| Arc::new(Tokens::new(settings))))
            }
            _ => None,
        };
        Ok(Setup {
            client_config: client_config(kafka, servers)?,
            batch_limit: None,
            servers: servers.to_owned(),
            tokens,
            create_topics: kafka.create_topics,
        })
    }

    /// Keeps batches below what every topic takes; true when that changed something.
    pub(super) fn limit_batches(&mut self, kafka: &Kafka, lowest: usize) -> bool {
        let changes = (lowest as u64) < kafka.tuning.batch_bytes.unwrap_or(DEFAULT_BATCH_BYTES);
        self.batch_limit = changes.then_some(lowest);
        changes
    }

    /// The properties, the limit of batches with them.
    pub(super) fn properties(&self) -> Cow<'_, ClientConfig> {
        let Some(limit) = self.batch_limit else { return Cow::Borrowed(&self.client_config) };
        let mut limited = self.client_config.clone();
        limited.set("batch.size", limit.to_string());
        Cow::Owned(limited)
    }

    /// Whether two clients would be the same, but for what topics take.
    pub(super) fn is_like(&self, other: &Setup) -> bool {
        let same_tokens = match (&self.tokens, &other.tokens) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_tokens && self.create_topics == other.create_topics && same(&self.client_config, &other.client_config)
    }
}

/// What every client of a cluster says: where it is, and who Hookgate is. `servers` are those of the embedded cluster, if it is that.
pub(super) fn connection(kafka: &Kafka, servers: &str) -> ClientConfig {
    let tuning = &kafka.tuning;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("client.id", "hookgate")
        .set("reconnect.backoff.ms", tuning.reconnect_backoff_ms.unwrap_or(Tuning::RECONNECT_BACKOFF_MS).to_string())
        .set("reconnect.backoff.max.ms", tuning.reconnect_backoff_max_ms.unwrap_or(Tuning::RECONNECT_BACKOFF_MAX_MS).to_string())
        // Lost and found are logged once, by the keeper.
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    set(&mut config, "socket.connection.setup.timeout.ms", tuning.connect_timeout_ms);
    set(&mut config, "topic.metadata.refresh.interval.ms", tuning.metadata_max_age_ms);
    set(&mut config, "metadata.max.age.ms", tuning.metadata_max_age_ms.map(|age| age * 3)); // librdkafka's proportion
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &kafka.tls {
        encrypt(&mut config, &tls.value);
    }
    if let Some(sasl) = &kafka.sasl {
        authenticate(&mut config, &sasl.value);
    }
    config
}

fn encrypt(config: &mut ClientConfig, tls: &KafkaTls) {
    match &tls.authorities {
        Some(authorities) => config.set("ssl.ca.pem", authorities.text()),
        None => config.set("ssl.ca.location", "probe"), // OpenSSL is linked in, and does not know where this system keeps them
    };
    if let Some(identity) = &tls.identity {
        config.set("ssl.certificate.pem", identity.certificate.text()).set("ssl.key.pem", identity.key.reveal());
        if let Some(password) = &identity.key_password {
            config.set("ssl.key.password", password.reveal());
        }
    }
    config.set("ssl.endpoint.identification.algorithm", if tls.verify_hostname { "https" } else { "none" });
}

fn authenticate(config: &mut ClientConfig, sasl: &Sasl) {
    config.set("sasl.mechanisms", sasl.mechanism());
    match sasl {
        Sasl::Plain(Credentials { username, password })
        | Sasl::ScramSha256(Credentials { username, password })
        | Sasl::ScramSha512(Credentials { username, password }) => {
            config.set("sasl.username", username).set("sasl.password", Secret::reveal(password));
        }
        Sasl::OauthBearer(_) => {} // tokens come through the client's context
        Sasl::Gssapi(gssapi) => {
            config.set("sasl.kerberos.service.name", &gssapi.service_name).set("sasl.kerberos.principal", &gssapi.principal);
            if let Some(keytab) = &gssapi.keytab {
                config.set("sasl.kerberos.keytab", keytab.display().to_string());
            }
        }
    }
}

fn set(config: &mut ClientConfig, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        config.set(name, value.to_string());
    }
}

/// The properties of the producer for the cluster at `servers`.
pub(super) fn client_config(kafka: &Kafka, servers: &str) -> Result<ClientConfig, KafkaError> {
    let (idempotent, tuning) = (kafka.acks == "all", &kafka.tuning);
    let mut config = connection(kafka, servers);
    config
        .set("acks", &kafka.acks)
        .set("enable.idempotence", idempotent.to_string())
        .set("compression.type", &kafka.compression)
        .set("linger.ms", kafka.linger_ms.to_string())
        .set("message.max.bytes", DEFAULT_RECORD_BYTES.to_string())
        .set("message.timeout.ms", kafka.delivery_timeout_ms.to_string())
        // Our own bounds count; librdkafka's give room back only after a whole batch of reports.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        .set("partitioner", "murmur2_random")
        // How long a record waits for a topic that is not there, since somebody may have created it just now (librdkafka: 30 s).
        .set("topic.metadata.propagation.max.ms", "5000");
    set(&mut config, "compression.level", tuning.compression_level);
    set(&mut config, "batch.size", tuning.batch_bytes);
    set(&mut config, "batch.num.messages", tuning.batch_records);
    set(&mut config, "request.timeout.ms", tuning.request_timeout_ms);
    set(&mut config, "socket.timeout.ms", tuning.request_timeout_ms.map(|timeout| timeout + ON_THE_WAY_MS));
    let in_flight = tuning.max_in_flight_requests.or((!idempotent).then_some(1)); // else a repeated request is overtaken
    set(&mut config, "max.in.flight.requests.per.connection", in_flight);
    if kafka.create_topics.is_some() {
        config.set("allow.auto.create.topics", "false"); // else the brokers create them as they think best
    }
    for (name, value) in &kafka.properties {
        let refused = REFUSED.iter().find(|(refused, _)| refused == name);
        if let Some((_, reason)) = refused {
            return Err(KafkaError::Property { place: value.place.clone(), name: name.clone(), reason: (*reason).to_owned() });
        }
        config.set(name, &value.value);
    }
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(error) => Err(explain(kafka, error)),
    }
}

/// What only starting a client tells: whether certificates and keys are what they seem, and fit together.
pub(super) fn try_out(kafka: &Kafka, config: &ClientConfig) -> Result<(), KafkaError> {
    config.create::<BaseProducer>().map(drop).map_err(|error| explain(kafka, error))
}

/// Compares property by property; `ClientConfig`'s own view of them hides secrets.
fn same(one: &ClientConfig, other: &ClientConfig) -> bool {
    let (names, others) = (one.config_map(), other.config_map());
    names.len() == others.len() && names.keys().all(|name| one.get(name) == other.get(name))
}

/// librdkafka's complaint with the place of the setting that it is about.
pub(super) fn explain(kafka: &Kafka, error: NativeError) -> KafkaError {
    let settings = |reason: String| {
        let words = reason.to_lowercase();
        let is_about_tls = ["ssl", "certificate", "private key"].iter().any(|word| words.contains(word));
        let tls = kafka.tls.as_ref().filter(|_| is_about_tls);
        let place = tls.map_or(&kafka.place.place, |tls| &tls.place);
        KafkaError::Settings { place: place.clone(), reason }
    };
    match error {
        NativeError::ClientConfig(_, reason, name, _) => match place_of(kafka, &name) {
            Some(place) => KafkaError::Property { place, name, reason },
            None => settings(format!("{name}: {reason}")),
        },
        NativeError::ClientCreation(reason) => settings(reason),
        other => settings(other.to_string()),
    }
}

fn place_of(kafka: &Kafka, name: &str) -> Option<Place> {
    kafka.properties.iter().find(|(property, _)| property == name).map(|(_, value)| value.place.clone())
}
