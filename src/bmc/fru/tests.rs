#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const URL: &str = "firmcast://192.0.2.7:9848";

fn url() -> ManagerUrl {
    URL.parse().unwrap()
}

/// Returns a record with right checksums.
fn record(kind: u8, data: &[u8], is_last: bool) -> Vec<u8> {
    let flags = if is_last { 0x82 } else { 0x02 };
    let mut bytes = vec![kind, flags, data.len() as u8, checksum(data)];
    bytes.push(checksum(&bytes));
    bytes.extend_from_slice(data);
    bytes
}

/// Returns an information area of this many units of 8 bytes with a right checksum.
fn information(units: u8, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; usize::from(units) * 8];
    bytes[..2].copy_from_slice(&[1, units]);
    *bytes.last_mut().unwrap() = 0;
    *bytes.last_mut().unwrap() = checksum(&bytes);
    bytes
}

/// A device with areas one behind the other: internal use, chassis, board, product, and the
/// records.
fn device(
    size_bytes: usize,
    blank: u8,
    areas: [&[u8]; 4],
    records: &[u8],
    behind: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0];
    for (index, area) in areas.into_iter().chain([records]).enumerate() {
        if !area.is_empty() {
            bytes[1 + index] = (bytes.len() / 8) as u8;
            bytes.extend_from_slice(area);
            bytes.resize(round_up(bytes.len()), blank);
        }
    }
    // Records do not end at a multiple of 8.
    while bytes.len() > 8
        && bytes.last() == Some(&blank)
        && !records.is_empty()
        && !bytes.ends_with(records)
    {
        bytes.pop();
    }
    bytes[7] = checksum(&bytes[..7]);
    bytes.resize(size_bytes - behind.len(), blank);
    bytes.extend_from_slice(behind);
    bytes
}

fn round_up(size: usize) -> usize {
    size.next_multiple_of(8)
}

fn applied(before: &[u8], edit: &Edit) -> Vec<u8> {
    let mut bytes = before.to_vec();
    for write in edit.writes() {
        bytes[write.offset_bytes..write.offset_bytes + write.bytes.len()]
            .copy_from_slice(&write.bytes);
    }
    bytes
}

/// Returns the others' records, as far as they must stay.
fn others(bytes: &[u8]) -> Vec<(u8, Vec<u8>, bool)> {
    let fru = Fru::parse(bytes).unwrap();
    let records = fru.records.unwrap();
    let others = records.iter().filter(|record| !record.is_ours());
    others.map(|record| (record.kind, record.data.to_vec(), record.is_intact())).collect()
}

