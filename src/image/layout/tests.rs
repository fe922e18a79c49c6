#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use proptest::prelude::*;

use super::samples::*;
use super::*;

const IMAGE_BYTES: usize = 0x10_0000;

fn region(name: &str, offset_bytes: u64, length_bytes: u64) -> LayoutRegion {
    let kind = RegionKind::of_name(name);
    LayoutRegion { kind, name: name.to_owned(), offset_bytes, length_bytes }
}

fn shown(layout: &Layout) -> Vec<String> {
    layout.regions().iter().map(|region| format!("{} {region}", region.kind)).collect()
}

fn skylake_regions() -> [u32; 16] {
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0x00, 0x00);
    regions[1] = pages(0x20, 0xff);
    regions[2] = pages(0x03, 0x1e);
    regions[3] = pages(0x01, 0x02);
    regions[8] = pages(0x1f, 0x1f);
    // Never written, and reserved: neither is a region.
    regions[13] = 0xffff_ffff;
    regions[14] = 0;
    regions
}

/// The host may read and write its own region, GbE and the descriptor's reading; ME and EC are
/// closed to it.
const SKYLAKE_MASTER: u32 = 0b1010 << 20 | 0b1011 << 8;

fn skylake() -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_BYTES];
    descriptor_skylake(&mut image, &skylake_regions(), SKYLAKE_MASTER);
    image
}

#[test]
fn a_descriptor_from_skylake_on_tells_regions_and_what_the_host_may_access() {
    let image = skylake();
    let layout = Layout::read(&image).unwrap();
    assert_eq!(
        shown(&layout),
        [
            "descriptor fd at 0x0-0xfff",
            "gbe gbe at 0x1000-0x2fff",
            "me me at 0x3000-0x1efff",
            "embedded-controller ec at 0x1f000-0x1ffff",
            "bios bios at 0x20000-0xfffff",
        ]
    );
    let access = host_access(&image).unwrap();
    assert_eq!(access.no_read, [0x3000..0x1_f000, 0x1_f000..0x2_0000]);
    assert_eq!(access.no_write, [0..0x1000, 0x3000..0x1_f000, 0x1_f000..0x2_0000]);
}

/// The same words mean other regions in the two encodings, so a wrong guess would show here.
#[test]
fn a_descriptor_before_skylake_has_eight_bits_for_each_access() {
    let mut image = vec![0xff; IMAGE_BYTES];
    let regions =
        [pages(0, 0), pages(0x20, 0xff), pages(0x03, 0x1f), pages(0x01, 0x02), 0x0000_1fff];
    // The value of a Lenovo X230: 0x0b read, 0x0a write.
    descriptor_ivy_bridge(&mut image, &regions, 0x0a0b_0000);
    let access = host_access(&image).unwrap();
    assert_eq!(access.no_read, [0x3000..0x2_0000]);
    assert_eq!(access.no_write, [0..0x1000, 0x3000..0x2_0000]);
    assert_eq!(Layout::read(&image).unwrap().regions().len(), 4);
    // From ICH9 on back the signature stood at the start.
    image.copy_within(0x10..0x20, 0);
    image[0x10..0x20].fill(0xff);
    assert_eq!(Layout::read(&image).unwrap().regions().len(), 4);
    assert_eq!(host_access(&[0xff; 64]), Ok(HostAccess::default()));
}

#[test]
fn regions_12_to_15_have_their_bits_at_the_start_of_the_word() {
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0, 0);
    regions[11] = pages(1, 1);
    regions[12] = pages(2, 2);
    regions[15] = pages(3, 3);
    let mut image = vec![0xff; IMAGE_BYTES];
    descriptor_skylake(&mut image, &regions, 1 << 8 | 1 << 19 | 0b1000 | 0b0001_0000);
    let access = host_access(&image).unwrap();
    assert_eq!(access.no_read, [0x2000..0x3000]);
    assert_eq!(access.no_write, [0x0..0x1000, 0x1000..0x2000, 0x3000..0x4000]);
}

