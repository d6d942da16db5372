//! Heap allocations of a thread, counted by the harness's allocator.
//!
//! What it costs is an addition per allocation, in every program that links the harness; the program `corefold` does not.
//! That the steady state of a shard has none is held by a test of the crate `shards`, not here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of the calling thread since it began; growing counts as one.
pub fn of_this_thread() -> u64 {
    COUNT.get()
}

struct Counting;

fn note() {
    // A thread that ends has no counter any more, and nobody looks at it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing of what it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
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
        let before = of_this_thread();
        let bytes = std::hint::black_box(Vec::<u8>::with_capacity(100));
        assert_eq!(of_this_thread() - before, 1);
        drop(bytes);
        assert_eq!(of_this_thread() - before, 1);
        let other = std::thread::spawn(|| drop(std::hint::black_box(vec![0_u8; 1 << 20])));
        let here = of_this_thread();
        other.join().expect("no panic");
        assert_eq!(of_this_thread(), here);
    }
}
