//! zlib behind AMD's header of 100h bytes, in which only the size of the stream is used: a number
//! at 14h.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::Unpacked;
use crate::image::layout::u32_at;

const HEADER_BYTES: usize = 0x100;
const SIZE_OFFSET: usize = 0x14;

/// Unpacks a stream to at most half of `room_bytes`: the buffer may be twice as large as what is in
/// it.
pub(super) fn unpack(packed: &[u8], room_bytes: usize) -> Result<Unpacked, String> {
    let size = u32_at(packed, SIZE_OFFSET).map(|size| size as usize);
    let stream = packed.get(HEADER_BYTES..).zip(size).and_then(|(rest, size)| rest.get(..size));
    let Some(stream) = stream else {
        return Err(format!("zlib of {size:x?} bytes, expected them to fit into its section"));
    };
    match decompress_to_vec_zlib_with_limit(stream, room_bytes / 2) {
        Ok(bytes) => Ok(Unpacked::Bytes(bytes)),
        Err(error) if error.status == TINFLStatus::HasMoreOutput => Ok(Unpacked::Unseen),
        Err(error) => Err(format!("zlib: {:?}", error.status)),
    }
}
