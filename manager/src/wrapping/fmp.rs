//! What a capsule of the firmware management protocol carries: programs, and payloads for devices.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | version, 1 |
//! | 4 | 2 | number of programs |
//! | 6 | 2 | number of payloads |
//! | 8 | 8 n | where each begins, the programs first, from the start of this table |
//!
//! A payload:
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | version, 1 to 3 |
//! | 4 | 16 | GUID of the device |
//! | 20 | 1 | which image of the device |
//! | 21 | 3 | reserved |
//! | 24 | 4 | length of the image |
//! | 28 | 4 | length of the vendor's code behind it |
//! | 32 | 8 | which device, from version 2 on |
//! | 40 | 8 | what the image has with it, from version 3 on |
//!
//! Then follow the image, often behind an authentication (`EFI_FIRMWARE_IMAGE_AUTHENTICATION`) and
//! EDK2's `MSS1` header, and the vendor's code.
//!
//! Sources: UEFI specification 2.10, sections 23.1.4 and 23.3; EDK2, `FmpDevicePkg`,
//! `FmpPayloadHeaderLibV1`.

use std::fmt;
use std::ops::Range;

use firmcast::image::layout::Guid;

use super::fields::{array, u16_at, u32_at, u64_at};

/// Most programs and payloads in one capsule.
const ITEMS_MAX: usize = 64;

const VERSION: u32 = 1;
const TABLE_BYTES: usize = 8;
/// Length of the header of a payload, by its version.
const HEADER_BYTES: [usize; 3] = [32, 40, 48];

const MONOTONIC_COUNT_BYTES: usize = 8;
const CERTIFICATE_TYPE: u16 = 0x0ef1;
const CERTIFICATE_BYTES_MIN: usize = 24;
const PAYLOAD_MARK: &[u8; 4] = b"MSS1";
const PAYLOAD_HEADER_BYTES_MIN: usize = 16;

/// The table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    programs: usize,
    pub(super) payloads: Vec<Payload>,
}

/// A payload for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    device: Guid,
    index: u8,
    /// The image with what authenticates it, from the start of the table.
    range: Range<usize>,
}

/// Why the table of contents cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FmpError {
    /// Another version, or too many items.
    #[error(
        "its table of contents has version {version} and {items} items, expected version {VERSION} \
         and 1 to {ITEMS_MAX} items"
    )]
    Table {
        /// As read.
        version: u32,
        /// Programs and payloads.
        items: usize,
    },
    /// An item outside the capsule, or before the one before it.
    #[error(
        "its item {number} is said to begin at 0x{offset_bytes:x} of the table, expected a place \
         behind the item before it, with room for what it states"
    )]
    Item {
        /// From 1.
        number: usize,
        /// As read.
        offset_bytes: u64,
    },
}

impl Contents {
    /// Reads the table at the start of `bytes`, a capsule without its header.
    ///
    /// # Errors
    /// [`FmpError`] for the first thing that contradicts the capsule.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FmpError> {
        let version = u32_at(bytes, 0).unwrap_or(0);
        let count = |offset| u16_at(bytes, offset).map_or(0, usize::from);
        let (programs, payloads) = (count(4), count(6));
        let items = programs + payloads;
        if version != VERSION || !(1..=ITEMS_MAX).contains(&items) {
            return Err(FmpError::Table { version, items });
        }
        let mut floor = TABLE_BYTES + 8 * items;
        let mut found = Vec::new();
        for number in 1..=items {
            let offset_bytes = u64_at(bytes, TABLE_BYTES + 8 * (number - 1)).unwrap_or(u64::MAX);
            let bad = || FmpError::Item { number, offset_bytes };
            let start = usize::try_from(offset_bytes).map_err(|_| bad())?;
            if !(floor..bytes.len()).contains(&start) {
                return Err(bad());
            }
            floor = start + 1;
            if number > programs {
                let payload = Payload::parse(bytes, start).ok_or_else(bad)?;
                floor = payload.range.end;
                found.push(payload);
            }
        }
        Ok(Self { programs, payloads: found })
    }
}

