//! How much memory a part of the program holds: what it allocates less what it frees, counted while
//! it runs.

#![allow(unsafe_code, reason = "an allocator that counts has to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting on threads that are in [`count`].
pub(crate) struct Counting;

// SAFETY: every call is passed on to the system's allocator with the same arguments, so its
// guarantees are ours; the counters are plain thread-local cells without destructor, which never
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as i64);
        // SAFETY: the caller's obligations are those of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as i64));
        // SAFETY: `pointer` came from `System` with this layout, because every allocation here
        // does.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`; `size` is the caller's obligation.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn add(bytes: i64) {
    if COUNTS.get() {
        HELD_BYTES.set(HELD_BYTES.get() + bytes);
    }
}

/// Runs `work`; gives back what it returned, and how many bytes more are held since.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (T, i64) {
    HELD_BYTES.set(0);
    COUNTS.set(true);
    let result = work();
    COUNTS.set(false);
    (result, HELD_BYTES.get())
}

/// Runs `work` inside of [`count`] without counting: for what leaves the part that is counted.
pub(crate) fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    COUNTS.set(false);
    let result = work();
    COUNTS.set(true);
    result
}
