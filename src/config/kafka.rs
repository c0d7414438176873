//! `[kafka]` and `[[cluster]]`: where records go.

use super::{
    problem::{Place, Placed},
    reader::Table,
};

/// Where records go, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// How routes name it: [`Kafka::DEFAULT`], or the `name` of a `[[cluster]]`.
    pub name: String,
    /// The brokers.
    pub bootstrap: Bootstrap,
    /// Where `bootstrap_servers` stands.
    pub place: Placed<()>,
    /// librdkafka's `acks`: `all`, `1` or `0`.
    pub acks: String,
    /// librdkafka's `compression.type`.
    pub compression: String,
    /// How long a batch may wait for company, milliseconds.
    pub linger_ms: u64,
    /// Records handed to Kafka and not yet confirmed; beyond, reading from devices pauses.
    pub max_outstanding_records: usize,
    /// Bytes of the same.
    pub max_outstanding_bytes: usize,
    /// No more records than Kafka answers in this time, milliseconds, once it is slower than the load; 0: by number only.
    pub max_outstanding_ms: u64,
    /// How long a record may stay unconfirmed before it counts as unknown, milliseconds; 0: for ever.
    pub delivery_timeout_ms: u64,
    /// How long SIGTERM waits for what is outstanding, milliseconds.
    pub drain_timeout_ms: u64,
    /// Topic of the records that guests failed on (`on_failure = "dead-letter"`).
    pub dead_letter_topic: String,
    /// Partitions of each topic of the embedded cluster.
    pub embedded_partitions: u32,
    /// Any further librdkafka property, as written.
    pub properties: Vec<(String, Placed<String>)>,
}

/// Which brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// librdkafka's mock cluster inside this process: nothing is kept on disk.
    Embedded,
    /// `host:port,host:port`
    Servers(String),
}

/// Properties that Hookgate sets itself, and the setting to use instead.
const OWN_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "bootstrap_servers"),
    ("metadata.broker.list", "bootstrap_servers"),
    ("acks", "acks"),
    ("request.required.acks", "acks"),
    ("compression.type", "compression"),
    ("compression.codec", "compression"),
    ("linger.ms", "linger_ms"),
    ("queue.buffering.max.ms", "linger_ms"),
    ("delivery.timeout.ms", "delivery_timeout_ms"),
    ("message.timeout.ms", "delivery_timeout_ms"),
    ("queue.buffering.max.messages", "max_outstanding_records"),
    ("queue.buffering.max.kbytes", "max_outstanding_bytes"),
    ("enable.idempotence", "acks"),
];

impl Kafka {
    /// The name of the cluster that `[kafka]` describes.
    pub const DEFAULT: &'static str = "kafka";

    /// `[[cluster]]`: one more, with a name.
    pub(super) fn read_named(table: &mut Table<'_>) -> Option<Self> {
        let name = table.required_text("name", "\"eu\"");
        let kafka = Self::read(table);
        Some(Kafka { name: name?.value, ..kafka? })
    }

    /// `[kafka]`.
    #[rustfmt::skip]
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let servers = table.required_text("bootstrap_servers", "\"embedded\" or \"host:9092\"");
        let acks = table.choice("acks", &[("all", "all"), ("1", "1"), ("0", "0")]);
        let compression = table.choice("compression", &["none", "gzip", "snappy", "lz4", "zstd"].map(|word| (word, word)));
        let word = |placed: Option<Placed<&str>>, default: &str| placed.map_or(default, |placed| placed.value).to_owned();
        let properties = table.free_texts("properties");
        for (name, value) in &properties {
            if let Some((_, setting)) = OWN_PROPERTIES.iter().find(|(own, _)| own == name) {
                table.refuse_at(&value.place, "properties", format_args!(".\"{name}\" is set by Hookgate"), format!("use `{setting}`"));
            }
        }
        let (acks, compression) = (word(acks, "all"), word(compression, "none"));
        let max_outstanding_records = table.integer("max_outstanding_records", 1..=10_000_000, 20_000) as usize;
        let max_outstanding_bytes = table.integer("max_outstanding_bytes", 1 << 10..=1 << 31, 256 << 20) as usize;
        let max_outstanding_ms = table.integer("max_outstanding_ms", 0..=3_600_000, 1_000);
        let linger_ms = table.integer("linger_ms", 0..=10_000, 5);
        let delivery_timeout_ms = table.integer("delivery_timeout_ms", 0..=2_147_483_647, 0);
        let drain_timeout_ms = table.integer("drain_timeout_ms", 0..=3_600_000, 30_000);
        let dead_letter_topic = table.text("dead_letter_topic").map_or("hookgate_dead_letter".to_owned(), |topic| topic.value);
        let embedded_partitions = table.integer("embedded_partitions", 1..=1_000, 3) as u32;
        let servers = servers?;
        let bootstrap = if servers.value == "embedded" { Bootstrap::Embedded } else { Bootstrap::Servers(servers.value) };
        let place = Placed { value: (), place: servers.place };
        Some(Kafka {
            name: Self::DEFAULT.to_owned(),
            bootstrap, place, acks, compression, linger_ms, max_outstanding_records, max_outstanding_bytes, max_outstanding_ms,
            delivery_timeout_ms, drain_timeout_ms, dead_letter_topic, embedded_partitions, properties,
        })
    }

    /// The embedded cluster with every default, for programs that write no file.
    pub fn embedded(place: Place) -> Self {
        Kafka {
            name: Self::DEFAULT.to_owned(),
            bootstrap: Bootstrap::Embedded,
            place: Placed { value: (), place },
            acks: "all".into(),
            compression: "none".into(),
            linger_ms: 5,
            max_outstanding_records: 20_000,
            max_outstanding_bytes: 256 << 20,
            max_outstanding_ms: 1_000,
            delivery_timeout_ms: 0,
            drain_timeout_ms: 30_000,
            dead_letter_topic: "hookgate_dead_letter".into(),
            embedded_partitions: 3,
            properties: Vec::new(),
        }
    }
}
