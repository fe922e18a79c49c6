//! Somebody else writes to the chip while a job runs.

use super::*;
use crate::image::validity::Verdict;
use crate::image::{Contents, Description, Part};

/// A chip of four blocks: preserved, equal, and two that change. The job is about to change it.
fn ready_to_change(flash: &mut SimulatedFlash) -> Job {
    let action = RegionAction::Preserve;
    let kept = Region { name: "me".to_owned(), offset_bytes: 0, length_bytes: 256, action };
    let new = [vec![9; 256], vec![0; 256], vec![1; 512]].concat();
    let mut job = Job::new(VerifiedImage::for_tests(new, vec![kept]));
    while job.step(flash) == Step::Continue {}
    job
}

#[test]
fn what_somebody_else_does_outside_the_plan_is_told_and_restores_nothing() {
    let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
    let job = ready_to_change(&mut flash);
    let erases_before = flash.erases();
    flash.inject_foreign(flash.operations(), ForeignWrite { offset_bytes: 7, mask: 0x80 });
    let end = run(job, &mut flash).into_end().unwrap();
    assert_eq!((&end.outcome, end.reboot_is_safe()), (&Outcome::Updated, true));
    assert_eq!((flash.erases() - erases_before, end.error.is_none()), (2, true));
    let kind = ForeignKind::Left;
    assert_eq!(end.foreign, [ForeignChange { offset_bytes: 0, length_bytes: 256, kind }]);
    assert_eq!(end.after_digest(), None, "not every byte was compared with what it should be");
    assert_eq!(
        end.to_string(),
        "the flash holds the new firmware; somebody else wrote to the chip meanwhile: 0x0-0xff \
        changed, not part of the plan; a reboot is safe"
    );
}

#[test]
fn the_record_after_an_image_of_a_part_is_of_what_the_chip_holds_in_the_end() {
    let part = Part { name: "upper".to_owned(), length_bytes: 512, offset_bytes: Some(512) };
    let description = Description { parts: vec![part], ..Description::default() };
    let image = VerifiedImage::described(vec![1; 512], description);
    // Before the backup is read a second time, and after.
    for waits in [false, true] {
        let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
        let mut job = Job::new(image.clone());
        while job.step(&mut flash) == Step::Continue {
            if !waits && job.progress().phase == Phase::Planning {
                break;
            }
        }
        flash.inject_foreign(flash.operations(), ForeignWrite { offset_bytes: 7, mask: 0x80 });
        let job = run(job, &mut flash);
        assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
        assert_eq!(flash.contents()[7], 0x80);
        let good = job.known_good().unwrap();
        let verdict = good.judge(&Contents::whole(flash.contents().to_vec()), "");
        assert!(matches!(verdict, Some(Verdict::Valid { .. })), "{waits} {verdict:?}");
    }
}

#[test]
fn what_somebody_else_does_to_the_image_is_repaired_a_few_times() {
    // In the block that was equal, and in one that was written.
    for offset_bytes in [0x180, 0x380] {
        let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
        let job = ready_to_change(&mut flash);
        // Two erases, two writes and two reads back come first.
        flash.inject_foreign(flash.operations() + 6, ForeignWrite { offset_bytes, mask: 1 });
        let end = run(job, &mut flash).into_end().unwrap();
        assert_eq!((&end.outcome, end.reboot_is_safe()), (&Outcome::Updated, true), "{end}");
        let (offset_bytes, kind) = (offset_bytes & !0xff, ForeignKind::Repaired);
        assert_eq!(end.foreign, [ForeignChange { offset_bytes, length_bytes: 256, kind }]);
        let expected = [vec![0; 512], vec![1; 512]].concat();
        assert_eq!(flash.contents(), expected);
    }
    // Somebody who does not stop: the job ends all the same, and says so.
    let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
    let job = ready_to_change(&mut flash);
    for operation in 6..500 {
        let write = ForeignWrite { offset_bytes: 0x180, mask: 1 << (operation % 7) };
        flash.inject_foreign(flash.operations() + operation, write);
    }
    let end = run(job, &mut flash).into_end().unwrap();
    assert_ne!(end.outcome, Outcome::Updated);
    assert!(end.error.is_some() && flash.operations() < 150, "{} {end}", flash.operations());
}
