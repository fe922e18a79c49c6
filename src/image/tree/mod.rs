//! Tree: what a firmware image consists of, as far as its formats name it.
//!
//! Whole or damaged, everything is listed where it lies: the regions of descriptor and flash map,
//! volumes and files of UEFI with those inside compressed sections, files of coreboot, what Intel's
//! Firmware Interface Table and AMD's directories lead to. Versions are those that a format has a
//! field for; nothing is guessed from text that happens to lie somewhere.
//!
//! The chains of volumes, files and sections are those that [`validity`](super::validity) checks;
//! here nothing is judged. What lies in the bytes of something else is inside it, and things that
//! overlap only in part stand side by side.

mod amd;
mod coreboot;
mod engine;
mod nest;
mod table;
mod text;
mod uefi;

use std::ops::Range;

use super::layout::{Fit, FlashMap, Guid, Layout, LayoutRegion, RegionKind};
use super::validity::cbfs;
use super::{Digest, sha256};
use nest::nest;
pub use text::TEXT_CHARS_MAX;

/// Maximum number of nodes of a tree. Images of servers have some thousand.
pub const NODES_MAX: usize = 1 << 16;
/// Maximum number of bytes that digests are made of. Most bytes count four or five times: for their
/// region, volume, file, and once more for what was unpacked of them.
pub const DIGEST_BYTES_MAX: usize = 4 << 30;

/// What an image consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// What lies in nothing else, sorted by offset.
    pub nodes: Vec<Node>,
    /// Whether there is more, beyond [`NODES_MAX`] or [`DIGEST_BYTES_MAX`].
    pub is_cut: bool,
    /// How the layout contradicts itself, if it does.
    pub layout_flaw: Option<String>,
}

/// A part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Name that its format has for programs: of a volume, if it has one, else its file system.
    pub guid: Option<Guid>,
    /// Name that its format has for people.
    pub name: Option<String>,
    /// Version, if its format has a field for one.
    pub version: Option<String>,
    /// Type and compression, for people.
    pub detail: Option<String>,
    /// What is damaged there, or was not looked at.
    pub flaw: Option<String>,
    /// First byte: from the start of the image, or of the unpacked bytes that it lies in.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
    /// Length of what was unpacked; offsets of the children count from the start of that.
    pub unpacked_bytes: Option<u64>,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// What lies in it, sorted by offset.
    pub children: Vec<Node>,
}

/// What a part of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Region of the layout.
    Region(RegionKind),
    /// Firmware volume.
    Volume,
    /// File of a firmware volume.
    FirmwareFile,
    /// File that only fills a volume up.
    Padding,
    /// Compressed section of a file.
    Section,
    /// File of coreboot.
    CorebootFile,
    /// Room for files of coreboot.
    CorebootRoom,
    /// Firmware Interface Table.
    InterfaceTable,
    /// Microcode for the processor.
    Microcode,
    /// What Boot Guard begins with: ACM, key manifest, boot policy.
    BootGuard,
    /// Directory of AMD's security processor, or of the BIOS that it starts.
    AmdDirectory,
    /// What such a directory names.
    AmdComponent,
}

impl NodeKind {
    /// Returns the name in JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Region(_) => "region",
            Self::Volume => "volume",
            Self::FirmwareFile => "file",
            Self::Padding => "padding",
            Self::Section => "section",
            Self::CorebootFile => "coreboot-file",
            Self::CorebootRoom => "coreboot-room",
            Self::InterfaceTable => "fit",
            Self::Microcode => "microcode",
            Self::BootGuard => "boot-guard",
            Self::AmdDirectory => "amd-directory",
            Self::AmdComponent => "amd-component",
        }
    }
}

impl Node {
    fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.length_bytes
    }

    fn contains(&self, other: &Self) -> bool {
        self.offset_bytes <= other.offset_bytes && other.end_bytes() <= self.end_bytes()
    }
}

/// Where nodes are made, as long as the limits of a tree allow it.
#[derive(Debug)]
struct Maker {
    nodes_left: usize,
    digest_bytes_left: usize,
    is_cut: bool,
}

impl Maker {
    /// Returns a node of the `range` of `bytes`, whose offset counts from where these begin; `None`
    /// beyond a limit, and where the range does not lie in them.
    fn node(&mut self, kind: NodeKind, bytes: &[u8], range: Range<usize>) -> Option<Node> {
        let own = bytes.get(range.clone())?;
        let left =
            self.nodes_left.checked_sub(1).zip(self.digest_bytes_left.checked_sub(own.len()));
        let Some((nodes_left, digest_bytes_left)) = left else {
            self.is_cut = true;
            return None;
        };
        (self.nodes_left, self.digest_bytes_left) = (nodes_left, digest_bytes_left);
        Some(Node {
            kind,
            guid: None,
            name: None,
            version: None,
            detail: None,
            flaw: None,
            offset_bytes: range.start as u64,
            length_bytes: own.len() as u64,
            unpacked_bytes: None,
            digest: sha256(own),
            children: Vec::new(),
        })
    }
}

impl Tree {
    /// Reads the tree of `image`, a whole chip, the image for one, or a part of it.
    pub fn read(image: &[u8]) -> Self {
        let mut maker =
            Maker { nodes_left: NODES_MAX, digest_bytes_left: DIGEST_BYTES_MAX, is_cut: false };
        let mut found = regions(image, &mut maker);
        let map = FlashMap::find(image).ok().flatten();
        let areas = map.map(|map| cbfs::areas(&map, image.len())).unwrap_or_default();
        found.extend(coreboot::files(image, &areas, &mut maker));
        found.extend(uefi::volumes(image, &areas, &mut maker));
        if let Ok(Some(fit)) = Fit::find(image) {
            found.extend(table::components(image, &fit, &mut maker));
        }
        found.extend(amd::components(image, &mut maker));
        let flaw = Layout::read(image).err();
        Self {
            nodes: nest(found),
            is_cut: maker.is_cut,
            layout_flaw: flaw.and_then(|error| text::visible(&error.to_string())),
        }
    }
}

fn regions(image: &[u8], maker: &mut Maker) -> Vec<Node> {
    let regions = Layout::told_regions(image).into_iter();
    let regions = regions.filter(|region| region.length_bytes > 0);
    regions.filter_map(|region| region_node(image, region, maker)).collect()
}

fn region_node(image: &[u8], region: LayoutRegion, maker: &mut Maker) -> Option<Node> {
    /// Areas of ChromeOS whose contents are a version.
    const VERSION_AREAS: [&str; 4] = ["RO_FRID", "RW_FWID", "RW_FWID_A", "RW_FWID_B"];
    let range = region.offset_bytes as usize..region.range().end as usize;
    let bytes = image.get(range.clone())?;
    let mut node = maker.node(NodeKind::Region(region.kind), image, range)?;
    node.version = match region.kind {
        RegionKind::Me => engine::version(bytes),
        _ if VERSION_AREAS.contains(&region.name.as_str()) => text::ascii(bytes),
        _ => None,
    };
    node.name = text::visible(&region.name);
    node.detail = Some(region.kind.name().to_owned());
    Some(node)
}

#[cfg(test)]
mod tests;
