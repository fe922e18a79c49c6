//! Unpacks compressed sections, within limits that have a name: bytes that are held at a time,
//! bytes of work, and how much more comes out than goes in. What would go beyond them stays unseen;
//! that is no damage.

mod lzma;
pub mod tiano;
mod zlib;

/// Maximum number of bytes that are held at a time for what is unpacked, dictionaries included. A
/// section may lie in another one, so several may be held.
pub const HELD_BYTES_MAX: usize = 80 << 20;

/// Maximum amount of work on one image, about what takes a second: the unpacked bytes, and
/// twice as many for the packed ones.
pub const WORK_BYTES_MAX: usize = 104 << 20;

/// A packed byte takes as long as so many unpacked ones: LZMA decodes it bit by bit.
const PACKED_WORK: usize = 2;

/// Maximum ratio of the unpacked bytes to the packed ones. A volume with much free space comes to
/// 50.
const RATIO_MAX: usize = 1024;

/// How a section is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image) enum Codec {
    /// LZMA, with its header of 13 bytes.
    Lzma,
    /// LZMA, after a filter for x86 code.
    LzmaX86,
    /// EFI 1.1: the standard algorithm of the UEFI specification.
    Efi,
    /// Tiano: the same with more bits for positions.
    Tiano,
    /// zlib behind AMD's header.
    AmdZlib,
}

/// What comes out, if it may be looked into.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::image) enum Unpacked {
    /// All of it.
    Bytes(Vec<u8>),
    /// Nothing: it would go beyond a limit.
    Unseen,
}

/// What may still be used of the limits.
#[derive(Clone, Copy, Debug)]
pub(in crate::image) struct Budget {
    held_bytes: usize,
    work_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { held_bytes: HELD_BYTES_MAX, work_bytes: WORK_BYTES_MAX }
    }
}

impl Budget {
    /// Unpacks `packed`. What comes out counts as held until [`Self::release`].
    ///
    /// # Errors
    /// Why nothing or something else comes out than should.
    pub(in crate::image) fn unpack(
        &mut self,
        codec: Codec,
        packed: &[u8],
    ) -> Result<Unpacked, String> {
        let packed_work = packed.len().saturating_mul(PACKED_WORK);
        let Some(work_bytes) = self.work_bytes.checked_sub(packed_work) else {
            return Ok(Unpacked::Unseen);
        };
        let ratio_bytes = packed.len().saturating_mul(RATIO_MAX);
        let room_bytes = self.held_bytes.min(work_bytes).min(ratio_bytes);
        let unpacked = match codec {
            Codec::Lzma | Codec::LzmaX86 => {
                lzma::unpack(packed, codec == Codec::LzmaX86, room_bytes, self.held_bytes)
            }
            Codec::Efi | Codec::Tiano => unpack_tiano(codec, packed, room_bytes),
            Codec::AmdZlib => zlib::unpack(packed, room_bytes),
        }?;
        if let Unpacked::Bytes(bytes) = &unpacked {
            self.held_bytes = self.held_bytes.saturating_sub(bytes.len());
            self.work_bytes = work_bytes.saturating_sub(bytes.len());
        }
        Ok(unpacked)
    }

    /// Says that so many bytes are not held any more.
    pub(in crate::image) fn release(&mut self, bytes: usize) {
        self.held_bytes = (self.held_bytes + bytes).min(HELD_BYTES_MAX);
    }
}

/// Some makers mix the two algorithms up; only one of them comes to the end where it should.
fn unpack_tiano(codec: Codec, packed: &[u8], room_bytes: usize) -> Result<Unpacked, String> {
    let [first, second] = match codec {
        Codec::Efi => [tiano::Variant::Efi, tiano::Variant::Tiano],
        _ => [tiano::Variant::Tiano, tiano::Variant::Efi],
    };
    let unpack = |variant| tiano::unpack(packed, variant, room_bytes);
    match unpack(first).or_else(|error| unpack(second).map_err(|_| error)) {
        Ok(bytes) => Ok(Unpacked::Bytes(bytes)),
        Err(tiano::TianoError::TooLarge) => Ok(Unpacked::Unseen),
        Err(error) => Err(error.to_string()),
    }
}

/// A mark that some encoders write behind the last byte is at most so long.
const MARK_BYTES_MAX: usize = 8;

/// Behind the end of a stream there may be a mark, or bytes that fill its section up.
fn check_rest(rest: &[u8]) -> Result<(), String> {
    match rest.len() <= MARK_BYTES_MAX
        || rest.iter().all(|byte| *byte == 0)
        || rest.iter().all(|byte| *byte == 0xff)
    {
        true => Ok(()),
        false => Err(format!("0x{:x} bytes behind its end, expected none", rest.len())),
    }
}

#[cfg(test)]
mod tests;
