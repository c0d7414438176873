//! How records are produced: batches, requests, times; and every further property of librdkafka.

use std::ops::RangeInclusive;

use crate::config::{problem::Placed, reader::Table};

/// What `[kafka]` says about the producer beyond the usual; what is not set is librdkafka's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes of one batch of records, `batch.size`.
    pub batch_bytes: Option<u64>,
    /// Records of one batch, `batch.num.messages`.
    pub batch_records: Option<u64>,
    /// `compression.level`, within the codec's own range.
    pub compression_level: Option<u64>,
    /// Requests to one broker that wait for their answer.
    pub max_in_flight_requests: Option<u64>,
    /// How long the brokers may take to store a batch, and a little more to answer, milliseconds.
    pub request_timeout_ms: Option<u64>,
    /// How long a connection may take until it is usable, TLS and SASL included, milliseconds.
    pub connect_timeout_ms: Option<u64>,
    /// The first wait before connecting again, milliseconds; it doubles.
    pub reconnect_backoff_ms: Option<u64>,
    /// The longest wait before connecting again, milliseconds.
    pub reconnect_backoff_max_ms: Option<u64>,
    /// How old what is known of brokers and partitions may grow, milliseconds.
    pub metadata_max_age_ms: Option<u64>,
}

/// Properties that Hookgate sets itself, and the setting to use instead.
const OWN_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "bootstrap_servers"),
    ("metadata.broker.list", "bootstrap_servers"),
    ("acks", "acks"),
    ("request.required.acks", "acks"),
    ("compression.type", "compression"),
    ("compression.codec", "compression"),
    ("compression.level", "compression_level"),
    ("linger.ms", "linger_ms"),
    ("queue.buffering.max.ms", "linger_ms"),
    ("delivery.timeout.ms", "delivery_timeout_ms"),
    ("message.timeout.ms", "delivery_timeout_ms"),
    ("queue.buffering.max.messages", "max_outstanding_records"),
    ("queue.buffering.max.kbytes", "max_outstanding_bytes"),
    ("enable.idempotence", "acks"),
    ("batch.size", "batch_bytes"),
    ("batch.num.messages", "batch_records"),
    ("max.in.flight", "max_in_flight_requests"),
    ("max.in.flight.requests.per.connection", "max_in_flight_requests"),
    ("request.timeout.ms", "request_timeout_ms"),
    ("socket.timeout.ms", "request_timeout_ms"),
    ("socket.connection.setup.timeout.ms", "connect_timeout_ms"),
    ("reconnect.backoff.ms", "reconnect_backoff_ms"),
    ("reconnect.backoff.max.ms", "reconnect_backoff_max_ms"),
    ("topic.metadata.refresh.interval.ms", "metadata_max_age_ms"),
    ("metadata.max.age.ms", "metadata_max_age_ms"),
    ("security.protocol", "tls` and `sasl"),
    ("ssl.ca.location", "tls.ca"),
    ("ssl.ca.pem", "tls.ca"),
    ("ssl.certificate.location", "tls.certificate"),
    ("ssl.certificate.pem", "tls.certificate"),
    ("ssl.key.location", "tls.key"),
    ("ssl.key.pem", "tls.key"),
    ("ssl.key.password", "tls.key_password"),
    ("ssl.keystore.location", "tls.certificate` and `tls.key"),
    ("ssl.keystore.password", "tls.key_password"),
    ("ssl.endpoint.identification.algorithm", "tls.verify_hostname"),
    ("sasl.mechanism", "sasl.mechanism"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.username", "sasl.username"),
    ("sasl.password", "sasl.password"),
    ("sasl.kerberos.service.name", "sasl.service_name"),
    ("sasl.kerberos.principal", "sasl.principal"),
    ("sasl.kerberos.keytab", "sasl.keytab"),
    ("sasl.oauthbearer.client.id", "sasl.client_id"),
    ("sasl.oauthbearer.client.secret", "sasl.client_secret"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.client_id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.client_secret"),
    ("sasl.oauthbearer.scope", "sasl.scope"),
    ("sasl.oauthbearer.token.endpoint.url", "sasl.token_url"),
    ("sasl.oauthbearer.config", "sasl"),
    ("sasl.oauthbearer.method", "sasl"),
];

/// The most that a levelled codec knows; snappy and none have no levels.
const LEVELS: &[(&str, u64)] = &[("gzip", 9), ("lz4", 12), ("zstd", 12)];

impl Tuning {
    /// The first wait before connecting again, unless it is set: a Kafka that comes back is found within a second (librdkafka: ten).
    pub const RECONNECT_BACKOFF_MS: u64 = 100;
    /// The longest one.
    pub const RECONNECT_BACKOFF_MAX_MS: u64 = 1_000;

    /// `idempotent`: acks = "all".
    pub(super) fn read(table: &Table<'_>, idempotent: bool, compression: &str) -> Self {
        let number =
            |key: &'static str, range: RangeInclusive<u64>, default: u64| table.place_of(key).map(|_| table.integer(key, range, default));
        let tuning = Tuning {
            batch_bytes: number("batch_bytes", 1..=2_147_483_647, 1_000_000),
            batch_records: number("batch_records", 1..=1_000_000, 10_000),
            compression_level: Self::read_level(table, compression),
            max_in_flight_requests: number("max_in_flight_requests", 1..=5, if idempotent { 5 } else { 1 }),
            request_timeout_ms: number("request_timeout_ms", 1..=290_000, 30_000),
            connect_timeout_ms: number("connect_timeout_ms", 1_000..=2_147_483_647, 30_000),
            reconnect_backoff_ms: number("reconnect_backoff_ms", 0..=3_600_000, Self::RECONNECT_BACKOFF_MS),
            reconnect_backoff_max_ms: number("reconnect_backoff_max_ms", 0..=3_600_000, Self::RECONNECT_BACKOFF_MAX_MS),
            metadata_max_age_ms: number("metadata_max_age_ms", 10..=3_600_000, 300_000),
        };
        if let (Some(2..), false, Some(place)) = (tuning.max_in_flight_requests, idempotent, table.place_of("max_in_flight_requests")) {
            let message = ": without acks = \"all\" a request that is repeated would be overtaken by the next";
            table.refuse_at(&place, "max_in_flight_requests", message, "remove it, or write acks = \"all\"");
        }
        let least = tuning.reconnect_backoff_ms.unwrap_or(Self::RECONNECT_BACKOFF_MS);
        let most = tuning.reconnect_backoff_max_ms.unwrap_or(Self::RECONNECT_BACKOFF_MAX_MS);
        if least > most
            && let Some(place) = table.place_of("reconnect_backoff_ms").or(table.place_of("reconnect_backoff_max_ms"))
        {
            let message = format_args!(" = {least} is more than reconnect_backoff_max_ms = {most}");
            table.refuse_at(&place, "reconnect_backoff_ms", message, "the first wait cannot be longer than the longest");
        }
        tuning
    }

    fn read_level(table: &Table<'_>, compression: &str) -> Option<u64> {
        let place = table.place_of("compression_level")?;
        let Some((_, most)) = LEVELS.iter().find(|(codec, _)| *codec == compression) else {
            let message = format_args!(" does nothing: compression = \"{compression}\" has no levels");
            table.refuse_at(&place, "compression_level", message, "remove it, or use gzip, lz4 or zstd");
            return None;
        };
        Some(table.integer("compression_level", 1..=*most, 1))
    }
}

/// `properties`: what librdkafka knows beyond that.
pub(super) fn read_properties(table: &Table<'_>) -> Vec<(String, Placed<String>)> {
    let properties = table.free_texts("properties");
    for (name, value) in &properties {
        if let Some((_, setting)) = OWN_PROPERTIES.iter().find(|(own, _)| own == name) {
            table.refuse_at(&value.place, "properties", format_args!(".\"{name}\" is set by Hookgate"), format!("use `{setting}`"));
        }
    }
    properties
}
