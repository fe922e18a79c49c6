//! What the directories of AMD's security processor (PSP) lead to.
//!
//! A component with a header has `$PS1` at 10h and its version at 60h, the lowest part first.
//! Microcode has its revision at 4.
//!
//! Sources: coreboot, `util/amdfwtool`; psptool (`header_file.py`); Linux,
//! `struct microcode_header_amd`.

use std::collections::HashSet;
use std::ops::Range;

use super::{Maker, Node, NodeKind};
use crate::image::layout::{AmdDirectory, AmdEntry, amd_directories, array, u32_at};

/// Returns the directories and what they name, each once.
pub(super) fn components(image: &[u8], maker: &mut Maker) -> Vec<Node> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for directory in amd_directories(image) {
        found.extend(directory_node(image, &directory, maker));
        for entry in &directory.entries {
            let AmdEntry::Component { kind, range } = entry else { continue };
            let is_new = seen.insert((directory.is_of_psp(), *kind, range.clone()));
            if is_new {
                found.extend(component(image, directory.is_of_psp(), *kind, range, maker));
            }
        }
    }
    found
}

fn directory_node(image: &[u8], directory: &AmdDirectory, maker: &mut Maker) -> Option<Node> {
    let AmdDirectory { offset_bytes, length_bytes, .. } = *directory;
    let range = offset_bytes..offset_bytes + length_bytes;
    let mut node = maker.node(NodeKind::AmdDirectory, image, range)?;
    node.name = Some(String::from_utf8_lossy(&directory.mark).into_owned());
    Some(node)
}

fn component(
    image: &[u8],
    is_of_psp: bool,
    kind: u8,
    range: &Range<usize>,
    maker: &mut Maker,
) -> Option<Node> {
    let bytes = image.get(range.clone())?;
    let mut node = maker.node(NodeKind::AmdComponent, image, range.clone())?;
    node.name = Some(format!("{} 0x{kind:02x}", if is_of_psp { "PSP" } else { "BIOS" }));
    node.detail = type_name(is_of_psp, kind).map(str::to_owned);
    node.version = version(bytes, is_of_psp, kind);
    Some(node)
}

fn version(bytes: &[u8], is_of_psp: bool, kind: u8) -> Option<String> {
    const MICROCODE: u8 = 0x66;
    if (is_of_psp, kind) == (false, MICROCODE) {
        return Some(format!("0x{:x}", u32_at(bytes, 4)?));
    }
    let has_header = array(bytes, 0x10) == Some(*b"$PS1");
    let [a, b, c, d]: [u8; 4] = array(bytes, 0x60).filter(|_| has_header)?;
    Some(format!("{d:X}.{c:X}.{b:X}.{a:X}"))
}

/// Source: coreboot, `amd_fw_type` and `amd_bios_type` in `util/amdfwtool/amdfwtool.h`.
fn type_name(is_of_psp: bool, kind: u8) -> Option<&'static str> {
    Some(match (is_of_psp, kind) {
        (true, 0x00) => "public key",
        (true, 0x01) => "boot loader",
        (true, 0x02) => "secure OS",
        (true, 0x03) => "recovery boot loader",
        (true, 0x04) => "NVRAM",
        (true, 0x08) => "SMU firmware",
        (true, 0x0c) => "trustlets",
        (true, 0x12) => "SMU firmware 2",
        (false, 0x05) => "public key",
        (false, 0x60) => "APCB",
        (false, 0x61) => "APOB",
        (false, 0x62) => "BIOS",
        (false, 0x63) => "APOB NV",
        (false, 0x66) => "microcode",
        _ => return None,
    })
}
