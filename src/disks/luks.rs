//! What the header of an encrypted disk says of the TPM.
//!
//! Sources: LUKS2 On-Disk Format Specification 1.1.1, sections 2 and 3; LUKS On-Disk Format
//! Specification 1.2.3, section 2; `libluksmeta.c` of luksmeta 9. What the tokens hold is in
//! `tokens.rs`.

use serde_json::Value;

use super::binding::{Binding, printable};
use super::tokens::{of_jwe, of_token};

/// Length of a header's first part in bytes: all that tells where the rest lies.
pub const HEAD_SIZE: usize = 4096;
/// Maximum length of a whole LUKS2 header in bytes (section 2.1: sixteen KiB to four MiB).
pub const HEADER_SIZE_MAX: u64 = 4 << 20;
/// Maximum length of luksmeta's area that is looked at, in bytes: its table and eight bindings.
pub const METADATA_SIZE_MAX: usize = 64 << 10;
/// Maximum number of tokens in a header (section 3.5: `LUKS2_TOKENS_MAX`).
const TOKENS_MAX: usize = 32;

const MAGIC: &[u8] = b"LUKS\xba\xbe";
const UUID_AT: usize = 168;
const UUID_SIZE: usize = 40;

/// Key slots of LUKS1: place of the first, size of each, number.
const SLOTS: (usize, usize, usize) = (208, 48, 8);
const SECTOR_SIZE: u64 = 512;
const METADATA_MAGIC: &[u8] = b"LUKSMETA";
/// Table of luksmeta: place of the first entry, size of each, number.
const ENTRIES: (usize, usize, usize) = (16, 32, 8);
/// What marks clevis's bindings there (clevis-luks-common-functions).
const CLEVIS: [u8; 16] = 0xcb6e_8904_81ff_40da_a84a_07ab_9ab5_715e_u128.to_be_bytes();

/// The first part of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The disk's UUID.
    pub uuid: String,
    /// Where its bindings are told.
    pub told: Told,
}

/// Where a header tells the bindings of its key slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// LUKS1: at this place of the disk, if luksmeta is in use at all.
    Luksmeta {
        /// Its place.
        offset_bytes: u64,
    },
    /// LUKS2: between the head and this length.
    Json {
        /// Length of the whole header.
        header_bytes: u64,
    },
}

impl Head {
    /// Reads the start of a disk; None when no header of LUKS stands there.
    ///
    /// # Errors
    /// A header that is not understood.
    pub fn parse(bytes: &[u8]) -> Option<Result<Self, &'static str>> {
        bytes.starts_with(MAGIC).then(|| {
            let told = match be16(bytes, 6) {
                Some(1) => luks1(bytes),
                Some(2) => luks2(bytes),
                Some(_) => return Err("its LUKS version is not known"),
                None => None,
            };
            let uuid = bytes.get(UUID_AT..UUID_AT + UUID_SIZE);
            let uuid = uuid.and_then(|text| text.split(|byte| *byte == 0).next());
            match (told, uuid) {
                (Some(told), Some(uuid)) => {
                    Ok(Self { uuid: printable(&String::from_utf8_lossy(uuid)), told })
                }
                _ => Err("its LUKS header is damaged"),
            }
        })
    }
}

fn luks2(bytes: &[u8]) -> Option<Told> {
    let header_bytes = be64(bytes, 8)?;
    let fits = header_bytes > HEAD_SIZE as u64 && header_bytes <= HEADER_SIZE_MAX;
    fits.then_some(Told::Json { header_bytes })
}

/// luksmeta stands behind the last key slot, at the next multiple of 4096.
fn luks1(bytes: &[u8]) -> Option<Told> {
    let key_bytes = u64::from(be32(bytes, 108)?);
    let (first, size, count) = SLOTS;
    let mut end = 0;
    for slot in (0..count).map(|index| first + index * size) {
        let start = u64::from(be32(bytes, slot + 40)?) * SECTOR_SIZE;
        let stripes = u64::from(be32(bytes, slot + 44)?);
        end = end.max(start.checked_add(key_bytes.checked_mul(stripes)?)?);
    }
    Some(Told::Luksmeta { offset_bytes: end.checked_next_multiple_of(4096)? })
}

/// Returns what the JSON area of a LUKS2 header says: the bytes behind the head, with the zeros
/// that fill them up.
pub fn of_json(area: &[u8]) -> Vec<Binding> {
    let text = area.split(|byte| *byte == 0).next().unwrap_or_default();
    let not_read = || vec![Binding::Unknown("its LUKS2 header is damaged".to_owned())];
    let Ok(header) = serde_json::from_slice::<Value>(text) else { return not_read() };
    let Some(tokens) = header.get("tokens").and_then(Value::as_object) else { return not_read() };
    let mut found: Vec<Binding> = tokens.values().take(TOKENS_MAX).flat_map(of_token).collect();
    if tokens.len() > TOKENS_MAX {
        found.push(Binding::Unknown(format!("more than {TOKENS_MAX} tokens")));
    }
    found
}

