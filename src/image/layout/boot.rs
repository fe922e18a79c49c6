//! Where the processor begins.

use super::fields::u32_at;

/// The x86 reset vector lies this much before the end of the chip.
pub(in crate::image) const RESET_VECTOR_BYTES: usize = 16;

/// Offset of the first instruction that the processor runs: 16 bytes before the end, as on x86, or
/// 0 where the image begins with a branch of ARM or AArch64 and has no x86 reset vector. The block
/// with this offset makes the firmware bootable.
pub fn boot_offset(image: &[u8]) -> u64 {
    if !has_x86_reset_vector(image) && begins_with_arm_branch(image) {
        0
    } else {
        image.len().saturating_sub(RESET_VECTOR_BYTES) as u64
    }
}

/// Whether the last 16 bytes begin with a jump, after nothing but what is known to stand before
/// one.
///
/// SeaBIOS has a far jump, coreboot and 32-bit OVMF a near one (after NOPs), U-Boot CLI and CLD
/// before it, 64-bit OVMF a look at CR0; the vendors' own have WBINVD or a mark in DI for whom they
/// were started.
pub(in crate::image) fn has_x86_reset_vector(image: &[u8]) -> bool {
    let Some(vector) = image.last_chunk::<RESET_VECTOR_BYTES>() else { return false };
    let mut code = vector.as_slice();
    loop {
        code = match code {
            [0xe9 | 0xea | 0xeb | 0x70..=0x7f, ..] => return true,
            // NOP, CLI, CLD, and the prefixes for 32-bit operands and addresses.
            [0x90 | 0xfa | 0xfc | 0x66 | 0x67, rest @ ..] => rest,
            // INVD, WBINVD.
            [0x0f, 0x08 | 0x09, rest @ ..] => rest,
            // MOV from a control register; TEST AL.
            [0x0f, 0x20, _, rest @ ..] | [0xa8, _, rest @ ..] => rest,
            // MOV DI.
            [0xbf, _, _, rest @ ..] => rest,
            _ => return false,
        };
    }
}

/// `B` of AArch64 (opcode 000101b), or `B` of ARM with the condition "always".
pub(in crate::image) fn begins_with_arm_branch(image: &[u8]) -> bool {
    u32_at(image, 0).is_some_and(|word| word >> 26 == 0b000_101 || word >> 24 == 0xea)
}
