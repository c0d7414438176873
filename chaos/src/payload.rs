//! What a message carries: who sent it, as what, its number, and bytes that follow from these, so that every byte can be checked.

use crate::{class::ClassId, dice::mix};

/// Which message of a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) seed: u64,
    pub(crate) client: u32,
    pub(crate) class: ClassId,
    /// Of this client in this class, from 0.
    pub(crate) number: u64,
}

const HEAD_BYTES: usize = 8 + 4 + 1 + 8;
/// One of so many messages is large.
const LARGE_ONE_IN: u64 = 1_000;

impl Mark {
    /// Appends the whole payload.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seed.to_be_bytes());
        out.extend_from_slice(&self.client.to_be_bytes());
        out.push(self.class.0);
        out.extend_from_slice(&self.number.to_be_bytes());
        let key = mix(mix(self.seed, u64::from(self.client)), self.number << 8 | u64::from(self.class.0));
        let filler_bytes =
            if key.is_multiple_of(LARGE_ONE_IN) { 2_000 + (key >> 32) as usize % 30_000 } else { 20 + (key >> 32) as usize % 200 };
        let end = out.len() + filler_bytes;
        let mut word = key;
        while out.len() < end {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = (word ^ (word >> 31)).to_be_bytes();
            out.extend_from_slice(bytes.get(..(end - out.len()).min(8)).unwrap_or(&bytes));
        }
    }

    /// The mark of a payload, which must be right to its last byte; `scratch` is emptied and used.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub(crate) fn read(payload: &[u8], scratch: &mut Vec<u8>) -> Result<Self, String> {
        let head = payload.first_chunk::<HEAD_BYTES>().ok_or_else(|| format!("only {} bytes", payload.len()))?;
        let (seed, rest) = head.split_at(8);
        let (client, rest) = rest.split_at(4);
        let (class, number) = rest.split_at(1);
        let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let class = ClassId(word(class) as u8);
        let mark = Mark { seed: word(seed), client: word(client) as u32, class, number: word(number) };
        scratch.clear();
        mark.write(scratch);
        if payload == scratch.as_slice() { Ok(mark) } else { Err(format!("the bytes after its mark are wrong ({mark:?})")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_who_it_is_and_no_byte_can_change() {
        let (mut payload, mut scratch) = (Vec::new(), Vec::new());
        for number in [0, 1, 255, 1 << 40] {
            let mark = Mark { seed: 9, client: 3, class: ClassId(2), number };
            payload.clear();
            mark.write(&mut payload);
            assert_eq!(Mark::read(&payload, &mut scratch), Ok(mark));
            for at in 0..payload.len() {
                payload[at] ^= 1;
                assert_ne!(Mark::read(&payload, &mut scratch), Ok(mark), "byte {at}");
                payload[at] ^= 1;
            }
            assert!(Mark::read(&payload[..payload.len() - 1], &mut scratch).is_err());
            assert!(Mark::read(&payload[..5], &mut scratch).is_err());
        }
    }
}
