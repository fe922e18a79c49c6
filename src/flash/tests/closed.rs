//! The engine on chips of which the host may not read everything.

use sha2::{Digest, Sha256};

use super::*;
use crate::image::ByteRanges;

const KIB: usize = 1024;

fn preserve(start: usize, end: usize) -> Region {
    let (offset_bytes, length_bytes) = (start as u64, (end - start) as u64);
    Region { name: "me".into(), offset_bytes, length_bytes, action: RegionAction::Preserve }
}

fn ranges(pairs: &[(u64, u64)]) -> ByteRanges {
    pairs.iter().map(|(start, end)| *start..*end).collect()
}

/// 256 KiB in blocks of `block_bytes`.
fn chip(block_bytes: u32) -> SimulatedFlash {
    let geometry =
        Geometry::uniform(256 * KIB as u64, block_bytes, 1, WriteRule::ClearBits).unwrap();
    let contents = (0..256 * KIB as u32).map(|n| (n >> 8) as u8 ^ n as u8).collect();
    SimulatedFlash::new(geometry, contents)
}

/// The chip's contents with other bytes in these ranges.
fn changed(chip: &SimulatedFlash, changes: &[(usize, usize)]) -> Vec<u8> {
    let mut bytes = chip.contents().to_vec();
    for (start, end) in changes {
        bytes[*start..*end].iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    bytes
}

fn refusal(job: Job, chip: &mut SimulatedFlash) -> FlashError {
    let before = chip.erases();
    let end = run(job, chip).into_end().unwrap();
    assert_eq!((end.outcome, chip.erases()), (Outcome::Unchanged, before));
    end.error.unwrap()
}

/// What is closed and preserved is neither read again after the backup, nor changed, nor part of
/// what is said in the end.
#[test]
fn an_update_goes_around_what_is_closed() {
    for (answers, is_rescue) in [(false, false), (false, true), (true, false)] {
        let mut chip = chip(4096);
        let me = 16 * KIB..64 * KIB;
        chip.close(me.start as u64..me.end as u64);
        if answers {
            chip.answer_closed_reads();
        }
        let before = chip.contents().to_vec();
        // The image has other bytes for the closed range, too.
        let image = changed(&chip, &[(8 * KIB, 128 * KIB)]);
        let verified = VerifiedImage::for_tests(image.clone(), vec![preserve(me.start, me.end)]);
        let mut job = if is_rescue { Job::rescue(verified) } else { Job::new(verified) };
        while job.step(&mut chip) == Step::Continue {}
        let backup = job.backup().unwrap();
        let closed = if answers { ByteRanges::default() } else { ranges(&[(16 << 10, 64 << 10)]) };
        assert_eq!(*backup.closed, closed);
        assert!(backup.bytes[me.clone()].iter().all(|byte| *byte == 0xff));
        let expected: [u8; 32] = Sha256::digest(backup.bytes.as_slice()).into();
        assert_eq!(backup.digest(), Some(expected));
        let reads = chip.refused_reads();
        job.allow_change();
        let end = run(job, &mut chip).into_end().unwrap();
        assert_eq!((&end.outcome, end.reboot_is_safe()), (&Outcome::Updated, true), "{end}");
        assert!(answers || chip.refused_reads() == reads, "it was read again");
        assert_eq!(chip.contents()[me.clone()], before[me.clone()]);
        assert_eq!(chip.contents()[..me.start], image[..me.start]);
        assert_eq!(chip.contents()[me.end..], image[me.end..]);
        assert_eq!(end.before_digest().is_none(), !answers, "a digest of the whole");
        assert_eq!(end.after_digest().is_none(), !answers, "a digest of the whole");
    }
}

/// A restore after a failure does not look at closed blocks either, and does not call them mixed.
#[test]
fn a_restore_goes_around_what_is_closed() {
    let mut chip = chip(4096);
    chip.close(0..0x1_0000);
    let before = chip.contents().to_vec();
    let image = changed(&chip, &[(128 * KIB, 192 * KIB)]);
    let mut job = Job::new(VerifiedImage::for_tests(image, vec![preserve(0, 64 * KIB)]));
    while job.step(&mut chip) == Step::Continue {}
    let reads = chip.refused_reads();
    // From now on one block takes nothing new.
    let stuck = chip.geometry().block_at(130 * KIB as u64).unwrap();
    chip.lock(stuck, true);
    job.allow_change();
    let end = run(job, &mut chip).into_end().unwrap();
    assert_eq!((&end.outcome, end.reboot_is_safe()), (&Outcome::Restored, true), "{end}");
    assert_eq!((chip.contents(), chip.refused_reads()), (&before[..], reads));
}

#[test]
fn a_plan_that_would_change_what_is_closed_is_refused_with_both_sides() {
    // Not preserved, in a region of the descriptor that the host may not read.
    let mut chip = chip(4096);
    let mut contents = chip.contents().to_vec();
    contents[..0x1000].fill(0xff);
    // A jump where the processor begins.
    contents[256 * KIB - 16] = 0xe9;
    let unused = (0x4c..0x80).step_by(4).map(|at| (at, 0x7fff));
    let words =
        [(0x10, 0x0ff0_a55a), (0x14, 0x0004_0003), (0x18, 0x4510_0208), (0x1c, 0x0031_0330)];
    let regions =
        [(0x40, 0), (0x44, 63 << 16 | 16), (0x48, 15 << 16 | 1), (0x80, 0b11 << 8 | 0b111 << 20)];
    for (at, word) in words.into_iter().chain(regions).chain(unused) {
        contents[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
    }
    for answers in [false, true] {
        chip = SimulatedFlash::new(chip.geometry().clone(), contents.clone());
        chip.close(0x1000..0x1_0000);
        if answers {
            chip.answer_closed_reads();
        }
        let image = changed(&chip, &[(0x2_0000, 0x2_1000)]);
        let job = Job::new(VerifiedImage::for_tests(image.clone(), Vec::new()));
        let error = refusal(job, &mut chip).to_string();
        assert!(error.contains("the host may not read 0x1000-0x1fff"), "{error}");
        // Preserved, all is well, whether the descriptor's word is all there is or reads fail.
        let image = VerifiedImage::for_tests(image, vec![preserve(0x1000, 0x1_0000)]);
        let end = run(Job::new(image), &mut chip).into_end().unwrap();
        assert_eq!(end.outcome, Outcome::Updated, "{end}: {:?}", end.error);
    }
}

/// Eraseblocks of 64 KiB, of which the descriptor's pages of 4 KiB are closed one by one.
#[test]
fn a_block_that_is_closed_in_part_stays_as_it_is_or_the_plan_is_refused() {
    let mut chip = chip(64 * KIB as u32);
    chip.close(0x3000..0x1_0000);
    let regions = vec![preserve(0x3000, 0x1_0000)];
    let image = changed(&chip, &[(0x3000, 0x1_0000), (0x2_0000, 0x2_0001)]);
    let job = Job::new(VerifiedImage::for_tests(image.clone(), regions.clone()));
    let job = run(job, &mut chip);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
    assert_eq!(chip.contents()[0x2_0000], image[0x2_0000]);

    let image = changed(&chip, &[(0x1000, 0x1001)]);
    let error = refusal(Job::new(VerifiedImage::for_tests(image, regions)), &mut chip);
    let error = error.to_string();
    assert!(
        error.contains("may not read 0x3000-0xffff") && error.contains("0x10000 bytes at 0x0"),
        "{error}"
    );
}

/// What fails elsewhere is still a fault.
#[test]
fn only_what_is_preserved_or_not_the_hosts_may_be_closed() {
    let mut chip = chip(4096);
    chip.close(0x8000..0xa000);
    let image = changed(&chip, &[(0x2_0000, 0x2_1000)]);
    let job = Job::new(VerifiedImage::for_tests(image, vec![preserve(0x8000, 0x9000)]));
    let error = refusal(job, &mut chip);
    assert!(matches!(error, FlashError::Unreadable { offset_bytes: 0x9000, .. }), "{error}");
}
