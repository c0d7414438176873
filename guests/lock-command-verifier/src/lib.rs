//! Refuses commands to locks that are forged, stale or replayed, before anybody sees them.
//!
//! A command is a flat JSON object on `devices/{client_id}/command`:
//! `{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434,"sign":"e9f5af7deaa28563"}`.
//! `sign` is the beginning of the lower-case hex of HMAC-SHA256 over all other fields, sorted by name:
//! `action=unlock&nonce_str=u7u4p0n8&process_id=7802441525528958&ts=1574744434`. Numbers stand there as they are written.
//!
//! The first of these that is wrong is the reason of the denial (code 0x87): `malformed`, `bad-signature`, `stale`, `replayed`.
//! What is accepted carries the Kafka header `verified: true`. Only authentic, fresh commands leave a nonce behind, so nobody without
//! the key can fill the state. When the state cannot answer, the guest does not judge, and the route's `on_failure` decides.
//!
//! Commands that come from Kafka are judged in the same way by a downlink that names this guest: the record's value is the command, its key
//! the lock. One that is refused is dropped, with the same word.
//!
//! Absent: the lock's identity is no part of what is signed (the format has no place for it), so a command seen on its way to one lock
//! is authentic for another, unless the sender puts it into a further field, which is signed like all others.
//!
//! Settings: `key` (default `lock-hmac`), `max_age_s` (30), `signature_digits` (16). Grants: `settings`, `crypto`, `state`.

mod fields;
mod scan;

use hookgate_guest::{crypto::Hash, prelude::*};

use fields::{Field, Malformed, find};

/// Longest nonce, bytes: it becomes part of a key of the state.
const MAX_NONCE_BYTES: usize = 128;

/// Seconds that a nonce is kept beyond the time in which its command is fresh: an event may wait for its guest after its time was taken.
const NONCE_MARGIN_S: u32 = 60;

struct LockCommandVerifier {
    key: String,
    max_age_s: u32,
    signature_bytes: usize,
}

/// A command in the right form; nothing of it is trusted yet.
struct Command<'a> {
    fields: Vec<Field<'a>>,
    ts: i64,
}

impl Guest for LockCommandVerifier {
    fn start() -> Result<Self, String> {
        let max_age_s = settings::get_or("max_age_s", 30)?;
        if !(1..=86_400).contains(&max_age_s) {
            return Err(format!("the setting `max_age_s` = {max_age_s}: give 1 to 86400 seconds"));
        }
        let digits: usize = settings::get_or("signature_digits", 16)?;
        if !(16..=64).contains(&digits) || !digits.is_multiple_of(2) {
            return Err(format!("the setting `signature_digits` = {digits}: give an even number from 16 to 64"));
        }
        let guest = LockCommandVerifier { key: settings::get_or("key", "lock-hmac".to_owned())?, max_age_s, signature_bytes: digits / 2 };
        // Tries the key, so that a wrong name is found when the guest is deployed, not when the first command comes.
        match crypto::hmac_verify(&guest.key, Hash::Sha256, b"", &vec![0; guest.signature_bytes]) {
            Ok(_) => Ok(guest),
            Err(crypto::Error::NoSuchKey) => {
                Err(format!("the setting `key` = \"{}\": there is no such key in this guest's `keys`", guest.key))
            }
            Err(crypto::Error::Malformed(why)) => Err(format!("the setting `key` = \"{}\": {why}", guest.key)),
        }
    }
}

impl Publish for LockCommandVerifier {
    fn handle(&self, context: &Context, _: &Client, message: Message) -> Result<PublishVerdict, Fault> {
        let lock = message
            .topic
            .split('/')
            .nth(1)
            .ok_or_else(|| Fault::invalid("the topic names no lock: expected devices/{client_id}/command"))?;
        let event = Origin::event(context);
        Ok(match self.judge(&message.payload, lock, context.time_ms, event)? {
            None => PublishVerdict::change().header("verified", "true").into(),
            Some(refusal) => PublishVerdict::deny(reason::NOT_AUTHORIZED, refusal),
        })
    }
}

impl Downlink for LockCommandVerifier {
    fn handle(&self, context: &Context, _: &str, fetched: Fetched, _: Vec<Message>) -> Result<DownlinkVerdict, Fault> {
        let lock = fetched.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let lock = lock.ok_or_else(|| Fault::invalid("the record's key names no lock"))?;
        let command = fetched.value.as_deref().unwrap_or_default();
        Ok(match self.judge(command, lock, context.time_ms, Origin::record(&fetched))? {
            None => DownlinkVerdict::Pass,
            Some(refusal) => DownlinkVerdict::drop(refusal),
        })
    }
}

