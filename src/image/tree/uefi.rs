//! Firmware volumes, the files in them, and what is in these.

use std::ops::Range;

use super::text;
use super::{Maker, Node, NodeKind};
use crate::image::layout::{
    FFS1, FFS2, FFS3, FirmwareVolume, FoundVolume, Guid, Volumes, array, u16_at,
};
use crate::image::validity::cbfs::Area;
use crate::image::validity::ffs::{Files, FirmwareFile};
use crate::image::validity::lost;
use crate::image::validity::section::{
    Inside, PE32, Section, Sections, TE, USER_INTERFACE, VERSION, packing_name,
};
use crate::image::validity::unpack::{Budget, Codec, Unpacked};
use crate::image::validity::volumes::{
    ALIGNMENT, HEADER_BYTES_MIN, NESTING_MAX, gaps, has_sections,
};

/// Maximum number of volumes of an image for which it is looked for another one with the same
/// header. Each takes a look at all of the image; real images have a handful.
const SPARE_HEADERS_MAX: usize = 64;

/// `EFI_FV_FILETYPE_FFS_PAD`.
const PADDING: u8 = 0xf0;

/// `gBiosIdGuid` of Intel's boards: a file with the version behind its mark.
const BIOS_ID: Guid =
    Guid::new(0xc3e3_6d09, 0x8294, 0x4b97, [0xa8, 0x57, 0xd5, 0x28, 0x8f, 0xe3, 0x3e, 0x28]);
const BIOS_ID_MARK: &[u8] = b"$IBIOSI$";

/// Returns the volumes of an image that lie in no other one, but for `areas` of coreboot, in which
/// files may contain anything.
pub(super) fn volumes(image: &[u8], areas: &[Area], maker: &mut Maker) -> Vec<Node> {
    let mut walk = Walk { maker, budget: Budget::default(), depth: 0 };
    let mut spare_headers_left = SPARE_HEADERS_MAX;
    let mut found = Vec::new();
    for mut rest in gaps(image.len(), areas) {
        while let Some(next) = Volumes::of(&image[rest.clone()]).next() {
            let (start, end) = match next {
                FoundVolume::Damaged { offset_bytes, flaw } => {
                    let start = rest.start + offset_bytes;
                    let range = start..(start + HEADER_BYTES_MIN).min(rest.end);
                    let mut node = walk.maker.node(NodeKind::Volume, image, range.clone());
                    node.iter_mut().for_each(|node| node.flaw = Some(flaw.to_string()));
                    found.extend(node);
                    (start, range.end)
                }
                FoundVolume::Whole(volume) => {
                    let start = rest.start + volume.offset_bytes;
                    let has_room = spare_headers_left > 0;
                    if has_room && lost::is_spare_header(image, start, &volume) {
                        spare_headers_left -= 1;
                        (start, start + HEADER_BYTES_MIN)
                    } else {
                        let volume = FirmwareVolume { offset_bytes: start, ..volume };
                        found.extend(walk.volume(image, &volume));
                        (start, start + volume.length_bytes)
                    }
                }
            };
            if walk.maker.is_cut {
                return found;
            }
            rest.start = end.max(start + ALIGNMENT).next_multiple_of(ALIGNMENT).min(rest.end);
        }
    }
    found
}

struct Walk<'m> {
    maker: &'m mut Maker,
    budget: Budget,
    /// Sections in sections.
    depth: usize,
}

/// What the sections of a file say of it.
#[derive(Debug, Default)]
struct Facts {
    name: Option<String>,
    version: Option<String>,
    program: Option<&'static str>,
    flaw: Option<String>,
}

impl Facts {
    fn note(&mut self, flaw: impl Into<String>) {
        self.flaw.get_or_insert_with(|| flaw.into());
    }
}

