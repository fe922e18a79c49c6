//! Which parts of a chip a bundle's image covers: from the options of `firmcast bundle create`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use firmcast::image::layout::Layout;
use firmcast::image::tree::{NodeKind, Tree};
use firmcast::image::{
    Description, Fitting, IMAGE_MAX, Manifest, Part, PayloadFormat, wrong_order,
};
use firmcast_manager::wrapping::Metainfo;

use super::file;
use super::policy::{Selector, parse_selector};
use super::wrapped::Wrapped;
use crate::driver::stderr;

/// Fewest programs of which a comparison says something.
const KIN_PROGRAMS_MIN: usize = 8;

/// One of so many programs at least is in both versions of a board's firmware.
const KIN_SHARE_MIN: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Parts {
    /// Read the firmware image from FILE: the contents of the whole flash chip, or of the part that
    /// --region names; or a maker's file with them (ZIP archive, .cab of LVFS, updater, capsule).
    /// Several are one behind the other
    #[arg(long = "image", value_name = "FILE", required = true)]
    images: Vec<PathBuf>,
    /// Replace only this part of each host's chip, and leave all else as it is; one for each
    /// --image, in the same order. Give a name or kind of the chip's layout, which each host looks
    /// up on its own chip (bios, or an FMAP area), or a name of your own with a range
    #[arg(long = "region", value_name = "REGION[=OFFSET:LENGTH]", value_parser = parse_selector)]
    regions: Vec<Selector>,
    /// Make an image of the whole chip: the contents of such a chip in FILE, with the --region
    /// parts replaced
    #[arg(long, value_name = "FILE", requires = "regions")]
    base: Option<PathBuf>,
    #[command(flatten)]
    wrapped: Wrapped,
}

/// What a bundle is made of.
#[derive(Debug)]
pub(super) struct Cargo {
    /// The image.
    pub(super) image: Vec<u8>,
    /// The parts of a chip that it covers; none where it is a whole chip.
    pub(super) parts: Vec<Part>,
    /// What the maker says of it.
    pub(super) metainfo: Option<Metainfo>,
}

impl Parts {
    /// Reads the files.
    pub(super) fn read(&self) -> anyhow::Result<Cargo> {
        let (images, regions) = (self.images.len(), self.regions.len());
        ensure!(
            regions == 0 || images == regions,
            "{images} images for {regions} regions: give one --image for each --region, in the \
             same order"
        );
        let (mut image, mut parts, mut metainfo) = (Vec::new(), Vec::new(), None);
        let mut joints = Vec::new();
        for (nth, path) in self.images.iter().enumerate() {
            let region = self.regions.get(nth);
            let unwrapped = self.wrapped.read(path, region.is_some())?;
            let bytes = unwrapped.image;
            metainfo = metainfo.or(unwrapped.metainfo);
            match region {
                None if image.is_empty() => image = bytes,
                None => {
                    joints.push(image.len() as u64);
                    image.extend(bytes);
                }
                Some(region) => {
                    let bytes = of_region(region, bytes, path)?;
                    parts.push(part(region, &bytes)?);
                    image.extend(bytes);
                }
            }
            ensure!(image.len() <= IMAGE_MAX, "the images have more than {IMAGE_MAX} bytes in all");
        }
        if let Some(why) = wrong_order(&image, &joints) {
            bail!("{why}: give the --image of the chip with the lower addresses first");
        }
        let cargo = Cargo { image, parts, metainfo };
        match &self.base {
            None => Ok(cargo),
            Some(path) => {
                let base = file::read("base", path, IMAGE_MAX)?;
                let metainfo = cargo.metainfo.clone();
                let image = on_base(cargo, &base)
                    .with_context(|| format!("cannot replace a part of {}", path.display()))?;
                Ok(Cargo { image, parts: Vec::new(), metainfo })
            }
        }
    }

    /// The files, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> =
            self.images.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }
}

/// Returns the bytes of the region where the file is an image of a whole chip.
fn of_region(region: &Selector, bytes: Vec<u8>, path: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some((_, length_bytes)) = region.range {
        let file_bytes = bytes.len();
        ensure!(
            file_bytes as u64 == length_bytes,
            "{} has {file_bytes:#x} bytes, and --region {} is {length_bytes:#x} bytes: give the \
             bytes of this range alone",
            path.display(),
            region.name
        );
        return Ok(bytes);
    }
    let Ok(layout) = Layout::read(&bytes) else { return Ok(bytes) };
    match layout.select(&region.name).as_slice() {
        [] => Ok(bytes),
        [one] if one.length_bytes == bytes.len() as u64 => Ok(bytes),
        [one] => {
            stderr::tell(format_args!("{}: {one} is taken from it", path.display()));
            let range = one.range();
            Ok(bytes[range.start as usize..range.end as usize].to_vec())
        }
        several => bail!(
            "{} has several regions {:?}: name one of them: {}",
            path.display(),
            region.name,
            several.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn part(region: &Selector, bytes: &[u8]) -> anyhow::Result<Part> {
    ensure!(!bytes.is_empty(), "the image for region {:?} is empty", region.name);
    Ok(Part {
        name: region.name.clone(),
        length_bytes: bytes.len() as u64,
        offset_bytes: region.range.map(|(offset_bytes, _)| offset_bytes),
    })
}

/// Returns the chip `base` with the parts replaced.
fn on_base(cargo: Cargo, base: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Cargo { image, parts, .. } = cargo;
    // Only its parts matter: it says where they go, and is never signed.
    let description = Description {
        version: "base".into(),
        vendor: "base".into(),
        products: vec!["base".into()],
        parts,
        new_layout: true,
        ..Description::default()
    };
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image)?;
    let fitting = Fitting::on_live(&manifest, base)?;
    check_kinship(&image, &fitting.in_image_order(base))?;
    Ok(fitting.target(&image, base))
}

/// Fails when what is replaced is firmware of another board: versions of one board's firmware have
/// most of their programs in common.
fn check_kinship(image: &[u8], replaced: &[u8]) -> anyhow::Result<()> {
    let (new, old) = (programs(image), programs(replaced));
    let fewer = new.len().min(old.len());
    let common = new.intersection(&old).count();
    ensure!(
        fewer < KIN_PROGRAMS_MIN || common * KIN_SHARE_MIN >= fewer,
        "only {common} of its {} programs are in the image, which has {}: give the dump of a board \
         of the image's kind",
        old.len(),
        new.len()
    );
    Ok(())
}

/// Returns the GUIDs of all files in firmware volumes.
fn programs(image: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = Tree::read(image).nodes;
    while let Some(node) = waiting.pop() {
        if node.kind == NodeKind::FirmwareFile {
            found.extend(node.guid.map(|guid| guid.to_string()));
        }
        waiting.extend(node.children);
    }
    found
}
