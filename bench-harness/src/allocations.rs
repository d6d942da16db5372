//! Heap allocations of a thread and what it holds, counted by the harness's allocator.
//!
//! What it costs is two additions per allocation, in every program that links the harness; the program `corefold` does not.
//! That the steady state of a shard has none is held by a test of the crate `shards`, not here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Allocations of the calling thread since it began; growing counts as one.
pub fn of_this_thread() -> u64 {
    COUNT.get()
}

/// Bytes that the calling thread has asked for, less those that it has given back; of differences of it one can tell what
/// a call has kept.
pub fn held_by_this_thread() -> i64 {
    HELD.get()
}

struct Counting;

fn note(count: u64, bytes: i64) {
    // A thread that ends has no counters any more, and nobody looks at them.
    let _ = COUNT.try_with(|counted| counted.set(counted.get() + count));
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing of what it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own_count() {
        let (before, held) = (of_this_thread(), held_by_this_thread());
        let bytes = std::hint::black_box(Vec::<u8>::with_capacity(100));
        assert_eq!((of_this_thread() - before, held_by_this_thread() - held), (1, 100));
        drop(bytes);
        assert_eq!((of_this_thread() - before, held_by_this_thread() - held), (1, 0));
        let other = std::thread::spawn(|| drop(std::hint::black_box(vec![0_u8; 1 << 20])));
        let here = of_this_thread();
        other.join().expect("no panic");
        assert_eq!(of_this_thread(), here);
    }
}
