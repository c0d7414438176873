//! What a client knows in the end: what it sent, what was acknowledged, and what went wrong on its side.

use crate::{class::ClassId, ranges::Ranges};

/// One client's whole knowledge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) client: u32,
    pub(crate) classes: Vec<ClassBook>,
    /// How often the broker had forgotten the session.
    pub(crate) lost_sessions: u64,
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Messages that were never answered.
    pub(crate) open: u64,
}

/// What it knows of one class.
#[derive(Clone, Debug)]
pub(crate) struct ClassBook {
    pub(crate) class: ClassId,
    /// Numbers below were sent, perhaps in vain.
    pub(crate) next: u64,
    pub(crate) acknowledged: Ranges,
    /// Sent more than once.
    pub(crate) again: Ranges,
    /// Answered with a refusal: may be in Kafka or not.
    pub(crate) refused: Ranges,
}

impl Books {
    pub(crate) fn new(client: u32, classes: &[ClassId]) -> Self {
        let book = |class: &ClassId| ClassBook {
            class: *class,
            next: 0,
            acknowledged: Ranges::default(),
            again: Ranges::default(),
            refused: Ranges::default(),
        };
        Books { client, classes: classes.iter().map(book).collect(), ..Books::default() }
    }

    pub(crate) fn class(&self, class: ClassId) -> Option<&ClassBook> {
        self.classes.iter().find(|book| book.class == class)
    }

    pub(crate) fn class_mut(&mut self, class: ClassId) -> Option<&mut ClassBook> {
        self.classes.iter_mut().find(|book| book.class == class)
    }
}
