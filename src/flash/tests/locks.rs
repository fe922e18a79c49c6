//! Locks are put back as they were, or the end says where they are not.

use std::ops::Range;

use super::*;

/// A chip of zeros whose first two blocks and last block are locked until somebody unlocks them.
fn chip() -> (SimulatedFlash, Vec<EraseBlock>) {
    let mut flash = SimulatedFlash::new(nor(5), vec![0; 1280]);
    let blocks: Vec<EraseBlock> = flash.geometry().blocks().collect();
    let locked = vec![blocks[0], blocks[1], blocks[4]];
    locked.iter().for_each(|block| flash.lock(*block, false));
    (flash, locked)
}

fn are_locked(flash: &mut SimulatedFlash, blocks: &[EraseBlock]) -> Vec<bool> {
    blocks.iter().map(|block| flash.is_locked(*block).unwrap()).collect()
}

/// Numbers of the operations at which somebody locks blocks while a job runs.
fn lock_operations(image: &VerifiedImage) -> Vec<u64> {
    let (mut flash, _) = chip();
    run(Job::new(image.clone()), &mut flash);
    let history = flash.history().iter().enumerate();
    history.filter(|(_, asked)| **asked == Asked::Protect).map(|(nth, _)| nth as u64).collect()
}

#[test]
fn what_was_locked_is_locked_again_however_the_job_ends() {
    let (mut flash, locked) = chip();
    let end = run(Job::new(image(vec![1; 1280])), &mut flash).into_end().unwrap();
    assert_eq!((&end.outcome, end.note()), (&Outcome::Updated, None));
    assert_eq!(flash.contents(), [1; 1280]);
    let all: Vec<EraseBlock> = flash.geometry().blocks().collect();
    assert_eq!(are_locked(&mut flash, &all), [true, true, false, false, true]);

    // Restored, because a block that changes early wears out.
    let (mut flash, _) = chip();
    let mut job = Job::new(image(vec![1; 1280]));
    while job.step(&mut flash) == Step::Continue {}
    assert_eq!(are_locked(&mut flash, &locked), [false; 3], "unlocked before the first change");
    job.allow_change();
    let next = flash.operations();
    (next..next + 40).for_each(|operation| flash.inject(operation, Fault::Error));
    let end = run(job, &mut flash).into_end().unwrap();
    assert_ne!(end.outcome, Outcome::Updated);
    assert_eq!(are_locked(&mut flash, &locked), [true; 3]);

    // Cancelled, and refused for another block.
    let (mut flash, _) = chip();
    let mut job = Job::new(image(vec![1; 1280]));
    while job.step(&mut flash) == Step::Continue {}
    assert!(job.cancel(&mut flash));
    assert_eq!(are_locked(&mut flash, &locked), [true; 3]);
    flash.lock(all[3], true);
    let error = refusal(image(vec![1; 1280]), &mut flash);
    assert!(matches!(error, FlashError::Locked { offset_bytes: 0x300 }), "{error}");
    assert_eq!(are_locked(&mut flash, &locked), [true; 3]);
}

#[test]
fn a_lock_that_does_not_come_back_is_told_by_its_range() {
    let image = image(vec![1; 1280]);
    let operations = lock_operations(&image);
    assert!(!operations.is_empty());
    // One failure is repaired by the next try.
    for fault in [Fault::Error, Fault::NotDone] {
        let (mut flash, locked) = chip();
        flash.inject(operations[0], fault);
        let end = run(Job::new(image.clone()), &mut flash).into_end().unwrap();
        assert_eq!((end.note(), are_locked(&mut flash, &locked)), (None, vec![true; 3]));
    }
    let (mut flash, locked) = chip();
    (0..500).for_each(|later| flash.inject(operations[0] + later, Fault::NotDone));
    let end = run(Job::new(image), &mut flash).into_end().unwrap();
    assert_eq!(are_locked(&mut flash, &locked), [false; 3]);
    assert_eq!(end.locks.lost, [0..0x200, 0x400..0x500]);
    assert_eq!(
        end.to_string(),
        "the flash holds the new firmware; the chip is less protected than before, not locked: \
         0x0-0x1ff, 0x400-0x4ff; a reboot is safe"
    );
}

