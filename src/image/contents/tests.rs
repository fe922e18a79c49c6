//! Each row of the table of the module, on chips with and without a descriptor.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::image::RegionAction;
use crate::image::layout::samples::{UNUSED, descriptor_skylake, flash_map, pages, put};

const FD: u32 = 0;
const BIOS: u32 = 1;
const ME: u32 = 2;

/// Returns which regions the host may read, as bits of FLMSTR1.
fn may_read(regions: &[u32]) -> u32 {
    regions.iter().map(|region| 1 << (8 + region)).sum()
}

/// fd in page 0, me in pages 1 to 3, bios in pages 4 to 7.
fn chip(host_master: u32) -> Vec<u8> {
    let mut regions = [UNUSED; 16];
    (regions[0], regions[1], regions[2]) = (pages(0, 0), pages(4, 7), pages(1, 3));
    let mut bytes: Vec<u8> = (0..0x8000u32).map(|n| (n >> 5) as u8 | 1).collect();
    descriptor_skylake(&mut bytes, &regions, host_master);
    bytes
}

fn ranges(pairs: &[(u64, u64)]) -> ByteRanges {
    pairs.iter().map(|(start, end)| *start..*end).collect()
}

fn looked_at(
    bytes: &[u8],
    unread: &[(u64, u64)],
    untouched: &[(u64, u64)],
) -> Result<ByteRanges, Unreadable> {
    let contents = Contents::new(bytes.to_vec(), &ranges(unread), &ranges(untouched))?;
    let closed = contents.closed().clone();
    for (at, byte) in contents.bytes().iter().enumerate() {
        let is_closed = closed.covers(&(at as u64..at as u64 + 1));
        assert_eq!(*byte, if is_closed { 0xff } else { bytes[at] }, "at {at:#x}");
    }
    Ok(closed)
}

#[test]
fn what_cannot_be_read_of_another_ones_region_is_closed() {
    for host_master in [may_read(&[FD, BIOS]), may_read(&[FD, BIOS, ME])] {
        let found = looked_at(&chip(host_master), &[(0x1000, 0x3000)], &[]).unwrap();
        assert_eq!(found, ranges(&[(0x1000, 0x3000)]));
    }
}

#[test]
fn a_closed_region_that_answers_ffh_is_closed_and_one_that_answers_is_not() {
    let closed_me = may_read(&[FD, BIOS]);
    assert_eq!(looked_at(&chip(closed_me), &[], &[]).unwrap(), ByteRanges::default());
    let silent = |host_master| {
        let mut bytes = chip(host_master);
        bytes[0x1000..0x4000].fill(0xff);
        looked_at(&bytes, &[(0x2000, 0x3000)], &[]).unwrap()
    };
    assert_eq!(silent(closed_me), ranges(&[(0x1000, 0x4000)]));
    let erased_parts = ranges(&[(0x2000, 0x3000)]);
    assert_eq!(silent(may_read(&[FD, BIOS, ME])), erased_parts, "erased is not closed");
}

#[test]
fn the_bios_region_is_never_closed() {
    // As a descriptor of zeros or nonsense may say.
    let mut bytes = chip(may_read(&[]));
    bytes[0x4000..].fill(0xff);
    assert_eq!(looked_at(&bytes, &[], &[]).unwrap(), ByteRanges::default());
    let error = looked_at(&bytes, &[(0x5000, 0x6000)], &[]).unwrap_err();
    assert!(error.to_string().contains("0x5000-0x5fff"), "{error}");
}

#[test]
fn what_stays_as_it_is_need_not_be_read_and_all_else_must_be() {
    let bytes = vec![7; 0x8000];
    let unread = [(0x1000, 0x3000)];
    assert_eq!(looked_at(&bytes, &unread, &[(0, 0x3000)]).unwrap(), ranges(&unread));
    assert_eq!(
        looked_at(&bytes, &unread, &[(0x2000, 0x8000)]),
        Err(Unreadable(ranges(&[(0x1000, 0x2000)])))
    );
    assert_eq!(looked_at(&bytes, &unread, &[]), Err(Unreadable(ranges(&unread))));
    assert_eq!(
        looked_at(&bytes, &[(0x8000, 0x9000)], &[]).unwrap(),
        ByteRanges::default(),
        "outside"
    );
}

#[test]
fn a_flash_map_names_what_is_not_the_hosts_too() {
    let mut bytes = vec![7; 0x8000];
    put(
        &mut bytes,
        0x6000,
        &flash_map(0x8000, &[(0x1000, 0x2000, "SI_ME"), (0x4000, 0x1000, "RW_VPD")]),
    );
    assert_eq!(looked_at(&bytes, &[(0x1000, 0x2000)], &[]).unwrap(), ranges(&[(0x1000, 0x2000)]));
    assert!(
        looked_at(&bytes, &[(0x4000, 0x5000)], &[]).is_err(),
        "vital product data are the host's"
    );
}

#[test]
fn only_preserved_regions_of_a_bundle_stay() {
    let region =
        |offset_bytes, action| Region { name: "r".into(), offset_bytes, length_bytes: 8, action };
    let regions = [
        region(0, RegionAction::Preserve),
        region(8, RegionAction::Preserve),
        region(16, RegionAction::Reset),
        region(24, RegionAction::Replace),
    ];
    assert_eq!(preserved(&regions), ranges(&[(0, 16)]));
}
