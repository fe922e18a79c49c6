//! The version of Intel's Management Engine.
//!
//! The table of partitions, `$FPT`, lies at 0 or 10h of the region. It has their number at 4, and
//! from 20h on 32 bytes for each: name 4, owner 4, offset 4, length 4. Partition `FTPR` or `CODE`
//! is a manifest, or from version 11 on a directory, `$CPD`: number of entries at 4, version at 8,
//! and from 10h (version 2: 14h) on 24 bytes for each entry: name 12, offset 4 (25 bits). Entry
//! `FTPR.man` is the manifest. That has `$MN2` or `$MAN` at 1Ch, and at 24h major, minor, hotfix
//! and build, of 2 bytes each.
//!
//! Source: me_cleaner (`me_cleaner.py`), which has worked on the firmware of many boards.

use crate::image::layout::{array, u16_at, u32_at};

/// Maximum number of partitions and of entries that are looked at.
const ENTRIES_MAX: u32 = 64;
const PARTITIONS: [[u8; 4]; 2] = [*b"FTPR", *b"CODE"];
const MANIFESTS: [[u8; 4]; 2] = [*b"$MN2", *b"$MAN"];

/// Returns the version of the firmware in `region`, if its manifest is where it should be.
pub(super) fn version(region: &[u8]) -> Option<String> {
    let table = [0x10, 0].into_iter().find(|at| array(region, *at) == Some(*b"$FPT"))?;
    let count = u32_at(region, table + 4)?.min(ENTRIES_MAX) as usize;
    let mut entries = (0..count).map(|nth| table + 0x20 + 0x20 * nth);
    let is_firmware =
        |at: &usize| array(region, *at).is_some_and(|name| PARTITIONS.contains(&name));
    let entry = entries.find(is_firmware)?;
    let partition = region.get(u32_at(region, entry + 8)? as usize..)?;
    let manifest = match array(partition, 0) {
        Some(mark) if mark == *b"$CPD" => partition.get(manifest_offset(partition)?..)?,
        _ => partition,
    };
    array(manifest, 0x1c).filter(|mark| MANIFESTS.contains(mark))?;
    let field = |nth: usize| u16_at(manifest, 0x24 + 2 * nth);
    Some(format!("{}.{}.{}.{}", field(0)?, field(1)?, field(2)?, field(3)?))
}

fn manifest_offset(directory: &[u8]) -> Option<usize> {
    const OFFSET_MASK: u32 = 0x1ff_ffff;
    let count = u32_at(directory, 4)?.min(ENTRIES_MAX) as usize;
    let header_bytes = if directory.get(8) == Some(&2) { 0x14 } else { 0x10 };
    let mut entries = (0..count).map(|nth| header_bytes + 0x18 * nth);
    let entry = entries.find(|at| array(directory, *at) == Some(*b"FTPR.man\0\0\0\0"))?;
    Some((u32_at(directory, entry + 12)? & OFFSET_MASK) as usize)
}
