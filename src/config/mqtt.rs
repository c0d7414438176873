//! `[mqtt]`: what the broker allows; every bound is per connection or session unless it says otherwise. A listener's `limits` may say
//! otherwise for its own clients.

use super::reader::Table;
use crate::topic;

/// What the broker allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// Largest packet accepted, bytes; announced to MQTT 5 clients.
    pub max_packet_bytes: u32,
    /// Largest payload of a PUBLISH or a will, bytes; larger ones are refused and dropped as `too-large`, the connection stays.
    pub max_payload_bytes: usize,
    /// Levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Publishes of one client per second, after a burst of one second's; beyond, reading from it pauses. 0: any number.
    pub messages_per_s: u64,
    /// Bytes of one client per second, of all its packets, after a burst of one second's; beyond, reading from it pauses. 0: any number.
    pub bytes_per_s: u64,
    /// Publishes of one connection that may wait for their acknowledgement; reading pauses beyond. Announced as receive maximum.
    pub receive_maximum: u16,
    /// Publishes of QoS 0 of one connection that may wait while Kafka is slow; the next one is dropped as `kafka-slow`. 0: none is dropped,
    /// reading pauses.
    pub max_qos0_waiting: usize,
    /// Deliveries to one client that may wait for its acknowledgement; MQTT 5 clients may ask for fewer.
    pub max_inflight: u16,
    /// Messages that wait for one client, at most; the next one is dropped as `queue-full`.
    pub max_queued_messages: usize,
    /// Bytes that wait for one client, at most.
    pub max_queued_bytes: usize,
    /// Longest session expiry granted, seconds; also how long a 3.1.1 session without clean session is kept.
    pub max_session_expiry_s: u32,
    /// Subscriptions of one session.
    pub max_subscriptions: usize,
    /// Retained messages of the whole broker.
    pub max_retained_messages: usize,
    /// How long a fresh connection may take to send CONNECT, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest keep alive granted, seconds: an MQTT 5 client that asks for more, or for none, is told this one. 0: any.
    pub max_keep_alive_s: u16,
    /// Topic aliases of one MQTT 5 connection, in each direction: what a client may define, and what is defined for it if it asks.
    /// 0: none.
    pub max_topic_aliases: u16,
    /// Who of a shared subscription gets a message.
    pub shared_strategy: SharedStrategy,
    /// What an MQTT 5 client is told when it asks for response information: the beginning of a topic for its answers, with `%c` for its
    /// client id and `%u` for its user name.
    pub response_information: Option<String>,
    /// Where MQTT 5 clients are sent when the process drains: `host:port`, or several with blanks between.
    pub server_reference: Option<String>,
    /// What an MQTT 3.1.1 publisher is told about a refused QoS 1 or 2 message; the protocol has no third way [MQTT-3.3.5-2].
    pub denied_publish: DeniedPublish,
    /// How often the broker's figures under `$SYS/` are made anew, seconds; 0: there are none.
    pub sys_interval_s: u64,
}

/// What an MQTT 3.1.1 publisher is told about a refused message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedPublish {
    /// A positive acknowledgement: the broker has dealt with it.
    Acknowledge,
    /// The connection is closed.
    Disconnect,
}

/// Who of a shared subscription gets a message. Whatever is chosen: members that are connected come first, and whose queue is full is
/// passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedStrategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Anybody.
    Random,
    /// Always the same, until it is gone.
    Sticky,
    /// All messages of one publisher go to the same.
    HashClient,
    /// All messages of one topic go to the same.
    HashTopic,
}

/// What MQTT itself allows (section 1.5.5).
const MAX_MQTT_BYTES: u64 = 268_435_455;

/// The most that `max_topic_levels` can be, so that every walk over levels is bounded.
pub const MOST_TOPIC_LEVELS: usize = 128;

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            max_packet_bytes: 1 << 20,
            max_payload_bytes: MAX_MQTT_BYTES as usize,
            max_topic_levels: MOST_TOPIC_LEVELS,
            messages_per_s: 0,
            bytes_per_s: 0,
            receive_maximum: 256,
            max_qos0_waiting: 0,
            max_inflight: 256,
            max_queued_messages: 100_000,
            max_queued_bytes: 64 << 20,
            max_session_expiry_s: 7 * 24 * 3600,
            max_subscriptions: 1_000,
            max_retained_messages: 1_000_000,
            connect_timeout_ms: 10_000,
            max_keep_alive_s: 0,
            max_topic_aliases: 64,
            shared_strategy: SharedStrategy::RoundRobin,
            response_information: None,
            server_reference: None,
            denied_publish: DeniedPublish::Acknowledge,
            sys_interval_s: 10,
        }
    }
}

