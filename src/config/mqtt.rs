//! `[mqtt]`: what the broker allows; every bound is per connection or session unless it says otherwise.

use super::reader::Table;

/// What the broker allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// Largest packet accepted, bytes; announced to MQTT 5 clients.
    pub max_packet_bytes: u32,
    /// Publishes of one connection that may wait for their acknowledgement; reading pauses beyond. Announced as receive maximum.
    pub receive_maximum: u16,
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

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            max_packet_bytes: 1 << 20,
            receive_maximum: 256,
            max_inflight: 256,
            max_queued_messages: 100_000,
            max_queued_bytes: 64 << 20,
            max_session_expiry_s: 7 * 24 * 3600,
            max_subscriptions: 1_000,
            max_retained_messages: 1_000_000,
            connect_timeout_ms: 10_000,
            max_keep_alive_s: 0,
            denied_publish: DeniedPublish::Acknowledge,
            sys_interval_s: 10,
        }
    }
}

impl Mqtt {
    #[rustfmt::skip]
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let d = Mqtt::default();
        Mqtt {
            max_packet_bytes: table.integer("max_packet_bytes", 128..=268_435_455, d.max_packet_bytes.into()) as u32,
            receive_maximum: table.integer("receive_maximum", 1..=65_535, d.receive_maximum.into()) as u16,
            max_inflight: table.integer("max_inflight", 1..=65_535, d.max_inflight.into()) as u16,
            max_queued_messages: table.integer("max_queued_messages", 0..=100_000_000, d.max_queued_messages as u64) as usize,
            max_queued_bytes: table.integer("max_queued_bytes", 0..=1 << 40, d.max_queued_bytes as u64) as usize,
            max_session_expiry_s: table.integer("max_session_expiry_s", 0..=u32::MAX.into(), d.max_session_expiry_s.into()) as u32,
            max_subscriptions: table.integer("max_subscriptions", 1..=1_000_000, d.max_subscriptions as u64) as usize,
            max_retained_messages: table.integer("max_retained_messages", 0..=1 << 40, d.max_retained_messages as u64) as usize,
            connect_timeout_ms: table.integer("connect_timeout_ms", 1..=3_600_000, d.connect_timeout_ms),
            max_keep_alive_s: table.integer("max_keep_alive_s", 0..=65_535, d.max_keep_alive_s.into()) as u16,
            denied_publish: table
                .choice("denied_publish", &[("acknowledge", DeniedPublish::Acknowledge), ("disconnect", DeniedPublish::Disconnect)])
                .map_or(d.denied_publish, |placed| placed.value),
            sys_interval_s: table.integer("sys_interval_s", 0..=86_400, d.sys_interval_s),
        }
    }
}
