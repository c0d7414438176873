//! Where a guest's texts and lists lie: an allocator that makes a block, and takes it back, in a few instructions.
//!
//! Every text and list of an event is a block that the host asks the instance for, a dozen per event, and that the guest gives back. So a
//! part of the instance's memory is set aside as an [`Arena`] of blocks in fixed sizes, with a list of free ones for each. What does not
//! fit, because it is too large or the arena is full, goes to the system's allocator, as everything would without this one.
//!
//! Invariants:
//! - The arena never grows; a block's address says whether it is the arena's, so each goes back where it came from.
//! - Between calls the host asks for blocks for arguments, which only Rust code gives back: those may come from the arena. During a call
//!   it asks for blocks for the results of imports; some of these are the C library's, which gives them back by `free`: those come from
//!   the system's allocator, which is the C library's too.
//!
//! Absent: threads, which WebAssembly components of this kind do not have; merging blocks: one that was cut for a size stays of that size.
//!
//! A guest that brings an allocator of its own builds this crate with `default-features = false`; it must export a `cabi_realloc` that
//! belongs to that allocator, because the C library's is what `free` expects.
#![allow(unsafe_code, reason = "an allocator deals in addresses")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, UnsafeCell},
    ptr,
};

/// Memory set aside, bytes. An event with a payload of a few KiB takes a twentieth of it.
const ARENA_BYTES: usize = 128 << 10;
/// Sizes of small blocks are multiples of this, and so are all addresses.
const STEP_BYTES: usize = 16;
/// Up to here there is a size of block for every step.
const SMALL_BYTES: usize = 1 << 10;
const SMALL_CLASSES: usize = SMALL_BYTES / STEP_BYTES;
/// Above, each size is twice the one before: 2, 4 and 8 KiB.
const LARGE_CLASSES: usize = 3;
const CLASSES: usize = SMALL_CLASSES + LARGE_CLASSES;
const LARGEST_BYTES: usize = SMALL_BYTES << LARGE_CLASSES;

/// The allocator of a guest.
pub(crate) struct Allocator {
    arena: Arena,
    /// No export is running, so what the host asks for is for arguments.
    between_calls: Cell<bool>,
}

impl Allocator {
    pub(crate) const fn new() -> Self {
        Allocator { arena: Arena::new(), between_calls: Cell::new(false) }
    }

    /// Says that an export runs (`false`) or has ended (`true`).
    pub(crate) fn set_between_calls(&self, between_calls: bool) {
        self.between_calls.set(between_calls);
    }

    /// `cabi_realloc` of the canonical ABI: room for what the host hands over; null when there is none.
    ///
    /// # Safety
    /// As the canonical ABI has it: `old` is null and `old_bytes` 0, or both are of a block that came from here with the same `align`.
    pub(crate) unsafe fn room(&self, old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
        if new_bytes == 0 {
            return ptr::without_provenance_mut(align); // never read, never given back
        }
        let Ok(layout) = Layout::from_size_align(if old_bytes == 0 { new_bytes } else { old_bytes }, align) else {
            return ptr::null_mut();
        };
        // SAFETY: the sizes are not 0; an old block is as the caller promises.
        unsafe {
            match (old_bytes, self.between_calls.get()) {
                (0, true) => self.alloc(layout),
                (0, false) => System.alloc(layout),
                _ => self.realloc(old, layout, new_bytes),
            }
        }
    }
}

