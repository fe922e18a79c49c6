//! Chips with a flash map and a firmware volume, and a reader of XML, for tests.

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn section(kind: u8, contents: &[u8]) -> Vec<u8> {
    let size = (4 + contents.len() as u32).to_le_bytes();
    let mut section = [&size[..3], &[kind], contents].concat();
    section.resize(section.len().next_multiple_of(4), 0);
    section
}

fn text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// A driver whose GUID is sixteen times `guid`.
pub(crate) fn driver(guid: u8, name: &str, version: &str, code: &[u8]) -> Vec<u8> {
    let contents = [
        section(0x10, &[b"MZ", code].concat()),
        section(0x15, &text(name)),
        section(0x14, &[vec![0; 2], text(version)].concat()),
    ]
    .concat();
    let size = (24 + contents.len() as u32).to_le_bytes();
    let mut file = [&[guid; 16][..], &[0, 0, 0x07, 0x40, size[0], size[1], size[2], 0]].concat();
    (file[16], file[17]) = (sum(&file).wrapping_neg(), sum(&contents).wrapping_neg());
    file[23] = 0xf8;
    file.extend(contents);
    file.resize(file.len().next_multiple_of(8), 0xff);
    file
}

fn volume(length: usize, files: &[Vec<u8>]) -> Vec<u8> {
    let guid = [0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f];
    let rest = [0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3];
    let mut volume = [&[0; 16][..], &guid, &rest, &(length as u64).to_le_bytes(), b"_FVH"].concat();
    volume.extend([0x0004_feff_u32.to_le_bytes(), [72, 0, 0, 0], [0, 0, 0, 2]].concat());
    volume.extend([length as u32 / 0x1000, 0x1000, 0, 0].map(u32::to_le_bytes).concat());
    let words = volume.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word));
    let sum = words.fold(0, u16::wrapping_add).wrapping_neg();
    put(&mut volume, 50, &sum.to_le_bytes());
    volume.extend(files.concat());
    volume.resize(length, 0xff);
    volume
}

/// 64 KiB: a flash map, vital product data, a volume with `files`, free space, and the start of an
/// x86 processor.
pub(crate) fn chip(files: &[Vec<u8>]) -> Vec<u8> {
    let name = |text: &str| [text.as_bytes(), &vec![0; 32 - text.len()]].concat();
    let areas = [
        ("FMAP", 0u32, 0x1000u32),
        ("RW_VPD", 0x1000, 0x1000),
        ("FW_MAIN <A>", 0x2000, 0x6000),
        ("BOOT", 0xf000, 0x1000),
    ];
    let mut map = [b"__FMAP__".as_slice(), &[1, 1], &[0; 8], &0x1_0000u32.to_le_bytes()].concat();
    map.extend([name("FLASH"), (areas.len() as u16).to_le_bytes().to_vec()].concat());
    for (area, offset, length) in areas {
        map.extend([offset.to_le_bytes(), length.to_le_bytes()].concat());
        map.extend([name(area), vec![0; 2]].concat());
    }
    let mut image = vec![0xff; 0x1_0000];
    put(&mut image, 0, &map);
    put(&mut image, 0x1000, &[0x5a; 0x1000]);
    put(&mut image, 0x2000, &volume(0x6000, files));
    put(&mut image, 0xf000, &[0x90; 0x1000]);
    put(&mut image, 0xfff0, &[0xe9, 0x5b, 0xff]);
    image
}

/// Fails unless `xml` is well formed: every element ends, and no sign stands where it must not.
pub(crate) fn assert_xml(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut parts = xml.split('<');
    assert_eq!(parts.next(), Some(""), "text before the first element");
    for part in parts {
        let (tag, text) = part.split_once('>').expect("an element ends");
        assert!(!text.contains('>') && text.chars().all(|sign| sign == '\n' || !sign.is_control()));
        for entity in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
            let entity = entity.split(';').next().unwrap_or_default();
            assert!(["amp", "lt", "gt", "quot", "apos"].contains(&entity), "{entity}");
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        match tag {
            tag if tag.starts_with('?') => {}
            tag if tag.starts_with('/') => assert_eq!(open.pop(), Some(&tag[1..]), "{xml}"),
            tag if tag.ends_with('/') => {}
            _ => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}
