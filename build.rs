//! Makes the static firmcastd smaller: a tenth of it would be relocations that fit a twentieth of the room.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| {
        env::var(name).is_ok_and(|found| found.split(',').any(|part| part == value))
    };
    // Only the static glibc binary relocates itself; a dynamic one would need a loader that knows the compact form.
    let relocates_itself = is("CARGO_CFG_TARGET_FEATURE", "crt-static");
    if relocates_itself
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        println!("cargo:rustc-link-arg=-Wl,-z,pack-relative-relocs");
    }
}
