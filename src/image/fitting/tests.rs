#![allow(clippy::unwrap_used)]

use super::*;
use crate::image::layout::samples::{UNUSED, descriptor_skylake, flash_map, pages};
use crate::image::{Description, PayloadFormat};
use proptest::prelude::*;

const CHIP_BYTES: usize = 0x2_0000;
const GBE: u32 = 3;

/// A chip with descriptor, BIOS from page 0x10 on, and an 8 KiB GbE region from this page on, each
/// byte telling its region.
fn chip(gbe_page: u32, salt: u8) -> Vec<u8> {
    let mut chip = vec![0x40 | salt; CHIP_BYTES];
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0, 0);
    regions[1] = pages(0x10, 0x1f);
    regions[GBE as usize] = pages(gbe_page, gbe_page + 1);
    descriptor_skylake(&mut chip, &regions, 0xffff_ff00);
    let start = gbe_page as usize * 0x1000;
    chip[start..start + 0x2000].fill(0xa0 | salt);
    chip
}

fn region(name: &str, offset_bytes: u64, length_bytes: u64, action: RegionAction) -> Region {
    Region { name: name.into(), offset_bytes, length_bytes, action }
}

fn manifest(image: &[u8], regions: Vec<Region>, parts: Vec<Part>, new_layout: bool) -> Manifest {
    let description = Description {
        version: "1".into(),
        vendor: "V".into(),
        products: vec!["P".into()],
        regions,
        parts,
        new_layout,
        ..Description::default()
    };
    Manifest::describe(description, image, PayloadFormat::Raw, image).unwrap()
}

fn gbe_at(page: u64, action: RegionAction) -> Region {
    region("gbe", page * 0x1000, 0x2000, action)
}

#[test]
fn a_region_that_moves_is_carried_to_its_new_place_or_the_bundle_is_refused() {
    let (image, live) = (chip(5, 1), chip(1, 2));
    let keep = vec![gbe_at(5, RegionAction::Preserve)];
    let refused = |regions, new_layout| {
        let manifest = manifest(&image, regions, Vec::new(), new_layout);
        Fitting::on_live(&manifest, &live).unwrap_err()
    };
    assert!(matches!(refused(keep.clone(), false), Misfit::Layout(_)));
    let with_descriptor =
        vec![region("fd", 0, 0x1000, RegionAction::Preserve), gbe_at(5, RegionAction::Preserve)];
    assert!(matches!(refused(with_descriptor, true), Misfit::KeepsDescriptor(_)));
    // A range that no layout names: it lies where the chip has its GbE.
    let range = vec![region("mac", 0x1800, 6, RegionAction::Preserve)];
    assert!(matches!(refused(range, true), Misfit::Unplaced { .. }));

    let manifest = manifest(&image, keep, Vec::new(), true);
    let fitting = Fitting::on_live(&manifest, &live).unwrap();
    assert_eq!(fitting.moved(), [Moved { from: 0x1000..0x3000, to: 0x5000..0x7000 }]);
    assert_eq!(fitting.kept_in_place().count(), 0);
    let mut expected = image.clone();
    expected[0x5000..0x7000].copy_from_slice(&live[0x1000..0x3000]);
    assert_eq!(fitting.target(&image, &live), expected);
    // Broken, but with its descriptor: the same.
    assert_eq!(Fitting::on_broken(&manifest, &live).unwrap().target(&image, &live), expected);
    // Once it is there, it stays.
    let fitting = Fitting::on_live(&manifest, &expected).unwrap();
    assert!(fitting.moved().is_empty());
    assert_eq!(fitting.target(&image, &expected), expected);
}

