//! The engine against simulated chips.

#![allow(clippy::unwrap_used)]

mod closed;
mod faults;
mod foreign;
mod locks;
mod moved;
mod refusals;

use super::*;
use crate::image::{Region, RegionAction, VerifiedImage};
use crate::reason::Condition;

/// Runs a job to its end, and returns it to be asked about that.
fn run(mut job: Job, flash: &mut SimulatedFlash) -> Job {
    for _ in 0..10_000 {
        match job.step(flash) {
            Step::Continue => {}
            Step::ReadyToChange => {
                assert_eq!(job.progress().phase, Phase::ReadyToChange);
                job.allow_change();
            }
            Step::Ended => return job,
        }
        assert!(job.progress().done_blocks <= job.progress().total_blocks);
    }
    panic!("the job does not end: {:?}", job.progress());
}

fn nor(block_count: u64) -> Geometry {
    Geometry::uniform(block_count * 256, 256, 1, WriteRule::ClearBits).unwrap()
}

fn image(bytes: Vec<u8>) -> VerifiedImage {
    VerifiedImage::for_tests(bytes, Vec::new())
}

fn refusal(image: VerifiedImage, flash: &mut SimulatedFlash) -> FlashError {
    let before = flash.contents().to_vec();
    let mut job = run(Job::new(image), flash);
    assert_eq!((&job.end().unwrap().outcome, flash.contents()), (&Outcome::Unchanged, &before[..]));
    assert!(flash.touched().is_empty() && !job.cancel(flash));
    match job.into_end() {
        Some(End { error: Some(error), .. }) => error,
        end => panic!("no refusal: {end:?}"),
    }
}

/// A firmware volume of `length` bytes (PI 1.7 volume 3, 3.2.1).
fn volume(length: usize, fill: u8) -> Vec<u8> {
    let mut volume = vec![fill; length];
    volume[..72].fill(0);
    volume[32..40].copy_from_slice(&(length as u64).to_le_bytes());
    volume[40..44].copy_from_slice(b"_FVH");
    volume[48..50].copy_from_slice(&72u16.to_le_bytes());
    let words = volume[..72].as_chunks::<2>().0;
    let sum = words.iter().fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes(*word)));
    volume[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    volume
}

#[test]
fn a_preserved_volume_that_has_lost_its_header_comes_from_the_image() {
    let action = RegionAction::Preserve;
    let store = Region { name: "variables".to_owned(), offset_bytes: 0, length_bytes: 512, action };
    let new = [volume(512, 0x11), vec![0x77; 512]].concat();
    let image = VerifiedImage::for_tests(new.clone(), vec![store]);
    let run_on = |live: &[u8], cut: Option<u64>| {
        let mut flash = SimulatedFlash::new(nor(4), live.to_vec());
        cut.into_iter().for_each(|operation| flash.inject(operation, Fault::CutInside));
        run(Job::rescue(image.clone()), &mut flash);
        flash.contents().to_vec()
    };
    let rescued = |live: &[u8]| run_on(live, None);
    // A whole chip, or the first half of it, was erased.
    let half = [vec![0xFF; 300], vec![0x22; 724]].concat();
    for live in [vec![0xFF; 1024], half] {
        assert_eq!(rescued(&live), new);
        // The header is written last, so a power cut before it is no end.
        for operation in 0..12 {
            let left = run_on(&live, Some(operation));
            assert_eq!(rescued(&left), new, "cut at {operation}");
        }
    }
    // A computer's own variables stay.
    let own = [volume(512, 0x33), vec![0; 512]].concat();
    assert_eq!(rescued(&own), [&own[..512], &new[512..]].concat());
}

#[test]
fn damage_is_described_block_by_block() {
    let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
    let mut job = Job::new(image(vec![1; 1024]));
    while job.step(&mut flash) == Step::Continue {}
    job.allow_change();
    // The first batch leaves two blocks erased and the third half erased; then the chip dies.
    let third_erase = flash.operations() + 2;
    flash.inject(third_erase, Fault::HalfDone);
    job.step(&mut flash);
    let blocks: Vec<EraseBlock> = flash.geometry().blocks().collect();
    blocks.iter().for_each(|block| flash.wear_out(*block));
    let job = run(job, &mut flash);
    let end = job.end().unwrap();
    let erased = MixedBlocks { offset_bytes: 0, length_bytes: 0x200, hold: BlockHolds::Erased };
    let unknown =
        MixedBlocks { offset_bytes: 0x200, length_bytes: 0x100, hold: BlockHolds::Unknown };
    assert_eq!(end.outcome, Outcome::Mixed { blocks: vec![erased, unknown] });
    assert_eq!(
        end.to_string(),
        "the flash is neither all new nor all old: 0x0-0x1ff erased, 0x200-0x2ff unknown; \
         do not reboot or power off, start the update again"
    );
    let error = end.error.as_ref().unwrap();
    assert_eq!(
        error.to_string(),
        "the eraseblock at 0x0 did not take its new contents in 3 attempts"
    );
}

/// A running host with one odd checksum, and a chip that does not read well for a moment.
#[test]
fn contents_that_only_look_wrong_relax_nothing_and_stay_as_safe_as_before() {
    let mut odd = [volume(512, 0x33), vec![0; 512]].concat();
    odd[55] = 2;
    let mut flash = SimulatedFlash::new(nor(4), odd.clone());
    for attempt in 0..2 * u64::from(READ_ATTEMPTS_MAX) {
        // After the survey of four blocks.
        flash.inject(4 + attempt, Fault::Error);
    }
    let end = run(Job::new(image(vec![0x77; 1024])), &mut flash).into_end().unwrap();
    assert!(matches!(end.error, Some(FlashError::Unreadable { .. })), "{end:?}");
    assert_eq!((&end.outcome, end.reboot_is_safe()), (&Outcome::Unchanged, true));
    assert_eq!(flash.contents(), odd);
    // The plan is made, and refused: the chip is doubtful then.
    flash.clear_faults();
    let last = flash.geometry().blocks().last().unwrap();
    flash.lock(last, true);
    let end = run(Job::new(image(vec![0x77; 1024])), &mut flash).into_end().unwrap();
    assert!(matches!(end.error, Some(FlashError::Locked { .. })), "{end:?}");
    assert_eq!((end.condition, end.reboot_is_safe()), (Condition::Doubtful, true));
    // Known to be broken, it is not safe.
    let end = run(Job::rescue(image(vec![0x77; 1024])), &mut flash).into_end().unwrap();
    assert_eq!((end.condition, end.reboot_is_safe()), (Condition::Broken, false));
}
