#![allow(clippy::unwrap_used)]
use super::*;
use crate::image::layout::samples;
use proptest::prelude::*;

fn record(contents: &[u8], left_out: ByteRanges, closed: ByteRanges) -> KnownGood {
    let good = KnownGood {
        version: "1.2".into(),
        bios_version: "B".into(),
        security_version: 0,
        size_bytes: contents.len() as u64,
        left_out: left_out.union(&closed),
        closed,
        volatile: ByteRanges::default(),
        learned: ByteRanges::default(),
        digest: String::new(),
        pieces: Vec::new(),
    };
    good.seal(contents)
}

fn contents() -> Vec<u8> {
    (0..0x30000u32).map(|n| (n >> 8) as u8 ^ n as u8).collect()
}

fn good() -> KnownGood {
    let left_out = ByteRanges::from(vec![(0x8000, 0x1000), (0x1ff00, 0x200)]);
    record(&contents(), left_out, ByteRanges::default())
}

/// `bytes` of which nothing between `start` and `end` can be read.
fn with_closed(bytes: Vec<u8>, start: u64, end: u64) -> Contents {
    let closed: ByteRanges = std::iter::once(start..end).collect();
    Contents::new(bytes, &closed, &closed).unwrap()
}

fn verdict(good: &KnownGood, bytes: Vec<u8>, bios_version: &str) -> Option<Verdict> {
    good.judge(&Contents::whole(bytes), bios_version)
}

proptest! {
    #[test]
    fn a_changed_byte_is_found_where_it_is_unless_it_is_left_out(at in 0usize..0x30000) {
        let good = good();
        let mut contents = contents();
        contents[at] ^= 1;
        let is_left_out = (0x8000..0x9000).contains(&at) || (0x1ff00..0x20100).contains(&at);
        match verdict(&good, contents, "B").unwrap() {
            Verdict::Valid { .. } => prop_assert!(is_left_out),
            Verdict::Invalid { offset_bytes, why } => {
                prop_assert!(!is_left_out && why.contains("1.2"));
                prop_assert_eq!(offset_bytes, at as u64 / 0x10000 * 0x10000);
            }
            Verdict::Doubtful { .. } | Verdict::Unknown { .. } => prop_assert!(false),
        }
    }

    /// A record is as strict about what can be read as if all could be, and says nothing of the
    /// rest.
    #[test]
    fn a_closed_range_never_counts(
        start in 0u64..0x3_0000,
        length in 1u64..0x2_0000,
        at in 0usize..0x3_0000,
        was_closed in any::<bool>(),
    ) {
        let end = (start + length).min(0x3_0000);
        let closed = start..end;
        let before = match was_closed {
            true => with_closed(contents(), start, end),
            false => Contents::whole(contents()),
        };
        let left_out = ByteRanges::from(vec![(0x8000, 0x1000)]);
        let ranges = before.closed().clone();
        let good = record(before.bytes(), left_out, ranges);
        let mut bytes = contents();
        bytes[at] ^= 1;
        let piece = at as u64 / 0x1_0000 * 0x1_0000;
        let at_left_out = (0x8000..0x9000).contains(&at);
        let at_closed = closed.contains(&(at as u64));
        let counts = !at_left_out && !at_closed;
        let is_recorded = !(at_left_out || was_closed && at_closed);
        let left_out = ByteRanges::from(vec![(0x8000, 0x1000)]);
        let unseen = std::iter::once(closed.clone()).collect::<ByteRanges>().without(&left_out);
        let is_seen = was_closed || !unseen.overlaps(&(piece..piece + 0x1_0000));
        for now_closed in [true, false] {
            let now = match now_closed {
                true => with_closed(bytes.clone(), start, end),
                false => Contents::whole(bytes.clone()),
            };
            match good.judge(&now, "B") {
                Some(Verdict::Valid { .. }) if now_closed => prop_assert!(!counts || !is_seen),
                Some(Verdict::Invalid { offset_bytes, .. }) if now_closed => {
                    prop_assert!(counts && is_seen);
                    prop_assert_eq!(offset_bytes, piece);
                }
                None => prop_assert!(now_closed && !was_closed),
                Some(found) => {
                    let is_valid = matches!(found, Verdict::Valid { .. });
                    prop_assert_eq!(is_valid, !is_recorded);
                }
            }
        }
    }

    #[test]
    fn a_record_of_anything_is_judged_without_a_panic(
        left_out in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..6),
        size_bytes in any::<u64>(),
        length in 0usize..0x20000,
    ) {
        let odd = KnownGood { left_out: left_out.into(), size_bytes, ..good() };
        let _ = verdict(&odd, contents()[..length].to_vec(), "B");
        let _ = odd.judge(&with_closed(contents(), length as u64, 0x2_0000), "B");
    }
}

