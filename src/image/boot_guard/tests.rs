#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::image::layout::FitFlawKind;

const ACM: u8 = 2;
const KEYS: u8 = 0x0b;
const POLICY: u8 = 0x0c;
const SIZE: usize = 0x1_0000;

fn image(components: &[(u8, Vec<u8>)]) -> Vec<u8> {
    samples::image(SIZE, components)
}

/// What a maker ships: ACM, key manifest by key 1 which names key 2, policy by key 2.
fn makers() -> [(u8, Vec<u8>); 3] {
    [
        (ACM, samples::acm(0xb00c, 0)),
        (KEYS, samples::key_manifest(1, 3, 2)),
        (POLICY, samples::boot_policy(2, 4)),
    ]
}

fn against(image_has: &[(u8, Vec<u8>)], chip_has: &[(u8, Vec<u8>)]) -> String {
    let [image, chip] = [image_has, chip_has].map(|has| BootGuard::read(&image(has)));
    match image.check_against(&chip) {
        Ok(not_known) if not_known.is_empty() => "fits".to_owned(),
        Ok(not_known) => format!("not known: {not_known:?}"),
        Err(mismatch) => mismatch.to_string(),
    }
}

#[test]
fn components_of_both_versions_are_read() {
    for (keys, policy) in [
        (samples::key_manifest(1, 3, 2), samples::boot_policy(2, 4)),
        (samples::key_manifest_2(1, 3, 2), samples::boot_policy_2(2, 4)),
    ] {
        let all = [(ACM, samples::acm(0xb00c, 0xc001)), (KEYS, keys), (POLICY, policy)];
        let found = BootGuard::read(&image(&all));
        let texts: Vec<String> = found.components().iter().map(ToString::to_string).collect();
        let [acm, keys, policy] = texts.as_slice() else { panic!("{texts:?}") };
        assert_eq!(acm, "startup ACM for chipset 0xb00c of vendor 0x8086, not for production");
        assert!(keys.starts_with("key manifest by key ") && keys.ends_with(", SVN 3"), "{keys}");
        assert_eq!(policy, "boot policy manifest by the key of its key manifest, SVN 4");
    }
}

#[test]
fn an_update_by_the_same_maker_fits_and_what_the_chipset_would_refuse_does_not() {
    let chip = makers();
    let mut newer = makers();
    // Other code, a higher security version, other digests in the policy.
    newer[0].1[600] ^= 1;
    newer[1].1 = samples::key_manifest(1, 4, 5);
    newer[2].1 = samples::boot_policy(5, 4);
    newer[2].1[40] ^= 1;
    assert_eq!(against(&newer, &chip), "fits");
    assert_eq!(against(&chip, &[]), "fits", "the chip needs nothing of it");

    for (index, name) in ["startup ACM", "key manifest", "boot policy manifest"].iter().enumerate()
    {
        let mut lacking = makers().to_vec();
        lacking.remove(index);
        let why = against(&lacking, &chip);
        assert!(why.ends_with(&format!("the image has no {name}")), "{why}");
    }
    let with = |index: usize, bytes: Vec<u8>| {
        let mut other = makers();
        other[index].1 = bytes;
        against(&other, &chip)
    };
    for other in [
        with(0, samples::acm(0xb00d, 0)),
        with(0, samples::acm(0xb00c, 0x8000)),
        with(1, samples::key_manifest(9, 3, 2)),
        with(1, samples::key_manifest(1, 2, 2)),
        with(2, samples::boot_policy(9, 4)),
        with(2, samples::boot_policy(2, 3)),
    ] {
        assert!(other.contains("instead"), "{other}");
    }
}

#[test]
fn an_image_may_serve_more_chipsets_than_the_chip() {
    let [acm, keys, policy] = makers();
    let more = [(ACM, samples::acm(0xa000, 0)), acm, keys, policy];
    assert_eq!(against(&more, &makers()), "fits");
    assert!(against(&makers(), &more).contains("0xa000"));
}