/// What left a nonce behind: the same again on its second way through here (two routes that ask this guest, a retry, a record that comes
/// again after a failure).
struct Origin([u8; 16]);

impl Origin {
    fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut origin = [0; 16];
        for (to, from) in origin.iter_mut().zip(bytes) {
            *to = from;
        }
        Origin(origin)
    }

    fn event(context: &Context) -> Self {
        Origin::of(context.id.to_be_bytes().into_iter().chain(context.time_ms.to_be_bytes()))
    }

    fn record(fetched: &Fetched) -> Self {
        let topic = fetched.topic.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)); // FNV-1a
        let place = fetched.offset.to_be_bytes().into_iter().chain(fetched.partition.to_be_bytes());
        Origin::of(place.chain(topic.to_be_bytes()))
    }
}

impl LockCommandVerifier {
    /// Why the command is refused, if it is.
    #[inline]
    fn judge(&self, bytes: &[u8], lock: &str, now_ms: u64, origin: Origin) -> Result<Option<&'static str>, Fault> {
        let Ok(command) = Command::read(bytes) else { return Ok(Some("malformed")) };
        if !self.is_authentic(&command, bytes.len())? {
            return Ok(Some("bad-signature"));
        }
        if !self.is_fresh(&command, now_ms) {
            return Ok(Some("stale"));
        }
        Ok(if self.is_new(&command, lock, &origin)? { None } else { Some("replayed") })
    }

    fn is_authentic(&self, command: &Command<'_>, payload_bytes: usize) -> Result<bool, Fault> {
        let mut bytes = [0; 32];
        let Some(mac) = bytes.get_mut(..self.signature_bytes) else { return Ok(false) };
        if !decode_hex(command.text("sign"), mac) {
            return Ok(false);
        }
        Ok(crypto::hmac_verify(&self.key, Hash::Sha256, &command.signed_text(payload_bytes), mac)?)
    }

    /// Neither too old nor too far ahead.
    fn is_fresh(&self, command: &Command<'_>, time_ms: u64) -> bool {
        let sent_ms = command.ts.saturating_mul(1000);
        i64::try_from(time_ms).is_ok_and(|time_ms| sent_ms.abs_diff(time_ms) <= u64::from(self.max_age_s) * 1000)
    }

    /// Records the nonce. A command of the future is fresh for up to twice `max_age_s`, so its nonce is kept that long.
    fn is_new(&self, command: &Command<'_>, lock: &str, Origin(origin): &Origin) -> Result<bool, Fault> {
        let nonce = std::str::from_utf8(command.text("nonce_str")).map_err(Fault::internal)?; // it was checked with the payload
        let key = ["nonce/", lock, "/", nonce].concat();
        let is_new = state::put_if_absent(&key, origin, Some(2 * self.max_age_s + NONCE_MARGIN_S))?;
        Ok(is_new || state::get(&key)?.as_deref() == Some(origin))
    }
}

impl<'a> Command<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let fields = fields::read(payload)?;
        for name in ["process_id", "action", "sign"] {
            find(&fields, name)?.text().ok_or(Malformed)?;
        }
        let nonce = find(&fields, "nonce_str")?.text().ok_or(Malformed)?;
        let ts = find(&fields, "ts")?.integer().ok_or(Malformed)?;
        // With these inside, two different commands would have the same signed text.
        let ambiguous = |Field { name, value }: &Field<'_>| {
            name.is_empty() || name.iter().any(|byte| matches!(byte, b'&' | b'=')) || scan::contains(value.bytes(), b'&')
        };
        if nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES || fields.iter().any(ambiguous) {
            return Err(Malformed);
        }
        Ok(Command { fields, ts })
    }

    fn text(&self, name: &str) -> &[u8] {
        find(&self.fields, name).map_or(b"", |value| value.bytes())
    }

    fn signed_text(&self, payload_bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(payload_bytes);
        for field in self.fields.iter().filter(|field| *field.name != *b"sign") {
            if !text.is_empty() {
                text.push(b'&');
            }
            text.extend_from_slice(&field.name);
            text.push(b'=');
            text.extend_from_slice(field.value.bytes());
        }
        text
    }
}

/// Reads lower-case hex into `bytes`; whether it was that, and of exactly this length.
fn decode_hex(text: &[u8], bytes: &mut [u8]) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.len() == bytes.len() * 2
        && text.as_chunks().0.iter().zip(bytes).all(|([high, low], byte)| match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

hookgate_guest::export!(LockCommandVerifier: publish, downlink);

#[cfg(test)]
mod tests;
