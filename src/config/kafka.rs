//! `[kafka]` and `[[cluster]]`: where records go.

mod producer;
mod sasl;
mod tls;

use std::path::Path;

pub use self::{
    producer::Tuning,
    sasl::{Credentials, Gssapi, OauthBearer, Sasl},
    tls::{Identity, KafkaTls, Pem},
};
use super::{
    problem::{Place, Placed, Problem},
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
    /// How connections are encrypted; `None`: they are not.
    pub tls: Option<Placed<KafkaTls>>,
    /// Who Hookgate is; `None`: what its certificate says, or nobody.
    pub sasl: Option<Placed<Sasl>>,
    /// librdkafka's `acks`: `all`, `1` or `0`.
    pub acks: String,
    /// librdkafka's `compression.type`.
    pub compression: String,
    /// How long a batch may wait for company, milliseconds.
    pub linger_ms: u64,
    /// Batches, requests and times; what is not set is librdkafka's default.
    pub tuning: Tuning,
    /// Records handed to Kafka and not yet confirmed; beyond, reading from devices pauses.
    pub max_outstanding_records: usize,
    /// Bytes of the same.
    pub max_outstanding_bytes: usize,
    /// No more records than Kafka answers in this time, milliseconds, once it is slower than the load; 0: by number only.
    pub max_outstanding_ms: u64,
    /// How long a record may stay unconfirmed before it counts as unknown, milliseconds; 0: for ever.
    pub delivery_timeout_ms: u64,
    /// How long SIGTERM waits for what is outstanding, and a change of this table for what is on its way, milliseconds.
    pub drain_timeout_ms: u64,
    /// Topic of the records that guests failed on (`on_failure = "dead-letter"`).
    pub dead_letter_topic: String,
    /// Partitions of each topic of the embedded cluster.
    pub embedded_partitions: u32,
    /// How topics are created that routes name and Kafka does not have; `None`: not at all.
    pub create_topics: Option<NewTopics>,
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

/// How topics are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTopics {
    /// Partitions of each.
    pub partitions: u32,
    /// Copies of each partition.
    pub replication: u32,
}

impl Kafka {
    /// The name of the cluster that `[kafka]` describes.
    pub const DEFAULT: &'static str = "kafka";

    /// `[[cluster]]`: one more, with a name.
    pub(super) fn read_named(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let name = table.required_text("name", "\"eu\"");
        let kafka = Self::read(table, folder);
        Some(Kafka { name: name?.value, ..kafka? })
    }

