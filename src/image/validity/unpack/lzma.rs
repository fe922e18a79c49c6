//! LZMA as EDK2 has it.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 1 | properties: (pb * 5 + lp) * 9 + lc, below 225 |
//! | 1 | 4 | size of the dictionary |
//! | 5 | 8 | size when unpacked |
//! | 13 | | the stream |
//!
//! Source: LZMA SDK, `lzma-specification.txt`.

use lzma_rust2::filter::bcj::BcjReader;
use lzma_rust2::{LzmaReader, Read};

use super::{Unpacked, check_rest};
use crate::image::layout::{u32_at, u64_at};

const HEADER_BYTES: usize = 13;
const PROPERTIES_END: u8 = 9 * 5 * 5;
/// Nothing in firmware unpacks to more than this.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
const STEP_BYTES: usize = 64 * 1024;

/// Unpacks a stream to at most `room_bytes`, which together with the dictionary are at most
/// `held_bytes`.
pub(super) fn unpack(
    packed: &[u8],
    is_x86: bool,
    room_bytes: usize,
    held_bytes: usize,
) -> Result<Unpacked, String> {
    let header = (packed.first(), u32_at(packed, 1), u64_at(packed, 5));
    let (Some(&properties @ ..PROPERTIES_END), Some(dictionary_bytes), Some(unpacked_bytes)) =
        header
    else {
        let (properties, _, unpacked_bytes) = header;
        return Err(implausible(properties, unpacked_bytes));
    };
    if !(1..=UNPACKED_BYTES_MAX).contains(&unpacked_bytes) {
        return Err(implausible(Some(&properties), Some(unpacked_bytes)));
    }
    let dictionary_bytes = u64::from(dictionary_bytes).min(unpacked_bytes) as u32;
    let takes_bytes = unpacked_bytes + u64::from(dictionary_bytes);
    if unpacked_bytes > room_bytes as u64 || takes_bytes > held_bytes as u64 {
        return Ok(Unpacked::Unseen);
    }
    let stream = &packed[HEADER_BYTES..];
    let failed = |error| format!("LZMA: {error:?}");
    let mut reader =
        LzmaReader::new_with_props(stream, unpacked_bytes, properties, dictionary_bytes, None)
            .map_err(failed)?;
    // The last bits tell whether the decoder was still in step: a checksum of a kind.
    reader.set_relaxed_end_condition(false);
    let bytes = read(&mut reader, unpacked_bytes as usize).map_err(failed)?;
    if bytes.len() as u64 != unpacked_bytes {
        let got = bytes.len();
        return Err(format!("LZMA: 0x{got:x} bytes unpacked, expected 0x{unpacked_bytes:x}"));
    }
    let (rest, unused) = reader.into_parts();
    check_rest(&[&unused, rest].concat()).map_err(|why| format!("LZMA: {why}"))?;
    match is_x86 {
        false => Ok(Unpacked::Bytes(bytes)),
        true => {
            let length = bytes.len();
            let filtered = read(&mut BcjReader::new_x86(bytes.as_slice(), 0), length);
            Ok(Unpacked::Bytes(filtered.map_err(failed)?))
        }
    }
}

fn implausible(properties: Option<&u8>, unpacked_bytes: Option<u64>) -> String {
    format!(
        "LZMA with properties {properties:02x?} and {unpacked_bytes:x?} bytes unpacked, expected \
        plausible ones"
    )
}

/// Reads to the end, and at most a byte more than `expected_bytes`.
fn read(reader: &mut impl Read, expected_bytes: usize) -> Result<Vec<u8>, lzma_rust2::Error> {
    let mut bytes = Vec::new();
    bytes.reserve_exact(expected_bytes);
    let mut step = vec![0; STEP_BYTES];
    loop {
        let got = reader.read(&mut step)?;
        if got == 0 || bytes.len() > expected_bytes {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&step[..got]);
    }
}
