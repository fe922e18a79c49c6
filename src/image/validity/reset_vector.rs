//! The x86 reset vector, 16 bytes before the end, where the processor begins.

use super::{Damage, Evidence, reaches_into};
use crate::image::ByteRanges;
use crate::image::layout::{RESET_VECTOR_BYTES, has_x86_reset_vector};

/// The segment in which a legacy BIOS begins is the last 64 KiB.
const LAST_SEGMENT_BYTES: usize = 0x1_0000;
/// So much of the code that a legacy reset vector leads to must not be blank.
const CODE_BYTES: usize = 16;

/// Checks the reset vector where there has to be one, and says what it proves. `is_only_evidence`:
/// nothing else of the image is known, so a jump alone could be anything and only that of a legacy
/// BIOS counts.
pub(super) fn check(
    image: &[u8],
    closed: &ByteRanges,
    needed: bool,
    is_only_evidence: bool,
) -> Result<Option<Evidence>, Damage> {
    let start = image.len().saturating_sub(RESET_VECTOR_BYTES);
    if reaches_into(closed, start..image.len()) {
        return Ok(None);
    }
    if let Some(target) = legacy_target(image) {
        if reaches_into(closed, target..image.len().min(target + CODE_BYTES)) {
            return Ok(None);
        }
        check_code(image, target)?;
        return Ok(Some(Evidence::LegacyBios));
    }
    if has_x86_reset_vector(image) {
        return Ok((!is_only_evidence).then_some(Evidence::ResetVector));
    }
    if needed {
        return Err(Damage::new(
            start,
            format!("reset vector: {:02x?}, expected it to begin with a jump", &image[start..]),
        ));
    }
    Ok(None)
}

/// Returns where the far jump `JMP F000:xxxx` of a legacy BIOS leads to in the image.
fn legacy_target(image: &[u8]) -> Option<usize> {
    match image.last_chunk::<RESET_VECTOR_BYTES>()? {
        [0xea, low, high, 0x00, 0xf0, ..] => {
            let segment_start = image.len().checked_sub(LAST_SEGMENT_BYTES)?;
            Some(segment_start + usize::from(u16::from_le_bytes([*low, *high])))
        }
        _ => None,
    }
}

fn check_code(image: &[u8], target: usize) -> Result<(), Damage> {
    let code = &image[target..image.len().min(target + CODE_BYTES)];
    let is_blank = [0x00, 0xff].iter().any(|blank| code.iter().all(|byte| byte == blank));
    if is_blank {
        return Err(Damage::new(
            target,
            format!("the reset vector jumps to {code:02x?}, expected code"),
        ));
    }
    Ok(())
}
