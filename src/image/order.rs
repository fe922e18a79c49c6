//! The order of several chips that are one BIOS.

use super::layout::{Descriptor, has_x86_reset_vector};

/// Returns what shows that the pieces of `contents`, of which the second and so on begin at
/// `joints`, are in the wrong order; none where nothing shows it.
///
/// Where a board starts is at an end of the whole: an x86 reset vector is the last thing on the
/// last chip, a flash descriptor the first on the first.
pub fn wrong_order(contents: &[u8], joints: &[u64]) -> Option<String> {
    let mut pieces = Vec::with_capacity(joints.len() + 1);
    let mut start = 0;
    for &end in joints.iter().chain([&(contents.len() as u64)]) {
        pieces.push(contents.get(start as usize..end as usize)?);
        start = end;
    }
    let has_descriptor = |piece: &[u8]| matches!(Descriptor::find(piece), Ok(Some(_)));
    let first_with_descriptor = pieces.iter().position(|piece| has_descriptor(piece));
    let last_with_vector = pieces.iter().rposition(|piece| has_x86_reset_vector(piece));
    match (first_with_descriptor, last_with_vector) {
        (Some(nth), _) if nth > 0 => {
            Some(format!("a flash descriptor begins number {}, and none the first", nth + 1))
        }
        (_, Some(nth)) if nth + 1 < pieces.len() => {
            Some(format!("an x86 reset vector ends number {}, and none the last", nth + 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::samples;

    #[test]
    fn only_evidence_speaks_against_an_order() {
        let mut low = vec![0xff; 0x2000];
        let mut regions = [samples::UNUSED; 16];
        (regions[0], regions[1]) = (samples::pages(0, 0), samples::pages(1, 3));
        samples::descriptor_skylake(&mut low, &regions, 0xffff_ff00);
        let mut high = vec![0x90; low.len()];
        let end = high.len() - 16;
        high[end..end + 5].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
        let joint = [low.len() as u64];
        let joined = |parts: [&[u8]; 2]| parts.concat();
        assert_eq!(wrong_order(&joined([&low, &high]), &joint), None);
        let told = wrong_order(&joined([&high, &low]), &joint).unwrap_or_default();
        assert!(told.contains("descriptor begins number 2"), "{told}");
        let blank = vec![0xff; low.len()];
        let told = wrong_order(&joined([&high, &blank]), &joint).unwrap_or_default();
        assert!(told.contains("reset vector ends number 1"), "{told}");
        // Two that would both start, and two of which nothing is known.
        assert_eq!(wrong_order(&joined([&high, &high]), &joint), None);
        assert_eq!(wrong_order(&joined([&blank, &blank]), &joint), None);
        assert_eq!(wrong_order(&high, &[]), None);
        assert_eq!(wrong_order(&high, &[u64::MAX]), None);
    }
}
