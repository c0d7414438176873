//! What the broker counts, read at one moment, and the topics that say it.

use std::time::Duration;

use super::{
    Shared,
    load::{Loads, SERIES},
};
use crate::{
    event::Text,
    hook::{DropReason, Hook},
};

/// What the broker counts, at one moment.
#[derive(Debug, Default)]
pub(super) struct Figures {
    uptime: Duration,
    connected: u64,
    maximum: u64,
    sessions: u64,
    expired: u64,
    packets_received: u64,
    packets_sent: u64,
    publishes_received: u64,
    publishes_sent: u64,
    dropped: u64,
    dropped_full: u64,
    delivered: u64,
    acked: u64,
    bytes_received: u64,
    bytes_sent: u64,
    payload_received: u64,
    payload_sent: u64,
    subscriptions: u64,
    filters: u64,
    retained: u64,
    queued: u64,
    in_flight: u64,
    sockets: u64,
    connects: u64,
}

impl Figures {
    /// Reads them; `maximum` is the most clients that were seen at one time.
    pub(super) fn read(shared: &Shared, uptime: Duration, maximum: &mut u64) -> Self {
        let metrics = &shared.metrics;
        let level = |value: i64| u64::try_from(value).unwrap_or(0);
        let hook = |hook: Hook| metrics.hook_events.get_or_create(&hook.name().into()).get();
        let dropped = |reason: DropReason| metrics.messages_dropped.get_or_create(&reason.name().into()).get();
        let connected = level(metrics.connections.get());
        *maximum = connected.max(*maximum);
        let (mut queued, mut in_flight) = (0, 0);
        shared.sessions.each(|mailbox, _, _| {
            queued += mailbox.backlog().0 as u64;
            in_flight += u64::from(mailbox.figures.in_flight());
        });
        Figures {
            uptime,
            connected,
            maximum: *maximum,
            sessions: level(metrics.sessions.get()),
            expired: metrics.sessions_expired.get(),
            packets_received: metrics.packets_received.get(),
            packets_sent: metrics.packets_sent.get(),
            publishes_received: metrics.messages_received.get(),
            publishes_sent: metrics.messages_sent.get(),
            dropped: DropReason::ALL.iter().map(|reason| dropped(*reason)).sum(),
            dropped_full: dropped(DropReason::QueueFull),
            delivered: hook(Hook::MessageDelivered),
            acked: hook(Hook::MessageAcked),
            bytes_received: metrics.bytes_received.get(),
            bytes_sent: metrics.bytes_sent.get(),
            payload_received: metrics.payload_bytes_received.get(),
            payload_sent: metrics.payload_bytes_sent.get(),
            subscriptions: level(metrics.subscriptions.get()),
            filters: shared.subscriptions.filters() as u64,
            retained: level(metrics.retained_messages.get()),
            queued,
            in_flight,
            sockets: metrics.connections_accepted.get(),
            connects: hook(Hook::ClientConnect),
        }
    }

    /// The totals that load averages are made of.
    pub(super) fn loads(&self) -> [u64; SERIES.len()] {
        [
            self.packets_received,
            self.packets_sent,
            self.publishes_received,
            self.publishes_sent,
            self.dropped_full,
            self.bytes_received,
            self.bytes_sent,
            self.sockets,
            self.connects,
        ]
    }

    /// Topics and values, in both brokers' names.
    pub(super) fn topics(&self, node: &str, now_ms: u64, loads: &Loads) -> Vec<(Text, String)> {
        let mut topics = self.mosquitto();
        topics.extend(loads.values().map(|(series, window, value)| (format!("$SYS/broker/load/{series}/{window}"), format!("{value:.2}"))));
        topics.extend(self.emqx(node, now_ms));
        topics.into_iter().map(|(topic, value)| (topic.into(), value)).collect()
    }