/// A board area, a record of an OEM and a web page's URL, and our record, by hand as the
/// specification says.
#[rustfmt::skip]
const GOLDEN: [u8; 128] = [
    0x01, 0x00, 0x00, 0x01, 0x00, 0x04, 0x00, 0xfa,
    // Board Info: English, minutes since 1996, "ACME", "X1", "7", no part number, no file, end,
    // pad, checksum.
    0x01, 0x03, 0x19, 0x10, 0x20, 0x30, 0xc4, b'A', b'C', b'M', b'E', 0xc2, b'X', b'1', 0xc1, b'7',
    0xc0, 0xc0, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x25,
    // OEM record C0h of 3 bytes.
    0xc0, 0x02, 0x03, 0xfa, 0x41, 0x01, 0x02, 0x03,
    // Management Access Record: http://a
    0x03, 0x02, 0x09, 0x46, 0xac, 0x01, b'h', b't', b't', b'p', b':', b'/', b'/', b'a',
    // Management Access Record: firmcast://192.0.2.7:9848, the last one.
    0x03, 0x82, 0x1a, 0x38, 0x29, 0x01,
    b'f', b'i', b'r', b'm', b'c', b'a', b's', b't', b':', b'/', b'/',
    b'1', b'9', b'2', b'.', b'0', b'.', b'2', b'.', b'7', b':', b'9', b'8', b'4', b'8',
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn golden_contents_are_understood_and_their_damage_is_told() {
    let fru = Fru::parse(&GOLDEN).unwrap();
    let areas: Vec<_> =
        fru.areas.iter().map(|a| (a.kind, a.offset_bytes, a.size_bytes, &a.state)).collect();
    assert_eq!(
        areas,
        [
            (AreaKind::Board, 8, 24, &AreaState::Intact),
            (AreaKind::MultiRecord, 32, 53, &AreaState::Intact)
        ]
    );
    assert_eq!(fru.manager_urls(), [url()]);
    // Setting the same again changes nothing; a record that is set is the golden one.
    assert!(Edit::set(&GOLDEN, &url()).unwrap().writes().is_empty());
    let cleared = Edit::clear(&GOLDEN).unwrap();
    assert!(Fru::parse(cleared.after()).unwrap().manager_urls().is_empty());
    assert_eq!(Edit::set(cleared.after(), &url()).unwrap().after(), GOLDEN);
    // Each bit of the header and of the records has a checksum above it; the board area's damage is
    // told.
    for (index, bit) in (0..85).flat_map(|index| (0..8).map(move |bit| (index, bit))) {
        let mut bytes = GOLDEN;
        bytes[index] ^= 1 << bit;
        match Fru::parse(&bytes) {
            Err(_) => assert!(index < 8),
            Ok(fru) if index < 32 => {
                assert!(matches!(fru.areas[0].state, AreaState::Damaged(_)), "{index:#x}")
            }
            Ok(fru) => {
                assert!(matches!(fru.areas[1].state, AreaState::Damaged(_)), "{index:#x}");
                assert!(index < 54 || fru.manager_urls().is_empty(), "{index:#x}");
            }
        }
    }
    for length in 0..85 {
        if let Ok(fru) = Fru::parse(&GOLDEN[..length]) {
            assert!(fru.records.is_err() && fru.manager_urls().is_empty());
            assert!(Edit::set(&GOLDEN[..length], &url()).is_err());
        }
    }
}

#[test]
fn each_kind_of_change_writes_what_it_must_in_a_safe_order() {
    let offsets = |edit: &Edit| {
        edit.writes().iter().map(|w| (w.offset_bytes, w.bytes.len())).collect::<Vec<_>>()
    };
    // Added behind others: the record, then version byte and header checksum of the one before it.
    let http = record(3, b"\x01http://a", true);
    let before = device(128, 0xff, [&[], &[], &information(2, 7), &[]], &http, &[]);
    let added = Edit::set(&before, &url()).unwrap();
    assert_eq!(offsets(&added), [(24 + 14, 31), (24 + 1, 4)]);
    // Changed at the same length: one digit, then checksums.
    let changed = Edit::set(added.after(), &"firmcast://192.0.2.8:9848".parse().unwrap()).unwrap();
    assert_eq!(offsets(&changed), [(38 + 5 + 20, 1), (38 + 3, 2)]);
    // Removed: first out of the list, then from the device, from its end.
    let removed = Edit::clear(added.after()).unwrap();
    assert_eq!(offsets(&removed), [(24 + 1, 4), (38 + 15, 16), (38, 15)]);
    assert_eq!(removed.after(), before);
    // No list at all: at the first place behind the last area, then the header.
    let before = device(128, 0xff, [&[], &[], &information(2, 7), &[]], &[], &[]);
    let made = Edit::set(&before, &url()).unwrap();
    assert_eq!(offsets(&made), [(24, 31), (5, 3)]);
    assert_eq!(Edit::clear(made.after()).unwrap().after(), before);
    // In the middle and of another length: the list moves behind itself, and back to the first
    // place next time.
    let list = [record(3, b"\x01firmcast://a", false), record(0xc0, b"oem", true)].concat();
    let before = device(200, 0, [&[], &[], &information(2, 7), &[]], &list, &[]);
    let moved = Edit::set(&before, &url()).unwrap();
    assert_eq!(moved.after()[5], 7);
    assert_eq!(&moved.after()[24..56], [0; 32]);
    assert_eq!(Fru::parse(moved.after()).unwrap().manager_urls(), [url()]);
    let back = Edit::clear(moved.after()).unwrap();
    assert_eq!(back.after()[5], 3);
    assert_eq!(others(back.after()), others(&before));
}

#[test]
fn what_cannot_be_done_safely_is_refused_with_the_facts() {
    let set = |bytes: &[u8]| Edit::set(bytes, &url()).map(|edit| edit.after().to_vec());
    let http = record(3, b"\x01http://a", true);
    let full = device(24 + 14 + 20, 0, [&[], &[], &information(2, 7), &[]], &http, &[]);
    assert_eq!(set(&full), Err(FruError::NoRoom { needed_bytes: 45, free_bytes: 18 }));
    // Something unknown stands behind the list: it is kept, and the list goes elsewhere if there is
    // a place.
    let used = device(256, 0, [&[], &[], &information(2, 7), &[]], &http, &[9; 200]);
    assert_eq!(set(&used), Err(FruError::NoRoom { needed_bytes: 45, free_bytes: 16 }));
    // An internal use area does not say where it ends.
    let mut internal = device(256, 0, [&[9; 16], &[], &[], &[]], &[], &[]);
    assert!(matches!(set(&internal), Err(FruError::NoRoom { .. })));
    internal[7] ^= 1;
    assert!(matches!(set(&internal), Err(FruError::HeaderChecksum { .. })));
    // A damaged area hides where it ends; that does not matter where a list is there already.
    let mut damaged = device(128, 0, [&[], &[], &information(2, 7), &[]], &[], &[]);
    damaged[20] ^= 1;
    assert!(matches!(
        set(&damaged),
        Err(FruError::Area { kind: AreaKind::Board, offset_bytes: 8, .. })
    ));
    let mut damaged = device(128, 0, [&[], &[], &information(2, 7), &[]], &http, &[]);
    damaged[20] ^= 1;
    assert!(set(&damaged).is_ok());
    damaged[24 + 4] ^= 1;
    assert!(matches!(set(&damaged), Err(FruError::RecordHeader { offset_bytes: 24, .. })));
    // Blank devices.
    assert_eq!(set(&[0; 64]), Err(FruError::Format { got: 0 }));
    assert_eq!(set(&[1; 7]), Err(FruError::TooShort { size_bytes: 7 }));
    // A list of blank bytes.
    let blank = device(64, 0xff, [&[], &[], &[], &[]], &[0xff; 8], &[]);
    assert_eq!(set(&blank), Err(FruError::RecordFormat { offset_bytes: 8, got: 0xf }));
}

#[test]
fn a_url_goes_also_where_the_list_cannot_move() {
    let ours = record(3, b"\x01firmcast://192.0.2.7:9848", false);
    let list = [ours, record(0xc0, b"oem", true)].concat();
    let mut full = device(24 + 39, 0, [&[], &[], &information(2, 7), &[]], &list, &[]);
    // The board area is damaged: not even the blank bytes behind it would be believed.
    full[20] ^= 1;
    let cleared = Edit::clear(&full).unwrap();
    // One write behind the scheme, which the headers need not know of.
    assert_eq!(cleared.writes().len(), 1);
    assert_eq!((cleared.writes()[0].offset_bytes, cleared.after()[24 + 17]), (24 + 17, 0));
    let fru = Fru::parse(cleared.after()).unwrap();
    assert!(fru.manager_urls().is_empty());
    let records = fru.records.unwrap();
    assert!(records.iter().all(FruRecord::is_intact) && records[0].is_ours());
    // Again it is nothing to do, and the place serves for the next URL.
    assert!(Edit::clear(cleared.after()).unwrap().writes().is_empty());
    assert_eq!(Edit::set(cleared.after(), &url()).unwrap().after(), full);
}

fn any_records() -> impl Strategy<Value = Vec<u8>> {
    let other = (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40));
    let ours = "[a-z]{1,30}".prop_map(|name| (3, [b"\x01firmcast://", name.as_bytes()].concat()));
    let one = prop_oneof![3 => other, 1 => ours];
    (proptest::collection::vec(one, 0..5), any::<u8>()).prop_map(|(list, flip)| {
        let last = list.len().wrapping_sub(1);
        let mut bytes: Vec<Vec<u8>> = list
            .iter()
            .enumerate()
            .map(|(index, (kind, data))| record(*kind, data, index == last))
            .collect();
        // Sometimes data are damaged: that is not ours to change, and no obstacle.
        if let Some(first) = bytes.first_mut().filter(|first| flip < 64 && first.len() > 5) {
            *first.last_mut().unwrap() ^= 1 + flip;
        }
        bytes.concat()
    })
}

