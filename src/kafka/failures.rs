//! The log of what went wrong, in a form that a dead Kafka cannot flood: the first failure of a kind is a line, what follows within ten
//! seconds is a number.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode;

/// How often one kind of failure may speak.
const QUIET: Duration = Duration::from_secs(10);

/// Failures by kind; there are few kinds.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
    troubles: Mutex<Option<(RDKafkaErrorCode, Instant)>>,
}

#[derive(Debug)]
struct Kind {
    spoke: Instant,
    unspoken: u64,
}

impl Failures {
    /// A record was not confirmed.
    pub(super) fn note(&self, reason: &'static str, topic: &str, code: RDKafkaErrorCode) {
        if let Some(before) = self.count(reason, Instant::now()) {
            tracing::error!(topic, reason, before, "Kafka did not confirm a record for topic {topic}: {code} ({before} more before it)");
        }
    }

    /// Counts a failure; `Some` when it may be a line, with the number of those that were none.
    fn count(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        let Some(kind) = kinds.get_mut(reason) else {
            kinds.insert(reason, Kind { spoke: now, unspoken: 0 });
            return Some(0);
        };
        if now.duration_since(kind.spoke) < QUIET {
            kind.unspoken += 1;
            return None;
        }
        kind.spoke = now;
        Some(std::mem::take(&mut kind.unspoken))
    }

    /// Says the numbers that no later failure has said for a while.
    pub(super) fn flush(&self) {
        self.flush_at(Instant::now());
    }

    /// Says all numbers that are owed: there will be no later failure.
    pub(super) fn flush_all(&self) {
        self.flush_at(Instant::now() + QUIET);
    }

    fn flush_at(&self, now: Instant) {
        for (reason, unspoken) in self.overdue(now) {
            tracing::error!(reason, unspoken, "Kafka did not confirm {unspoken} more records ({reason})");
        }
    }

    fn overdue(&self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut kinds = self.kinds.lock();
        let due = kinds.iter_mut().filter(|(_, kind)| kind.unspoken > 0 && now.duration_since(kind.spoke) >= QUIET);
        due.map(|(reason, kind)| {
            kind.spoke = now;
            (*reason, std::mem::take(&mut kind.unspoken))
        })
        .collect()
    }

    /// Something other than a lost connection is wrong with a broker: the same once in a while.
    pub(super) fn trouble(&self, code: RDKafkaErrorCode, reason: &str) {
        let now = Instant::now();
        let mut last = self.troubles.lock();
        if !matches!(*last, Some((same, spoke)) if same == code && now.duration_since(spoke) < QUIET) {
            *last = Some((code, now));
            tracing::warn!("Kafka: {reason} ({code}){}", advice(code));
        }
    }
}

/// What to do about it, where that is known.
pub(super) fn advice(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::Authentication => "; are sasl.mechanism, sasl.username and sasl.password those of a Kafka user?",
        RDKafkaErrorCode::SSL => "; does tls.ca name the authority of the brokers' certificates, and is their name in them?",
        RDKafkaErrorCode::Resolve => "; are the names in bootstrap_servers, and those that the brokers advertise, known here?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_said_or_counted() {
        let failures = Failures::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(failures.count("timeout", at(0)), Some(0));
        assert_eq!(failures.count("timeout", at(1)), None);
        assert_eq!(failures.count("too-large", at(1)), Some(0), "another kind");
        assert_eq!(failures.count("timeout", at(9)), None);
        assert_eq!(failures.overdue(at(9)), []);
        assert_eq!(failures.count("timeout", at(10)), Some(2));
        assert_eq!(failures.count("timeout", at(11)), None);
        assert_eq!(failures.overdue(at(20)), [("timeout", 1)]);
        assert_eq!(failures.overdue(at(40)), []);
    }
}
