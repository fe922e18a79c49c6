//! What a bundle does with the regions of a chip: from the options of `firmcast bundle create`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use firmcast::image::layout::{Layout, LayoutRegion, RegionKind};
use firmcast::image::{Part, Region, RegionAction, layout_of};

use super::file;
use super::learned::Learned;

/// Largest layout file, in bytes.
const LAYOUT_FILE_MAX: usize = 64 << 10;

/// Largest file of learned ranges, in bytes.
const LEARNED_FILE_MAX: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct Policy {
    /// Keep what each host holds in this region; may be repeated. Give a name or kind from the
    /// image's layout, or a name of your own with a range (decimal, 0x hex, K or M). Kept anyway:
    /// descriptor, gbe, platform-data, vpd and identity
    #[arg(long, value_name = "REGION[=OFFSET:LENGTH]", value_parser = parse_selector)]
    preserve: Vec<Selector>,
    /// Keep this region, too, and expect the firmware to write it whenever it runs: it is never
    /// compared; may be repeated. Volatile anyway: variable-store, firmware-data, me and
    /// embedded-controller
    #[arg(long, value_name = "REGION[=OFFSET:LENGTH]", value_parser = parse_selector)]
    volatile: Vec<Selector>,
    /// Have what the firmware of such a machine writes itself volatile, too: the output of
    /// firmcastd learn --json in FILE
    #[arg(long, value_name = "FILE")]
    learned: Option<PathBuf>,
    /// Write the image's contents to this region, which the firmware may change when it runs; may
    /// be repeated
    #[arg(long, value_name = "REGION[=OFFSET:LENGTH]", value_parser = parse_selector)]
    replace: Vec<Selector>,
    /// Erase this region, so that the firmware makes it anew; may be repeated
    #[arg(long, value_name = "REGION[=OFFSET:LENGTH]", value_parser = parse_selector)]
    reset: Vec<Selector>,
    /// Read names of regions from FILE where the image has none: lines of "start:end name" in hex,
    /// as flashrom reads them
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// Let the image divide the chip in another way than the host's firmware does now
    #[arg(long)]
    pub(super) new_layout: bool,
    /// Let the image have another startup ACM, key manifest or boot policy manifest of Intel Boot
    /// Guard than the host's chip, or none
    #[arg(long)]
    pub(super) new_boot_guard: bool,
    /// Set where the processor starts; its eraseblock is written last
    /// [default: what the image shows]
    #[arg(long, value_name = "OFFSET", value_parser = parse_bytes)]
    pub(super) boot_offset: Option<u64>,
}

/// A region by its range, or one that the layout knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) name: String,
    /// Offset and length.
    pub(super) range: Option<(u64, u64)>,
}

impl Policy {
    /// The regions of `image` with a rule of their own, sorted by offset; of a whole chip, or of
    /// its `parts`.
    pub(super) fn regions(&self, image: &[u8], parts: &[Part]) -> anyhow::Result<Vec<Region>> {
        let own = layout_of(image, parts).context("the image has no usable layout")?;
        let named = self.named(image.len() as u64)?;
        let lists = [
            (&self.preserve, RegionAction::Preserve),
            (&self.volatile, RegionAction::Volatile),
            (&self.reset, RegionAction::Reset),
            (&self.replace, RegionAction::Replace),
        ];
        let mut regions: Vec<Region> = Vec::new();
        for (selectors, action) in lists {
            for selector in selectors {
                regions.extend(selector.regions(action, &[&named, &own])?);
            }
        }
        for kind in RegionKind::ALL {
            let Some(action) = kind.usual_action() else { continue };
            for found in own.select(kind.name()) {
                if !regions.iter().any(|region| overlap(region, found)) {
                    regions.push(region(found, action));
                }
            }
        }
        if let Some(path) = &self.learned {
            let learned = file::read("learned ranges", path, LEARNED_FILE_MAX)?;
            let learned = Learned::parse(&learned, image.len() as u64)
                .with_context(|| format!("learned ranges {}", path.display()))?;
            regions.extend(learned.regions(&regions));
        }
        regions.sort_by_key(|region| region.offset_bytes);
        Ok(regions)
    }

    fn named(&self, image_bytes: u64) -> anyhow::Result<Layout> {
        let Some(path) = &self.layout else { return Ok(Layout::default()) };
        let text = file::read("layout", path, LAYOUT_FILE_MAX)?;
        let text = String::from_utf8(text).context("the layout file is not text")?;
        Layout::parse_text(&text, image_bytes)
            .with_context(|| format!("layout file {}", path.display()))
    }
}

impl Selector {
    fn regions(&self, action: RegionAction, layouts: &[&Layout]) -> anyhow::Result<Vec<Region>> {
        if let Some((offset_bytes, length_bytes)) = self.range {
            return Ok(vec![Region {
                name: self.name.clone(),
                offset_bytes,
                length_bytes,
                action,
            }]);
        }
        let found = layouts.iter().map(|layout| layout.select(&self.name));
        let Some(found) = found.into_iter().find(|found| !found.is_empty()) else {
            let known: Vec<&str> = layouts
                .iter()
                .flat_map(|layout| layout.regions())
                .map(|region| region.name.as_str())
                .collect();
            bail!(
                "the image has no region or kind {:?}: give its range as {}=OFFSET:LENGTH; known \
                 are: {}",
                self.name,
                self.name,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
        };
        Ok(found.into_iter().map(|found| region(found, action)).collect())
    }
}

fn region(found: &LayoutRegion, action: RegionAction) -> Region {
    let LayoutRegion { name, offset_bytes, length_bytes, .. } = found.clone();
    Region { name, offset_bytes, length_bytes, action }
}

fn overlap(region: &Region, found: &LayoutRegion) -> bool {
    let end_bytes = region.offset_bytes.saturating_add(region.length_bytes);
    region.offset_bytes < found.range().end && found.range().start < end_bytes
}

pub(super) fn parse_selector(text: &str) -> Result<Selector, String> {
    const FORM: &str = "expected REGION or REGION=OFFSET:LENGTH, for instance vars=0x0:128K";
    let Some((name, range)) = text.rsplit_once('=') else {
        return match text {
            "" => Err(FORM.to_owned()),
            name => Ok(Selector { name: name.to_owned(), range: None }),
        };
    };
    let (offset, length) = range.split_once(':').ok_or(FORM)?;
    let range = Some((parse_bytes(offset)?, parse_bytes(length)?));
    Ok(Selector { name: name.to_owned(), range })
}

/// A number of bytes in decimal or hex, with an optional factor K (1024) or M.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1u64),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        None if !digits.starts_with('+') => digits.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text:?} is not a number of bytes, such as 65536, 0x10000 or 64K"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_as_documented() {
        let selector = |name: &str, range| Ok(Selector { name: name.into(), range });
        assert_eq!(parse_selector("vars=0x0:128K"), selector("vars", Some((0, 0x2_0000))));
        assert_eq!(parse_selector("a=b=16:0x1M"), selector("a=b", Some((16, 1 << 20))));
        assert_eq!(parse_selector("gbe"), selector("gbe", None));
        for bad in [
            "",
            "vars=1",
            "vars=:1",
            "vars=1:",
            "vars=+1:1",
            "vars=0x+1:1",
            "v=1:-1",
            "v=1:K",
            "v=0:18446744073709551615K",
            "v=0x:1",
            "v=1 :1",
            "v=é:1",
            "v=1:é",
        ] {
            assert!(parse_selector(bad).is_err(), "{bad}");
        }
    }
}
