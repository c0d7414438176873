//! How much memory one instance may take: the sum of its linear memories, and its tables.

use wasmtime::{Error, ResourceLimiter};

/// Elements of all tables of an instance: function pointers, so a few thousand is a large program.
const TABLE_ELEMENTS: usize = 1_000_000;
/// A component is made of several core modules (the program, adapters, shims); each takes a few of these.
const CORE_ITEMS: usize = 64;

/// The instance wanted more memory than its limit; growing traps.
#[derive(Debug, thiserror::Error)]
#[error("more memory than the limit")]
pub(super) struct MemoryExhausted;

/// Counts what one store takes.
#[derive(Debug)]
pub(super) struct Memory {
    limit_bytes: usize,
    used_bytes: usize,
    used_elements: usize,
}

impl Memory {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Memory { limit_bytes, used_bytes: 0, used_elements: 0 }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        let wanted = self.used_bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit_bytes {
            return Err(MemoryExhausted.into());
        }
        self.used_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        let wanted = self.used_elements.saturating_add(desired.saturating_sub(current));
        if wanted > TABLE_ELEMENTS {
            return Err(MemoryExhausted.into());
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

    #[test]
    fn memories_of_one_instance_share_the_limit() {
        let mut memory = Memory::new(1000);
        assert!(memory.memory_growing(0, 600, None).is_ok_and(|granted| granted));
        assert!(memory.memory_growing(0, 500, None).is_err_and(|error| error.is::<MemoryExhausted>()));
        assert!(memory.memory_growing(600, 1000, None).is_ok_and(|granted| granted));
        assert!(memory.memory_growing(1000, 1001, None).is_err());
    }

    #[test]
    fn tables_are_bounded() {
        let mut memory = Memory::new(0);
        assert!(memory.table_growing(0, TABLE_ELEMENTS, None).is_ok_and(|granted| granted));
        assert!(memory.table_growing(0, 1, None).is_err());
    }
}
