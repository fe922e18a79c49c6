//! Files of coreboot.

use super::text;
use super::{Maker, Node, NodeKind};
use crate::image::validity::cbfs::{Area, CorebootFile, CorebootFiles};

/// What coreboot's build writes about itself: a header of C, or lines of `KEY: VALUE`.
const BUILD_FILES: [&str; 2] = ["build_info", "revision"];
const VERSION_KEY: &[u8] = b"COREBOOT_VERSION";

/// Returns the files in `areas` of the image.
pub(super) fn files(image: &[u8], areas: &[Area], maker: &mut Maker) -> Vec<Node> {
    let mut found = Vec::new();
    for area in areas {
        let Area { range, .. } = area;
        let Some(bytes) = image.get(range.clone()) else { continue };
        for (offset, file) in CorebootFiles::of(bytes) {
            let end = file.map_or(range.end, |file| range.start + file.end);
            let kind = match file.is_some_and(|file| file.is_room()) {
                true => NodeKind::CorebootRoom,
                false => NodeKind::CorebootFile,
            };
            let Some(node) = maker.node(kind, image, range.start + offset..end) else {
                return found;
            };
            found.push(named(node, file));
        }
    }
    found
}

fn named(mut node: Node, file: Option<CorebootFile>) -> Node {
    let Some(file) = file else {
        node.flaw = Some("coreboot file: it ends outside its area".to_owned());
        return node;
    };
    node.name = text::ascii(file.name());
    let is_about_build = node.name.as_deref().is_some_and(|name| BUILD_FILES.contains(&name));
    node.version = if is_about_build { version(file.contents) } else { None };
    let compression = match file.compression() {
        None | Some(0) => "",
        Some(1) => ", LZMA",
        Some(2) => ", LZ4",
        Some(_) => ", compressed",
    };
    node.detail = Some(format!("{}{compression}", type_name(file.kind)));
    node
}

/// Returns what stands behind the key, on its line.
fn version(contents: &[u8]) -> Option<String> {
    let mut lines = contents.split(|byte| *byte == b'\n');
    let is_key = |part: &[u8]| part == VERSION_KEY;
    let line = lines.find(|line| line.split(|byte| b" :".contains(byte)).any(is_key))?;
    let start = memchr::memmem::find(line, VERSION_KEY)? + VERSION_KEY.len();
    let rest = line.get(start..)?;
    let value = text::ascii(rest)?;
    let value = value.trim_start_matches(':').trim().trim_matches('"').trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Source: coreboot, `cbfs_serialized.h`.
fn type_name(kind: u32) -> String {
    let name = match kind {
        0x00 | 0xffff_ffff => "empty",
        0x01 => "boot block",
        0x02 => "header",
        0x10 | 0x11 => "stage",
        0x20 => "payload",
        0x21 => "FIT payload",
        0x30 => "option ROM",
        0x40 => "boot splash",
        0x50 => "raw",
        0x53 => "microcode",
        0x60 => "FSP",
        0x61 => "MRC",
        0x63 => "EFI",
        0x70 => "struct",
        0x80 => "AMD firmware",
        0xaa => "CMOS defaults",
        0xab => "SPD",
        0xac => "MRC cache",
        0x1aa => "CMOS layout",
        kind => return format!("type 0x{kind:x}"),
    };
    name.to_owned()
}