impl Payload {
    fn parse(bytes: &[u8], start: usize) -> Option<Self> {
        let version = u32_at(bytes, start)? as usize;
        let header_bytes = HEADER_BYTES.get(version.checked_sub(1)?)?;
        let image = start.checked_add(*header_bytes)?;
        let end = image.checked_add(u32_at(bytes, start + 24)? as usize)?;
        let code_bytes = u32_at(bytes, start + 28)? as usize;
        let fits = end.checked_add(code_bytes)? <= bytes.len();
        let device = Guid(array(bytes, start + 4)?);
        let index = *bytes.get(start + 20)?;
        fits.then_some(Self { device, index, range: image..end })
    }

    /// Returns where in `bytes`, which the table begins, the image lies that authentication and
    /// EDK2's header stand before.
    pub(super) fn image(&self, bytes: &[u8]) -> Range<usize> {
        let payload = &bytes[self.range.clone()];
        let certificate = MONOTONIC_COUNT_BYTES;
        let is_certified = u16_at(payload, certificate + 6) == Some(CERTIFICATE_TYPE);
        let length = u32_at(payload, certificate).map_or(0, |length| length as usize);
        let mut start = 0;
        if is_certified && length >= CERTIFICATE_BYTES_MIN {
            start = certificate.saturating_add(length).min(payload.len());
        }
        let rest = &payload[start..];
        let header_bytes = u32_at(rest, 4).map_or(0, |length| length as usize);
        if rest.starts_with(PAYLOAD_MARK) && header_bytes >= PAYLOAD_HEADER_BYTES_MIN {
            start = start.saturating_add(header_bytes).min(payload.len());
        }
        self.range.start + start..self.range.end
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} programs and {} payloads", self.programs, self.payloads.len())?;
        for (number, payload) in self.payloads.iter().enumerate() {
            let Payload { device, index, range } = payload;
            let sign = if number == 0 { " (" } else { ", " };
            write!(f, "{sign}0x{:x} bytes for image {index} of device {device}", range.len())?;
        }
        f.write_str(if self.payloads.is_empty() { "" } else { ")" })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// A table of one payload, version 3, with an authentication and EDK2's header before `image`.
    pub(in crate::wrapping) fn capsule_of(image: &[u8]) -> Vec<u8> {
        let mut payload = 9u64.to_le_bytes().to_vec();
        payload.extend(40u32.to_le_bytes());
        payload.extend([0x00, 0x02, 0xf1, 0x0e]);
        payload.extend([0x77; 32]);
        payload.extend(*PAYLOAD_MARK);
        payload.extend([16u32, 7, 1].map(u32::to_le_bytes).concat());
        payload.extend(image);
        let mut table = VERSION.to_le_bytes().to_vec();
        table.extend([0, 0, 1, 0]);
        table.extend(16u64.to_le_bytes());
        table.extend(3u32.to_le_bytes());
        table.extend([0x55; 16]);
        table.extend([1, 0, 0, 0]);
        table.extend([payload.len() as u32, 0].map(u32::to_le_bytes).concat());
        table.extend([0; 16]);
        table.extend(payload);
        table
    }

    #[test]
    fn the_image_is_found_behind_all_that_stands_before_it() {
        let table = capsule_of(b"image");
        let contents = Contents::read(&table).unwrap();
        assert_eq!(&table[contents.payloads[0].image(&table)], b"image");
        assert_eq!(
            contents.to_string(),
            "0 programs and 1 payloads (0x45 bytes for image 1 of device \
             55555555-5555-5555-5555-555555555555)"
        );
        for end in 0..table.len() {
            assert!(Contents::read(&table[..end]).is_err(), "{end}");
        }
        let mut loops = table.clone();
        loops[8..16].copy_from_slice(&0u64.to_le_bytes());
        assert_eq!(Contents::read(&loops), Err(FmpError::Item { number: 1, offset_bytes: 0 }));
    }

    proptest! {
        #[test]
        fn any_table_is_refused_or_lies_inside(
            changes in prop::collection::vec((0usize..64, any::<u8>()), 0..6)
        ) {
            let mut table = capsule_of(b"image");
            for (at, byte) in changes {
                table[at] = byte;
            }
            if let Ok(contents) = Contents::read(&table) {
                for payload in &contents.payloads {
                    let image = payload.image(&table);
                    prop_assert!(image.start <= image.end && image.end <= table.len());
                }
            }
        }
    }
}
