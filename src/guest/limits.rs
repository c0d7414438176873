//! How much memory instances may take: one instance the sum of its linear memories and tables, all of them together a bound of their own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus_client::metrics::gauge::Gauge;
use wasmtime::{Error, ResourceLimiter};

/// A component is made of several core modules (the program, adapters, shims); each takes a few of these.
pub(super) const CORE_ITEMS: usize = 64;

/// Growing was refused, which traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The instance's memories.
    #[error("more memory than the limit")]
    Memory,
    /// The instance's tables.
    #[error("more table elements than the limit")]
    Table,
    /// The memories of all instances.
    #[error("more memory than all guests may have together")]
    Together { limit_bytes: usize },
}

/// The linear memory of all instances of the process.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Budget { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> Result<(), Refused> {
        let taken = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        taken.map(drop).map_err(|_| Refused::Together { limit_bytes: self.limit_bytes })
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts what one store takes; gives it back when it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    limit_bytes: usize,
    limit_elements: usize,
    used_bytes: usize,
    used_elements: usize,
    together: Arc<Budget>,
    gauge: Gauge,
}

impl Memory {
    /// `gauge` counts the bytes of all instances of one guest.
    pub(super) fn new(limit_bytes: usize, limit_elements: usize, together: Arc<Budget>, gauge: Gauge) -> Self {
        Memory { limit_bytes, limit_elements, used_bytes: 0, used_elements: 0, together, gauge }
    }

    /// The sum of the instance's linear memories.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.together.give_back(self.used_bytes);
        self.gauge.dec_by(self.used_bytes as i64);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        let more = desired.saturating_sub(current);
        let wanted = self.used_bytes.saturating_add(more);
        if wanted > self.limit_bytes {
            return Err(Refused::Memory.into());
        }
        self.together.take(more)?;
        self.gauge.inc_by(more as i64);
        self.used_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        let wanted = self.used_elements.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit_elements {
            return Err(Refused::Table.into());
        }
        self.used_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_ITEMS
    }

    fn tables(&self) -> usize {
        CORE_ITEMS
    }

    fn memories(&self) -> usize {
        CORE_ITEMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(growing: Result<bool, Error>) -> Option<Refused> {
        growing.err().and_then(|error| error.downcast_ref().copied())
    }

    #[test]
    fn memories_of_one_instance_share_the_limit() {
        let mut memory = Memory::new(1000, 0, Budget::new(10_000), Gauge::default());
        assert!(memory.memory_growing(0, 600, None).is_ok_and(|granted| granted));
        assert_eq!(refused(memory.memory_growing(0, 500, None)), Some(Refused::Memory));
        assert!(memory.memory_growing(600, 1000, None).is_ok_and(|granted| granted));
        assert_eq!(refused(memory.memory_growing(1000, 1001, None)), Some(Refused::Memory));
    }

    #[test]
    fn tables_are_bounded() {
        let mut memory = Memory::new(0, 100, Budget::new(0), Gauge::default());
        assert!(memory.table_growing(0, 100, None).is_ok_and(|granted| granted));
        assert_eq!(refused(memory.table_growing(0, 1, None)), Some(Refused::Table));
    }

    #[test]
    fn all_instances_share_a_budget_that_comes_back() {
        let (budget, gauge) = (Budget::new(1000), Gauge::default());
        let memory = || Memory::new(800, 0, Arc::clone(&budget), gauge.clone());
        let (mut one, mut two) = (memory(), memory());
        assert!(one.memory_growing(0, 700, None).is_ok());
        assert_eq!(refused(two.memory_growing(0, 301, None)), Some(Refused::Together { limit_bytes: 1000 }));
        assert!(two.memory_growing(0, 300, None).is_ok());
        assert_eq!(gauge.get(), 1000);
        drop(one);
        assert!(two.memory_growing(300, 800, None).is_ok());
        drop(two);
        assert_eq!((gauge.get(), budget.used_bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
