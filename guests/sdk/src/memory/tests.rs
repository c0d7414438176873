use proptest::prelude::*;

use super::*;

/// What a program does with its allocator, and the host with `cabi_realloc`.
#[derive(Clone, Debug)]
enum Step {
    Alloc { bytes: usize, align: usize, zeroed: bool },
    /// Room for an argument (between calls) or for the result of an import.
    Room { bytes: usize, align: usize, between_calls: bool },
    Realloc { which: usize, bytes: usize },
    /// `realloc` by the host, as for texts in other encodings.
    Grow { which: usize, bytes: usize },
    Dealloc { which: usize },
}

/// Mostly small ones, and every bound of a class.
fn sizes() -> impl Strategy<Value = usize> {
    let bound = prop::sample::select(vec![1, 15, 16, 17, 1023, 1024, 1025, 2048, 2049, 4096, 8191, 8192, 8193, 20_000]);
    prop_oneof![4 => 1usize..200, 2 => 200usize..9_000, 2 => bound]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let aligns = || prop::sample::select(vec![1usize, 2, 4, 8, 16, 32, 4096]);
    let step = prop_oneof![
        3 => (sizes(), aligns(), any::<bool>()).prop_map(|(bytes, align, zeroed)| Step::Alloc { bytes, align, zeroed }),
        3 => (sizes(), aligns(), any::<bool>()).prop_map(|(bytes, align, between_calls)| Step::Room { bytes, align, between_calls }),
        2 => (any::<usize>(), sizes()).prop_map(|(which, bytes)| Step::Realloc { which, bytes }),
        1 => (any::<usize>(), sizes()).prop_map(|(which, bytes)| Step::Grow { which, bytes }),
        4 => any::<usize>().prop_map(|which| Step::Dealloc { which }),
    ];
    prop::collection::vec(step, 0..150)
}

struct Block {
    address: *mut u8,
    layout: Layout,
    /// Every byte of it.
    mark: u8,
}

/// A program with its live blocks, each filled with a mark of its own.
struct Program {
    allocator: Box<Allocator>,
    blocks: Vec<Block>,
    marks: u8,
}

impl Program {
    fn run(steps: Vec<Step>) {
        let mut program = Program { allocator: Box::new(Allocator::new()), blocks: Vec::new(), marks: 0 };
        steps.into_iter().for_each(|step| program.step(step));
        while !program.blocks.is_empty() {
            program.step(Step::Dealloc { which: 0 });
        }
    }

    fn step(&mut self, step: Step) {
        let layout = |bytes, align| Layout::from_size_align(bytes, align).expect("small");
        let which = |which: usize, blocks: &[Block]| (!blocks.is_empty()).then(|| which % blocks.len());
        // SAFETY: layouts are not empty; only live blocks are touched, with their layouts.
        unsafe {
            match step {
                Step::Alloc { bytes, align, zeroed: false } => {
                    let address = self.allocator.alloc(layout(bytes, align));
                    self.hold(address, layout(bytes, align));
                }
                Step::Alloc { bytes, align, zeroed: true } => {
                    let address = self.allocator.alloc_zeroed(layout(bytes, align));
                    assert!((0..bytes).all(|at| address.add(at).read() == 0));
                    self.hold(address, layout(bytes, align));
                }
                Step::Room { bytes, align, between_calls } => {
                    self.allocator.set_between_calls(between_calls);
                    let address = self.allocator.room(ptr::null_mut(), 0, align, bytes);
                    assert!(between_calls || !self.allocator.arena.owns(address), "results are the system's");
                    self.hold(address, layout(bytes, align));
                }
                Step::Realloc { which: at, bytes } | Step::Grow { which: at, bytes } => {
                    let Some(at) = which(at, &self.blocks) else { return };
                    let block = self.release(at);
                    let address = match step {
                        Step::Grow { .. } => self.allocator.room(block.address, block.layout.size(), block.layout.align(), bytes),
                        _ => self.allocator.realloc(block.address, block.layout, bytes),
                    };
                    assert!((0..bytes.min(block.layout.size())).all(|at| address.add(at).read() == block.mark), "moved whole");
                    self.hold(address, layout(bytes, block.layout.align()));
                }
                Step::Dealloc { which: at } => {
                    let Some(at) = which(at, &self.blocks) else { return };
                    let block = self.release(at);
                    self.allocator.dealloc(block.address, block.layout);
                }
            }
        }
    }

