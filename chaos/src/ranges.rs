//! Sets of sequence numbers that are nearly without gaps: a few ranges stand for millions of numbers.

/// A set of numbers, kept as sorted ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// First and last, both within.
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// Adds a number; whether it was not there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        // Numbers mostly come in order.
        if let Some((_, last)) = self.ranges.last_mut()
            && number == *last + 1
        {
            *last = number;
            return true;
        }
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        let before = after.checked_sub(1).and_then(|at| self.ranges.get(at)).copied();
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let joins_before = before.is_some_and(|(_, last)| last + 1 == number);
        let joins_after = self.ranges.get(after).is_some_and(|(first, _)| *first == number + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, last) = self.ranges.remove(after);
                self.set_last(after - 1, last);
            }
            (true, false) => self.set_last(after - 1, number),
            (false, true) => {
                if let Some((first, _)) = self.ranges.get_mut(after) {
                    *first = number;
                }
            }
            (false, false) => self.ranges.insert(after, (number, number)),
        }
        true
    }

    fn set_last(&mut self, at: usize, number: u64) {
        if let Some((_, last)) = self.ranges.get_mut(at) {
            *last = number;
        }
    }

    /// Whether a number is there.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| *last >= number)
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The highest number.
    pub(crate) fn last(&self) -> Option<u64> {
        self.ranges.last().map(|(_, last)| *last)
    }

    /// What is here and not in `other`, in order.
    pub(crate) fn without<'a>(&'a self, other: &'a Ranges) -> impl Iterator<Item = u64> + 'a {
        let mut others = other.ranges.iter().copied().peekable();
        self.ranges.iter().flat_map(move |(first, last)| {
            let (mut next, mut missing) = (*first, Vec::new());
            while next <= *last {
                match others.peek().copied() {
                    Some((_, end)) if end < next => {
                        others.next();
                    }
                    Some((start, end)) if start <= next => next = end + 1,
                    Some((start, _)) => {
                        missing.push(next..start.min(last + 1));
                        next = start;
                    }
                    None => {
                        missing.push(next..last + 1);
                        next = last + 1;
                    }
                }
            }
            missing.into_iter().flatten()
        })
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut ranges = Ranges::default();
        for number in numbers {
            ranges.insert(number);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn they_do_what_a_set_does() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let most = dice.u64(1..60);
            let mut draw = |count: usize| (0..count).map(|_| dice.u64(0..most)).collect::<Vec<_>>();
            let (ours, others) = (draw(40), draw(40));
            let (mut set, mut ranges) = (BTreeSet::new(), Ranges::default());
            for number in ours {
                assert_eq!(ranges.insert(number), set.insert(number));
            }
            let (other_set, other): (BTreeSet<u64>, Ranges) = (others.iter().copied().collect(), others.iter().copied().collect());
            assert_eq!(ranges.len(), set.len() as u64);
            assert_eq!(ranges.last(), set.last().copied());
            assert!((0..=most).all(|number| ranges.contains(number) == set.contains(&number)));
            assert_eq!(ranges.without(&other).collect::<Vec<_>>(), set.difference(&other_set).copied().collect::<Vec<_>>());
            assert!(ranges.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        }
    }
}
