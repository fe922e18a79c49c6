//! The system's allocator: returns freed memory to the kernel.
#![allow(unsafe_code)]

/// Hands the memory that this process has freed to the kernel, as far as the allocator can.
///
/// The GNU allocator keeps up to 64 MiB of it once large blocks were freed: an agent that has read
/// its chip would hold that for ever.
pub(crate) fn return_freed_memory() {
    // SAFETY: malloc_trim(3) takes a number, touches nothing but the allocator's own free lists,
    // and locks them.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
