//! Variable stores of UEFI firmware: which bytes of a chip the firmware writes its settings to.
//!
//! - EDK2, Phoenix and Insyde: the volume `FFF12B8D-…` (`EFI_SYSTEM_NV_DATA_FV_GUID`), or the
//!   additional one `00504624-…`, which also hold what an interrupted write left.
//! - Any: a volume that begins with a store of `gEfiVariableGuid` or
//!   `gEfiAuthenticatedVariableGuid`.
//! - AMI: the raw file `CEF5B9A3-…` whose contents begin with `NVAR`. Its volume, or only the file
//!   where others share the volume.
//!
//! Insyde keeps the version of the firmware (`$BVDT$`) and volumes with programs in the volume of
//! the variables. These parts are the image's like all programs: what is left are two stores.
//!
//! Sources: UEFI Platform Initialization specification, volume 3, section 3.2; EDK2,
//! `VariableFormat.h`; UEFITool, `common/nvram.h`.

use std::ops::Range;

use super::fields::{array, u24_at, u32_at};
use super::guid::Guid;
use super::volume::{FFS_GUIDS, FirmwareVolume, FoundVolume, NV_DATA, Volumes};
use crate::order::sort_by_rank;

/// The second volume with variables of Insyde and Phoenix.
const NV_DATA_ADDITIONAL: Guid =
    Guid::new(0x0050_4624, 0x8a59, 0x4eeb, [0xbd, 0x0f, 0x6b, 0x36, 0xe9, 0x61, 0x28, 0xe0]);
/// `gEfiVariableGuid`: begins a store of variables.
const VARIABLES: Guid =
    Guid::new(0xddcf_3616, 0x3275, 0x4164, [0x98, 0xb6, 0xfe, 0x85, 0x70, 0x7f, 0xfe, 0x7d]);
