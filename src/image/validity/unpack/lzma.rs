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
use lzma_rust2::{Action, LzmaStream, Read as _, Status};

use super::{Unpacked, check_rest};
use crate::image::layout::{u32_at, u64_at};

const HEADER_BYTES: usize = 13;
const PROPERTIES_END: u8 = 9 * 5 * 5;
/// Nothing in firmware unpacks to more than this.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

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
    let twice_bytes = if is_x86 { unpacked_bytes } else { u64::from(dictionary_bytes) };
    let takes_bytes = unpacked_bytes + twice_bytes;
    if unpacked_bytes > room_bytes as u64 || takes_bytes > held_bytes as u64 {
        return Ok(Unpacked::Unseen);
    }
    let stream = &packed[HEADER_BYTES..];
    let mut bytes = vec![0; unpacked_bytes as usize];
    let failed = |error| format!("LZMA: {error:?}");
    decode(stream, properties, dictionary_bytes, &mut bytes)?;
    if is_x86 {
        let mut filtered = vec![0; bytes.len()];
        BcjReader::new_x86(bytes.as_slice(), 0).read_exact(&mut filtered).map_err(failed)?;
        bytes = filtered;
    }
    Ok(Unpacked::Bytes(bytes))
}

/// Decodes a stream that has to end with `bytes`. Its last bits tell whether the decoder was still
/// in step: a checksum of a kind.
fn decode(
    mut stream: &[u8],
    properties: u8,
    dictionary_bytes: u32,
    bytes: &mut [u8],
) -> Result<(), String> {
    let failed = |error| format!("LZMA: {error:?}");
    let length = bytes.len();
    let mut decoder = LzmaStream::new_with_props(length as u64, properties, dictionary_bytes, None)
        .map_err(failed)?;
    let mut end = 0;
    loop {
        let step = decoder.process(stream, &mut bytes[end..], Action::Finish).map_err(failed)?;
        stream = &stream[step.bytes_consumed..];
        end += step.bytes_produced;
        match step.status {
            Status::StreamEnd => break,
            Status::Ok if step.bytes_consumed == 0 && step.bytes_produced == 0 => {
                return Err(format!("LZMA: 0x{end:x} bytes unpacked, expected 0x{length:x}"));
            }
            Status::Ok => {}
        }
    }
    if end != length {
        return Err(format!("LZMA: 0x{end:x} bytes unpacked, expected 0x{length:x}"));
    }
    check_rest(&[decoder.unused_input(), stream].concat()).map_err(|why| format!("LZMA: {why}"))
}

fn implausible(properties: Option<&u8>, unpacked_bytes: Option<u64>) -> String {
    format!(
        "LZMA with properties {properties:02x?} and {unpacked_bytes:x?} bytes unpacked, expected \
        plausible ones"
    )
}
