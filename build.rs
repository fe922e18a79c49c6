//! Makes the static firmcastd smaller: relocations are a thirtieth of it, and their compact form
//! takes next to no room. Tables for unwinding are a tenth of it, and nothing reads them.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The first glibc whose static programs read the compact form at their start.
const GLIBC_MINOR_MIN: u32 = 36;

/// What the linker is told to leave out.
const UNWIND_SCRIPT: &str = include_str!("packaging/no-unwind-tables.ld");

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
    // Only packaging/agent-rustflags has this flag: with it, programs end at a panic.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if is_static && flags.contains("--no-eh-frame-hdr") {
        // A copy beside what is built: packages are built in a folder of another name each time.
        let script = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("unwind.ld");
        fs::write(&script, UNWIND_SCRIPT).expect("cargo's folder for this takes a file");
        println!("cargo:rustc-link-arg=-Wl,-T,{}", script.display());
    }
}

/// Returns the `36` of `glibc 2.36`.
fn glibc_minor() -> Option<u32> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    String::from_utf8(said.stdout).ok()?.trim().strip_prefix("glibc 2.")?.parse().ok()
}