    /// mosquitto(8). A figure that it has under two names is here under both.
    fn mosquitto(&self) -> Vec<(String, String)> {
        let numbers = [
            ("clients/total", self.sessions),
            ("clients/connected", self.connected),
            ("clients/active", self.connected),
            ("clients/disconnected", self.sessions.saturating_sub(self.connected)),
            ("clients/inactive", self.sessions.saturating_sub(self.connected)),
            ("clients/maximum", self.maximum),
            ("clients/expired", self.expired),
            ("messages/received", self.packets_received),
            ("messages/sent", self.packets_sent),
            ("messages/stored", self.retained + self.queued),
            ("messages/inflight", self.in_flight),
            ("store/messages/count", self.retained + self.queued),
            ("publish/messages/received", self.publishes_received),
            ("publish/messages/sent", self.publishes_sent),
            ("publish/messages/dropped", self.dropped_full),
            ("bytes/received", self.bytes_received),
            ("bytes/sent", self.bytes_sent),
            ("publish/bytes/received", self.payload_received),
            ("publish/bytes/sent", self.payload_sent),
            ("subscriptions/count", self.subscriptions),
            ("retained messages/count", self.retained),
        ];
        let mut topics: Vec<_> = numbers.iter().map(|(name, value)| (format!("$SYS/broker/{name}"), value.to_string())).collect();
        topics.push(("$SYS/broker/version".to_owned(), format!("hookgate version {}", env!("CARGO_PKG_VERSION"))));
        topics.push(("$SYS/broker/uptime".to_owned(), format!("{} seconds", self.uptime.as_secs())));
        topics
    }

    fn emqx(&self, node: &str, now_ms: u64) -> Vec<(String, String)> {
        // A node's name is free text; one level of a topic is not.
        let node: String = node.chars().map(|c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c }).collect();
        let numbers = [
            ("stats/connections/count", self.connected),
            ("stats/connections/max", self.maximum),
            ("stats/sessions/count", self.sessions),
            ("stats/topics/count", self.filters),
            ("stats/subscriptions/count", self.subscriptions),
            ("stats/retained/count", self.retained),
            ("metrics/bytes/received", self.bytes_received),
            ("metrics/bytes/sent", self.bytes_sent),
            ("metrics/packets/received", self.packets_received),
            ("metrics/packets/sent", self.packets_sent),
            ("metrics/packets/connect/received", self.connects),
            ("metrics/packets/publish/received", self.publishes_received),
            ("metrics/packets/publish/sent", self.publishes_sent),
            ("metrics/messages/received", self.publishes_received),
            ("metrics/messages/sent", self.publishes_sent),
            ("metrics/messages/delivered", self.delivered),
            ("metrics/messages/acked", self.acked),
            ("metrics/messages/dropped", self.dropped),
        ];
        let mut topics: Vec<_> = numbers.iter().map(|(name, value)| (format!("$SYS/brokers/{node}/{name}"), value.to_string())).collect();
        topics.push(("$SYS/brokers".to_owned(), node.clone()));
        topics.push((format!("$SYS/brokers/{node}/version"), env!("CARGO_PKG_VERSION").to_owned()));
        topics.push((format!("$SYS/brokers/{node}/sysdescr"), "Hookgate".to_owned()));
        topics.push((format!("$SYS/brokers/{node}/uptime"), self.uptime.as_millis().to_string()));
        topics.push((format!("$SYS/brokers/{node}/datetime"), datetime(now_ms / 1000)));
        topics
    }
}

/// Seconds since the Unix epoch as RFC 3339 writes them, in UTC. The calendar is Howard Hinnant's `civil_from_days`.
fn datetime(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months from March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(datetime(unix_s), expected);
        }
    }

    #[test]
    fn both_brokers_names_and_valid_topics() {
        let figures = Figures { sessions: 5, connected: 3, uptime: Duration::from_secs(61), ..Figures::default() };
        let topics = figures.topics("a/b", 0, &Loads::default());
        for (topic, value) in [
            ("$SYS/broker/uptime", "61 seconds"),
            ("$SYS/broker/clients/disconnected", "2"),
            ("$SYS/broker/load/publish/sent/15min", "0.00"),
            ("$SYS/broker/retained messages/count", "0"),
            ("$SYS/brokers", "a_b"),
            ("$SYS/brokers/a_b/stats/connections/count", "3"),
            ("$SYS/brokers/a_b/uptime", "61000"),
        ] {
            assert!(topics.iter().any(|(name, found)| &**name == topic && found == value), "{topic} = {value}: {topics:#?}");
        }
        assert!(topics.iter().all(|(name, _)| crate::topic::check_name(name).is_ok()));
        let mut names: Vec<_> = topics.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), topics.len(), "each once");
    }
}