/// By it the chipset would look for the MAC address at the old place, where the image has code.
#[test]
fn a_descriptor_stays_only_where_it_divides_the_chip_as_the_image_does() {
    let (image, live) = (chip(5, 1), chip(1, 2));
    // All of it, a piece of its table, and more than it: whatever the range is called.
    for (start, length) in [(0, 0x1000), (0x40, 0x40), (0, 0xc)] {
        let kept = region("kept", start, length, RegionAction::Preserve);
        let manifest =
            manifest(&image, vec![kept, gbe_at(5, RegionAction::Preserve)], vec![], true);
        for fitting in [Fitting::on_live(&manifest, &live), Fitting::on_broken(&manifest, &live)] {
            let misfit = fitting.unwrap_err();
            assert!(matches!(misfit, Misfit::KeepsDescriptor(_)), "{misfit}");
            let text = misfit.to_string();
            let sides = "image has gbe at 0x5000-0x6fff, the chip has it at 0x1000-0x2fff";
            assert!(text.contains(sides), "{text}");
        }
        // The same division, or no descriptor that tells one: a rescue goes on.
        assert!(Fitting::on_broken(&manifest, &image).is_ok());
        assert!(Fitting::on_broken(&manifest, &vec![0x5a; CHIP_BYTES]).is_ok());
    }
    // Regions that a flash map tells are not where a chipset looks.
    let with_map = |gbe_page: u32| {
        let mut chip = chip(5, 1);
        let areas = [(0, 0x1000, "SI_DESC"), (gbe_page * 0x1000, 0x1000, "SI_ME")];
        let map = flash_map(CHIP_BYTES as u32, &areas);
        chip[0x1_0000..][..map.len()].copy_from_slice(&map);
        chip
    };
    let kept = vec![region("fd", 0, 0x1000, RegionAction::Preserve)];
    let manifest = manifest(&with_map(8), kept, Vec::new(), true);
    assert!(Fitting::on_broken(&manifest, &with_map(9)).is_ok());
}

#[test]
fn what_the_image_has_no_place_for_is_not_lost() {
    let live = chip(1, 2);
    let mut image = live.clone();
    let mut regions = [UNUSED; 16];
    (regions[0], regions[1]) = (pages(0, 0), pages(0x10, 0x1f));
    descriptor_skylake(&mut image, &regions, 0xffff_ff00);
    let manifest = |image: &[u8]| manifest(image, Vec::new(), Vec::new(), true);
    let misfit = Fitting::on_live(&manifest(&image), &live).unwrap_err();
    assert!(matches!(&misfit, Misfit::Lost { chip } if chip.name == "gbe"), "{misfit}");
    // The other way round, nothing is kept: the image's is written.
    let fitting = Fitting::on_live(&manifest(&live), &image).unwrap();
    assert_eq!(fitting.target(&live, &image), live);
    let keeps = self::manifest(&live, vec![gbe_at(1, RegionAction::Preserve)], Vec::new(), true);
    let misfit = Fitting::on_live(&keeps, &image).unwrap_err();
    assert!(matches!(misfit, Misfit::NotOnChip { .. }), "{misfit}");
    // A larger place takes the smaller region, and not the other way round.
    regions[GBE as usize] = pages(5, 7);
    descriptor_skylake(&mut image, &regions, 0xffff_ff00);
    let keep = vec![region("gbe", 0x5000, 0x3000, RegionAction::Preserve)];
    let larger = self::manifest(&image, keep, Vec::new(), true);
    let target = Fitting::on_live(&larger, &live).unwrap().target(&image, &live);
    assert_eq!(target[0x5000..0x7000], live[0x1000..0x3000]);
    assert_eq!(target[0x7000..0x8000], [0xff; 0x1000]);
    let misfit = Fitting::on_live(&keeps_at(&live, 1), &image).unwrap_err();
    assert!(matches!(misfit, Misfit::Resized { .. }), "{misfit}");
}

fn keeps_at(image: &[u8], page: u64) -> Manifest {
    manifest(image, vec![gbe_at(page, RegionAction::Preserve)], Vec::new(), true)
}

fn named(name: &str, length_bytes: u64) -> Part {
    Part { name: name.into(), length_bytes, offset_bytes: None }
}

fn placed_at(name: &str, offset_bytes: u64, length_bytes: u64) -> Part {
    Part { name: name.into(), length_bytes, offset_bytes: Some(offset_bytes) }
}

