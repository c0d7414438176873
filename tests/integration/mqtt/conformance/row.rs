//! What a row of the tables is, and which numbers there must be.

use std::pin::Pin;

use super::place::Place;

/// How a statement is proved, or why it is not.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// Over a raw socket; the name of the check, and the check.
    Wire(&'static str, fn(Place) -> Work),
    /// It binds clients, and a server cannot tell.
    Client(&'static str),
    /// Another test proves it.
    Elsewhere(&'static str),
    /// Why it cannot be tested here.
    Reason(&'static str),
}

/// A check at work.
pub(super) type Work<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Number, statement in our own words, check.
pub(super) type Row = (&'static str, &'static str, Check);

/// One of the two documents.
pub(super) struct Document {
    pub(super) title: &'static str,
    pub(super) level: u8,
    pub(super) chapters: &'static [&'static [Row]],
    /// Sections, and the first and last number in each.
    pub(super) numbers: &'static [(&'static str, u8, u8)],
}

impl Document {
    pub(super) fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.chapters.iter().flat_map(|rows| rows.iter())
    }

    /// All numbers that the document has, in its order.
    pub(super) fn all_numbers(&self) -> Vec<String> {
        let section = |(section, first, last): &(&str, u8, u8)| -> Vec<String> {
            (*first..=*last).map(|number| format!("MQTT-{section}-{number}")).collect()
        };
        self.numbers.iter().flat_map(section).collect()
    }
}

/// A check by its path.
macro_rules! wire {
    ($check:path) => {
        Check::Wire(stringify!($check), |place| Box::pin($check(place)))
    };
}
pub(super) use wire;
