//! Images with a Firmware Interface Table, built field by field, for tests.

use sha2::{Digest as _, Sha256};

const MODULUS_BYTES: usize = 256;
/// Where the table of [`image`] lies before the end.
const TABLE_BYTES: usize = 0x400;

/// A startup ACM of 1 KiB.
pub(crate) fn acm(chipset_id: u16, flags: u16) -> Vec<u8> {
    let mut acm = vec![0x5a; 1024];
    acm[..2].copy_from_slice(&2u16.to_le_bytes());
    acm[12..14].copy_from_slice(&chipset_id.to_le_bytes());
    acm[14..16].copy_from_slice(&flags.to_le_bytes());
    acm[16..20].copy_from_slice(&0x8086u32.to_le_bytes());
    acm[24..28].copy_from_slice(&256u32.to_le_bytes());
    acm
}

fn modulus(key: u8) -> Vec<u8> {
    vec![key; MODULUS_BYTES]
}

/// A signature: the public key and what follows it.
fn signature(key: u8) -> Vec<u8> {
    let mut bytes = vec![0x10, 1, 0, 0x10];
    bytes.extend((8 * MODULUS_BYTES as u16).to_le_bytes());
    bytes.extend(0x1_0001u32.to_le_bytes());
    bytes.extend(modulus(key));
    bytes.extend([0x14, 0, 0x10, 0, 8, 0x0b, 0]);
    bytes.extend([0xa5; MODULUS_BYTES]);
    bytes
}

fn digest(key: u8) -> Vec<u8> {
    [&[0x0b, 0, 32, 0][..], &Sha256::digest(modulus(key))].concat()
}

/// A key manifest of version 1.0, by `key`, which names `policy_key`.
pub(crate) fn key_manifest(key: u8, svn: u8, policy_key: u8) -> Vec<u8> {
    let head = [b"__KEYM__", &[0x10, 0x10, svn, 1][..]].concat();
    [head, digest(policy_key), signature(key)].concat()
}

/// The same of version 2.1, with another digest before that of the policy's key.
pub(crate) fn key_manifest_2(key: u8, svn: u8, policy_key: u8) -> Vec<u8> {
    let mut bytes = [b"__KEYM__", &[0x21, 0, 0, 0, 0x70, 0, 0, 0, 0, 1, svn, 1][..]].concat();
    bytes.extend([0x0b, 0, 2, 0]);
    for (purpose, key) in [(2u64, 0xee), (1, policy_key)] {
        bytes.extend(purpose.to_le_bytes());
        bytes.extend(digest(key));
    }
    assert_eq!(bytes.len(), 0x70);
    [bytes, signature(key)].concat()
}

/// A boot policy manifest of version 1.0.
pub(crate) fn boot_policy(key: u8, svn: u8) -> Vec<u8> {
    let head = [b"__ACBP__", &[0x10, 1, svn, 0, 0, 0, 4, 0][..]].concat();
    [head, vec![0x33; 100], b"__PMSG__\x10".to_vec(), signature(key)].concat()
}

/// The same of version 2.2.
pub(crate) fn boot_policy_2(key: u8, svn: u8) -> Vec<u8> {
    let offset = 20 + 100 + 12u16;
    let mut head = [b"__ACBP__", &[0x22, 0x20, 0x14, 0][..]].concat();
    head.extend(offset.to_le_bytes());
    head.extend([1, svn, 2, 0, 0x80, 1]);
    [head, vec![0x33; 100], b"__PMSG__\x20\0\0\0".to_vec(), signature(key)].concat()
}

/// An image of `length_bytes` (at least 32 KiB) with a table near its end that names these
/// components, one every 2 KiB from 4 KiB on.
pub(crate) fn image(length_bytes: usize, components: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut image: Vec<u8> = (0..length_bytes).map(|at| (at / 7 % 251) as u8).collect();
    let address =
        |offset: usize| ((1u64 << 32) - length_bytes as u64 + offset as u64).to_le_bytes();
    let mut table =
        [b"_FIT_   ", &[1 + components.len() as u8, 0, 0, 0, 0, 1, 0x80, 0][..]].concat();
    for (index, (kind, bytes)) in components.iter().enumerate() {
        let offset = 0x1000 + 0x800 * index;
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        let size = (bytes.len() as u32).to_le_bytes();
        table.extend(address(offset));
        table.extend([size[0], size[1], size[2], 0, 0, 1, *kind, 0]);
    }
    table[15] = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    let start = length_bytes - TABLE_BYTES;
    image[start..start + table.len()].copy_from_slice(&table);
    image[length_bytes - 0x40..][..8].copy_from_slice(&address(start));
    image[length_bytes - 16..][..5].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    image
}
