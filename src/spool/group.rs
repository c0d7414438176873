//! Frames that are written and become durable together.

use std::ops::Range;

use super::frame;
use crate::event::{Bytes, Receipt};

/// Frames in their order, with the receipts that wait for them.
#[derive(Debug)]
pub(super) struct Group {
    /// The sequence of the first frame.
    first: u64,
    frames: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
    receipts: Vec<Receipt>,
    /// When the first frame was appended.
    oldest_ms: Option<u64>,
    /// Frames that are durable already.
    written: usize,
}

impl Group {
    /// An empty one.
    pub(super) fn new(first: u64) -> Self {
        Group { first, frames: Vec::new(), ends: Vec::new(), receipts: Vec::new(), oldest_ms: None, written: 0 }
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, time_ms: u64, body: &[u8], receipt: Receipt) {
        frame::begin(&mut self.frames, time_ms, body);
        self.ends.push(self.frames.len());
        self.receipts.push(receipt);
        self.oldest_ms.get_or_insert(time_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Frames.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The sequence that follows on the last frame.
    pub(super) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// The sequence of the first frame that is not durable; `None`: all are.
    pub(super) fn next(&self) -> Option<u64> {
        (self.written < self.ends.len()).then_some(self.first + self.written as u64)
    }

    /// The bytes of the first frame that is not durable.
    pub(super) fn next_bytes(&self) -> usize {
        self.end_of(self.written + 1) - self.end_of(self.written)
    }

    /// Completes as many frames as fit into `room`, at least one; with how many that are.
    pub(super) fn seal(&mut self, room: u64, salt: u32) -> (usize, &[u8]) {
        let begin = self.end_of(self.written);
        let rest = self.ends.get(self.written..).unwrap_or_default();
        let count = rest.partition_point(|end| (end - begin) as u64 <= room).max(1);
        let durable = (self.first + self.written as u64).saturating_sub(1);
        for index in self.written..self.written + count {
            let range = self.range(index);
            if let Some(frame) = self.frames.get_mut(range) {
                frame::seal(frame, salt, self.first + index as u64, durable);
            }
        }
        let end = self.end_of(self.written + count);
        (count, self.frames.get(begin..end).unwrap_or_default())
    }

    /// So many more frames are durable.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
    }

    /// When its first frame was appended.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.oldest_ms
    }

    /// First and last sequence, the frames, and the receipts that can be settled.
    pub(super) fn into_parts(self) -> (u64, u64, Bytes, Vec<Receipt>) {
        (self.first, self.end().saturating_sub(1), self.frames.into(), self.receipts)
    }

    fn range(&self, index: usize) -> Range<usize> {
        self.end_of(index)..self.end_of(index + 1)
    }

    /// Where the first `count` frames end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(if count == 0 { 0 } else { self.frames.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_pieces_that_fit() {
        let mut group = Group::new(10);
        for body in ["a", "bb", "ccc"] {
            group.push(1, body.as_bytes(), Receipt::nobody());
        }
        assert_eq!((group.next(), group.next_bytes(), group.end()), (Some(10), 33, 13));
        assert_eq!(group.seal(70, 0).0, 2);
        group.advance(2);
        assert_eq!((group.next(), group.next_bytes()), (Some(12), 35));
        let (count, frames) = group.seal(0, 7);
        assert_eq!(count, 1, "at least one");
        let head = frame::check(7, frames).unwrap();
        assert_eq!((head.sequence, head.durable), (12, 11));
        group.advance(1);
        assert_eq!(group.next(), None);
        assert_eq!(group.into_parts().1, 12);
    }
}