    /// `[kafka]`; relative paths start at `folder`.
    #[rustfmt::skip]
    pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let servers = table.required_text("bootstrap_servers", "\"embedded\" or \"host:9092\"");
        let acks = table.choice("acks", &[("all", "all"), ("1", "1"), ("0", "0")]);
        let compression = table.choice("compression", &["none", "gzip", "snappy", "lz4", "zstd"].map(|word| (word, word)));
        let word = |placed: Option<Placed<&str>>, default: &str| placed.map_or(default, |placed| placed.value).to_owned();
        let properties = producer::read_properties(table);
        let (acks, compression) = (word(acks, "all"), word(compression, "none"));
        let tuning = Tuning::read(table, acks == "all", &compression);
        let max_outstanding_records = table.integer("max_outstanding_records", 1..=10_000_000, 20_000) as usize;
        let max_outstanding_bytes = table.integer("max_outstanding_bytes", 1 << 10..=1 << 31, 256 << 20) as usize;
        let max_outstanding_ms = table.integer("max_outstanding_ms", 0..=3_600_000, 1_000);
        let linger_ms = table.integer("linger_ms", 0..=10_000, 5);
        let delivery_timeout_ms = table.integer("delivery_timeout_ms", 0..=2_147_483_647, 0);
        let drain_timeout_ms = table.integer("drain_timeout_ms", 0..=3_600_000, 30_000);
        let dead_letter_topic = table.text("dead_letter_topic").map_or("hookgate_dead_letter".to_owned(), |topic| topic.value);
        let embedded_partitions = table.integer("embedded_partitions", 1..=1_000, 3) as u32;
        let tls = placed(table, "tls", |table| KafkaTls::read(table, folder));
        let sasl = placed(table, "sasl", |table| Sasl::read(table, folder));
        let create_topics = NewTopics::read(table);
        let servers = servers?;
        let bootstrap = if servers.value == "embedded" { Bootstrap::Embedded } else { Bootstrap::Servers(servers.value) };
        if bootstrap == Bootstrap::Embedded {
            for setting in ["tls", "sasl", "create_topics"] {
                if let Some(place) = table.place_of(setting) {
                    table.refuse_at(&place, setting, " does nothing for the embedded Kafka", "remove it, or name brokers");
                }
            }
        }
        if let (Some(place), Some(Placed { value: Sasl::OauthBearer(_), .. })) = (table.place_of("create_topics"), &sasl) {
            let help = "create the topics by hand, or use SCRAM or a client certificate";
            table.refuse_at(&place, "create_topics", " cannot be used with OAUTHBEARER: librdkafka's admin client takes no token", help);
        }
        let place = Placed { value: (), place: servers.place };
        Some(Kafka {
            name: Self::DEFAULT.to_owned(),
            bootstrap, place, tls, sasl, acks, compression, linger_ms, tuning, max_outstanding_records, max_outstanding_bytes,
            max_outstanding_ms, delivery_timeout_ms, drain_timeout_ms, dead_letter_topic, embedded_partitions, create_topics, properties,
        })
    }

    /// The embedded cluster with every default, for programs that write no file.
    pub fn embedded(place: Place) -> Self {
        Kafka {
            name: Self::DEFAULT.to_owned(),
            bootstrap: Bootstrap::Embedded,
            place: Placed { value: (), place },
            tls: None,
            sasl: None,
            acks: "all".into(),
            compression: "none".into(),
            linger_ms: 5,
            tuning: Tuning::default(),
            max_outstanding_records: 20_000,
            max_outstanding_bytes: 256 << 20,
            max_outstanding_ms: 1_000,
            delivery_timeout_ms: 0,
            drain_timeout_ms: 30_000,
            dead_letter_topic: "hookgate_dead_letter".into(),
            embedded_partitions: 3,
            create_topics: None,
            properties: Vec::new(),
        }
    }

    /// Every file that it was read from: certificates, keys, passwords.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.tls.iter().flat_map(|tls| tls.value.files());
        tls.chain(self.sasl.iter().flat_map(|sasl| sasl.value.files()))
    }

    /// What works, and should not be so.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        match &self.sasl {
            Some(Placed { value: sasl @ (Sasl::Plain(_) | Sasl::OauthBearer(_)), place }) if self.tls.is_none() => {
                let message = format!(
                    "cluster \"{}\": {} without TLS: whoever reads along learns what Hookgate proves itself with",
                    self.name,
                    sasl.mechanism()
                );
                warnings.push(Problem::new(place, message).help("add tls = true, or tls = { ca = \"ca.pem\" }"));
            }
            _ => {}
        }
        if let Some(Placed { value: Sasl::OauthBearer(oauth), place }) = &self.sasl
            && oauth.token_url.starts_with("http://")
        {
            let message = format!("cluster \"{}\": the client secret travels to {} unencrypted", self.name, oauth.token_url);
            warnings.push(Problem::new(place, message).help("use the endpoint's https:// address"));
        }
        if let Some(tls) = self.tls.as_ref().filter(|tls| !tls.value.verify_hostname) {
            let message =
                format!("cluster \"{}\": verify_hostname = false: any certificate of the authority passes for a broker's", self.name);
            warnings.push(Problem::new(&tls.place, message).help("give the brokers certificates with their names, and remove it"));
        }
        warnings
    }
}

impl NewTopics {
    fn read(table: &Table<'_>) -> Option<Self> {
        let read = |topics: &mut Table<'_>| {
            topics.require("partitions", "3");
            topics.require("replication", "3, or 1 where there is one broker");
            NewTopics {
                partitions: topics.integer("partitions", 1..=100_000, 1) as u32,
                replication: topics.integer("replication", 1..=1_000, 1) as u32,
            }
        };
        table.table("create_topics", read)
    }
}

/// What `read` makes of a key, with its place.
fn placed<T>(table: &Table<'_>, key: &'static str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Option<Placed<T>> {
    let place = table.place_of(key);
    let value = read(table);
    Some(Placed { value: value?, place: place? })
}

#[cfg(test)]
mod tests;