#[test]
fn a_record_of_another_firmware_says_nothing_once_that_ran() {
    let changed = vec![7; 0x30000];
    let judge = |bytes: &Vec<u8>, bios_version| verdict(&good(), bytes.clone(), bios_version);
    assert!(judge(&contents(), "C").is_some(), "it is there again");
    assert_eq!(judge(&changed, "C"), None);
    assert!(matches!(judge(&changed, "B"), Some(Verdict::Invalid { .. })));
    assert!(matches!(judge(&changed, ""), Some(Verdict::Invalid { .. })));
    let good = good();
    let assess = |bytes, good: Option<&KnownGood>| assess(&Contents::whole(bytes), good, "C");
    assert!(matches!(assess(contents(), Some(&good)), Verdict::Valid { .. }));
    assert!(matches!(assess(vec![0xff; 64], None), Verdict::Invalid { .. }));
}

/// The machine runs, so there is something to go back to.
#[test]
fn a_chip_whose_regions_contradict_one_another_is_recorded() {
    let mut image = samples::variable_store(0x2000);
    image.extend(samples::file_volume(0x1000, &[samples::file(0x11, 0x02, true, &[])]));
    let size = image.len() as u32;
    samples::put(&mut image, 0x1c00, &samples::flash_map(size, &[(0x1000, 0x1001, "RW_VPD")]));
    samples::put(&mut image, 0x2ff0, &[0x90, 0x90, 0xe9, 0x5b, 0xff]);
    let chip = Contents::whole(image.clone());
    let verdict = validate_contents(&chip);
    assert!(matches!(verdict, Verdict::Doubtful { .. }), "{verdict}");
    let good = KnownGood::of_chip(&chip, "1").unwrap();
    assert!(matches!(good.judge(&chip, "1"), Some(Verdict::Valid { .. })));
    // What is broken says more than what only differs.
    image[0x2000 + 40] ^= 1;
    let broken = good.judge(&Contents::whole(image), "1");
    let Some(Verdict::Invalid { offset_bytes, .. }) = broken else { panic!("{broken:?}") };
    assert_eq!(offset_bytes, 0x2000);
}

#[test]
fn damaged_firmware_is_not_recorded() {
    assert_eq!(KnownGood::of_chip(&Contents::whole(vec![0xff; 0x10000]), "B"), None);
    let json = serde_json::to_string(&good()).unwrap();
    assert_eq!(serde_json::from_str::<KnownGood>(&json).unwrap(), good());
    assert!(!json.contains("closed"), "where nothing is closed, older programs can read it");
}

/// A chip of AMI's kind: a volume with its variables, and programs behind it.
fn chip_with_nvar() -> Vec<u8> {
    let store = samples::nvar_volume(0x1_0000);
    let programs = samples::file_volume(0x1_0000, &[samples::file(7, 0x01, true, b"program")]);
    let mut chip = [store, programs].concat();
    chip.resize(0x3_0000, 0xff);
    let end = chip.len() - 16;
    samples::put(&mut chip, end, &[0xe9, 0, 0]);
    chip
}

#[test]
fn variables_are_not_recorded_and_a_record_that_has_them_forgives_them() {
    let chip = chip_with_nvar();
    let whole = Contents::whole(chip.clone());
    let good = KnownGood::of_chip(&whole, "B").unwrap();
    assert!(good.volatile.covers(&(0..0x1_0000)) && good.learned.is_empty());
    let old = record(&chip, ByteRanges::default(), ByteRanges::default());
    let mut written = chip;
    samples::put(&mut written, 0x8000, b"NVAR\x40\x00");
    for good in [&good, &old] {
        let valid = verdict(good, written.clone(), "B").unwrap();
        assert!(matches!(valid, Verdict::Valid { .. }), "{valid}");
    }
    // Programs beside it still count, in both.
    written[0x2_0000] ^= 1;
    for good in [&good, &old] {
        let found = verdict(good, written.clone(), "B").unwrap();
        assert!(matches!(found, Verdict::Invalid { offset_bytes: 0x2_0000, .. }), "{found}");
    }
}

#[test]
fn what_was_learned_is_neither_compared_nor_judged() {
    let mut chip = chip_with_nvar();
    let log = samples::variable_store(0x1000);
    samples::put(&mut chip, 0x2_4000, &log);
    let contents = Contents::whole(chip.clone());
    let good = KnownGood::of_chip(&contents, "B").unwrap();
    let learned: ByteRanges = std::iter::once(0x2_4000..0x2_5000).collect();
    let wiser = good.clone().without_learned(&learned, &contents);
    assert_eq!((&wiser.learned, wiser.left_out.covers(&(0x2_4000..0x2_5000))), (&learned, true));
    // The header of a volume is damaged there.
    chip[0x2_4000 + 44] ^= 1;
    assert!(matches!(verdict(&wiser, chip.clone(), "B"), Some(Verdict::Valid { .. })));
    chip[0x2_f000] ^= 1;
    let found = verdict(&wiser, chip, "B").unwrap();
    assert!(found.to_string().contains("recorded as good"), "{found}");
    let json = serde_json::to_string(&wiser).unwrap();
    assert_eq!(serde_json::from_str::<KnownGood>(&json).unwrap(), wiser);
}
