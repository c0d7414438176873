//! One record as it lies in a segment: a head of 32 bytes and the body.
//!
//! ```text
//! length u32 · checksum u32 · sequence u64 · durable u64 · time_ms u64 · body
//! ```
//! All little-endian. `durable` is the last sequence that was durable when the frame was written: what proves, after a crash, that a frame
//! before it had been acknowledged. The checksum (CRC-32) covers everything but itself and begins with the segment's salt, so that a
//! frame that a device put into its payload is never taken for one. A frame without a body marks sequences that were given up.

/// The length of a head.
pub(super) const HEAD_BYTES: usize = 32;
/// The longest body. More than any MQTT message makes, and a damaged length is noticed by it.
pub(super) const MOST_BODY_BYTES: usize = 1 << 30;

/// Where a head's checksum stands.
const CHECKSUM: std::ops::Range<usize> = 4..8;

/// What precedes a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the body, bytes.
    pub(super) length: usize,
    pub(super) sequence: u64,
    /// The last sequence that was durable when this was written.
    pub(super) durable: u64,
    /// When it was appended, milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
}

impl Head {
    /// Reads a head, and says nothing about its truth; `None`: too few bytes, or an impossible length.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let head = Head { length, sequence: word(8)?, durable: word(16)?, time_ms: word(24)? };
        (length <= MOST_BODY_BYTES).then_some(head)
    }

    /// Head and body together, bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.length
    }
}

/// Reads the frame at the beginning of `bytes`; `None`: it is not whole, or not what was written.
pub(super) fn check(salt: u32, bytes: &[u8]) -> Option<Head> {
    let head = Head::read(bytes)?;
    let frame = bytes.get(..head.frame_bytes())?;
    (checksum(salt, frame) == frame.get(CHECKSUM)?).then_some(head)
}

/// Adds a frame whose sequence is not known yet; [`seal`] completes it. `body` is not longer than [`MOST_BODY_BYTES`].
pub(super) fn begin(into: &mut Vec<u8>, time_ms: u64, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&[0; 20]);
    into.extend_from_slice(&time_ms.to_le_bytes());
    into.extend_from_slice(body);
}

/// Completes a frame that [`begin`] made.
pub(super) fn seal(frame: &mut [u8], salt: u32, sequence: u64, durable: u64) {
    let mut put = |range: std::ops::Range<usize>, bytes: &[u8]| {
        if let Some(place) = frame.get_mut(range) {
            place.copy_from_slice(bytes);
        }
    };
    put(8..16, &sequence.to_le_bytes());
    put(16..24, &durable.to_le_bytes());
    let checksum = checksum(salt, frame);
    if let Some(place) = frame.get_mut(CHECKSUM) {
        place.copy_from_slice(&checksum);
    }
}

fn checksum(salt: u32, frame: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(frame.get(..CHECKSUM.start).unwrap_or_default());
    hasher.update(frame.get(CHECKSUM.end..).unwrap_or_default());
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts() {
        let mut frame = Vec::new();
        begin(&mut frame, 5, b"body");
        seal(&mut frame, 7, 3, 2);
        let head = Head { length: 4, sequence: 3, durable: 2, time_ms: 5 };
        assert_eq!(check(7, &frame), Some(head));
        assert_eq!(check(8, &frame), None, "another segment's");
        assert_eq!(check(7, &[&frame[..], b"more"].concat()), Some(head));
        for end in 0..frame.len() {
            assert_eq!(check(7, &frame[..end]), None, "cut at {end}");
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(7, &flipped), None, "bit {bit}");
        }
    }
}