    /// Takes a new block into use, which must not be part of another.
    fn hold(&mut self, address: *mut u8, layout: Layout) {
        assert!(!address.is_null() && address.addr().is_multiple_of(layout.align()));
        for other in &self.blocks {
            let (start, end) = (other.address.addr(), other.address.addr() + other.layout.size());
            assert!(address.addr() >= end || address.addr() + layout.size() <= start, "two blocks overlap");
        }
        self.marks = self.marks.wrapping_add(1);
        // SAFETY: the block is this long.
        unsafe { address.write_bytes(self.marks, layout.size()) };
        self.blocks.push(Block { address, layout, mark: self.marks });
    }

    /// Takes a block out of use, which must be as it was.
    fn release(&mut self, at: usize) -> Block {
        let block = self.blocks.swap_remove(at);
        // SAFETY: the block is this long.
        assert!(unsafe { (0..block.layout.size()).all(|at| block.address.add(at).read() == block.mark) }, "somebody wrote into it");
        block
    }
}

proptest! {
    #[test]
    fn blocks_are_apart_aligned_and_keep_what_is_in_them(steps in steps()) {
        Program::run(steps);
    }
}

#[test]
fn every_size_has_a_class_that_holds_it_and_wastes_little() {
    let class = |bytes| Arena::class(Layout::from_size_align(bytes, 1).expect("small"));
    assert_eq!(class(0), None);
    for bytes in 1..=LARGEST_BYTES {
        let class = class(bytes).expect("one of them");
        let of_class = Arena::class_bytes(class);
        assert!(class < CLASSES && bytes <= of_class && (of_class - bytes < STEP_BYTES || of_class < 2 * bytes), "{bytes}");
    }
    assert_eq!(class(LARGEST_BYTES + 1), None);
    assert_eq!(Arena::class(Layout::from_size_align(16, 32).expect("small")), None);
}

/// However long a guest lives: what events bring and take leaves the arena as large as it was after the first of them.
#[test]
fn events_find_the_blocks_of_the_event_before() {
    let allocator = Box::new(Allocator::new());
    allocator.set_between_calls(true);
    let mut cut = None;
    for _ in 0..1_000 {
        let layouts = [5, 17, 11, 40, 1024, 96, 8192].map(|bytes| Layout::from_size_align(bytes, 1).expect("small"));
        // SAFETY: the layouts are not empty; each block goes back with its own.
        unsafe {
            let blocks = layouts.map(|layout| (allocator.room(ptr::null_mut(), 0, layout.align(), layout.size()), layout));
            assert!(blocks.iter().all(|(block, _)| allocator.arena.owns(*block)));
            blocks.into_iter().for_each(|(block, layout)| allocator.dealloc(block, layout));
        }
        assert_eq!(*cut.get_or_insert(allocator.arena.cut.get()), allocator.arena.cut.get());
    }
}

/// When it is used up, the system takes over, and takes back what is its own.
#[test]
fn a_full_arena_is_no_end() {
    let allocator = Box::new(Allocator::new());
    let layout = Layout::from_size_align(1000, 8).expect("small");
    // SAFETY: the layout is not empty; each block goes back once.
    unsafe {
        let blocks: Vec<*mut u8> = (0..2 * ARENA_BYTES / layout.size()).map(|_| allocator.alloc(layout)).collect();
        let owned = blocks.iter().filter(|block| allocator.arena.owns(**block)).count();
        assert!(owned > 100 && owned < blocks.len());
        assert!(allocator.arena.cut.get() <= ARENA_BYTES);
        blocks.into_iter().for_each(|block| allocator.dealloc(block, layout));
        assert!(allocator.arena.owns(allocator.alloc(layout)));
    }
}

#[test]
fn nothing_takes_no_room() {
    let allocator = Box::new(Allocator::new());
    // SAFETY: nothing is old.
    let room = unsafe { allocator.room(ptr::null_mut(), 0, 8, 0) };
    assert_eq!(room.addr(), 8);
}
