//! A record as it stands in the spool: the number of the format, and a plain structure for postcard whose order of fields is the layout.
//! Whoever changes it raises the number.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq as _};

use crate::{
    event::{Bytes, Header, Text},
    kafka::{Choice, Record, RecordId},
};

/// The first byte of every body.
const FORMAT: u8 = 1;

/// What postcard adds to a record, about.
const OVERHEAD_BYTES: usize = 64;

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    #[serde(serialize_with = "optional_bytes")]
    key: Option<&'a [u8]>,
    #[serde(serialize_with = "bytes")]
    value: &'a [u8],
    #[serde(serialize_with = "pairs")]
    headers: &'a [Header],
    timestamp_ms: u64,
    partition: (u8, i32),
    id: Option<(u64, u32)>,
}

#[derive(Deserialize)]
struct Read<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
    timestamp_ms: u64,
    partition: (u8, i32),
    id: Option<(u64, u32)>,
}

/// A record as bytes.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    let Record { topic, key, partition, value, id, headers, timestamp_ms } = record;
    let (partition, id) = (number(*partition), id.map(|RecordId { event, part }| (event, part)));
    let written = Written { topic, key: key.as_deref(), value, headers, timestamp_ms: *timestamp_ms, partition, id };
    let mut begun = Vec::with_capacity(record.bytes() + topic.len() + OVERHEAD_BYTES);
    begun.push(FORMAT);
    // A Vec takes everything, so that this cannot fail; an empty body would be noticed at once, as unreadable.
    postcard::to_extend(&written, begun).unwrap_or_default()
}

/// The record that bytes stand for, sharing them; `None`: they stand for none that this version knows.
pub(super) fn decode(body: &Bytes) -> Option<Record> {
    let (format, rest) = body.split_first()?;
    if *format != FORMAT {
        return None;
    }
    let (Read { topic, key, value, headers, timestamp_ms, partition, id }, _) = postcard::take_from_bytes(rest).ok()?;
    let text = |text: &str| Text::try_from(body.slice_ref(text.as_bytes())).ok();
    let header = |(name, value)| Some(Header { name: text(name)?, value: text(value)? });
    Some(Record {
        topic: text(topic)?,
        key: key.map(|key| body.slice_ref(key)),
        partition: choice(partition)?,
        value: body.slice_ref(value),
        id: id.map(|(event, part)| RecordId { event, part }),
        headers: headers.into_iter().map(header).collect::<Option<_>>()?,
        timestamp_ms,
    })
}

fn number(choice: Choice) -> (u8, i32) {
    match choice {
        Choice::Key => (0, 0),
        Choice::RoundRobin => (1, 0),
        Choice::Sticky => (2, 0),
        Choice::Random => (3, 0),
        Choice::Fixed(partition) => (4, partition),
    }
}

fn choice(number: (u8, i32)) -> Option<Choice> {
    match number {
        (0, _) => Some(Choice::Key),
        (1, _) => Some(Choice::RoundRobin),
        (2, _) => Some(Choice::Sticky),
        (3, _) => Some(Choice::Random),
        (4, partition) => Some(Choice::Fixed(partition)),
        _ => None,
    }
}

/// Byte slices would be written byte by byte; the bytes are the same.
fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn optional_bytes<S: Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    struct Whole<'a>(&'a [u8]);
    impl Serialize for Whole<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    match bytes {
        Some(bytes) => serializer.serialize_some(&Whole(bytes)),
        None => serializer.serialize_none(),
    }
}

fn pairs<S: Serializer>(headers: &&[Header], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(headers.len()))?;
    for Header { name, value } in *headers {
        sequence.serialize_element(&(&**name, &**value))?;
    }
    sequence.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_whole() {
        let header = |name: &'static str, value: &'static str| Header { name: name.into(), value: value.into() };
        let full = Record {
            topic: "state".into(),
            key: Some(Bytes::from_static(b"\x00lock 1")),
            value: Bytes::from_static(b"\xff\x00"),
            headers: vec![header("event-id", "00ff"), header("event-id", "")],
            timestamp_ms: 1_700_000_000_123,
            partition: Choice::Fixed(7),
            id: Some(RecordId { event: u64::MAX, part: 3 }),
        };
        let choices = [Choice::Key, Choice::RoundRobin, Choice::Sticky, Choice::Random, Choice::Fixed(0)];
        let chosen = choices.into_iter().map(|partition| Record { partition, ..full.clone() });
        for record in chosen.chain([full.clone(), Record::default(), Record { key: Some(Bytes::new()), ..full.clone() }]) {
            let body = Bytes::from(encode(&record));
            assert_eq!(decode(&body), Some(record));
        }
        let body = encode(&full);
        for end in 0..body.len() {
            assert_eq!(decode(&Bytes::copy_from_slice(&body[..end])), None, "cut at {end}");
        }
        assert_eq!(decode(&Bytes::from_static(b"\x02state")), None, "another format");
    }

    /// Bytes that an earlier version wrote.
    #[test]
    fn the_layout_stays() {
        let record = Record {
            topic: "t".into(),
            key: Some(Bytes::from_static(b"k")),
            value: Bytes::from_static(b"v"),
            headers: vec![Header { name: "n".into(), value: "h".into() }],
            timestamp_ms: 300,
            partition: Choice::Fixed(1),
            id: Some(RecordId { event: 5, part: 0 }),
        };
        assert_eq!(encode(&record), b"\x01\x01t\x01\x01k\x01v\x01\x01n\x01h\xac\x02\x04\x02\x01\x05\x00");
    }
}
