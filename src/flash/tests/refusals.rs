//! What ends a job before its first change.

use super::*;

#[test]
fn an_image_of_another_size_is_refused() {
    let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
    for length in [0, 1023, 1025, 512, 4096] {
        let error = refusal(image(vec![1; length]), &mut flash);
        let FlashError::ImageSize { image_bytes, chip_bytes: 1024 } = error else {
            panic!("{error}");
        };
        assert_eq!(image_bytes, length as u64);
        assert!(
            error.to_string().contains(&format!("{length:#x} bytes, the flash chip 0x400")),
            "{error}"
        );
    }
}

#[test]
fn chips_in_the_wrong_order_are_left_alone() {
    let (low, mut high) = (vec![0; 512], vec![1; 512]);
    high[496..499].copy_from_slice(&[0xe9, 0, 0xff]);
    let flash = |contents: [&[u8]; 2]| {
        let geometry = nor(4).joined_at(&[512]).unwrap();
        SimulatedFlash::new(geometry, contents.concat())
    };
    let target = [&low[..], &high].concat();
    let mut turned = flash([&high, &low]);
    let error = refusal(image(target.clone()), &mut turned);
    assert!(matches!(error, FlashError::WrongOrder(_)), "{error}");
    assert_eq!(turned.contents(), [&high[..], &low].concat());
    // What a dead machine's chips hold says nothing.
    let end = run(Job::rescue(image(target.clone())), &mut turned).into_end().unwrap();
    assert_eq!(end.outcome, Outcome::Updated);
    let mut right = flash([&low, &[0x11; 512][..]]);
    let end = run(Job::new(image(target.clone())), &mut right).into_end().unwrap();
    assert_eq!((end.outcome, right.contents()), (Outcome::Updated, &target[..]));
}

#[test]
fn nand_skips_bad_blocks_and_refuses_when_too_few_are_good() {
    let geometry = Geometry::uniform(4 * 512, 512, 128, WriteRule::PageOnce).unwrap();
    let mut flash = SimulatedFlash::new(geometry.clone(), vec![0x11; 4 * 512]);
    let bad = geometry.blocks().nth(1).unwrap();
    flash.mark_bad(bad);
    assert!(matches!(
        refusal(image(vec![0x22; 4 * 512]), &mut flash),
        FlashError::TooFewGoodBlocks { image_bytes: 0x800, good_bytes: 0x600, bad_blocks: 1 }
    ));
    assert!(matches!(
        refusal(image(vec![0x22; 512 + 128]), &mut flash),
        FlashError::PartialBlock { image_bytes: 640, block_bytes: 512 }
    ));
    let job = run(Job::new(image([[0x22; 512], [0x33; 512]].concat())), &mut flash);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
    let expected = [[0x22; 512], [0x11; 512], [0x33; 512], [0x11; 512]].concat();
    assert_eq!(flash.contents(), expected);
}

#[test]
fn locks_are_taken_away_or_refused_before_the_first_change() {
    let mut flash = SimulatedFlash::new(nor(3), vec![0; 768]);
    let last = flash.geometry().blocks().last().unwrap();
    flash.lock(last, false);
    assert_eq!(
        run(Job::new(image(vec![1; 768])), &mut flash).end().unwrap().outcome,
        Outcome::Updated
    );
    let mut flash = SimulatedFlash::new(nor(3), vec![0; 768]);
    flash.lock(last, true);
    assert!(matches!(
        refusal(image(vec![1; 768]), &mut flash),
        FlashError::Locked { offset_bytes: 0x200 }
    ));
    // A locked block that stays as it is does no harm.
    let equal_end = [vec![1; 512], vec![0; 256]].concat();
    assert_eq!(
        run(Job::new(image(equal_end)), &mut flash).end().unwrap().outcome,
        Outcome::Updated
    );
}

