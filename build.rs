//! Makes the static firmcastd smaller: relocations are a thirtieth of it, and their compact form
//! takes next to no room.

use std::env;
use std::process::Command;

/// The first glibc whose static programs read the compact form at their start.
const GLIBC_MINOR_MIN: u32 = 36;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // A dynamic program is relocated by the loader of the machine where it runs, which may be
    // older.
    let is_static = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    let is_native = env::var("HOST") == env::var("TARGET");
    let is_known = target("ARCH") == "x86_64" && target("ENV") == "gnu";
    if is_static && is_native && is_known && glibc_minor().is_some_and(|it| it >= GLIBC_MINOR_MIN) {
        println!("cargo:rustc-link-arg=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the `36` of `glibc 2.36`.
fn glibc_minor() -> Option<u32> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    String::from_utf8(said.stdout).ok()?.trim().strip_prefix("glibc 2.")?.parse().ok()
}
