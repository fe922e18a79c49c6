#![allow(clippy::unwrap_used)]

mod samples;

use proptest::prelude::*;
use samples::{assert_xml, chip, driver};

use super::*;

fn old() -> Vec<u8> {
    chip(&[
        driver(0x11, "Gone", "1", b"gone"),
        driver(0x22, "Stays", "1", b"stays"),
        driver(0x33, "Grows", "1.0", b"grows"),
        driver(0x44, "Differs", "1", b"code a"),
    ])
}

fn new() -> Vec<u8> {
    let mut image = chip(&[
        driver(0x22, "Stays", "1", b"stays"),
        driver(0x33, "Grows", "1.1", b"grows, by a line of text"),
        driver(0x44, "Differs", "1", b"code b"),
        driver(0x55, "New", "1", b"new"),
    ]);
    image[0x1010..0x1014].fill(0);
    image
}

/// Returns the GUID that these two digits, repeated, are.
fn guid(digits: &str) -> String {
    let [a, b, c] = [8, 4, 12].map(|length| digits.repeat(length / 2));
    format!("{a}-{b}-{b}-{b}-{c}")
}

#[test]
fn an_image_is_listed_in_words() {
    let image = old();
    let text = Listing::of(&Subject::of_image(&image).tree).text();
    let expected = format!(
        "     offset     length  what
        0x0     0x1000  region FMAP (other)
     0x1000     0x1000  region RW_VPD (vpd)
     0x2000     0x6000  region FW_MAIN <A> (other)
     0x2000     0x6000    volume 8c8ce578-8a3d-4f1c-9935-896185c32dd3 (FFS2)
     0x2048       0x40      file {} Gone (driver, PE32, version 1)
     0x2088       0x40      file {} Stays (driver, PE32, version 1)
     0x20c8       0x44      file {} Grows (driver, PE32, version 1.0)
     0x2110       0x44      file {} Differs (driver, PE32, version 1)
     0xf000     0x1000  region BOOT (other)
",
        guid("11"),
        guid("22"),
        guid("33"),
        guid("44")
    );
    assert_eq!(text, expected, "{text}");
}

#[test]
fn what_differs_is_told_part_by_part() {
    let (old, new) = (old(), new());
    let difference = Difference::between(&Subject::of_image(&old), &Subject::of_image(&new));
    let text = difference.text();
    let place = "in volume 8c8ce578-8a3d-4f1c-9935-896185c32dd3";
    let expected = format!(
        "changed region RW_VPD: 0x4 of 0x1000 bytes differ
changed region FW_MAIN <A>: 0xdc of 0x6000 bytes differ
removed file {} Gone: version 1, 0x40 bytes at 0x2048, {place}
changed file {} Grows: version 1.0 -> 1.1, 0x44 -> 0x58 bytes, at 0x20c8 -> 0x2088, {place}
changed file {} Differs: other contents, at 0x2110 -> 0x20e0, {place}
added file {} New: version 1, 0x3c bytes at 0x2128, {place}
moved, but the same: 1 of the files
0xe0 of 0x10000 bytes differ, in 4 KiB at 0x1000-0x2fff
",
        guid("11"),
        guid("33"),
        guid("44"),
        guid("55")
    );
    assert_eq!(text, expected, "{text}");
    let json = serde_json::to_value(&difference).unwrap();
    assert_eq!(json["same"], false);
    let moved = json["changes"].as_array().unwrap().iter();
    let moved: Vec<_> = moved.filter(|change| change["change"] == "moved").collect();
    assert_eq!((moved.len(), &moved[0]["name"]), (1, &"Stays".into()));
    assert_eq!(moved[0]["what"], serde_json::json!(["offset"]));
    assert_eq!(moved[0]["inside"].as_array().unwrap().len(), 1);
}

#[test]
fn sizes_that_differ_and_what_only_one_has_are_differences() {
    let old = old();
    let (whole, half) = (Subject::of_image(&old), Subject::of_image(&old[..0x8000]));
    let difference = Difference::between(&whole, &half);
    assert_eq!(difference.bytes.differing_bytes, 0x8000);
    assert!(difference.text().starts_with("image size bytes: 65536 -> 32768\n"));
    assert!(Difference::between(&half, &half).same);
}

proptest! {
    #[test]
    fn whatever_differs_is_seen_and_nothing_else(
        at in 0usize..0x1_0000,
        bit in 0u8..8,
        files in proptest::collection::vec(0x11u8..0x44, 0..4),
    ) {
        let files: Vec<_> = files.iter().map(|guid| driver(*guid, "D", "1", &[*guid])).collect();
        let old = chip(&files);
        let mut new = old.clone();
        let (same, other) = (Subject::of_image(&old), Subject::of_image(&old));
        let difference = Difference::between(&same, &other);
        prop_assert!(difference.same && difference.changes.is_empty(), "{}", difference.text());
        new[at] ^= 1 << bit;
        let difference = Difference::between(&same, &Subject::of_image(&new));
        prop_assert!(!difference.same);
        prop_assert_eq!(difference.bytes.differing_bytes, 1);
        prop_assert!(difference.bytes.ranges.covers(&(at as u64..at as u64 + 1)));
    }

    #[test]
    fn any_image_can_be_drawn_and_compared(
        image in proptest::collection::vec(any::<u8>(), 1..0x400),
        other in proptest::collection::vec(any::<u8>(), 1..0x400),
        changes in proptest::collection::vec((0usize..0x2200, any::<u8>()), 0..16),
        title in "\\PC{0,200}|[<>&\"'\\x00-\\x1f]{0,20}",
    ) {
        let mut mapped = old();
        changes.iter().for_each(|(at, byte)| mapped[*at] = *byte);
        for image in [&image, &mapped] {
            let (subject, other) = (Subject::of_image(image), Subject::of_image(&other));
            let picture =
                Picture { subject: &subject, title: &title, other: Some((&other, &title)) };
            let svg = draw(&picture);
            assert_xml(&svg);
            prop_assert_eq!(svg, draw(&picture));
            let there = Difference::between(&subject, &other).bytes;
            let back = Difference::between(&other, &subject).bytes;
            prop_assert_eq!(there.ranges, back.ranges);
        }
    }
}

#[test]
fn a_map_shows_regions_rules_free_space_the_boot_block_and_what_differs() {
    let (old, new) = (old(), new());
    let rules = vec![
        Rule {
            name: "RW_VPD".into(),
            action: "preserve",
            offset_bytes: 0x1000,
            length_bytes: 0x1000,
        },
        Rule { name: "own".into(), action: "reset", offset_bytes: 0x9000, length_bytes: 0x1000 },
    ];
    let mut subject = Subject::of_image(&new);
    subject.rules = Some(rules);
    let other = Subject::of_image(&old);
    let svg = draw(&Picture { subject: &subject, title: "S1", other: Some((&other, "old.bin")) });
    assert_xml(&svg);
    for shown in [
        "FW_MAIN &lt;A&gt;",
        ">volume 8c8ce578<",
        "preserve RW_VPD: 0x1000 bytes at 0x1000",
        "reset own: 0x1000 bytes at 0x9000",
        ">0x4 bytes differ<",
        ">boots at 0xfff0<",
        "20 KiB, 100 % free",
        "what differs from old.bin is red",
    ] {
        assert!(svg.contains(shown), "{shown}: {svg}");
    }
    assert!(!svg.contains("href") && !svg.contains("url("), "nothing is referred to");
}
