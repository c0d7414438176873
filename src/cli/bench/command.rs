//! The commands that are published: signed as the flagship guest wants, and recognised in Kafka byte by byte.
//!
//! A command carries its own proof: client, sequence number and send time stand in it at fixed places, so the reader needs no memory of
//! what was sent to say that a record is exactly what a publisher sent, and when. The padding is named `_pad` so that it sorts first: what
//! is signed begins with it in every command, and the HMAC over it is computed once.

use ring::hmac;

/// The HMAC key that signs them.
pub(super) const KEY: &str = "hookgate bench";
/// Names in the order in which they are signed and written.
const HEAD: &str = "{\"_pad\":\"";
const ACTION: &str = "\",\"action\":\"unlock\",\"nonce_str\":\"";
const PROCESS: &str = "\",\"process_id\":\"";
const TIME: &str = "\",\"ts\":";
const SIGN: &str = ",\"sign\":\"";
const TAIL: &str = "\"}";
/// Digits of the fields.
const SEQUENCE: usize = 10;
const SENT: usize = 16;
const CLIENT: usize = 5;
const SECONDS: usize = 10;
const SIGNATURE: usize = 16;

/// What a command says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which publisher, from 0.
    pub(super) client: u32,
    /// Which of its messages, from 0.
    pub(super) sequence: u64,
    /// When it was sent, nanoseconds since the benchmark began.
    pub(super) sent_ns: u64,
    /// The `ts` that the verifier checks, seconds since the Unix epoch.
    pub(super) time_s: u64,
}

/// Makes and recognises commands of one size.
pub(super) struct Commands {
    /// All that comes before the nonce.
    head: Vec<u8>,
    /// The HMAC over what is signed before the nonce.
    signing: hmac::Context,
    bytes: usize,
}

impl Commands {
    /// Commands of `bytes` bytes.
    ///
    /// # Errors
    /// The fields alone need more, in words for the user.
    pub(super) fn new(bytes: usize) -> Result<Self, String> {
        let fixed = HEAD.len() + ACTION.len() + PROCESS.len() + TIME.len() + SIGN.len() + TAIL.len();
        let least = fixed + SEQUENCE + SENT + CLIENT + SEQUENCE + SECONDS + SIGNATURE;
        let padding = bytes
            .checked_sub(least)
            .ok_or_else(|| format!("a signed command needs at least {least} bytes, so --payload {bytes} is too small"))?;
        let padding = "x".repeat(padding);
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()));
        signing.update(format!("_pad={padding}&action=unlock&nonce_str=").as_bytes());
        Ok(Commands { head: format!("{HEAD}{padding}{ACTION}").into_bytes(), signing, bytes })
    }

    /// The size of each, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the command that says `mark`.
    pub(super) fn write(&self, mark: Mark, out: &mut Vec<u8>) {
        let (sequence, seconds) = (digits::<SEQUENCE>(mark.sequence), digits::<SECONDS>(mark.time_s));
        let (client, sent) = (digits::<CLIENT>(mark.client.into()), digits::<SENT>(mark.sent_ns));
        let mut signing = self.signing.clone();
        for part in [&sequence[..], &sent, b"&process_id=", &client, &sequence, b"&ts=", &seconds] {
            signing.update(part);
        }
        let signature = signing.sign();
        for part in [&self.head[..], &sequence, &sent, PROCESS.as_bytes(), &client, &sequence, TIME.as_bytes(), &seconds, SIGN.as_bytes()] {
            out.extend_from_slice(part);
        }
        for byte in signature.as_ref().iter().take(SIGNATURE / 2) {
            out.extend([byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        }
        out.extend_from_slice(TAIL.as_bytes());
    }

    /// Reads a command; `None` when it is not, byte by byte, one that [`Commands::write`] makes. `scratch` is overwritten.
    pub(super) fn read(&self, payload: &[u8], scratch: &mut Vec<u8>) -> Option<Mark> {
        let (sequence, rest) = number(payload.get(self.head.len()..)?, SEQUENCE)?;
        let (sent_ns, rest) = number(rest, SENT)?;
        let (client, rest) = number(rest.get(PROCESS.len()..)?, CLIENT)?;
        let (time_s, _) = number(rest.get(SEQUENCE + TIME.len()..)?, SECONDS)?;
        let mark = Mark { client: u32::try_from(client).ok()?, sequence, sent_ns, time_s };
        scratch.clear();
        self.write(mark, scratch);
        (scratch == payload).then_some(mark)
    }
}

/// A number in exactly `N` digits; what does not fit is cut, at the front.
fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    text
}

fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { client: 7, sequence: 42, sent_ns: 1_234_567_890, time_s: 1_574_744_434 };

    #[test]
    fn a_command_has_its_size_and_is_signed_over_its_other_fields_sorted_by_name() {
        let commands = Commands::new(1024).unwrap();
        let mut payload = Vec::new();
        commands.write(MARK, &mut payload);
        assert_eq!(payload.len(), 1024);
        let fields: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(&payload).unwrap();
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let signed: Vec<String> =
            fields.iter().filter(|(name, _)| *name != "sign").map(|(name, value)| format!("{name}={}", text(value))).collect();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), signed.join("&").as_bytes());
        let hex: String = tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(fields["sign"], hex);
        assert_eq!(fields["ts"], 1_574_744_434);
    }

    #[test]
    fn it_is_recognised_and_any_other_byte_is_not() {
        let commands = Commands::new(200).unwrap();
        let (mut payload, mut scratch) = (Vec::new(), Vec::new());
        commands.write(MARK, &mut payload);
        assert_eq!(commands.read(&payload, &mut scratch), Some(MARK));
        for at in 0..payload.len() {
            let mut wrong = payload.clone();
            wrong[at] ^= 1;
            assert_eq!(commands.read(&wrong, &mut scratch), None, "byte {at}");
        }
        assert_eq!(commands.read(&payload[..199], &mut scratch), None);
        assert!(Commands::new(100).is_err());
    }
}