#[test]
fn a_descriptor_that_points_outside_is_refused_with_the_place() {
    let refusal = |change: fn(&mut Vec<u8>)| {
        let mut image = skylake();
        change(&mut image);
        Layout::read(&image).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(|image| put(image, 0x44, &pages(0x1e, 0xff).to_le_bytes())),
        "region me at 0x3000-0x1efff overlaps region bios at 0x1e000-0xfffff, expected them apart \
        or one inside the other; no update is possible by such a layout"
    );
    assert_eq!(
        refusal(|image| put(image, 0x40, &pages(1, 1).to_le_bytes())),
        "intel flash descriptor: its own region is at 0x1000-0x1fff, expected it to begin at 0x0"
    );
    assert_eq!(
        refusal(|image| put(image, 0x40, &UNUSED.to_le_bytes())),
        "intel flash descriptor: its own region is unused, expected it to begin at 0x0"
    );
    assert_eq!(
        refusal(|image| put(image, 0x16, &[0xff])),
        "intel flash descriptor: its own region is unused, expected it to begin at 0x0"
    );
    assert_eq!(
        refusal(|image| image.truncate(0xfff)),
        "intel flash descriptor: its end would lie at 0x1000, expected it in the first 0x1000 bytes"
    );
}

/// Boards that AMD's processors are on have been seen with nothing but the signature.
#[test]
fn a_signature_with_nothing_behind_it_is_no_descriptor() {
    for blank in [0x00, 0xff] {
        let mut image = skylake();
        image[0x14..0x1000].fill(blank);
        assert!(Layout::read(&image).unwrap().is_empty());
        assert_eq!(host_access(&image), Ok(HostAccess::default()));
        // One word more, and it is one that cannot be.
        image[0x14] = 0x03;
        assert!(Layout::read(&image).is_err());
    }
}

#[test]
fn a_limit_behind_the_end_of_the_chip_is_its_end() {
    let mut image = skylake();
    put(&mut image, 0x44, &pages(0x20, 0x1ff).to_le_bytes());
    put(&mut image, 0x48, &pages(0x200, 0x2ff).to_le_bytes());
    assert_eq!(
        shown(&Layout::read(&image).unwrap()),
        [
            "descriptor fd at 0x0-0xfff",
            "gbe gbe at 0x1000-0x2fff",
            "embedded-controller ec at 0x1f000-0x1ffff",
            "bios bios at 0x20000-0xfffff",
        ]
    );
}

