//! The newest frames in memory, so that a reader that is close to the end needs no disk.

use std::collections::VecDeque;

use crate::event::Bytes;

/// What is kept at most, about; the newest group is kept whatever its size.
const MOST_BYTES: usize = 8 << 20;

/// Frames that became durable together.
#[derive(Clone, Debug)]
struct Chunk {
    first: u64,
    last: u64,
    frames: Bytes,
}

/// The newest groups, without a gap.
#[derive(Debug, Default)]
pub(super) struct Tail {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Tail {
    /// Adds a group; `first` follows on the last one's last.
    pub(super) fn push(&mut self, first: u64, last: u64, frames: Bytes) {
        self.bytes += frames.len();
        self.chunks.push_back(Chunk { first, last, frames });
        while self.bytes > MOST_BYTES && self.chunks.len() > 1 {
            self.bytes -= self.chunks.pop_front().map_or(0, |chunk| chunk.frames.len());
        }
    }

    /// The group that `sequence` is in, with its first and its last sequence.
    pub(super) fn find(&self, sequence: u64) -> Option<(u64, u64, Bytes)> {
        let at = self.chunks.partition_point(|chunk| chunk.last < sequence);
        let chunk = self.chunks.get(at).filter(|chunk| chunk.first <= sequence)?;
        Some((chunk.first, chunk.last, chunk.frames.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_groups_leave() {
        let mut tail = Tail::default();
        assert_eq!(tail.find(1), None);
        let big = Bytes::from(vec![0; MOST_BYTES / 2]);
        tail.push(1, 10, big.clone());
        tail.push(11, 11, big.clone());
        assert_eq!(tail.find(10).map(|(first, last, _)| (first, last)), Some((1, 10)));
        tail.push(12, 20, Bytes::from_static(b"frames"));
        assert_eq!(tail.find(10), None);
        assert_eq!(tail.find(11).map(|(first, ..)| first), Some(11));
        assert_eq!(tail.find(20), Some((12, 20, Bytes::from_static(b"frames"))));
        assert_eq!(tail.find(21), None);
        tail.push(21, 21, Bytes::from(vec![0; MOST_BYTES + 1]));
        assert_eq!((tail.find(20), tail.find(21).is_some()), (None, true));
    }
}