// SAFETY: blocks are disjoint, aligned and large enough: the arena cuts them from its memory one after the other, in sizes that are
// multiples of their alignment, and a free one is on one list; everything else is the system allocator's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Arena::class(layout).and_then(|class| self.arena.take(class)) {
            Some(block) => block,
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)] // it stands wherever something ends
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the block came from here and has this layout, so an arena's block is of this class.
        unsafe {
            match Arena::class(layout) {
                Some(class) if self.arena.owns(block) => self.arena.give_back(block, class),
                _ => System.dealloc(block, layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; the block is `layout.size()` bytes long.
        unsafe {
            match Arena::class(layout).and_then(|class| self.arena.take(class)) {
                Some(block) => {
                    block.write_bytes(0, layout.size());
                    block
                }
                None => System.alloc_zeroed(layout),
            }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that the block has this layout and that the new size, with its alignment, is one.
        unsafe {
            if !self.arena.owns(block) {
                return System.realloc(block, layout, new_bytes);
            }
            let new_layout = Layout::from_size_align_unchecked(new_bytes, layout.align());
            if Arena::class(layout) == Arena::class(new_layout) {
                return block;
            }
            let new = self.alloc(new_layout);
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(new_bytes));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// A fixed piece of memory, cut into blocks of a few sizes.
#[repr(C, align(16))] // memory first, so that it is aligned too
struct Arena {
    memory: UnsafeCell<[u8; ARENA_BYTES]>,
    /// Bytes that were cut off so far.
    cut: Cell<usize>,
    /// Of each size the block that was given back last; its first bytes are the address of the one before.
    free: [Cell<*mut u8>; CLASSES],
}

impl Arena {
    const fn new() -> Self {
        Arena { memory: UnsafeCell::new([0; ARENA_BYTES]), cut: Cell::new(0), free: [const { Cell::new(ptr::null_mut()) }; CLASSES] }
    }

    /// Which size of block takes this; `None` when none does.
    #[inline]
    fn class(layout: Layout) -> Option<usize> {
        let bytes = layout.size();
        if layout.align() > STEP_BYTES || bytes == 0 {
            None
        } else if bytes <= SMALL_BYTES {
            Some((bytes - 1) / STEP_BYTES)
        } else if bytes <= LARGEST_BYTES {
            let doublings = usize::BITS - ((bytes - 1) / SMALL_BYTES).leading_zeros();
            Some(SMALL_CLASSES - 1 + doublings as usize)
        } else {
            None
        }
    }

    fn class_bytes(class: usize) -> usize {
        if class < SMALL_CLASSES { (class + 1) * STEP_BYTES } else { SMALL_BYTES << (class + 1 - SMALL_CLASSES) }
    }

    #[inline]
    fn owns(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.memory.get().addr()) < ARENA_BYTES
    }

    /// A block of this class; `None` when the arena is used up.
    #[inline]
    fn take(&self, class: usize) -> Option<*mut u8> {
        let free = self.free.get(class)?;
        let block = free.get();
        if block.is_null() {
            return self.cut_off(class);
        }
        // SAFETY: a block on the list is nobody's, 16 bytes long or more, aligned, and begins with an address or null.
        free.set(unsafe { block.cast::<*mut u8>().read() });
        Some(block)
    }

    fn cut_off(&self, class: usize) -> Option<*mut u8> {
        let (at, bytes) = (self.cut.get(), Self::class_bytes(class));
        if bytes > ARENA_BYTES - at {
            return None;
        }
        self.cut.set(at + bytes);
        // SAFETY: `at` is within the memory.
        Some(unsafe { self.memory.get().cast::<u8>().add(at) })
    }

    /// # Safety
    /// The block was taken from this arena in this class, and nobody uses it any more.
    #[inline]
    unsafe fn give_back(&self, block: *mut u8, class: usize) {
        if let Some(free) = self.free.get(class) {
            // SAFETY: it is 16 bytes long or more, and aligned.
            unsafe { block.cast::<*mut u8>().write(free.get()) };
            free.set(block);
        }
    }
}

#[cfg(target_family = "wasm")]
pub(crate) use installed::ALLOCATOR;

#[cfg(target_family = "wasm")]
mod installed {
    use super::Allocator;

    #[cfg(target_feature = "atomics")]
    compile_error!("this allocator knows no threads: build with default-features = false");

    // SAFETY: there is one thread.
    unsafe impl Sync for Allocator {}

    #[global_allocator]
    pub(crate) static ALLOCATOR: Allocator = Allocator::new();

    /// What the host calls for every text and list. The C library's, which is there otherwise, knows nothing of the arena.
    ///
    /// # Safety
    /// As the canonical ABI has it.
    #[cfg(target_env = "p2")]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let room = unsafe { ALLOCATOR.room(old, old_bytes, align, new_bytes) };
        if room.is_null() {
            std::process::abort();
        }
        room
    }
}

#[cfg(test)]
mod tests;