#[test]
fn what_is_not_understood_is_not_known_and_only_its_absence_refuses() {
    let odd = [(ACM, vec![0; 64]), (KEYS, vec![0; 64]), (POLICY, vec![0; 64])];
    let all = "not known: [Acm, KeyManifest, BootPolicy]";
    assert_eq!(against(&makers(), &odd), all);
    assert_eq!(against(&odd, &makers()), all);
    assert!(against(&odd[..1], &odd).ends_with("the image has no key manifest"));
    // A chip that starts although its policy seems to be by another key.
    let mut unlike = makers();
    unlike[2].1 = samples::boot_policy(9, 4);
    assert_eq!(against(&makers(), &unlike), "not known: [BootPolicy]");
    // An algorithm without a name here: SM3.
    let mut sm3 = makers();
    sm3[1].1[12] = 0x12;
    assert_eq!(against(&sm3, &makers()), "not known: [BootPolicy]");
    let many = vec![(ACM, samples::acm(1, 0)); COMPONENTS_MAX + 1];
    let found = BootGuard::read(&samples::image(0x4_0000, &many));
    assert_eq!(found.components(), [Component::Unknown(ComponentKind::Acm)]);
}

#[test]
fn a_table_is_read_whole_or_its_flaw_is_told() {
    let whole = image(&makers());
    let fit = Fit::find(&whole).unwrap().unwrap();
    assert_eq!((fit.range.start, fit.entries.len()), (SIZE - 0x400, 3));
    assert_eq!(fit.entries[0].offset_bytes, Some(0x1000));
    let flaw = |at: usize, byte: u8| {
        let mut broken = whole.clone();
        broken[at] = byte;
        assert_eq!(BootGuard::read(&broken), BootGuard::default());
        Fit::find(&broken).unwrap_err().kind
    };
    let table = SIZE - 0x400;
    assert_eq!(flaw(table, 0xff), FitFlawKind::Signature);
    assert_eq!(flaw(table + 8, 0), FitFlawKind::Length { entries: 0 });
    assert_eq!(flaw(table + 9, 0xff), FitFlawKind::Length { entries: 0xff04 });
    assert!(matches!(flaw(table + 0x21, 0), FitFlawKind::Checksum { .. }));
    // The checksum does not count without its bit.
    let mut uncounted = whole.clone();
    uncounted[table + 14] = 0;
    assert!(Fit::find(&uncounted).unwrap().is_some());
    // A pointer that leads elsewhere is none.
    for pointer in [0u64, 0xffff_ffff, 0xfff0_0000, (1 << 32) - 0x40, (1 << 32) - 0x3f8] {
        let mut elsewhere = whole.clone();
        elsewhere[SIZE - 0x40..][..8].copy_from_slice(&pointer.to_le_bytes());
        assert_eq!(Fit::find(&elsewhere), Ok(None), "{pointer:#x}");
    }
}

#[test]
fn a_component_outside_the_image_is_not_known() {
    for address in [0u64, 0xff00_0000, 1 << 32, u64::MAX] {
        let mut image = image(&makers());
        let entry = SIZE - 0x400 + 0x10;
        image[SIZE - 0x400 + 14] = 0;
        image[entry..entry + 8].copy_from_slice(&address.to_le_bytes());
        let found = BootGuard::read(&image);
        assert_eq!(found.components()[2], Component::Unknown(ComponentKind::Acm), "{address:#x}");
    }
}

proptest! {
    #[test]
    fn changed_tables_and_components_never_panic_and_compare_with_themselves(
        changes in prop::collection::vec((0usize..SIZE, any::<u8>()), 0..6),
        near in prop::collection::vec((0usize..0x440, any::<u8>()), 0..6),
        cut in 0usize..SIZE,
    ) {
        let mut image = image(&makers());
        changes.into_iter().for_each(|(at, byte)| image[at] = byte);
        near.into_iter().for_each(|(at, byte)| image[SIZE - 0x440 + at] = byte);
        for image in [&image[..], &image[cut..], &image[..cut]] {
            let found = BootGuard::read(image);
            prop_assert!(found.components().len() <= COMPONENTS_MAX);
            prop_assert!(found.check_against(&found).is_ok());
            prop_assert_eq!(BootGuard::of(found.components().to_vec()), found);
            if let Ok(Some(fit)) = Fit::find(image) {
                prop_assert!(fit.range.end <= image.len());
                let offsets = fit.entries.iter().filter_map(|entry| entry.offset_bytes);
                prop_assert!(offsets.into_iter().all(|offset| offset < image.len()));
            }
        }
    }
}
