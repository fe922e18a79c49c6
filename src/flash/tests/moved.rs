//! What is kept at another place than it had, and images of a part, whatever cuts the power.

use super::*;
use crate::image::layout::samples::{UNUSED, descriptor_skylake, flash_map, pages, put};
use crate::image::{Description, Part};

const CHIP_BYTES: usize = 0x2_0000;
const PAGE: usize = 0x1000;

/// A chip that starts an x86 processor: descriptor, two pages of GbE from this page on, BIOS from
/// page 0x10 on. Every page has something else.
fn chip(gbe_page: usize, salt: u8) -> Vec<u8> {
    let mut chip: Vec<u8> = (0..CHIP_BYTES).map(|at| (at / PAGE) as u8 | salt).collect();
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0, 0);
    regions[1] = pages(0x10, 0x1f);
    regions[3] = pages(gbe_page as u32, gbe_page as u32 + 1);
    descriptor_skylake(&mut chip, &regions, 0xffff_ff00);
    chip[gbe_page * PAGE..][..2 * PAGE].fill(0xc0 | salt);
    put(&mut chip, CHIP_BYTES - 16, &[0xe9, 0, 0xff]);
    chip
}

fn flash(contents: &[u8], block_bytes: u32) -> SimulatedFlash {
    let size = contents.len() as u64;
    let geometry = Geometry::uniform(size, block_bytes, 1, WriteRule::ClearBits).unwrap();
    SimulatedFlash::new(geometry, contents.to_vec())
}

fn moves_gbe(image: &[u8], gbe_page: usize) -> VerifiedImage {
    keeps(image, &[("gbe", gbe_page, 2)])
}

/// A bundle that keeps these regions: first page, and how many.
fn keeps(image: &[u8], regions: &[(&str, usize, usize)]) -> VerifiedImage {
    let region = |(name, page, pages): &(&str, usize, usize)| Region {
        name: (*name).to_owned(),
        offset_bytes: (page * PAGE) as u64,
        length_bytes: (pages * PAGE) as u64,
        action: RegionAction::Preserve,
    };
    let regions = regions.iter().map(region).collect();
    let description = Description { regions, new_layout: true, ..Description::default() };
    VerifiedImage::described(image.to_vec(), description)
}

/// Cuts the power at each operation of a job, in each way; then the next job has to bring the chip
/// to what it should hold.
fn survives_every_cut(image: &VerifiedImage, live: &[u8], expected: &[u8]) {
    let mut whole = flash(live, PAGE as u32);
    let end = run(Job::new(image.clone()), &mut whole).into_end().unwrap();
    assert!(end.outcome == Outcome::Updated, "{end}");
    assert!(whole.contents() == expected);
    let operations = whole.operations();
    for operation in 0..operations {
        for cut in Fault::CUTS {
            let mut chip = flash(live, PAGE as u32);
            chip.inject(operation, cut);
            run(Job::new(image.clone()), &mut chip);
            let left = chip.contents().to_vec();
            // The machine starts from what is left, or is rescued.
            let mut started = flash(&left, PAGE as u32);
            let end = run(Job::new(image.clone()), &mut started).into_end().unwrap();
            let found = started.contents();
            match end.outcome {
                Outcome::Updated => assert!(found == expected, "{cut:?} at {operation}"),
                _ => assert!(found == left, "{cut:?} at {operation}: {end}"),
            }
            let mut chip = flash(&left, PAGE as u32);
            let end = run(Job::rescue(image.clone()), &mut chip).into_end().unwrap();
            assert!(end.outcome == Outcome::Updated, "{cut:?} at {operation}: {end}");
            let gbe_is_kept = chip.contents() == expected;
            assert!(gbe_is_kept, "{cut:?} at operation {operation} of {operations}");
        }
    }
}