#[test]
fn a_chip_without_locks_is_not_asked_for_any() {
    let mut flash = SimulatedFlash::new(nor(5), vec![0; 1280]);
    run(Job::new(image(vec![1; 1280])), &mut flash);
    assert!(!flash.history().contains(&Asked::Protect));
}

/// A chip of 16 blocks whose bits lock a range; `locked` is locked.
fn ranged(at_bottom: bool, locked: Range<usize>) -> SimulatedFlash {
    let mut flash = SimulatedFlash::new(nor(16), vec![0; 4096]);
    flash.lock_by(Locking::Range { at_bottom });
    let blocks: Vec<EraseBlock> = flash.geometry().blocks().collect();
    blocks[locked].iter().for_each(|block| flash.lock(*block, false));
    flash
}

#[test]
fn a_chip_that_locks_ranges_is_unlocked_as_far_as_it_must_be_and_locked_as_it_was() {
    let cases = [
        (false, 8..16, vec![12]),
        (false, 8..16, vec![0, 15]),
        (false, 0..16, vec![7]),
        (true, 0..8, vec![3]),
        (true, 0..8, vec![0, 7, 12]),
        (true, 8..16, vec![15]),
        // The driver moves the lock from the top to the bottom, and back.
        (true, 8..16, vec![2, 8, 15]),
        (true, 0..16, vec![0]),
    ];
    for (at_bottom, locked, changed) in cases {
        let mut flash = ranged(at_bottom, locked.clone());
        let before = flash.locked().clone();
        let mut bytes = vec![0; 4096];
        changed.iter().for_each(|block| bytes[block * 256..][..256].fill(7));
        let end = run(Job::new(image(bytes.clone())), &mut flash).into_end().unwrap();
        let case = format!("{at_bottom} {locked:?} {changed:?}");
        assert_eq!((&end.outcome, end.note()), (&Outcome::Updated, None), "{case}");
        assert_eq!(flash.contents(), bytes, "{case}");
        assert_eq!(flash.locked(), &before, "{case}");
    }
}

#[test]
fn locks_that_are_not_what_they_were_are_told_on_either_side() {
    let mut flash = ranged(false, 8..16);
    let mut job = Job::new(image(vec![1; 4096]));
    while job.step(&mut flash) == Step::Continue {}
    job.allow_change();
    // Somebody else locks a block for good when it has been written.
    let first: EraseBlock = flash.geometry().blocks().next().unwrap();
    while job.progress().phase != Phase::Verifying {
        job.step(&mut flash);
    }
    flash.lock(first, true);
    let end = run(job, &mut flash).into_end().unwrap();
    assert!(end.locks.lost.is_empty() && end.locks.gained.len() == 1);
    let told = "the chip is more protected than before, locked: 0x0-0xff";
    assert_eq!(end.note().as_deref(), Some(told));
}

#[test]
fn a_chip_that_does_not_say_what_is_locked_is_not_unlocked() {
    let (mut flash, locked) = chip();
    let mut job = Job::new(image(vec![1; 1280]));
    while job.progress().phase != Phase::Checking {
        job.step(&mut flash);
    }
    // The second read, the first question, and then no answer to any.
    let next = flash.operations() + 2;
    (next..next + 40).for_each(|operation| flash.inject(operation, Fault::Error));
    let end = run(job, &mut flash).into_end().unwrap();
    assert!(matches!(end.error, Some(FlashError::Survey { .. })), "{end}");
    assert!(!flash.history().contains(&Asked::Unlock));
    flash.clear_faults();
    assert_eq!(are_locked(&mut flash, &locked), [true; 3]);
}