prop_compose! {
    fn any_device()(
        size in 300_usize..900,
        blank in prop_oneof![Just(0_u8), Just(0xff)],
        internal in proptest::option::of(any::<u8>()),
        units in proptest::array::uniform3(0_u8..5),
        fill in any::<u8>(),
        records in any_records(),
        behind in proptest::collection::vec(any::<u8>(), 0..60),
    ) -> Vec<u8> {
        let area = |units: u8| if units == 0 { Vec::new() } else { information(units, fill) };
        let internal = internal.map_or(Vec::new(), |byte| vec![byte; 16]);
        let areas: [&[u8]; 4] = [&internal, &area(units[0]), &area(units[1]), &area(units[2])];
        device(size, blank, areas, &records, &behind)
    }
}

/// Returns what was neither the list of records, nor the header, nor blank.
fn unknown_bytes(bytes: &[u8], also_list_of: &[u8]) -> Vec<(usize, u8)> {
    let lists: Vec<_> = [bytes, also_list_of]
        .iter()
        .filter_map(|bytes| {
            let fru = Fru::parse(bytes).ok()?;
            let list = fru.areas.iter().find(|area| area.kind == AreaKind::MultiRecord)?;
            Some(list.offset_bytes..list.offset_bytes + list.size_bytes)
        })
        .collect();
    let is_known =
        |index: usize| matches!(index, 5 | 7) || lists.iter().any(|list| list.contains(&index));
    bytes
        .iter()
        .copied()
        .enumerate()
        .filter(|(index, byte)| !matches!(byte, 0 | 0xff) && !is_known(*index))
        .collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
        is_header in any::<bool>(),
    ) {
        if is_header && bytes.len() >= 8 {
            bytes[0] = 1;
            bytes[7] = checksum(&bytes[..7]);
        }
        let _ = Edit::clear(&bytes);
        if let Ok(edit) = Edit::set(&bytes, &url()) {
            prop_assert_eq!(Fru::parse(edit.after()).unwrap().manager_urls(), [url()]);
        }
    }

    #[test]
    fn a_url_is_set_and_cleared_and_all_else_stays(
        before in any_device(),
        text in "firmcast://[a-z]{1,60}:[1-9]{1,4}",
    ) {
        let url: ManagerUrl = text.parse().unwrap();
        let Ok(set) = Edit::set(&before, &url) else { return Ok(()) };
        prop_assert_eq!(applied(&before, &set), set.after());
        prop_assert_eq!(Fru::parse(set.after()).unwrap().manager_urls(), [url]);
        prop_assert_eq!(others(set.after()), others(&before));
        let cleared = Edit::clear(set.after()).unwrap();
        prop_assert_eq!(applied(set.after(), &cleared), cleared.after());
        prop_assert!(Fru::parse(cleared.after()).unwrap().manager_urls().is_empty());
        prop_assert_eq!(others(cleared.after()), others(&before));
        let unknown = unknown_bytes(&before, set.after());
        for (index, byte) in unknown {
            let after = (set.after()[index], cleared.after()[index]);
            prop_assert_eq!(after, (byte, byte), "at {:#x}", index);
        }
    }

    /// The device ends where its last area does. A clear that is cut short leaves the old URL or
    /// none.
    #[test]
    fn clearing_needs_no_room(before in any_device(), text in "firmcast://[a-z]{1,60}") {
        let url: ManagerUrl = text.parse().unwrap();
        let Ok(set) = Edit::set(&before, &url) else { return Ok(()) };
        let areas = Fru::parse(set.after()).unwrap().areas;
        let end = areas.iter().map(|area| area.offset_bytes + area.size_bytes).max().unwrap();
        let mut bytes = set.after()[..end].to_vec();
        let clear = Edit::clear(&bytes).unwrap();
        for write in clear.writes() {
            for (index, byte) in write.bytes.iter().enumerate() {
                bytes[write.offset_bytes + index] = *byte;
                let urls = Fru::parse(&bytes).map_or(Vec::new(), |fru| fru.manager_urls());
                prop_assert!(urls.is_empty() || urls == [url.clone()], "{:?}", urls);
            }
        }
        prop_assert!(Fru::parse(&bytes).unwrap().manager_urls().is_empty());
        prop_assert_eq!(others(&bytes), others(&before));
        if bytes[5] == set.after()[5] {
            let again = Edit::set(&bytes, &url).unwrap();
            prop_assert_eq!(Fru::parse(again.after()).unwrap().manager_urls(), [url]);
        }
    }

    /// After each byte that reaches the device the list can be read and has all records of others,
    /// but for the time within one write of at most four bytes: a header's flag or offset together
    /// with its checksum. Then the same command ends the work.
    #[test]
    fn an_end_in_the_middle_does_no_harm(before in any_device(), text in "firmcast://[a-z]{1,60}") {
        let url: ManagerUrl = text.parse().unwrap();
        let Ok(set) = Edit::set(&before, &url) else { return Ok(()) };
        let clear = Edit::clear(set.after()).unwrap();
        for (before, edit) in [(before, set.clone()), (set.after().to_vec(), clear)] {
            let mut bytes = before.clone();
            for write in edit.writes() {
                for (index, byte) in write.bytes.iter().enumerate() {
                    bytes[write.offset_bytes + index] = *byte;
                    let is_whole = index + 1 == write.bytes.len();
                    let readable = Fru::parse(&bytes).is_ok_and(|fru| fru.records.is_ok());
                    prop_assert!(readable || (!is_whole && write.bytes.len() <= 4));
                    if readable {
                        prop_assert_eq!(others(&bytes), others(&before));
                    }
                    if readable {
                        let again = Edit::set(&bytes, &url);
                        let again =
                            again.map(|again| Fru::parse(again.after()).unwrap().manager_urls());
                        prop_assert!(again.is_err() || again == Ok(vec![url.clone()]));
                    }
                }
            }
        }
    }
}
