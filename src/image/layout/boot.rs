//! Where the processor begins.

use std::fmt;

use super::fields::{array, u32_at};
use super::fit::Fit;
use super::fmap::FlashMap;

/// The x86 reset vector lies this much before the end of the chip.
pub(in crate::image) const RESET_VECTOR_BYTES: usize = 16;

/// The area of coreboot's flash map with its first code.
const BOOT_BLOCK_AREA: &str = "BOOTBLOCK";
/// A file of coreboot, big-endian: its mark, length, type, offset of attributes and of contents.
const COREBOOT_FILE: &[u8; 8] = b"LARCHIVE";
const COREBOOT_BOOT_BLOCK: u32 = 1;

/// The first byte that the processor runs, and what tells it. The eraseblock with this byte makes
/// the firmware bootable, and is written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOffset {
    /// From the start of the image.
    pub offset_bytes: u64,
    /// What tells it.
    pub by: BootEvidence,
}

/// What tells where the processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootEvidence {
    /// A jump 16 bytes before the end, as on x86.
    ResetVector,
    /// A Firmware Interface Table, which Intel's processors look for at the end.
    InterfaceTable,
    /// The boot block of coreboot.
    BootBlock,
    /// The image begins with an instruction of this architecture.
    FirstInstruction(&'static str),
    /// Not known, but nothing can run at the end, which is erased.
    ErasedEnd,
    /// Not known, but nothing can run at the start, which is erased.
    ErasedStart,
    /// Not known; most servers begin at the end.
    Nothing,
}

impl BootEvidence {
    /// Returns whether the offset is more than a guess.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::ErasedEnd | Self::ErasedStart | Self::Nothing)
    }
}

impl fmt::Display for BootEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetVector => f.write_str("an x86 reset vector is there"),
            Self::InterfaceTable => f.write_str("a Firmware Interface Table of Intel is there"),
            Self::BootBlock => f.write_str("coreboot's boot block is there"),
            Self::FirstInstruction(architecture) => {
                write!(f, "the image begins with an instruction of {architecture}")
            }
            Self::ErasedEnd => f.write_str("not known; the end of the image is erased"),
            Self::ErasedStart => f.write_str("not known; the start of the image is erased"),
            Self::Nothing => f.write_str("not known; most servers start at the end"),
        }
    }
}

/// Returns where the processor begins in `image`: at the end as on x86, where coreboot has its boot
/// block, or at the start where an instruction of ARM, RISC-V or LoongArch is. Where nothing tells,
/// at the end which is not erased, else at the last one.
pub fn boot_offset(image: &[u8]) -> BootOffset {
    let top = image.len().saturating_sub(RESET_VECTOR_BYTES) as u64;
    let at = |offset_bytes, by| BootOffset { offset_bytes, by };
    if has_x86_reset_vector(image) {
        return at(top, BootEvidence::ResetVector);
    }
    if let Ok(Some(_)) = Fit::find(image) {
        return at(top, BootEvidence::InterfaceTable);
    }
    if let Some(range) = boot_block_area(image).or_else(|| boot_block_file(image)) {
        let is_last = range.end == image.len() as u64;
        return at(if is_last { top } else { range.start }, BootEvidence::BootBlock);
    }
    if let Some(architecture) = first_instruction(image) {
        return at(0, BootEvidence::FirstInstruction(architecture));
    }
    let [start, end] = [image.first_chunk(), image.last_chunk()].map(is_erased);
    match (start, end) {
        (false, true) => at(0, BootEvidence::ErasedEnd),
        (true, false) => at(top, BootEvidence::ErasedStart),
        _ => at(top, BootEvidence::Nothing),
    }
}

/// Returns why a bundle has this offset for `image`, for an operator.
pub fn boot_offset_reason(image: &[u8], offset_bytes: u64) -> String {
    match boot_offset(image) {
        found if found.offset_bytes == offset_bytes => found.by.to_string(),
        _ => "the bundle's maker says so".to_owned(),
    }
}

fn is_erased(bytes: Option<&[u8; RESET_VECTOR_BYTES]>) -> bool {
    bytes.is_some_and(|bytes| [[0xff; RESET_VECTOR_BYTES], [0; RESET_VECTOR_BYTES]].contains(bytes))
}

fn boot_block_area(image: &[u8]) -> Option<std::ops::Range<u64>> {
    let map = FlashMap::find(image).ok()??;
    let area = map.areas.iter().find(|area| area.name == BOOT_BLOCK_AREA)?;
    Some(area.range()).filter(|range| range.end <= image.len() as u64)
}

/// Returns the contents of the first boot block among the files of coreboot.
fn boot_block_file(image: &[u8]) -> Option<std::ops::Range<u64>> {
    memchr::memmem::find_iter(image, COREBOOT_FILE).find_map(|file| {
        let field = |at: usize| array(image, file + at).map(u32::from_be_bytes).map(u64::from);
        let is_boot_block = field(12)? == u64::from(COREBOOT_BOOT_BLOCK);
        let start = file as u64 + field(20)?;
        let end = start + field(8)?;
        (is_boot_block && start < end && end <= image.len() as u64).then_some(start..end)
    })
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

/// Returns the architecture of the instruction at the start, of those that firmware begins with.
///
/// Sources: Arm, "Architecture Reference Manual" (DDI 0487, DDI 0406); RISC-V, "Instruction Set
/// Manual" volume I; Loongson, "LoongArch Reference Manual" volume 1, appendix B.
fn first_instruction(image: &[u8]) -> Option<&'static str> {
    let word = u32_at(image, 0)?;
    // MRS and MSR of AArch64; LDR PC of ARM, as its vectors have it.
    let is_arm = word >> 22 == 0b11_0101_0100 || word >> 12 == 0xe_59ff;
    if begins_with_arm_branch(image) || is_arm {
        return Some("ARM");
    }
    if is_risc_v(word) {
        return Some("RISC-V");
    }
    // B and BL; PCADDU12I; CSRRD, CSRWR and CSRXCHG.
    let is_loong_arch = matches!(word >> 26, 0b01_0100 | 0b01_0101)
        || word >> 25 == 0b000_1110
        || word >> 24 == 0b0000_0100;
    is_loong_arch.then_some("LoongArch")
}

fn is_risc_v(word: u32) -> bool {
    let (opcode, register, function) = (word & 0x7f, word >> 7 & 0x1f, word >> 12 & 7);
    let is_compressed_move = |half: u32| half & 0xf003 == 0x8002 && half >> 2 & 0x1f != 0;
    match opcode {
        // JAL without a link, or with the usual one.
        0x6f => register <= 1,
        // AUIPC.
        0x17 => register != 0,
        // Reads and writes of control registers.
        0x73 => !matches!(function, 0 | 4),
        // ADD of a register and zero.
        0x33 => word >> 20 == 0 && function == 0,
        // ADDI.
        0x13 => function == 0,
        _ => is_compressed_move(word & 0xffff) && is_compressed_move(word >> 16),
    }
}
