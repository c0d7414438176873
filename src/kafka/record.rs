//! What is handed to Kafka.

use rdkafka::message::{Header as NativeHeader, OwnedHeaders};

use super::Choice;
use crate::event::{Bytes, Header, Text};

/// A Kafka record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Kafka topic.
    pub topic: Text,
    /// Decides the partition, and so with whom it keeps its order; without one, any partition.
    pub key: Option<Bytes>,
    /// How the partition is chosen, if not by the key.
    pub partition: Choice,
    /// The value.
    pub value: Bytes,
    /// The header `event-id`, which comes before the others.
    pub id: Option<RecordId>,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch. Kafka forgets a producer whose newest record is older than `producer.id.expiration.ms` (a day)
    /// when it restarts, and with it which batches it has: much older times than the present cost the protection against repetitions.
    pub timestamp_ms: u64,
}

/// Tells the records of different events apart, so that consumers can leave repetitions out. The same whenever the same event is
/// handed over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId {
    /// The event's.
    pub event: u64,
    /// 0 for a route's own record, from 1 for those that guests emit instead of it.
    pub part: u32,
}

/// The text of a [`RecordId`], without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct RecordIdText {
    bytes: [u8; RecordIdText::MOST],
    len: usize,
}

impl RecordId {
    /// The name of its header.
    pub const HEADER: &str = "event-id";

    /// 16 hex digits of the event; a part follows as `-N`.
    pub fn text(self) -> RecordIdText {
        let mut text = RecordIdText { bytes: [0; RecordIdText::MOST], len: 0 };
        for nibble in (0..16).rev() {
            text.push(digit((self.event >> (4 * nibble)) as u8 & 0xf));
        }
        if self.part > 0 {
            text.push(b'-');
            let places = self.part.ilog10();
            for place in (0..=places).rev() {
                text.push(digit((self.part / 10_u32.pow(place) % 10) as u8));
            }
        }
        text
    }
}

/// 0 to 15 as a hex digit.
fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

impl RecordIdText {
    /// 16 hex digits, a minus sign and the digits of `u32::MAX`.
    const MOST: usize = 27;

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Record {
    /// What it counts for in `max_outstanding_bytes`: key, value and headers.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let id = self.id.map_or(0, |_| RecordId::HEADER.len() + RecordIdText::MOST);
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers + id
    }

    /// The headers as librdkafka wants them; none costs nothing.
    pub(super) fn native_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() && self.id.is_none() {
            return None;
        }
        let mut all = OwnedHeaders::new_with_capacity(self.headers.len() + usize::from(self.id.is_some()));
        if let Some(id) = self.id {
            all = all.insert(NativeHeader { key: RecordId::HEADER, value: Some(id.text().as_bytes()) });
        }
        let insert = |headers: OwnedHeaders, header: &Header| {
            headers.insert(NativeHeader { key: header.name.as_ref(), value: Some(&*header.value) })
        };
        Some(self.headers.iter().fold(all, insert))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_digits_and_a_part() {
        for (event, part, expected) in [
            (0, 0, "0000000000000000"),
            (255, 0, "00000000000000ff"),
            (u64::MAX, 1, "ffffffffffffffff-1"),
            (0x0123_4567_89ab_cdef, 10, "0123456789abcdef-10"),
            (1, 1_000_305, "0000000000000001-1000305"),
            (u64::MAX, u32::MAX, "ffffffffffffffff-4294967295"),
        ] {
            assert_eq!(RecordId { event, part }.text().as_str(), expected);
        }
    }
}