impl Mqtt {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let d = Mqtt::default();
        Mqtt {
            max_retained_messages: table.integer("max_retained_messages", 0..=1 << 40, d.max_retained_messages as u64) as usize,
            shared_strategy: table.choice("shared_strategy", STRATEGIES).map_or(d.shared_strategy, |placed| placed.value),
            server_reference: table
                .parsed("server_reference", "write \"host:port\"; several with blanks between", server_reference)
                .map(|placed| placed.value),
            ..Mqtt::read_bounds(table, &d)
        }
    }

    /// Those that a listener may set for its own clients; `d` holds what is not set.
    #[rustfmt::skip]
    pub(super) fn read_bounds(table: &mut Table<'_>, d: &Mqtt) -> Self {
        Mqtt {
            max_packet_bytes: table.integer("max_packet_bytes", 128..=MAX_MQTT_BYTES, d.max_packet_bytes.into()) as u32,
            max_payload_bytes: table.integer("max_payload_bytes", 0..=MAX_MQTT_BYTES, d.max_payload_bytes as u64) as usize,
            max_topic_levels: table.integer("max_topic_levels", 1..=MOST_TOPIC_LEVELS as u64, d.max_topic_levels as u64) as usize,
            messages_per_s: table.integer("messages_per_s", 0..=100_000_000, d.messages_per_s),
            bytes_per_s: table.integer("bytes_per_s", 0..=1 << 40, d.bytes_per_s),
            receive_maximum: table.integer("receive_maximum", 1..=65_535, d.receive_maximum.into()) as u16,
            max_qos0_waiting: table.integer("max_qos0_waiting", 0..=1_000_000, d.max_qos0_waiting as u64) as usize,
            max_inflight: table.integer("max_inflight", 1..=65_535, d.max_inflight.into()) as u16,
            max_queued_messages: table.integer("max_queued_messages", 0..=100_000_000, d.max_queued_messages as u64) as usize,
            max_queued_bytes: table.integer("max_queued_bytes", 0..=1 << 40, d.max_queued_bytes as u64) as usize,
            max_session_expiry_s: table.integer("max_session_expiry_s", 0..=u32::MAX.into(), d.max_session_expiry_s.into()) as u32,
            max_subscriptions: table.integer("max_subscriptions", 1..=1_000_000, d.max_subscriptions as u64) as usize,
            max_retained_messages: d.max_retained_messages,
            connect_timeout_ms: table.integer("connect_timeout_ms", 1..=3_600_000, d.connect_timeout_ms),
            max_keep_alive_s: table.integer("max_keep_alive_s", 0..=65_535, d.max_keep_alive_s.into()) as u16,
            max_topic_aliases: table.integer("max_topic_aliases", 0..=65_535, d.max_topic_aliases.into()) as u16,
            shared_strategy: d.shared_strategy,
            response_information: table
                .parsed("response_information", "write the beginning of a topic: \"replies/%c\"", response_information)
                .map_or_else(|| d.response_information.clone(), |placed| Some(placed.value)),
            server_reference: d.server_reference.clone(),
            denied_publish: table
                .choice("denied_publish", &[("acknowledge", DeniedPublish::Acknowledge), ("disconnect", DeniedPublish::Disconnect)])
                .map_or(d.denied_publish, |placed| placed.value),
            sys_interval_s: table.integer("sys_interval_s", 0..=86_400, d.sys_interval_s),
        }
    }
}

/// The words of `shared_strategy`.
const STRATEGIES: &[(&str, SharedStrategy)] = &[
    ("round-robin", SharedStrategy::RoundRobin),
    ("random", SharedStrategy::Random),
    ("sticky", SharedStrategy::Sticky),
    ("hash-client", SharedStrategy::HashClient),
    ("hash-topic", SharedStrategy::HashTopic),
];

/// Response information must be a topic name once its places are filled in, and fit beside the rest of CONNACK.
fn response_information(text: &str) -> Result<String, String> {
    const MAX_BYTES: usize = 1024;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        rest = after.strip_prefix(['c', 'u']).ok_or("`%` must be followed by `c` (client id) or `u` (user name)")?;
    }
    if text.len() > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    topic::check_name(text).map_err(|error| error.to_string()).map(|()| text.to_owned())
}

/// A list of hosts, each perhaps with a port (MQTT 5, section 4.11).
fn server_reference(text: &str) -> Result<String, &'static str> {
    const MAX_BYTES: usize = 1024;
    let known = |reference: &str| {
        let (host, port) = match reference.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (reference, None),
        };
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()) && port.is_none_or(|port| port.parse::<u16>().is_ok())
    };
    if text.len() > MAX_BYTES || text.split(' ').any(|reference| !known(reference)) {
        return Err("this names no server");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Mqtt, SharedStrategy};

    fn read(line: &str) -> (Mqtt, Vec<String>) {
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"embedded\"\n[mqtt]\n{line}\n");
        let (config, problems) = Config::parse(Path::new("h.toml"), &text);
        (config.mqtt, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_are_read() {
        assert_eq!(read("shared_strategy = \"hash-topic\"").0.shared_strategy, SharedStrategy::HashTopic);
        assert_eq!(read("max_topic_aliases = 0").0.max_topic_aliases, 0);
        assert_eq!(read("max_qos0_waiting = 100").0.max_qos0_waiting, 100);
        assert_eq!(read("response_information = \"replies/%u/%c/\"").0.response_information.as_deref(), Some("replies/%u/%c/"));
        for reference in ["gate-2.example:1883", "10.0.0.1 [2001:db8::1]:8883", "2001:db8::1"] {
            assert_eq!(read(&format!("server_reference = \"{reference}\"")).0.server_reference.as_deref(), Some(reference));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "shared_strategy = \"fair\"",
            "max_topic_aliases = 65536",
            "response_information = \"replies/%x\"",
            "response_information = \"replies/100%\"",
            "response_information = \"replies/#\"",
            "response_information = \"\"",
            "server_reference = \"\"",
            "server_reference = \"host:port\"",
            "server_reference = \"a  b\"",
        ] {
            let (_, problems) = read(line);
            assert!(problems.len() == 1 && problems[0].starts_with("h.toml:6:"), "{line}: {problems:?}");
        }
    }
}
