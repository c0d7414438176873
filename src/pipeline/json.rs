//! Whether a payload is JSON that can stand inside other JSON.
//!
//! Devices write it and consumers' parsers read it, so that it is no more than they must bear: UTF-8, numbers that are finite, no deeper
//! than 128.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The payload without the white space around it, when it is such JSON.
pub(super) fn read(payload: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(payload).ok()?;
    serde_json::from_str::<Sound>(text).ok()?; // bounds the depth, which the next line does not
    serde_json::from_str(text).ok()
}

/// Any value, read and forgotten.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sound)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sound, A::Error> {
        while items.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sound, A::Error> {
        while members.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_consumer_can_read_is_json() {
        let (deep, deeper) = (format!("{}{}", "[".repeat(127), "]".repeat(127)), format!("{}{}", "[".repeat(128), "]".repeat(128)));
        for (payload, expected) in [
            (&b"{}"[..], Some("{}")),
            (b" \n{\"a\": [1, 83.40, true, null, \"\xc3\xa4\"]}\r\n", Some("{\"a\": [1, 83.40, true, null, \"ä\"]}")),
            (b"12345678901234567890123", Some("12345678901234567890123")),
            (b"\"text\"", Some("\"text\"")),
            (b"null", Some("null")),
            (deep.as_bytes(), Some(&*deep)),
            (deeper.as_bytes(), None),
            (b"", None),
            (b"on", None),
            (b"{} {}", None),
            (b"{\"a\":1e999}", None),
            (b"\"\xff\"", None),
            (b"\"\\ud800\"", None),
            (b"NaN", None),
            (b"{a:1}", None),
        ] {
            assert_eq!(read(payload).map(RawValue::get), expected, "{}", String::from_utf8_lossy(payload));
        }
    }
}