#[test]
fn a_region_that_moves_outlives_every_power_cut() {
    for (from, to) in [(1, 5), (5, 1), (3, 8)] {
        let (live, new) = (chip(from, 0x20), chip(to, 0));
        let mut expected = new.clone();
        expected[to * PAGE..][..2 * PAGE].copy_from_slice(&live[from * PAGE..][..2 * PAGE]);
        survives_every_cut(&moves_gbe(&new, to), &live, &expected);
    }
}

/// Lets runs of operations fail, and the power or other operations, too, at some point behind the
/// first of them; then a rescue has to bring the chip to what it should hold.
fn survives_every_run_of_faults(image: &VerifiedImage, live: &[u8], expected: &[u8], block: u32) {
    let mut whole = flash(live, block);
    let end = run(Job::new(image.clone()), &mut whole).into_end().unwrap();
    assert!(end.outcome == Outcome::Updated, "{end}: {:?}", end.error);
    assert!(whole.contents() == expected);
    let rescue = |mut chip: SimulatedFlash, which: &str| {
        run(Job::new(image.clone()), &mut chip);
        let operations = chip.operations();
        let mut chip = flash(chip.contents(), block);
        let end = run(Job::rescue(image.clone()), &mut chip).into_end().unwrap();
        assert!(end.outcome == Outcome::Updated, "{which}: {end}");
        assert!(chip.contents() == expected, "{which}: {end}");
        operations
    };
    for fault in [Fault::Error, Fault::HalfDone, Fault::WearOut] {
        for length in [1, 3, 12, 500] {
            for first in 0..whole.operations() {
                let failing = || {
                    let mut chip = flash(live, block);
                    (first..first + length).for_each(|operation| chip.inject(operation, fault));
                    chip
                };
                let which = format!("{length} times {fault:?} from operation {first} on");
                let operations = rescue(failing(), &which);
                let cuts = Fault::CUTS.map(|cut| (cut, 1)).into_iter();
                let others = cuts.chain([(Fault::HalfDone, 3), (Fault::Error, 12)]).cycle();
                for (at, (other, count)) in (first + 1..operations).step_by(17).zip(others) {
                    let mut chip = failing();
                    (at..at + count).for_each(|operation| chip.inject(operation, other));
                    rescue(chip, &format!("{which}, {count} times {other:?} from {at} on"));
                }
            }
        }
    }
}

#[test]
fn a_region_that_moves_outlives_every_run_of_faults() {
    for (from, to, block_bytes) in [(1, 5, 0x1000), (5, 1, 0x1000), (2, 8, 0x2000)] {
        let (live, new) = (chip(from, 0x20), chip(to, 0));
        let mut expected = new.clone();
        expected[to * PAGE..][..2 * PAGE].copy_from_slice(&live[from * PAGE..][..2 * PAGE]);
        survives_every_run_of_faults(&moves_gbe(&new, to), &live, &expected, block_bytes);
    }
}

#[test]
fn a_region_that_gets_more_room_elsewhere_outlives_every_run_of_faults() {
    let (live, mut new) = (chip(1, 0x20), chip(5, 0));
    put(&mut new, 0x40 + 4 * 3, &pages(5, 7).to_le_bytes());
    let mut expected = new.clone();
    expected[5 * PAGE..8 * PAGE].fill(0xff);
    expected[5 * PAGE..][..2 * PAGE].copy_from_slice(&live[PAGE..][..2 * PAGE]);
    let image = keeps(&new, &[("gbe", 5, 3)]);
    survives_every_run_of_faults(&image, &live, &expected, PAGE as u32);
}

