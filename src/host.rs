//! Facts of the machine that the kernel tells, apart from what its firmware says of itself
//! ([`crate::dmi`]).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub(crate) mod drivers;
pub(crate) mod flash_controller;
mod stack;
mod syscall;
pub(crate) mod watchdogs;
pub mod work;

pub(crate) use syscall::return_freed_memory;

/// Longest text of a small file that is read, in bytes.
const TEXT_SIZE_MAX: u64 = 256;

/// `/proc/sys/kernel/random/boot_id`; zeros when it cannot be read, which no boot has.
pub(crate) fn boot_id(root: &Path) -> [u8; 16] {
    let text = read_line(&root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

/// Returns the name that the machine has given itself; empty when there is none.
pub(crate) fn name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// Returns the text of a small file of the kernel's, without the spaces around it.
pub(crate) fn read_line(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_SIZE_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}