#[test]
fn a_preserved_region_that_shares_a_changing_block_is_refused() {
    let preserve = |offset_bytes, length_bytes| {
        let action = RegionAction::Preserve;
        vec![Region { name: "mac".to_owned(), offset_bytes, length_bytes, action }]
    };
    let mut flash = SimulatedFlash::new(nor(3), vec![7; 768]);
    let error = refusal(VerifiedImage::for_tests(vec![1; 768], preserve(0x110, 6)), &mut flash);
    assert!(matches!(error, FlashError::PreserveShares { offset_bytes: 0x100, .. }), "{error}");
    // Beyond the image: no bundle should say so, but the engine does not rely on it.
    for (offset, length) in [(0x2FF, 2), (0x300, 1), (u64::MAX, 2), (0, u64::MAX)] {
        let error =
            refusal(VerifiedImage::for_tests(vec![1; 768], preserve(offset, length)), &mut flash);
        let FlashError::Misfit(misfit) = &error else { panic!("{error}") };
        assert!(matches!(**misfit, crate::image::Misfit::RegionOutside { .. }), "{error}");
    }
    // The rest of the block does not change: nothing is at risk.
    let job = run(Job::new(VerifiedImage::for_tests(vec![7; 768], preserve(0x110, 6))), &mut flash);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
}

#[test]
fn unreadable_contents_are_refused_in_an_update_and_replaced_in_a_rescue() {
    let geometry = Geometry::uniform(3 * 512, 512, 128, WriteRule::PageOnce).unwrap();
    let mut flash = SimulatedFlash::new(geometry.clone(), vec![0; 3 * 512]);
    // A page that is written twice has an ECC that does not match.
    flash.write(0x200, &[0; 128]).unwrap();
    let mut fresh = flash.clone();
    let new = image(vec![0x77; 3 * 512]);
    let job = run(Job::new(new.clone()), &mut fresh);
    let end = job.end().unwrap();
    assert!(matches!(
        end.error,
        Some(FlashError::Unreadable { offset_bytes: 0x200, length_bytes: 512, .. })
    ));
    assert_eq!((fresh.erases(), end.before_digest(), end.reboot_is_safe()), (0, None, true));
    let job = run(Job::rescue(new), &mut fresh);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
}

#[test]
fn a_job_can_be_cancelled_until_the_first_change() {
    let mut flash = SimulatedFlash::new(nor(2), vec![0; 512]);
    let mut job = Job::new(image(vec![1; 512]));
    while job.step(&mut flash) == Step::Continue {}
    assert_eq!(job.step(&mut flash), Step::ReadyToChange);
    assert!(job.cancel(&mut flash) && flash.touched().is_empty());
    let end = job.end().unwrap();
    assert_eq!((&end.outcome, end.before_digest()), (&Outcome::Unchanged, end.after_digest()));
    let mut job = Job::new(image(vec![1; 512]));
    while job.step(&mut flash) == Step::Continue {}
    job.allow_change();
    assert!(!job.cancel(&mut flash));
}

#[test]
fn an_image_that_boot_guard_would_not_start_is_refused_before_the_first_erase() {
    use crate::image::boot_guard::samples;
    let made = |keys: Vec<u8>, policy: Vec<u8>| {
        let all = [(2, samples::acm(0xb00c, 0)), (0x0b, keys), (0x0c, policy)];
        samples::image(0x1_0000, &all)
    };
    let chip = made(samples::key_manifest(1, 1, 2), samples::boot_policy(2, 1));
    let mut flash = SimulatedFlash::new(nor(256), chip);
    let without = samples::image(0x1_0000, &[(2, samples::acm(0xb00c, 0))]);
    let foreign = made(samples::key_manifest(7, 1, 2), samples::boot_policy(2, 1));
    let lower = made(samples::key_manifest(1, 1, 2), samples::boot_policy(2, 0));
    for (bytes, says) in [
        (without, "the image has no key manifest"),
        (foreign, "the image has a key manifest by key"),
        (lower, "SVN 0 instead"),
    ] {
        let error = refusal(image(bytes.clone()), &mut flash);
        assert!(matches!(error, FlashError::BootGuardMismatch(_)), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        // What a broken chip has means nothing.
        let mut broken = flash.clone();
        let job = run(Job::rescue(image(bytes)), &mut broken);
        assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
    }
    // The maker's next version: another policy by another key, which the same owner names.
    let newer = made(samples::key_manifest(1, 1, 3), samples::boot_policy(3, 2));
    let job = run(Job::new(image(newer.clone())), &mut flash);
    assert_eq!((&job.end().unwrap().outcome, flash.contents()), (&Outcome::Updated, &newer[..]));
}