/// A chip without a descriptor: the flash map in one page, two pages of vital product data. Pages
/// beside a map are the same on all, so that a job writes it alone.
fn mapped_chip(map_page: usize, vpd_page: usize, salt: u8) -> Vec<u8> {
    let of_page = |page: usize| page as u8 | if page < 12 { salt } else { 0 };
    let mut chip: Vec<u8> = (0..CHIP_BYTES).map(|at| of_page(at / PAGE)).collect();
    let area =
        |page: usize, pages: usize, name| ((page * PAGE) as u32, (pages * PAGE) as u32, name);
    let areas =
        [area(map_page, 1, "FMAP"), area(vpd_page, 2, "RO_VPD"), area(16, 16, "RW_SECTION_A")];
    put(&mut chip, map_page * PAGE, &flash_map(CHIP_BYTES as u32, &areas));
    chip[vpd_page * PAGE..][..2 * PAGE].fill(0xc0 | salt);
    put(&mut chip, CHIP_BYTES - 16, &[0xe9, 0, 0xff]);
    chip
}

#[test]
fn a_region_that_moves_together_with_its_map_outlives_every_run_of_faults() {
    for (map_to, vpd_to) in [(12, 8), (14, 8), (5, 8)] {
        let (live, new) = (mapped_chip(12, 3, 0x20), mapped_chip(map_to, vpd_to, 0));
        let mut expected = new.clone();
        expected[vpd_to * PAGE..][..2 * PAGE].copy_from_slice(&live[3 * PAGE..][..2 * PAGE]);
        let image = keeps(&new, &[("vpd", vpd_to, 2)]);
        survives_every_run_of_faults(&image, &live, &expected, PAGE as u32);
    }
}

#[test]
fn the_map_that_tells_the_new_place_is_proven_before_the_old_place_is_lost() {
    let (live, new) = (chip(1, 0x20), chip(5, 0));
    let mut flash = flash(&live, PAGE as u32);
    run(Job::new(moves_gbe(&new, 5)), &mut flash);
    let runs = flash.history().split(|asked| *asked != Asked::Erase).map(<[Asked]>::len);
    let erased: Vec<usize> = runs.filter(|count| *count > 0).collect();
    // The new place, the descriptor, and then the old place, which follows it on the chip.
    assert_eq!(erased[..2], [2, 1], "{erased:?}");
}

#[test]
fn a_move_that_no_order_makes_safe_is_refused() {
    let refused = |from, to, block_bytes| {
        let (live, new) = (chip(from, 0x20), chip(to, 0));
        refusal(moves_gbe(&new, to), &mut flash(&live, block_bytes))
    };
    // Old and new place overlap; both are in one eraseblock, or one of them is in the descriptor's.
    let cases = [(1, 2, 0x1000), (4, 6, 0x4000), (8, 2, 0x4000), (1, 8, 0x4000)];
    for (from, to, block_bytes) in cases {
        let error = refused(from, to, block_bytes);
        assert!(matches!(error, FlashError::UnsafeMove { .. }), "{from} to {to}: {error}");
    }
}

#[test]
fn a_rescue_that_keeps_another_descriptor_is_refused_untouched() {
    let image = keeps(&chip(5, 0), &[("fd", 0, 1), ("gbe", 5, 2)]);
    let live = chip(1, 0x20);
    let mut chip = flash(&live, PAGE as u32);
    let end = run(Job::rescue(image), &mut chip).into_end().unwrap();
    let error = end.error.as_ref().unwrap();
    assert!(matches!(error, FlashError::Misfit(_)), "{error}");
    assert!(end.outcome == Outcome::Unchanged && chip.contents() == live, "{end}");
}

#[test]
fn a_part_is_replaced_and_the_rest_stays_whatever_cuts_the_power() {
    let live = chip(1, 0x20);
    let bios = chip(1, 0)[0x10 * PAGE..].to_vec();
    let part = Part { name: "bios".into(), length_bytes: bios.len() as u64, offset_bytes: None };
    let image = VerifiedImage::described(
        bios.clone(),
        Description { parts: vec![part], ..Description::default() },
    );
    let expected = [&live[..0x10 * PAGE], &bios].concat();
    survives_every_cut(&image, &live, &expected);
    // A part that shares its first eraseblock with something else.
    let error = refusal(image, &mut flash(&live, CHIP_BYTES as u32));
    assert!(matches!(error, FlashError::PreserveShares { .. }), "{error}");
}
