//! Where the layout of an image and that of the chip differ.

use std::fmt;

use super::{LayoutRegion, RegionKind};

/// How many differences a [`LayoutMismatch`] shows; the others are counted.
pub const DIFFERENCES_SHOWN_MAX: usize = 3;

/// The first differences between the layout of an image and that of the chip that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutMismatch {
    shown: Vec<Difference>,
    count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    OnlyInImage(LayoutRegion),
    OnlyOnChip(LayoutRegion),
    Differs { image: LayoutRegion, chip: LayoutRegion },
}

impl LayoutMismatch {
    /// Compares each region of an image, at its place on the chip, with the same one on the chip;
    /// `only_on_chip` has no such region in the image. `None` when all are equal.
    pub(in crate::image) fn of<'a>(
        pairs: impl Iterator<Item = (&'a LayoutRegion, Option<&'a LayoutRegion>)>,
        only_on_chip: &[LayoutRegion],
    ) -> Option<Self> {
        let mut differences = Vec::new();
        for (image, chip) in pairs {
            match chip {
                None => differences.push(Difference::OnlyInImage(image.clone())),
                Some(chip) if is_same(image, chip) => {}
                Some(chip) => differences
                    .push(Difference::Differs { image: image.clone(), chip: chip.clone() }),
            }
        }
        differences.extend(only_on_chip.iter().cloned().map(Difference::OnlyOnChip));
        let count = differences.len();
        differences.truncate(DIFFERENCES_SHOWN_MAX);
        (count > 0).then_some(Self { shown: differences, count })
    }
}

/// A program that does not know a kind takes it for [`RegionKind::Other`].
fn is_same(image: &LayoutRegion, chip: &LayoutRegion) -> bool {
    let is_told = ![image.kind, chip.kind].contains(&RegionKind::Other);
    image.range() == chip.range() && (image.kind == chip.kind || !is_told)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInImage(region) => {
                write!(f, "image has {region}, the chip has no {}", region.name)
            }
            Self::OnlyOnChip(region) => {
                write!(f, "the chip has {region}, the image has no {}", region.name)
            }
            Self::Differs { image, chip } if image.range() == chip.range() => {
                write!(f, "image has {image} as {}, the chip has it as {}", image.kind, chip.kind)
            }
            Self::Differs { image, chip } => write!(
                f,
                "image has {image}, the chip has it at 0x{:x}-0x{:x}",
                chip.offset_bytes,
                chip.last_byte()
            ),
        }
    }
}

impl fmt::Display for LayoutMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, difference) in self.shown.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