impl Walk<'_> {
    /// A volume that was parsed from `bytes`.
    fn volume(&mut self, bytes: &[u8], volume: &FirmwareVolume) -> Option<Node> {
        let FirmwareVolume { offset_bytes, length_bytes, file_system, .. } = *volume;
        let range = offset_bytes..offset_bytes + length_bytes;
        let mut node = self.maker.node(NodeKind::Volume, bytes, range.clone())?;
        node.guid = Some(volume_name(&bytes[range], volume).unwrap_or(file_system));
        node.detail = Some(file_system_name(file_system));
        node.flaw = volume.doubt.as_ref().map(ToString::to_string);
        for file in Files::of(bytes, volume).into_iter().flatten() {
            match file {
                Ok(file) => node.children.extend(self.file(bytes, &file)),
                Err(damaged) => {
                    node.flaw = Some(format!("at 0x{:x}: {damaged}", damaged.offset_bytes));
                }
            }
            if self.maker.is_cut {
                break;
            }
        }
        Some(node)
    }

    fn file(&mut self, bytes: &[u8], file: &FirmwareFile) -> Option<Node> {
        let range = file.offset_bytes..file.offset_bytes + file.length_bytes;
        let kind = if file.kind == PADDING { NodeKind::Padding } else { NodeKind::FirmwareFile };
        let mut node = self.maker.node(kind, bytes, range.clone())?;
        let contents = range.start + file.header_bytes..range.end - file.tail_bytes;
        let mut facts = Facts::default();
        if has_sections(file) {
            node.children = self.sections(bytes, contents.clone(), &mut facts);
        }
        if file.name == BIOS_ID {
            facts.version = facts.version.or(bios_id(&bytes[contents]));
        }
        (node.name, node.version, node.flaw) = (facts.name, facts.version, facts.flaw);
        if kind == NodeKind::Padding {
            return Some(node);
        }
        node.guid = Some(file.name);
        let program = facts.program.map(|program| format!(", {program}")).unwrap_or_default();
        let deleted = if file.is_deleted { ", deleted" } else { "" };
        node.detail = Some(format!("{}{program}{deleted}", type_name(file.kind)));
        Some(node)
    }

    /// What lies in the sections that the `contents` of `bytes` consist of.
    fn sections(&mut self, bytes: &[u8], contents: Range<usize>, facts: &mut Facts) -> Vec<Node> {
        if self.depth > NESTING_MAX {
            facts.note(format!("not looked at: sections more than {NESTING_MAX} deep"));
            return Vec::new();
        }
        self.depth += 1;
        let mut found = Vec::new();
        for (offset, section) in Sections::of(&bytes[contents.clone()]) {
            let start = contents.start + offset;
            let Some(section) = section else {
                facts.note(format!("at 0x{start:x}: section: its size does not fit into its file"));
                break;
            };
            let range = start..start + section.bytes.len();
            found.extend(self.section(bytes, range, &section, facts));
            if self.maker.is_cut {
                break;
            }
        }
        self.depth -= 1;
        found
    }

    fn section(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        section: &Section,
        facts: &mut Facts,
    ) -> Vec<Node> {
        read_facts(section, facts);
        let inside = match section.inside() {
            Ok(inside) => inside,
            Err(why) => {
                facts.note(format!("at 0x{:x}: section: {why}", range.start));
                return Vec::new();
            }
        };
        match inside {
            Inside::Sections { contents, .. } => {
                self.sections(bytes, range.end - contents.len()..range.end, facts)
            }
            Inside::Volume(contents) => {
                let start = range.end - contents.len();
                match FirmwareVolume::parse(&bytes[..range.end], start) {
                    Ok(volume) => self.volume(bytes, &volume).into_iter().collect(),
                    Err(flaw) => {
                        facts.note(format!("at 0x{start:x}: {flaw}"));
                        Vec::new()
                    }
                }
            }
            Inside::Packed { codec, packed, .. } => {
                self.packed(bytes, range, codec, packed, facts).into_iter().collect()
            }
            Inside::Nothing { .. } | Inside::Doubt(_) => {
                let Some(name) = packing_name(section) else { return Vec::new() };
                let mut node = self.maker.node(NodeKind::Section, bytes, range);
                node.iter_mut().for_each(|node| {
                    node.detail = Some(name.clone());
                    node.flaw = Some("not looked at: nothing here unpacks it".to_owned());
                });
                node.into_iter().collect()
            }
        }
    }

    /// A compressed section; left out where it has nothing in it but what is said of its file.
    fn packed(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        codec: Codec,
        packed: &[u8],
        facts: &mut Facts,
    ) -> Option<Node> {
        let unpacked = self.budget.unpack(codec, packed);
        let mut children = Vec::new();
        let (unpacked_bytes, flaw) = match &unpacked {
            Ok(Unpacked::Bytes(unpacked)) => {
                children = self.sections(unpacked, 0..unpacked.len(), facts);
                (Some(unpacked.len() as u64), None)
            }
            Ok(Unpacked::Unseen) => {
                (None, Some("not looked at: unpacking it would go beyond a limit".to_owned()))
            }
            Err(why) => (None, Some(why.clone())),
        };
        if let Ok(Unpacked::Bytes(unpacked)) = unpacked {
            self.budget.release(unpacked.len());
        }
        if children.is_empty() && flaw.is_none() {
            return None;
        }
        let node = self.maker.node(NodeKind::Section, bytes, range)?;
        let detail = Some(codec_name(codec).to_owned());
        Some(Node { detail, flaw, unpacked_bytes, children, ..node })
    }
}

