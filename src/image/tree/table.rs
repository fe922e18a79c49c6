//! What Intel's Firmware Interface Table leads to.
//!
//! | microcode, offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | version of the header, 1 |
//! | 4 | 4 | revision |
//! | 8 | 4 | date, packed decimals: month, day, year |
//! | 12 | 4 | signature of the processor |
//! | 28, 32 | 4 each | length of the data, of the whole; 0: 2000, 2048 |
//!
//! An authenticated code module has its date at 20 (year, month, day), its length in units of 4
//! bytes at 24, its security version number for TXT at 28.
//!
//! Sources: Intel, "Software Developer's Manual" volume 3A, section 9.11.1; "Trusted Execution
//! Technology Software Development Guide" (315168), appendix A.

use std::collections::HashSet;

use super::text;
use super::{Maker, Node, NodeKind};
use crate::image::layout::{Fit, FitEntry, fit_type, u16_at, u32_at};

const MICROCODE_TYPE: u8 = 1;
const MICROCODE_BYTES_DEFAULT: usize = 2048;
/// Largest microcode and module, in bytes: real ones have some 100 KiB.
const COMPONENT_BYTES_MAX: usize = 4 << 20;

/// Returns the table and what it names, each once. Code of the BIOS is left out: volumes and files
/// have it.
pub(super) fn components(image: &[u8], fit: &Fit, maker: &mut Maker) -> Vec<Node> {
    let mut found = Vec::new();
    found.extend(maker.node(NodeKind::InterfaceTable, image, fit.range.clone()));
    let mut seen = HashSet::new();
    let entries = fit.entries.iter().filter(|entry| seen.insert((entry.kind, entry.offset_bytes)));
    found.extend(entries.filter_map(|entry| component(image, entry, maker)));
    found
}

fn component(image: &[u8], entry: &FitEntry, maker: &mut Maker) -> Option<Node> {
    let offset = entry.offset_bytes?;
    let bytes = image.get(offset..)?;
    let (kind, length_bytes, name, version) = match entry.kind {
        MICROCODE_TYPE => {
            let length_bytes = match u32_at(bytes, 32)? as usize {
                0 => MICROCODE_BYTES_DEFAULT,
                length_bytes => length_bytes,
            };
            (u32_at(bytes, 0)? == 1).then_some(())?;
            let name = format!("CPU 0x{:x}", u32_at(bytes, 12)?);
            let version = revision(u32_at(bytes, 4)?, u32_at(bytes, 8)?.rotate_left(16));
            (NodeKind::Microcode, length_bytes, name, Some(version))
        }
        fit_type::STARTUP_ACM => {
            let length_bytes = (u32_at(bytes, 24)? as usize).saturating_mul(4);
            let number = format!("security version {}", u16_at(bytes, 28)?);
            let date = text::date(u32_at(bytes, 20)?);
            let version = date.map_or(number.clone(), |date| format!("{date}, {number}"));
            (NodeKind::BootGuard, length_bytes, "startup ACM".to_owned(), Some(version))
        }
        fit_type::KEY_MANIFEST => {
            (NodeKind::BootGuard, entry.size as usize, "key manifest".to_owned(), None)
        }
        fit_type::BOOT_POLICY => {
            (NodeKind::BootGuard, entry.size as usize, "boot policy".to_owned(), None)
        }
        _ => return None,
    };
    (1..=COMPONENT_BYTES_MAX).contains(&length_bytes).then_some(())?;
    let node = maker.node(kind, image, offset..offset + length_bytes)?;
    Some(Node { name: Some(name), version, ..node })
}

/// Returns a revision with its date, which is year, month and day here.
fn revision(revision: u32, date: u32) -> String {
    match text::date(date) {
        Some(date) => format!("0x{revision:x} of {date}"),
        None => format!("0x{revision:x}"),
    }
}