#[test]
fn a_flash_map_gives_its_areas_their_kinds_and_may_nest_them() {
    let areas = [
        (0, 0x8_0000, "WP_RO"),
        (0, 0x4000, "RO_VPD"),
        (0x4000, 0x1000, "FMAP"),
        (0x5000, 0, "PLACE_HOLDER"),
        (0x8_0000, 0x8_0000, "RW_SECTION_A"),
        (0x9_0000, 0x2000, "RW_VPD"),
        (0xf_0000, 0x1_0000, "SMMSTORE"),
    ];
    let mut image = vec![0xff; IMAGE_BYTES];
    put(&mut image, 0x4000, &flash_map(IMAGE_BYTES as u32, &areas));
    // Neither a constant of a program nor the map of a part is the chip's.
    put(&mut image, 0x6_0000, b"__FMAP__ not found\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    put(&mut image, 0x7_0000, &flash_map(0x1000, &[(0, 0x2000, "EC_RW")]));
    // A variable store that an area names already, and one that none does.
    put(&mut image, 0xf_0000, &variable_store(0x1_0000));
    put(&mut image, 0xa_0000, &variable_store(0x4000));
    let layout = Layout::read(&image).unwrap();
    assert_eq!(
        shown(&layout),
        [
            "other WP_RO at 0x0-0x7ffff",
            "vpd RO_VPD at 0x0-0x3fff",
            "other FMAP at 0x4000-0x4fff",
            "other RW_SECTION_A at 0x80000-0xfffff",
            "vpd RW_VPD at 0x90000-0x91fff",
            "variable-store variable-store at 0xa0000-0xa3fff",
            "variable-store SMMSTORE at 0xf0000-0xfffff",
        ]
    );
    let names = |selector| layout.select(selector).into_iter().map(|region| region.name.as_str());
    assert!(names("vpd").eq(["RO_VPD", "RW_VPD"]));
    assert!(names("variable-store").eq(["variable-store", "SMMSTORE"]));
    // The areas inside the selected ones are part of these.
    assert!(names("other").eq(["WP_RO", "RW_SECTION_A"]));
    assert_eq!(names("gbe").count(), 0);

    // The same map once more changes nothing; another one does.
    put(&mut image, 0x5_0000, &flash_map(IMAGE_BYTES as u32, &areas));
    assert_eq!(Layout::read(&image), Ok(layout));
    put(&mut image, 0x5_0000, &flash_map(IMAGE_BYTES as u32, &areas[..1]));
    assert_eq!(
        Layout::read(&image).unwrap_err().to_string(),
        "flash maps at 0x4000 and 0x50000 disagree, expected them equal"
    );
}

#[test]
fn flash_maps_that_cannot_be_are_refused() {
    let refusal = |size: u32, areas: &[(u32, u32, &str)], count: Option<u16>, at: usize| {
        let mut image = vec![0xff; IMAGE_BYTES];
        let mut map = flash_map(size, areas);
        if let Some(count) = count {
            put(&mut map, 54, &count.to_le_bytes());
        }
        map.truncate(IMAGE_BYTES - at);
        put(&mut image, at, &map);
        Layout::read(&image).unwrap_err().to_string()
    };
    let size = IMAGE_BYTES as u32;
    assert_eq!(
        refusal(size, &[], None, 0x400),
        "flash map at 0x400 has 0 areas, expected at least 1"
    );
    assert_eq!(refusal(size, &[], Some(65535), 0x400), "65535 regions, expected at most 128");
    assert_eq!(
        refusal(size, &[(0, 1, "A"); 3], None, IMAGE_BYTES - 64),
        "flash map at 0xfffc0 announces 3 areas, expected no more than fit into the image"
    );
    assert_eq!(
        refusal(size + 1, &[(0, 1, "A")], None, 0),
        "flash map at 0x0 describes 0x100001 bytes, expected 0x100000"
    );
    assert_eq!(
        refusal(size, &[(0xf_0000, 0x1_0001, "RW_VPD")], None, 0),
        "region RW_VPD at 0xf0000-0x100000 does not fit into 0x100000 bytes"
    );
    assert_eq!(
        refusal(size, &[(0, 16, "A\nB")], None, 0),
        "name \"A\\nB\" of the region at 0x0: expected 1 to 32 printable ASCII characters \
         without space around them"
    );
}

#[test]
fn explicit_regions_must_not_contradict_one_another() {
    let refusal = |regions: &[LayoutRegion]| {
        Layout::new(regions.to_vec(), 0x10_0000).unwrap_err().to_string()
    };
    let a = region("a", 0x1000, 0x2000);
    assert_eq!(
        refusal(&[region("b", 0x2000, 0x2000), a.clone()]),
        "region a at 0x1000-0x2fff overlaps region b at 0x2000-0x3fff, expected them apart or one \
        inside the other; no update is possible by such a layout"
    );
    assert_eq!(
        refusal(&[a.clone(), region("a", 0x8000, 1)]),
        "region a at 0x1000-0x2fff has the same name as the one at 0x8000, expected each name once"
    );
    // Each inside the other: fine only where that does not make one range two things.
    assert!(Layout::new(vec![a.clone(), region("gbe", 0x1000, 0x2000)], 0x10_0000).is_ok());
    assert_eq!(
        refusal(&[region("me", 0x1000, 0x2000), region("gbe", 0x1000, 0x2000)]),
        "region gbe at 0x1000-0x2fff is gbe and region me at 0x1000-0x2fff is me, expected one \
        kind for the same bytes"
    );
    assert_eq!(
        refusal(&[region("a", 0x1000, 0)]),
        "region a at 0x1000 has no bytes, expected at least one"
    );
    assert!(refusal(&[region("a", u64::MAX, 2)]).contains("does not fit into 0x100000 bytes"));
    assert!(refusal(&[region(" a", 0, 2)]).starts_with("name \" a\" of the region at 0x0"));
    let many = (0..=REGIONS_MAX as u64).map(|index| region(&format!("r{index}"), index, 1));
    assert_eq!(refusal(&many.collect::<Vec<_>>()), "129 regions, expected at most 128");
}

#[test]
fn flashrom_layout_files_are_read() {
    let text =
        "# comment\n00000000:00000fff fd\n\n0x1000:0x2FFF gbe\n00003000:000fffff Main Image\n";
    let layout = Layout::parse_text(text, 0x10_0000).unwrap();
    assert_eq!(
        shown(&layout),
        [
            "descriptor fd at 0x0-0xfff",
            "gbe gbe at 0x1000-0x2fff",
            "other Main Image at 0x3000-0xfffff"
        ]
    );
    for line in
        ["0:fff", "fff:0 a", "0-fff a", "0:+f a", "0:ffffffffffffffff a", ": a", "0:1\u{a0}"]
    {
        let error = Layout::parse_text(line, 0x10_0000).unwrap_err().to_string();
        assert!(error.starts_with("layout line 1: "), "{line:?}: {error}");
    }
    assert!(Layout::parse_text("0:100000 a", 0x10_0000).is_err());
}

#[test]
fn the_processor_begins_where_the_image_shows_it() {
    let with = |start: &[u8], end: &[u8]| {
        let mut image = vec![0xff; 0x1000];
        put(&mut image, 0, start);
        put(&mut image, 0xff0, end);
        let found = boot_offset(&image);
        (found.offset_bytes, found.by)
    };
    let aarch64 = [0x00, 0x04, 0x00, 0x14];
    // EDK2 and U-Boot of ARM, trusted firmware; U-Boot and OpenSBI of RISC-V; LoongArch.
    for (word, architecture) in [
        (0x1400_0400u32, "ARM"),
        (0xea00_03fe, "ARM"),
        (0xe59f_f014, "ARM"),
        (0xd53e_1000, "ARM"),
        (0xf140_2573, "RISC-V"),
        (0x84ae_822a, "RISC-V"),
        (0x0005_0433, "RISC-V"),
        (0x0000_5297, "RISC-V"),
        (0x1000_006f, "RISC-V"),
        (0x5000_0400, "LoongArch"),
        (0x1c00_000c, "LoongArch"),
        (0x0400_302c, "LoongArch"),
    ] {
        let expected = (0, BootEvidence::FirstInstruction(architecture));
        assert_eq!(with(&word.to_le_bytes(), &[]), expected, "{word:#x}");
    }
    // OVMF of both widths, U-Boot, SeaBIOS.
    let vectors: [&[u8]; 4] = [
        &[0x0f, 0x20, 0xc0, 0xa8, 0x01, 0x74, 0x05, 0xe9],
        &[0x90, 0x90, 0xe9, 0x5b, 0xff],
        &[0xfa, 0xfc, 0xe9, 0x0b, 0xf8],
        &[0xea, 0x5b, 0xe0, 0x00, 0xf0],
    ];
    for vector in vectors {
        assert_eq!(with(&aarch64, vector), (0xff0, BootEvidence::ResetVector));
    }
    // Where nothing tells, the end that is not erased.
    assert_eq!(with(&[], &[]), (0xff0, BootEvidence::Nothing));
    assert_eq!(with(&[0xa5; 16], &[]), (0, BootEvidence::ErasedEnd));
    assert_eq!(with(&[], &[0xa5; 16]), (0xff0, BootEvidence::ErasedStart));
    assert_eq!(with(&[0xa5; 16], &[0xa5; 16]), (0xff0, BootEvidence::Nothing));
    let short: [&[u8]; 3] = [&[], &[0; 15], &[0; 16]];
    assert_eq!(short.map(|image| boot_offset(image).offset_bytes), [0; 3]);
}

#[test]
fn tables_and_boot_blocks_tell_where_the_processor_begins() {
    let found = |image: &[u8]| (boot_offset(image).offset_bytes, boot_offset(image).by);
    let mut fit = crate::image::boot_guard::samples::image(0x1_0000, &[]);
    put(&mut fit, 0xfff0, &[0xff; 16]);
    put(&mut fit, 0, &[0x00, 0x04, 0x00, 0x14]);
    assert_eq!(found(&fit), (0xfff0, BootEvidence::InterfaceTable));
    let mapped = |offset: u32| {
        let mut image = vec![0xa5; 0x4000];
        put(&mut image, 0x2000, &flash_map(0x4000, &[(offset, 0x1000, "BOOTBLOCK")]));
        found(&image)
    };
    assert_eq!(mapped(0x1000), (0x1000, BootEvidence::BootBlock));
    assert_eq!(mapped(0x3000), (0x3ff0, BootEvidence::BootBlock));
    let file = |length: u32| {
        let mut image = vec![0xa5; 0x4000];
        let header = [length, 1, 0, 0x40].map(u32::to_be_bytes).concat();
        put(&mut image, 0x3800, &[&b"LARCHIVE"[..], &header, b"bootblock\0"].concat());
        found(&image)
    };
    assert_eq!(file(0x7c0), (0x3ff0, BootEvidence::BootBlock));
    assert_eq!(file(0x100), (0x3840, BootEvidence::BootBlock));
    assert_eq!(file(0x7c1), (0x3ff0, BootEvidence::Nothing));
}

#[test]
fn volumes_are_found_whole_or_damaged_and_constants_of_programs_are_not() {
    let mut image = vec![0xff; IMAGE_BYTES];
    put(&mut image, 0x2_0000, &volume(FFS2, 0x2000, &[]));
    put(&mut image, 0x4_0000, &variable_store(0x2000));
    // What a program has: the signature, or the GUID and a little more.
    put(&mut image, 0x6_0028, b"_FVH");
    put(&mut image, 0x7_0010, &FFS2.0);
    let offsets = |image: &[u8]| {
        Volumes::of(image)
            .map(|found| match found {
                FoundVolume::Whole(volume) => (volume.offset_bytes, true),
                FoundVolume::Damaged { offset_bytes, .. } => (offset_bytes, false),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&image), [(0x2_0000, true), (0x4_0000, true)]);
    let mut damaged = image[0x2_0000..0x4_3000].to_vec();
    for bit in 0..72 * 8 {
        damaged[0x2_0000 + bit / 8] ^= 1 << (bit % 8);
        // What all else does not tell: zero vector, attributes, checksum, extended header. In a
        // store of variables some makers leave a constant for the checksum.
        let is_lax = matches!(bit / 8, 0..16 | 44..48 | 50..54);
        let found = offsets(&damaged);
        assert!(found == [(0, true), (0x2_0000, false)] || is_lax, "bit {bit}: {found:x?}");
        damaged[0x2_0000 + bit / 8] ^= 1 << (bit % 8);
    }
}

fn everything() -> Vec<u8> {
    let mut image = skylake();
    let areas = [(0, 0x1000, "SI_DESC"), (0x2_0000, 0xe_0000, "SI_BIOS"), (0x3_0000, 64, "FMAP")];
    put(&mut image, 0x3_0000, &flash_map(IMAGE_BYTES as u32, &areas));
    put(&mut image, 0x4_0000, &variable_store(0x2000));
    image
}

#[test]
fn descriptor_and_flash_map_may_name_the_same_bytes() {
    let layout = Layout::read(&everything()).unwrap();
    assert_eq!(layout.regions().len(), 9);
    let selected: Vec<_> = layout.select("bios").iter().map(|region| region.range()).collect();
    assert_eq!(selected, [0x2_0000..0x10_0000]);
    assert_eq!(layout.select("SI_DESC").len(), 1);
}

#[test]
fn truncated_images_are_refused_or_lose_regions_but_never_gain_any() {
    let image = everything();
    let whole = Layout::read(&image).unwrap();
    let ends = (0..0x1100).chain((0x2_ffff..0x3_00c0).step_by(3)).chain([0x4_0048, 0x4_1fff]);
    for end in ends {
        if let Ok(layout) = Layout::read(&image[..end]) {
            // Where the descriptor stays, what is cut off is missing from its regions.
            let is_known = |cut: &LayoutRegion| {
                let same = |region: &&LayoutRegion| region.name == cut.name;
                let whole = whole.regions().iter().find(same);
                whole.is_some_and(|region| region.offset_bytes == cut.offset_bytes)
            };
            assert!(layout.regions().iter().all(is_known));
            assert!(layout.regions().iter().all(|region| region.range().end <= end as u64));
        }
    }
    assert!(Layout::read(&[]).unwrap().is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..0x300),
        offset in 0usize..0x400,
    ) {
        let mut image = skylake();
        let end = (offset + bytes.len()).min(IMAGE_BYTES);
        image[offset..end].copy_from_slice(&bytes[..end - offset]);
        let _ = Layout::read(&bytes);
        let _ = Layout::read(&image);
        let _ = host_access(&image);
        let _ = Volumes::of(&bytes).count();
        let _ = boot_offset(&bytes);
    }

    #[test]
    fn what_is_read_is_inside_and_nested_or_apart(
        changes in proptest::collection::vec((0usize..0x4_0100, any::<u8>()), 1..8),
    ) {
        let mut image = everything();
        for (offset, byte) in changes {
            image[offset] = byte;
        }
        if let Ok(layout) = Layout::read(&image) {
            let regions = layout.regions();
            prop_assert!(regions.iter().all(|region| region.range().end <= IMAGE_BYTES as u64));
            for pair in regions.windows(2) {
                let apart = pair[0].range().end <= pair[1].offset_bytes;
                prop_assert!(apart || pair[0].contains(&pair[1]));
            }
        }
    }
}