fn read_facts(section: &Section, facts: &mut Facts) {
    let contents = section.contents();
    match section.kind {
        PE32 => facts.program = facts.program.or(Some("PE32")),
        TE => facts.program = facts.program.or(Some("TE")),
        USER_INTERFACE if facts.name.is_none() => facts.name = text::utf16(contents),
        VERSION if facts.version.is_none() => {
            let build = u16_at(contents, 0).map(|number| format!("build {number}"));
            let version = contents.get(2..).and_then(text::utf16);
            facts.version = version.or(build);
        }
        _ => {}
    }
}

/// Returns the name in the extended header of a volume, if it has one.
fn volume_name(contents: &[u8], volume: &FirmwareVolume) -> Option<Guid> {
    let offset = Some(volume.extended_header_offset).filter(|offset| *offset > 0)?;
    array(contents, offset).map(Guid)
}

fn bios_id(contents: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(contents, BIOS_ID_MARK)? + BIOS_ID_MARK.len();
    text::utf16(contents.get(start..)?)
}

fn file_system_name(guid: Guid) -> String {
    match guid {
        FFS1 => "FFS1".to_owned(),
        FFS2 => "FFS2".to_owned(),
        FFS3 => "FFS3".to_owned(),
        other => format!("file system {other}"),
    }
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Lzma => "LZMA",
        Codec::LzmaX86 => "LZMA, x86 filter",
        Codec::Efi => "EFI 1.1",
        Codec::Tiano => "Tiano",
        Codec::AmdZlib => "zlib",
    }
}

/// Source: UEFI Platform Initialization specification, volume 3, section 2.1.4.1.
fn type_name(kind: u8) -> String {
    let name = match kind {
        0x01 => "raw",
        0x02 => "freeform",
        0x03 => "security core",
        0x04 => "PEI core",
        0x05 => "DXE core",
        0x06 => "PEI module",
        0x07 => "driver",
        0x08 => "PEI module and driver",
        0x09 => "application",
        0x0a => "MM driver",
        0x0b => "volume image",
        0x0c => "driver and MM driver",
        0x0d => "MM core",
        0x0e => "standalone MM driver",
        0x0f => "standalone MM core",
        kind => return format!("type 0x{kind:02x}"),
    };
    name.to_owned()
}
