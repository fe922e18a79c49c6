//! The Firmware Interface Table and what Intel Boot Guard finds by it: whether it is there.

use super::{Damage, reaches_into};
use crate::image::ByteRanges;
use crate::image::boot_guard::{BootGuard, Component, ComponentKind};
use crate::image::layout::{Fit, FitEntry};

/// Every component begins with a header of at least this many bytes.
const HEADER_BYTES: usize = 32;

/// Checks the table, and that no component of Boot Guard is erased. A broken table is a doubt: the
/// processor takes a table only if it has to.
///
/// A component that is erased is damage where a manifest of Boot Guard is there. Else it may be
/// room that the maker has left for boards with Boot Guard, which is a doubt.
pub(super) fn check(image: &[u8], closed: &ByteRanges) -> Result<(), Damage> {
    let fit = match Fit::find(image) {
        Ok(Some(fit)) => fit,
        Ok(None) => return Ok(()),
        Err(flaw) if reaches_into(closed, flaw.offset_bytes..image.len()) => return Ok(()),
        Err(flaw) => return Err(Damage::doubt(flaw.offset_bytes, flaw.to_string())),
    };
    let Some((kind, offset_bytes)) =
        fit.entries.iter().find_map(|entry| erased(image, closed, entry))
    else {
        return Ok(());
    };
    let why = format!("the {kind} of Intel Boot Guard is erased");
    let is_manifest = |component: &Component| {
        matches!(component, Component::KeyManifest { .. } | Component::BootPolicy { .. })
    };
    match BootGuard::read(image).components().iter().any(is_manifest) {
        true => Err(Damage::new(offset_bytes, why)),
        false => Err(Damage::doubt(offset_bytes, why)),
    }
}

fn erased(image: &[u8], closed: &ByteRanges, entry: &FitEntry) -> Option<(ComponentKind, usize)> {
    let kind = ComponentKind::from_code(entry.kind)?;
    let offset_bytes = entry.offset_bytes?;
    let range = offset_bytes..offset_bytes + HEADER_BYTES;
    let header = image.get(range.clone())?;
    let is_erased = header.iter().all(|byte| *byte == 0xff) && !reaches_into(closed, range);
    is_erased.then_some((kind, offset_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::boot_guard::samples;
    use crate::image::validity::{Verdict, validate, validate_around};

    const SIZE: usize = 0x1_0000;

    fn image() -> Vec<u8> {
        samples::image(
            SIZE,
            &[
                (2, samples::acm(0xb00c, 0)),
                (0x0b, samples::key_manifest(1, 1, 2)),
                (0x0c, samples::boot_policy(2, 1)),
            ],
        )
    }

    #[test]
    fn a_table_that_is_lost_is_a_doubt_and_a_lost_component_is_damage() {
        let whole = image();
        // Nothing else in it is of a known format.
        assert!(matches!(validate(&whole), Verdict::Unknown { .. }), "{}", validate(&whole));
        for (range, at) in
            [(SIZE - 0x400..SIZE - 0x3f0, SIZE - 0x400), (SIZE - 0x3f0..SIZE - 0x3e0, SIZE - 0x400)]
        {
            let mut broken = whole.clone();
            broken[range].fill(0xff);
            let verdict = validate(&broken);
            let Verdict::Doubtful { offset_bytes, .. } = verdict else { panic!("{verdict}") };
            assert_eq!(offset_bytes, at as u64);
        }
        for (at, name) in
            [(0x1000, "startup ACM"), (0x1800, "key manifest"), (0x2000, "boot policy manifest")]
        {
            let mut broken = whole.clone();
            broken[at..at + 0x400].fill(0xff);
            let verdict = validate(&broken);
            let Verdict::Invalid { offset_bytes, why } = &verdict else { panic!("{verdict}") };
            assert_eq!((*offset_bytes, why.contains(name)), (at as u64, true), "{why}");
            let closed: ByteRanges = std::iter::once(at as u64..at as u64 + 0x400).collect();
            let verdict = validate_around(&broken, &closed);
            assert!(matches!(verdict, Verdict::Unknown { .. }), "{verdict}");
        }
    }

    #[test]
    fn room_for_manifests_on_a_board_without_boot_guard_proves_nothing() {
        let room = vec![0xff; 0x400];
        let components = [(2, samples::acm(0xb00c, 0)), (0x0b, room.clone()), (0x0c, room)];
        let verdict = validate(&samples::image(SIZE, &components));
        assert!(matches!(verdict, Verdict::Doubtful { offset_bytes: 0x1800, .. }), "{verdict}");
    }
}
