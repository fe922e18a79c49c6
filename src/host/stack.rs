//! Stands in for a function of the C library that the static program can do without.
#![allow(unsafe_code)]
#![cfg(all(target_feature = "crt-static", target_env = "gnu"))]

/// Tells the standard library, which asks this at every start, that nobody knows where the stack
/// ends. The C library's own would read `/proc/self/maps` with `sscanf`, whose numbers of all kinds
/// are a thirtieth of the program. In the recovery environment it cannot: `/proc` is not there yet.
///
/// A stack that overflows ends the program all the same, at the kernel's guard page; what is lost
/// is the sentence that says so.
//
// SAFETY: this is the prototype of pthread_getattr_np(3), whose callers must expect that it fails,
// and then leave `_attributes` alone. No other definition of the name comes into a static program.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(
    _thread: libc::pthread_t,
    _attributes: *mut libc::pthread_attr_t,
) -> libc::c_int {
    libc::ENOSYS
}
