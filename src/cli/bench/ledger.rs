//! What Kafka holds, beside what the publishers know: every broken promise by name.
//!
//! Promises: what was acknowledged is in Kafka exactly once, what one client sent is in its order, and nothing is there that nobody sent.

use super::{
    load::Load,
    publisher::{Published, client_id},
};
use crate::kafka::StoredRecord;

/// Broken promises of one kind that are told one by one.
const EXAMPLES: usize = 5;

/// What Kafka holds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    clients: Vec<Seen>,
    /// The next offset of each partition.
    offsets: Vec<i64>,
    /// Records that the reader never saw, because the embedded Kafka had thrown them away.
    missed: i64,
    foreign: Findings,
    twice: Findings,
    disordered: Findings,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Times that each sequence number was seen.
    times: Vec<u8>,
    last: Option<u64>,
}

/// One kind of broken promise: how often, and the first in words.
#[derive(Debug, Default)]
struct Findings {
    number: u64,
    examples: Vec<String>,
}

impl Findings {
    fn note(&mut self, example: impl FnOnce() -> String) {
        self.number += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    fn tell(&self, what: &str, into: &mut Vec<String>) {
        if self.number > 0 {
            into.push(format!("{} {what}: {}", self.number, self.examples.join(", ")));
        }
    }
}

impl Ledger {
    pub(super) fn new(clients: u32) -> Self {
        Ledger { clients: vec![Seen::default(); clients as usize], ..Ledger::default() }
    }

    /// Notes a record; returns when its message was sent, if it is one of ours and new.
    pub(super) fn note(&mut self, record: &StoredRecord, load: &Load, scratch: &mut Vec<u8>) -> Option<u64> {
        self.note_offset(record);
        let place = || format!("partition {} offset {}", record.partition, record.offset);
        let mark = load.commands.read(&record.value, scratch);
        let mark = mark.filter(|mark| record.key.as_deref() == Some(client_id(mark.client).as_bytes()));
        let Some((mark, seen)) = mark.and_then(|mark| Some((mark, self.clients.get_mut(mark.client as usize)?))) else {
            self.foreign.note(place);
            return None;
        };
        let at = mark.sequence as usize;
        if seen.times.len() <= at {
            seen.times.resize(at + 1, 0);
        }
        let times = seen.times.get_mut(at)?;
        *times = times.saturating_add(1);
        if *times > 1 {
            self.twice.note(|| format!("{} number {at} at {}", client_id(mark.client), place()));
            return None;
        }
        if let Some(last) = seen.last.filter(|last| *last > mark.sequence) {
            self.disordered.note(|| format!("{} number {at} after {last} at {}", client_id(mark.client), place()));
        }
        seen.last = seen.last.max(Some(mark.sequence));
        Some(mark.sent_ns)
    }

    /// Offsets of a partition have no gaps: who sees one has missed records.
    fn note_offset(&mut self, record: &StoredRecord) {
        let partition = usize::try_from(record.partition).unwrap_or_default();
        if self.offsets.len() <= partition {
            self.offsets.resize(partition + 1, 0);
        }
        if let Some(next) = self.offsets.get_mut(partition) {
            self.missed += record.offset - *next;
            *next = record.offset + 1;
        }
    }