/// Returns what luksmeta says: the bytes from its place on. Other bytes there say nothing.
pub fn of_luksmeta(area: &[u8]) -> Vec<Binding> {
    if !area.starts_with(METADATA_MAGIC) {
        return Vec::new();
    }
    let (first, size, count) = ENTRIES;
    let of_entry = |index: usize| {
        let entry = area.get(first + index * size..)?;
        let is_clevis = entry.get(..16)? == CLEVIS;
        let (start, length) = (be32(entry, 16)? as usize, be32(entry, 20)? as usize);
        is_clevis.then(|| {
            let jwe = area.get(start..start.checked_add(length)?);
            std::str::from_utf8(jwe?)
                .ok()
                .map(|text| of_jwe(&Value::from(text), &index.to_string()))
        })
    };
    let damaged = || vec![Binding::Unknown("what luksmeta keeps is damaged".to_owned())];
    let entries = (0..count).filter_map(of_entry);
    entries.flat_map(|found| found.unwrap_or_else(damaged)).collect()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Headers that cryptsetup, clevis and systemd-cryptenroll of Debian 12 have made, without the
    /// zeros at their ends.
    macro_rules! made {
        ($name:literal) => {
            include_bytes!(concat!("../../fuzz/corpus/luks/", $name))
        };
    }

    fn said(header: &[u8]) -> Vec<String> {
        let head = Head::parse(header).unwrap().unwrap();
        assert_eq!(head.told, Told::Json { header_bytes: 0x4000 });
        assert_eq!(head.uuid.len(), 36);
        let mut whole = header[HEAD_SIZE..].to_vec();
        whole.resize(0x3000, 0);
        of_json(&whole).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_tools_bind_is_read_from_what_they_wrote() {
        for (header, expected) in [
            (&made!("clevis-tpm2")[..], &["clevis tpm2, PCR 0,7 (slot 1)"][..]),
            (made!("clevis-sss"), &["clevis sss with tpm2, PCR 7 (slot 1)"]),
            (made!("systemd-pcrs"), &["systemd-cryptenroll, PCR 0,7 (slot 1)"]),
            // With a recovery key beside it.
            (made!("systemd-no-pcrs"), &[]),
        ] {
            assert_eq!(said(header), expected);
        }
    }

    #[test]
    fn luks1_tells_its_bindings_elsewhere() {
        let head = Head::parse(made!("luks1-head")).unwrap().unwrap();
        assert_eq!(head.told, Told::Luksmeta { offset_bytes: 2_068_480 });
        let area = made!("luksmeta");
        let said: Vec<String> = of_luksmeta(area).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["clevis tpm2, PCR 0 (slot 1)"]);
        assert_eq!(of_luksmeta(&area[8..]), []);
        for cut in [60, 4096, area.len() - 300, area.len() - 1] {
            let found = of_luksmeta(&area[..cut]);
            assert!(matches!(found.as_slice(), [Binding::Unknown(_)]) || cut == 60, "{cut}");
        }
    }

    #[test]
    fn a_header_that_is_damaged_is_unknown_and_another_disk_is_none() {
        let whole = made!("clevis-tpm2");
        assert_eq!(Head::parse(b"\xebc\x90 GRUB"), None);
        assert_eq!(Head::parse(&[]), None);
        for length in MAGIC.len()..UUID_AT + UUID_SIZE {
            assert!(Head::parse(&whole[..length]).unwrap().is_err(), "{length}");
        }
        for (place, byte) in [(7, 3), (8, 1), (14, 0x10)] {
            let mut changed = whole.to_vec();
            changed[place] = byte;
            if place == 14 {
                changed[13] = 0;
            }
            assert!(Head::parse(&changed).unwrap().is_err() || place == 14, "{place}");
        }
        for text in ["", "{", "[]", "{\"tokens\":[]}", "{\"tokens\":{\"0\":7}}"] {
            let found = of_json(text.as_bytes());
            assert!(matches!(found.as_slice(), [Binding::Unknown(_)]), "{text}: {found:?}");
        }
        for length in 0..whole.len() - HEAD_SIZE {
            let found = of_json(&whole[HEAD_SIZE..HEAD_SIZE + length]);
            assert!(matches!(found.as_slice(), [Binding::Unknown(_)]), "{length}");
        }
    }

    #[test]
    fn more_tokens_than_there_can_be_are_told() {
        let tokens: Vec<String> =
            (0..40).map(|index| format!("\"{index}\":{{\"type\":\"systemd-recovery\"}}")).collect();
        let found = of_json(format!("{{\"tokens\":{{{}}}}}", tokens.join(",")).as_bytes());
        assert_eq!(found, [Binding::Unknown("more than 32 tokens".into())]);
    }
}