/// `gEfiAuthenticatedVariableGuid`: begins a store of variables that may be authenticated.
const AUTHENTICATED_VARIABLES: Guid =
    Guid::new(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// The file in which AMI's firmware keeps its variables.
pub(super) const NVAR_FILE: Guid =
    Guid::new(0xcef5_b9a3, 0x476d, 0x497f, [0x9f, 0xdc, 0xe9, 0x81, 0x43, 0xe0, 0x42, 0x2c]);
const NVAR: &[u8; 4] = b"NVAR";

/// First bytes of Insyde's version of the firmware.
const VERSION_BLOCK: &[u8; 6] = b"$BVDT$";
/// Insyde's firmware divides its volume of variables in units of this size.
const PART_BYTES: usize = 0x1000;

/// Parts of one volume that do not belong to its variables.
const PARTS_MAX: usize = 16;

/// Header of a file up to 16 MiB: name, checksums, type, attributes, size, state.
const FILE_HEADER_BYTES: usize = 24;
const FILE_RAW: u8 = 0x01;
const FILE_PADDING: u8 = 0xf0;

/// Returns where the variable stores lie in `bytes`, a whole chip or its image, in order. `volumes`
/// are those of all these bytes.
pub(super) fn variable_stores(
    bytes: &[u8],
    volumes: impl Iterator<Item = FoundVolume>,
) -> Vec<Range<usize>> {
    let whole = volumes.filter_map(|found| match found {
        FoundVolume::Whole(volume) => Some(volume),
        FoundVolume::Damaged { .. } => None,
    });
    whole.flat_map(|volume| stores_of(bytes, &volume)).collect()
}

fn stores_of(bytes: &[u8], volume: &FirmwareVolume) -> Vec<Range<usize>> {
    if volume.is_variable_store(bytes) {
        return without_parts(bytes, volume);
    }
    match FFS_GUIDS.contains(&volume.file_system) {
        true => nvar_store(bytes, volume).into_iter().collect(),
        false => Vec::new(),
    }
}

impl FirmwareVolume {
    /// Returns whether the volume is there for UEFI variables, and for nothing else but parts of
    /// the maker's.
    pub fn is_variable_store(&self, bytes: &[u8]) -> bool {
        let contents = array(bytes, self.offset_bytes + self.header_bytes).map(Guid);
        [NV_DATA, NV_DATA_ADDITIONAL].contains(&self.file_system)
            || matches!(contents, Some(VARIABLES | AUTHENTICATED_VARIABLES))
    }

    fn range(&self) -> Range<usize> {
        self.offset_bytes..self.offset_bytes + self.length_bytes
    }
}

/// Returns the volume but for the maker's parts in it.
fn without_parts(bytes: &[u8], volume: &FirmwareVolume) -> Vec<Range<usize>> {
    let whole = volume.range();
    let mut stores = Vec::new();
    let mut start = whole.start;
    for part in parts(bytes, volume) {
        if start < part.start {
            stores.push(start..part.start);
        }
        start = start.max(part.end);
    }
    if start < whole.end {
        stores.push(start..whole.end);
    }
    stores
}

/// Returns the version of the firmware and the volumes with programs in a volume of variables, in
/// order. Variables may hold anything, so their first store is not searched.
fn parts(bytes: &[u8], volume: &FirmwareVolume) -> Vec<Range<usize>> {
    let end = volume.offset_bytes + volume.length_bytes;
    let from = first_store_end(bytes, volume).min(end);
    let searched = &bytes[from..end];
    let of_programs = Volumes::of(searched).filter_map(|found| match found {
        FoundVolume::Whole(inner) if FFS_GUIDS.contains(&inner.file_system) => {
            Some(from + inner.offset_bytes..from + inner.offset_bytes + inner.length_bytes)
        }
        _ => None,
    });
    let mut parts: Vec<Range<usize>> = of_programs.take(PARTS_MAX).collect();
    let versions = memchr::memmem::find_iter(searched, VERSION_BLOCK).take(PARTS_MAX);
    for start in versions.map(|offset| from + offset).filter(|start| start % 4 == 0) {
        let is_inside = |part: &Range<usize>| part.contains(&start);
        if !parts.iter().any(is_inside) {
            let next = (start - volume.offset_bytes + 1).next_multiple_of(PART_BYTES);
            parts.push(start..end.min(volume.offset_bytes + next));
        }
    }
    sort_by_rank(&mut parts, |part| [part.start as u64]);
    parts
}

/// Returns the end of the store at the beginning of a volume of variables: a GUID or `$VSS` and
/// its like, and the size. Where its kind is not known, its header's end.
fn first_store_end(bytes: &[u8], volume: &FirmwareVolume) -> usize {
    let start = volume.offset_bytes + volume.header_bytes;
    let size_offset = match array(bytes, start) {
        Some([b'$', b'V' | b'S' | b'N', b'V' | b'S', b'S']) => 4,
        _ => match array(bytes, start).map(Guid) {
            Some(VARIABLES | AUTHENTICATED_VARIABLES) => 16,
            _ => return start,
        },
    };
    let size = u32_at(bytes, start + size_offset).unwrap_or(0) as usize;
    start.saturating_add(size)
}

/// Returns AMI's store in a volume of files, if the first file is one. Makers ship it empty, too.
fn nvar_store(bytes: &[u8], volume: &FirmwareVolume) -> Option<Range<usize>> {
    let contents = bytes.get(volume.range())?;
    let start = volume.first_file(contents);
    let file = contents.get(start..)?;
    let length = u24_at(file, 20)? as usize;
    let data = file.get(FILE_HEADER_BYTES..length)?;
    let is_store = array(file, 0).map(Guid) == Some(NVAR_FILE) && file[18] == FILE_RAW;
    let is_empty = !data.is_empty() && data.iter().all(|byte| *byte == 0xff);
    if !is_store || !(data.starts_with(NVAR) || is_empty) {
        return None;
    }
    let end = start + length;
    let rest = contents.get(end.next_multiple_of(8)..).unwrap_or_default();
    let is_alone = rest.iter().all(|byte| *byte == 0xff)
        || rest.get(18) == Some(&FILE_PADDING) && u24_at(rest, 20) == Some(rest.len() as u32);
    let whole = volume.range();
    Some(if is_alone { whole } else { whole.start + start..whole.start + end })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::samples::{
        file, file_volume, nvar_file, nvar_volume, put, variable_store, volume,
    };
    use super::super::volume::FFS1;
    use super::*;
    use proptest::prelude::*;

    const VOLUME_BYTES: usize = 0x8000;

    fn stores_in(chip: &[u8]) -> Vec<Range<usize>> {
        variable_stores(chip, Volumes::of(chip))
    }

    #[test]
    fn amis_store_is_its_volume_or_its_file_where_it_is_not_alone() {
        let program = file(7, 0x07, true, b"program");
        let alone = nvar_volume(VOLUME_BYTES);
        let empty = file_volume(VOLUME_BYTES, &[nvar_file(&[], 0x2000)]);
        let shared = file_volume(VOLUME_BYTES, &[nvar_file(b"NVAR", 0x2000), program.clone()]);
        let programs = file_volume(VOLUME_BYTES, &[program, nvar_file(b"NVAR", 0x100)]);
        let chip = [alone, empty, shared, programs].concat();
        let file = 2 * VOLUME_BYTES + 72..2 * VOLUME_BYTES + 72 + FILE_HEADER_BYTES + 0x2000;
        let expected = vec![0..VOLUME_BYTES, VOLUME_BYTES..2 * VOLUME_BYTES, file];
        assert_eq!(stores_in(&chip), expected);
    }

    #[test]
    fn another_file_in_its_place_is_no_store() {
        let other = file_volume(VOLUME_BYTES, &[nvar_file(b"TEXT", 0x2000)]);
        assert_eq!(stores_in(&other), []);
        let mut named = file_volume(VOLUME_BYTES, &[nvar_file(b"NVAR", 0x2000)]);
        named[72] ^= 1;
        assert_eq!(stores_in(&named), []);
    }

    /// Insyde: the variables, the version and a volume with programs, all in one volume.
    #[test]
    fn a_makers_parts_of_a_volume_of_variables_are_no_store() {
        let mut chip = variable_store(0x1_0000);
        put(&mut chip, 72, b"$VSS\x00\x20\x00\x00\x5a\xfe");
        // The value of a variable is no version.
        put(&mut chip, 0x1000, VERSION_BLOCK);
        put(&mut chip, 0x4000, VERSION_BLOCK);
        let inner = volume(FFS1, 0x3000, &[]);
        put(&mut chip, 0x8000, &inner);
        let expected = vec![0..0x4000, 0x5000..0x8000, 0xb000..0x1_0000];
        assert_eq!(stores_in(&chip), expected);
        let mut unaligned = variable_store(0x1_0000);
        put(&mut unaligned, 0x4001, VERSION_BLOCK);
        assert_eq!(stores_in(&unaligned), std::slice::from_ref(&(0..0x1_0000)));
        let additional = volume(NV_DATA_ADDITIONAL, 0x1000, b"EVSA");
        assert_eq!(stores_in(&additional), std::slice::from_ref(&(0..0x1000)));
    }

    proptest! {
        /// Whatever stands in a chip: stores are apart, in order, inside it, and none is empty.
        #[test]
        fn stores_are_ranges_of_the_chip(
            at in proptest::collection::vec((0usize..0x2_0000, any::<u8>()), 0..64),
            size in any::<u32>(),
        ) {
            let insyde = {
                let mut chip = variable_store(0x1_0000);
                put(&mut chip, 72, b"$VSS");
                put(&mut chip, 76, &size.to_le_bytes());
                put(&mut chip, 0x4000, VERSION_BLOCK);
                put(&mut chip, 0x8000, &volume(FFS1, 0x3000, &[]));
                chip
            };
            let ami = file_volume(VOLUME_BYTES, &[nvar_file(b"NVAR", 0x2000)]);
            let mut chip = [insyde, ami.clone(), ami].concat();
            at.iter().for_each(|(at, byte)| chip[*at] = *byte);
            let stores = stores_in(&chip);
            prop_assert!(stores.iter().all(|store| !store.is_empty() && store.end <= chip.len()));
            prop_assert!(stores.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