#[test]
fn a_part_goes_where_the_chip_has_its_region_and_the_rest_stays() {
    let live = chip(1, 2);
    let bios = vec![0x99; 0x1_0000];
    let fit =
        |parts: Vec<Part>| Fitting::on_live(&manifest(&bios, Vec::new(), parts, false), &live);
    let fitting = fit(vec![named("bios", 0x1_0000)]).unwrap();
    let mut expected = live.clone();
    expected[0x1_0000..].copy_from_slice(&bios);
    assert_eq!(fitting.target(&bios, &live), expected);
    assert_eq!(fitting.in_image_order(&expected), bios.as_slice());
    assert_eq!(fitting.on_chip(0xffff), Some(0x1_ffff));
    let kept: u64 = fitting.kept_in_place().map(|region| region.length_bytes).sum();
    assert_eq!(kept, 0x1_0000);
    // Two parts, in any order.
    let fitting =
        fit(vec![placed_at("high", 0x1_8000, 0x8000), placed_at("low", 0x1_0000, 0x8000)]).unwrap();
    assert_eq!(fitting.target(&bios, &live), expected);
    assert_eq!(fitting.in_image_order(&expected), bios.as_slice());
    let refused = |parts| fit(parts).unwrap_err();
    assert!(matches!(refused(vec![named("me", 0x1_0000)]), Misfit::NoPart { .. }));
    let halves = vec![named("bios", 0x8000), placed_at("x", 0, 0x8000)];
    assert!(matches!(refused(halves), Misfit::PartSize { .. }));
    let behind = vec![placed_at("x", 0x1_8000, 0x1_0000)];
    assert!(matches!(refused(behind), Misfit::PartOutside { .. }));
    // Half of the GbE region, from its middle on.
    let cut = refused(vec![placed_at("x", 0x2000, 0x1_0000)]);
    assert!(matches!(&cut, Misfit::Cut { chip, .. } if chip.name == "gbe"), "{cut}");
    let twice = vec![placed_at("x", 0x1_0000, 0x8000), named("gbe", 0x2000), named("y", 0x6000)];
    assert!(matches!(refused(twice), Misfit::NoPart { .. }));
}

#[test]
fn a_mismatch_shows_both_sides_of_the_first_differences() {
    let of = |text: &str| Layout::parse_text(text, 0x10_0000).unwrap();
    let mismatch = |image: &Layout, chip: &Layout| {
        Pairs::of(image.regions().to_vec(), chip.regions().to_vec()).mismatch()
    };
    let image = of("0:fff fd\n1000:2fff gbe\n10000:fffff bios");
    assert_eq!(mismatch(&image, &image), None);
    let chip = of("0:fff fd\n3000:4fff gbe\n8000:8fff pd\n9000:9fff ec\na000:afff ptt");
    assert_eq!(
        mismatch(&image, &chip).unwrap().to_string(),
        "image has gbe at 0x1000-0x2fff, the chip has it at 0x3000-0x4fff; \
         image has bios at 0x10000-0xfffff, the chip has no bios; \
         the chip has pd at 0x8000-0x8fff, the image has no pd; and 2 more"
    );
    let mut other_kind = of("1000:2fff gbe").regions().to_vec();
    other_kind[0].kind = RegionKind::Vpd;
    let other_kind = Layout::new(other_kind, 0x10_0000).unwrap();
    assert_eq!(
        mismatch(&of("1000:2fff gbe"), &other_kind).unwrap().to_string(),
        "image has gbe at 0x1000-0x2fff as gbe, the chip has it as vpd"
    );
}

proptest! {
    /// Whatever parts of whatever chip: all that the image does not cover stays.
    #[test]
    fn outside_the_parts_nothing_changes(
        parts in proptest::collection::vec((0u64..0x2_2000, 1u64..0x4000), 1..5),
        gbe in 1u32..9,
    ) {
        let live = chip(gbe, 3);
        let total: u64 = parts.iter().map(|(_, length)| length).sum();
        let image = vec![0x77; total as usize];
        let parts: Vec<Part> = parts.iter().enumerate()
            .map(|(nth, (offset, length))| placed_at(&format!("part {nth}"), *offset, *length))
            .collect();
        let description = Description {
            version: "1".into(), vendor: "V".into(), products: vec!["P".into()],
            parts: parts.clone(), ..Description::default()
        };
        let Ok(manifest) = Manifest::describe(description, &image, PayloadFormat::Raw, &image)
        else { return Ok(()) };
        let Ok(fitting) = Fitting::on_live(&manifest, &live) else { return Ok(()) };
        let target = fitting.target(&image, &live);
        let covered = |at: usize| parts.iter().any(|part| {
            let start = part.offset_bytes.unwrap() as usize;
            (start..start + part.length_bytes as usize).contains(&at)
        });
        for at in 0..live.len() {
            prop_assert_eq!(target[at], if covered(at) { 0x77 } else { live[at] }, "{}", at);
        }
        prop_assert!(fitting.in_image_order(&target) == image.as_slice());
    }
}
