//! Which records are under way, and up to where each partition is done: what may be committed.
//!
//! Pure. Invariants: a partition's mark never passes a record that is not done; what was fetched before a partition was taken away moves
//! nothing when it comes back to us.

use std::collections::{HashMap, VecDeque};

use crate::event::Text;

/// A partition of a topic.
pub(super) type Place = (Text, u32);

/// A record that was fetched, to be given back when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    place: Place,
    offset: u64,
    bytes: usize,
    generation: u64,
}

/// All partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Marks {
    partitions: HashMap<Place, Partition>,
    generations: u64,
    records: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Partition {
    /// From when on it is ours; every time has another number.
    generation: u64,
    /// In the order of offsets; those that are done wait for the ones before them.
    under_way: VecDeque<UnderWay>,
    /// The offset of the first record that is not done, once it is known.
    mark: Option<u64>,
    /// Whether the mark has moved since it was last committed.
    moved: bool,
}

#[derive(Debug)]
struct UnderWay {
    offset: u64,
    bytes: usize,
    done: bool,
}

impl Marks {
    /// A record was fetched.
    pub(super) fn fetched(&mut self, topic: &Text, partition: u32, offset: u64, bytes: usize) -> Lease {
        let place = (topic.clone(), partition);
        let generation = self.partition(&place).generation;
        self.partition(&place).under_way.push_back(UnderWay { offset, bytes, done: false });
        self.records += 1;
        self.bytes += bytes;
        Lease { place, offset, bytes, generation }
    }

    /// Everything before `offset` counts as done: the group begins there.
    pub(super) fn begin(&mut self, place: &Place, offset: u64) {
        let partition = self.partition(place);
        partition.mark = Some(offset);
        partition.moved = true;
    }

    /// A record is done; whether its partition is still ours.
    pub(super) fn done(&mut self, lease: &Lease) -> bool {
        let Some(partition) = self.partitions.get_mut(&lease.place).filter(|partition| partition.generation == lease.generation) else {
            return false;
        };
        let under_way = &mut partition.under_way;
        let Ok(index) = under_way.binary_search_by_key(&lease.offset, |record| record.offset) else {
            return true; // it was done before
        };
        if let Some(record) = under_way.get_mut(index)
            && !std::mem::replace(&mut record.done, true)
        {
            self.records -= 1;
            self.bytes -= lease.bytes;
        }
        while under_way.front().is_some_and(|record| record.done) {
            partition.mark = under_way.pop_front().map(|record| record.offset + 1);
            partition.moved = true;
        }
        true
    }

    /// Whether the record's partition is still ours.
    pub(super) fn holds(&self, lease: &Lease) -> bool {
        self.partitions.get(&lease.place).is_some_and(|partition| partition.generation == lease.generation)
    }

    /// Records under way, and their bytes.
    pub(super) fn outstanding(&self) -> (usize, usize) {
        (self.records, self.bytes)
    }

    /// Records under way of some partitions.
    pub(super) fn outstanding_of(&self, places: &[Place]) -> usize {
        let partitions = places.iter().filter_map(|place| self.partitions.get(place));
        partitions.map(|partition| partition.under_way.iter().filter(|record| !record.done).count()).sum()
    }

    /// The marks that have moved, each once.
    pub(super) fn moved(&mut self) -> Vec<(Place, u64)> {
        let moved = self.partitions.iter_mut().filter_map(|(place, partition)| {
            let has_moved = std::mem::take(&mut partition.moved);
            Some((place.clone(), partition.mark.filter(|_| has_moved)?))
        });
        moved.collect()
    }

    /// The commit of a partition's mark failed: it is told again.
    pub(super) fn again(&mut self, place: &Place) {
        if let Some(partition) = self.partitions.get_mut(place) {
            partition.moved = partition.mark.is_some();
        }
    }

    /// Partitions are not ours any more: what is under way of them moves nothing.
    pub(super) fn forget(&mut self, places: &[Place]) {
        for place in places {
            let Some(partition) = self.partitions.remove(place) else { continue };
            for record in partition.under_way.iter().filter(|record| !record.done) {
                self.records -= 1;
                self.bytes -= record.bytes;
            }
        }
    }

    /// No partition is ours any more.
    pub(super) fn forget_all(&mut self) {
        self.partitions.clear();
        (self.records, self.bytes) = (0, 0);
    }

    fn partition(&mut self, place: &Place) -> &mut Partition {
        let generations = &mut self.generations;
        self.partitions.entry(place.clone()).or_insert_with(|| {
            *generations += 1;
            Partition { generation: *generations, under_way: VecDeque::new(), mark: None, moved: false }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: u32) -> Place {
        ("t".into(), partition)
    }

    fn fetch(marks: &mut Marks, partition: u32, offset: u64) -> Lease {
        marks.fetched(&"t".into(), partition, offset, 10)
    }

    #[test]
    fn a_mark_never_passes_what_is_not_done() {
        let mut marks = Marks::default();
        let leases: Vec<Lease> = [5, 6, 9, 10].into_iter().map(|offset| fetch(&mut marks, 0, offset)).collect();
        assert_eq!(marks.outstanding(), (4, 40));
        assert!(marks.done(&leases[2]) && marks.done(&leases[1]));
        assert_eq!((marks.moved(), marks.outstanding()), (vec![], (2, 20)));
        assert!(marks.done(&leases[0]));
        assert_eq!(marks.moved(), [(place(0), 10)], "7 and 8 are none, 9 was done before");
        assert_eq!(marks.moved(), [], "once");
        marks.again(&place(0));
        assert_eq!(marks.moved(), [(place(0), 10)], "its commit failed");
        assert!(marks.done(&leases[3]));
        assert_eq!((marks.moved(), marks.outstanding()), (vec![(place(0), 11)], (0, 0)));
    }

    #[test]
    fn partitions_are_apart() {
        let mut marks = Marks::default();
        let (one, other) = (fetch(&mut marks, 0, 1), fetch(&mut marks, 1, 1));
        assert!(marks.done(&other));
        assert_eq!(marks.moved(), [(place(1), 2)]);
        assert_eq!((marks.outstanding_of(&[place(0)]), marks.outstanding_of(&[place(1), place(2)])), (1, 0));
        assert!(marks.done(&one) && marks.done(&one));
        assert_eq!(marks.outstanding(), (0, 0), "counted once");
    }

    #[test]
    fn what_was_taken_away_moves_nothing_when_it_comes_back() {
        let mut marks = Marks::default();
        let (old, done) = (fetch(&mut marks, 0, 1), fetch(&mut marks, 0, 2));
        marks.done(&done);
        marks.forget(&[place(0), place(7)]);
        assert_eq!(marks.outstanding(), (0, 0));
        assert!(!marks.holds(&old) && !marks.done(&old));
        let again = fetch(&mut marks, 0, 1);
        assert!(!marks.done(&old) && marks.holds(&again));
        assert_eq!((marks.moved(), marks.outstanding()), (vec![], (1, 10)));
        marks.forget_all();
        assert!(!marks.holds(&again));
        assert_eq!(marks.outstanding(), (0, 0));
    }

    #[test]
    fn a_group_that_begins_commits_where() {
        let mut marks = Marks::default();
        marks.begin(&place(0), 100);
        assert_eq!(marks.moved(), [(place(0), 100)]);
        marks.again(&place(1));
        assert_eq!(marks.moved(), [], "nothing is known of it");
    }
}