    /// Compares with what the publishers know: every broken promise in words.
    pub(super) fn broken_promises(&self, published: &[(u32, Published)]) -> Vec<String> {
        let (mut broken, mut lost, mut unsent, mut refused) = (Vec::new(), Findings::default(), Findings::default(), Findings::default());
        let mut unanswered = 0_u64;
        for (client, published) in published {
            let times: &[u8] = self.clients.get(*client as usize).map_or(&[], |seen| &seen.times);
            if times.len() > published.acknowledged.len() {
                unsent.note(|| format!("{} number {}", client_id(*client), times.len() - 1));
            }
            for (sequence, acknowledged) in published.acknowledged.iter().enumerate() {
                let stored = times.get(sequence).is_some_and(|times| *times > 0);
                if *acknowledged && !stored {
                    lost.note(|| format!("{} number {sequence}", client_id(*client)));
                }
            }
            let open = published.acknowledged.iter().filter(|acknowledged| !**acknowledged).count() as u64;
            unanswered += open.saturating_sub(published.refused);
            refused.number += published.refused;
            refused.examples.extend(published.examples.iter().take(EXAMPLES - refused.examples.len().min(EXAMPLES)).cloned());
        }
        if self.missed != 0 {
            broken.push(format!(
                "the reader fell behind and missed {} records (the embedded Kafka keeps 5 MiB a partition): nothing is proven; \
                 try a lower --rate, or a real Kafka with --kafka",
                self.missed
            ));
        } else {
            lost.tell("messages were acknowledged and are not in Kafka", &mut broken);
        }
        self.twice.tell("records are there a second time", &mut broken);
        self.disordered.tell("records are out of their client's order", &mut broken);
        self.foreign.tell("records are not what any publisher sent", &mut broken);
        unsent.tell("clients have records with numbers that they never sent", &mut broken);
        refused.tell("messages were refused", &mut broken);
        if unanswered > 0 {
            broken.push(format!("{unanswered} messages were never answered"));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            command::{Commands, Mark},
            load::Shape,
            packet::Protocol,
        },
        *,
    };

    /// `stored`: sequence numbers of the one client, in Kafka's order; `acknowledged`: by sequence number.
    fn check(stored: &[u64], acknowledged: &[bool], spoil: impl Fn(&mut StoredRecord), expected: &[&str]) {
        let shape = Shape { clients: 1, qos: 1, protocol: Protocol::V5, in_flight: 1, rate: 0, messages: None };
        let load = Load::new(shape, Commands::new(200).unwrap(), 1).unwrap();
        let mut ledger = Ledger::new(1);
        for (offset, sequence) in stored.iter().enumerate() {
            let mut value = Vec::new();
            load.commands.write(Mark { client: 0, sequence: *sequence, sent_ns: 1, time_s: 2 }, &mut value);
            let mut record = StoredRecord {
                topic: "t".into(),
                partition: 0,
                offset: offset as i64,
                key: Some(client_id(0).into_bytes().into()),
                value: value.into(),
                headers: Vec::new(),
                timestamp_ms: None,
            };
            spoil(&mut record);
            ledger.note(&record, &load, &mut Vec::new());
        }
        let published = Published { acknowledged: acknowledged.to_vec(), ..Published::default() };
        let broken = ledger.broken_promises(&[(0, published)]);
        let agree = broken.len() == expected.len() && broken.iter().zip(expected).all(|(broken, start)| broken.starts_with(start));
        assert!(agree, "expected {expected:?}\nfound {broken:?}");
    }

    #[test]
    fn kept_and_broken_promises_are_told_apart() {
        let none = |_: &mut StoredRecord| {};
        check(&[0, 1, 2], &[true; 3], none, &[]);
        check(&[0, 1, 2], &[true, true], none, &["1 clients have records with numbers"]);
        check(&[0, 2], &[true; 3], none, &["1 messages were acknowledged and are not in Kafka: bench-00000 number 1"]);
        check(&[0, 2], &[true, false, true], none, &["1 messages were never answered"]);
        check(&[0, 2, 1], &[true; 3], none, &["1 records are out of their client's order"]);
        check(&[0, 1, 1], &[true; 2], none, &["1 records are there a second time"]);
        let foreign = &["1 messages were acknowledged", "1 records are not what any publisher sent"][..];
        check(&[0], &[true], |record| record.key = Some("bench-00001".into()), foreign);
        check(&[0], &[true], |record| record.value = [&record.value[..], b" "].concat().into(), foreign);
        check(&[0], &[true], |record| record.offset += 7, &["the reader fell behind and missed 7 records"]);
    }
}
