//! The alarm about records that wait too long: once when it begins, once when it ends.

use std::time::Duration;

/// What has just begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The oldest record is too old.
    Late,
    /// No longer.
    Caught,
}

/// Whether the oldest record is too old.
#[derive(Debug)]
pub(super) struct Alarm {
    age: Duration,
    late: bool,
}

impl Alarm {
    /// Raised when the oldest record is older than `age`.
    pub(super) fn new(age: Duration) -> Self {
        Alarm { age, late: false }
    }

    /// Looks at the age of the oldest record; `None`: nothing waits.
    pub(super) fn look(&mut self, oldest: Option<Duration>) -> Option<Change> {
        let late = oldest.is_some_and(|oldest| oldest > self.age);
        let change = if late { Change::Late } else { Change::Caught };
        (std::mem::replace(&mut self.late, late) != late).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_at_the_edges_only() {
        let mut alarm = Alarm::new(Duration::from_secs(10));
        let steps = [
            (None, None),
            (Some(10), None),
            (Some(11), Some(Change::Late)),
            (Some(12), None),
            (Some(3), Some(Change::Caught)),
            (Some(20), Some(Change::Late)),
            (None, Some(Change::Caught)),
            (None, None),
        ];
        for (at, (seconds, expected)) in steps.into_iter().enumerate() {
            assert_eq!(alarm.look(seconds.map(Duration::from_secs)), expected, "step {at}");
        }
    }
}
