//! Locks are put back as they were, or the end says where they are not.

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
    assert_eq!(end.less_protected, [0..0x200, 0x400..0x500]);
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
