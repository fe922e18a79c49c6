//! The engine against simulated chips: every fault at every operation.

#![allow(clippy::unwrap_used)]

mod closed;

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::*;
use crate::image::{Region, RegionAction, VerifiedImage};
use crate::reason::Condition;

/// A chip, what is on it, and what shall come onto it.
struct Scenario {
    flash: SimulatedFlash,
    image: VerifiedImage,
    /// Chip ranges of the image's blocks, found without the engine.
    good: Vec<std::ops::Range<usize>>,
    target: Vec<u8>,
}

fn regions(sizes: &[(u32, u64)]) -> Vec<EraseRegion> {
    sizes
        .iter()
        .map(|&(block_bytes, block_count)| EraseRegion { block_bytes, block_count })
        .collect()
}

fn geometry(kind: u8) -> Geometry {
    let (sizes, write_bytes, rule) = match kind {
        0 => (regions(&[(1024, 8)]), 1, WriteRule::ClearBits),
        1 => (regions(&[(512, 4), (2048, 3)]), 2, WriteRule::ClearBits),
        2 => (regions(&[(1024, 9)]), 256, WriteRule::PageOnce),
        3 => (regions(&[(512, 6)]), 1, WriteRule::Overwrite),
        // Larger than one span of reading.
        _ => (regions(&[(0x1_8000, 4)]), 512, WriteRule::PageOnce),
    };
    let size_bytes =
        sizes.iter().map(|region| u64::from(region.block_bytes) * region.block_count).sum();
    Geometry::new(size_bytes, &sizes, write_bytes, rule).unwrap()
}

fn random_bytes(rng: &mut ChaCha20Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// New contents for a block: equal, random, less bits, erased, or half erased.
fn mutate(rng: &mut ChaCha20Rng, old: &[u8]) -> Vec<u8> {
    let random = random_bytes(rng, old.len());
    match rng.next_u32() % 5 {
        0 => old.to_vec(),
        1 => random,
        2 => old.iter().zip(random).map(|(old, random)| old & random).collect(),
        3 => vec![0xFF; old.len()],
        _ => [vec![0xFF; old.len() / 2], random[old.len() / 2..].to_vec()].concat(),
    }
}

impl Scenario {
    fn new(kind: u8, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let geometry = geometry(kind);
        let live = random_bytes(&mut rng, geometry.size_bytes() as usize);
        let mut flash = SimulatedFlash::new(geometry.clone(), live.clone());
        let mut blocks: Vec<EraseBlock> = geometry.blocks().collect();
        if geometry.rule() == WriteRule::PageOnce {
            // Up to two bad blocks, and up to one good block that the image does not need.
            for _ in 0..rng.next_u32() % 3 {
                flash.mark_bad(blocks.remove(rng.next_u32() as usize % blocks.len()));
            }
            blocks.truncate(blocks.len() - (rng.next_u32() % 2) as usize);
        }
        let good: Vec<_> = blocks
            .iter()
            .map(|block| block.offset_bytes() as usize..block.end_bytes() as usize)
            .collect();
        let (mut image, mut target, mut preserve) = (Vec::new(), Vec::new(), Vec::new());
        for range in &good {
            let old = &live[range.clone()];
            let new = mutate(&mut rng, old);
            let preserved = rng.next_u32() % 4 == 0;
            if preserved {
                let (offset_bytes, length_bytes) = (image.len() as u64, new.len() as u64);
                preserve.push(Region {
                    name: format!("kept at {offset_bytes:#x}"),
                    offset_bytes,
                    length_bytes,
                    action: RegionAction::Preserve,
                });
            }
            target.extend_from_slice(if preserved { old } else { &new });
            image.extend(new);
        }
        Self { flash, image: VerifiedImage::for_tests(image, preserve), good, target }
    }

    /// What the image's blocks of a chip hold, in the image's order.
    fn placed(&self, flash: &SimulatedFlash) -> Vec<u8> {
        self.good.iter().flat_map(|range| flash.contents()[range.clone()].to_vec()).collect()
    }

    /// Blocks of the chip, by number, that differ from the target.
    fn differing(&self) -> BTreeSet<u32> {
        let (live, mut at) = (self.placed(&self.flash), 0);
        let mut differing = BTreeSet::new();
        for range in &self.good {
            if live[at..at + range.len()] != self.target[at..at + range.len()] {
                differing
                    .insert(self.flash.geometry().block_at(range.start as u64).unwrap().index());
            }
            at += range.len();
        }
        differing
    }

    /// What must hold after every job, whatever happened to it.
    fn check(&self, flash: &SimulatedFlash, end: &End) {
        let before = self.flash.contents();
        assert!(flash.touched().is_subset(&self.differing()), "touched {:?}", flash.touched());
        for block in
            flash.geometry().blocks().filter(|block| !flash.touched().contains(&block.index()))
        {
            let range = block.offset_bytes() as usize..block.end_bytes() as usize;
            assert_eq!(
                flash.contents()[range.clone()],
                before[range],
                "a block outside the plan changed"
            );
        }
        match &end.outcome {
            Outcome::Updated => assert_eq!(self.placed(flash), self.target),
            Outcome::Unchanged | Outcome::Restored => {
                assert_eq!(flash.contents(), before);
                assert!(end.error.is_some());
                assert!(end.outcome == Outcome::Restored || flash.touched().is_empty());
            }
            Outcome::Mixed { blocks } => self.check_mixed(flash, blocks),
        }
        assert_eq!(end.reboot_is_safe(), !matches!(end.outcome, Outcome::Mixed { .. }));
        if let Some(digest) = end.after_digest {
            assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(self.placed(flash))));
        }
    }

    fn check_mixed(&self, flash: &SimulatedFlash, mixed: &[MixedBlocks]) {
        let mut at = 0;
        for range in &self.good {
            let hold = mixed
                .iter()
                .find(|blocks| {
                    (blocks.offset_bytes..blocks.offset_bytes + blocks.length_bytes)
                        .contains(&(range.start as u64))
                })
                .map_or(BlockHolds::Old, |blocks| blocks.hold);
            let holds = &flash.contents()[range.clone()];
            match hold {
                BlockHolds::Old => assert_eq!(holds, &self.flash.contents()[range.clone()]),
                BlockHolds::New => assert_eq!(holds, &self.target[at..at + range.len()]),
                BlockHolds::Erased => assert!(holds.iter().all(|byte| *byte == 0xFF)),
                BlockHolds::Unknown => {}
            }
            at += range.len();
        }
    }
}

/// Runs a job to its end and gives the job back, to be asked for it.
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

fn run_checked(scenario: &Scenario, flash: &mut SimulatedFlash) -> Outcome {
    let job = run(Job::new(scenario.image.clone()), flash);
    let end = job.end().unwrap();
    scenario.check(flash, end);
    end.outcome.clone()
}

/// No fault: the target is reached, with no erase and no byte more than needed.
fn check_clean_run(scenario: &Scenario) -> u64 {
    let mut flash = scenario.flash.clone();
    let job = run(Job::new(scenario.image.clone()), &mut flash);
    let end = job.end().unwrap();
    scenario.check(&flash, end);
    assert_eq!((&end.outcome, end.error.is_none()), (&Outcome::Updated, true));
    assert_eq!(end.before_digest, Some(Sha256::digest(scenario.placed(&scenario.flash)).into()));
    assert_eq!(end.contents_changed(), !scenario.differing().is_empty());
    let statistics = end.statistics;
    assert_eq!(
        (statistics.erases, statistics.bytes_written),
        (flash.erases() as u32, flash.bytes_written())
    );
    assert_eq!(statistics.erases + statistics.erases_saved, statistics.blocks_changed);
    assert_eq!(statistics.blocks_changed as usize, scenario.differing().len());
    let operations = flash.operations();
    let again = run(Job::new(scenario.image.clone()), &mut flash);
    assert_eq!(again.end().unwrap().statistics.blocks_changed, 0);
    operations
}

/// One fault that goes away: never damage, and an update if it came early enough to be repeated.
fn check_transient_faults(scenario: &Scenario, operations: u64) {
    for fault in [Fault::Error, Fault::HalfDone, Fault::WrongByte] {
        for operation in 0..operations {
            let mut flash = scenario.flash.clone();
            flash.inject(operation, fault);
            let outcome = run_checked(scenario, &mut flash);
            assert!(
                matches!(outcome, Outcome::Updated | Outcome::Unchanged),
                "{fault:?} at operation {operation}: {outcome:?}"
            );
            // Only a read that lies about the old contents, or a question about a block that is not
            // answered, is a reason to refuse.
            let asked = flash.history()[operation as usize];
            let question = matches!(asked, Asked::IsBad | Asked::IsLocked | Asked::Unlock);
            assert!(outcome == Outcome::Updated || fault == Fault::WrongByte || question);
        }
    }
}

/// Power cut at every operation: preserved regions stand, and a new job finishes.
fn check_power_cuts(scenario: &Scenario, operations: u64) {
    for operation in 0..operations {
        let mut flash = scenario.flash.clone();
        flash.inject(operation, Fault::CutInside);
        let job = run(Job::new(scenario.image.clone()), &mut flash);
        let end = job.end().unwrap();
        assert!(!flash.is_powered() && end.outcome != Outcome::Updated && end.error.is_some());
        scenario.check(&flash, end);
        flash.power_on();
        let job = run(Job::rescue(scenario.image.clone()), &mut flash);
        let end = job.end().unwrap();
        assert_eq!(
            (&end.outcome, end.reboot_is_safe()),
            (&Outcome::Updated, true),
            "{:?}",
            end.error
        );
        scenario.check(&flash, end);
    }
}

fn check_every_fault(kind: u8, seed: u64) {
    let scenario = Scenario::new(kind, seed);
    let operations = check_clean_run(&scenario);
    check_transient_faults(&scenario, operations);
    check_power_cuts(&scenario, operations);
}

#[test]
fn every_single_fault_on_a_chip_that_takes_several_spans() {
    check_every_fault(4, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_single_fault_at_every_operation(kind in 0u8..4, seed: u64) {
        check_every_fault(kind, seed);
    }

    #[test]
    fn storms_of_faults_end_in_a_true_statement(kind in 0u8..4, seed: u64, percent in 1u32..60, power: bool) {
        let scenario = Scenario::new(kind, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(!seed);
        let mut flash = scenario.flash.clone();
        // Reads that lie can make any statement false: no program can tell.
        let faults = [Fault::Error, Fault::HalfDone, if power { Fault::CutInside } else { Fault::Error }];
        for operation in 0..500 {
            if rng.next_u32() % 100 < percent {
                flash.inject(operation, faults[rng.next_u32() as usize % 3]);
            }
        }
        run_checked(&scenario, &mut flash);
        flash.clear_faults();
        flash.power_on();
        let job = run(Job::rescue(scenario.image.clone()), &mut flash);
        prop_assert_eq!(&job.end().unwrap().outcome, &Outcome::Updated);
        scenario.check(&flash, job.end().unwrap());
    }

    #[test]
    fn a_worn_out_block_leads_back_to_the_old_contents(kind in 0u8..3, seed: u64, choice: usize) {
        let scenario = Scenario::new(kind, seed);
        let mut flash = scenario.flash.clone();
        let differing: Vec<u32> = scenario.differing().into_iter().collect();
        prop_assume!(!differing.is_empty());
        let worn = flash.geometry().blocks().nth(differing[choice % differing.len()] as usize).unwrap();
        flash.wear_out(worn);
        prop_assert_eq!(run_checked(&scenario, &mut flash), Outcome::Restored);
    }
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
    assert!(flash.touched().is_empty() && !job.cancel());
    match job.into_end() {
        Some(End { error: Some(error), .. }) => error,
        end => panic!("no refusal: {end:?}"),
    }
}

#[test]
fn an_image_of_another_size_is_refused() {
    let mut flash = SimulatedFlash::new(nor(4), vec![0; 1024]);
    for length in [0, 1023, 1025, 512, 4096] {
        let error = refusal(image(vec![1; length]), &mut flash);
        assert!(
            matches!(error, FlashError::ImageSize { image_bytes, chip_bytes: 1024 } if image_bytes == length as u64)
        );
        assert!(
            error.to_string().contains(&format!("{length:#x} bytes, the flash chip 0x400")),
            "{error}"
        );
    }
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
        assert!(matches!(error, FlashError::RegionOutside { .. }), "{error}");
    }
    // The rest of the block does not change: nothing is at risk.
    let job = run(Job::new(VerifiedImage::for_tests(vec![7; 768], preserve(0x110, 6))), &mut flash);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
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
    assert_eq!((fresh.erases(), end.before_digest, end.reboot_is_safe()), (0, None, true));
    let job = run(Job::rescue(new), &mut fresh);
    assert_eq!(job.end().unwrap().outcome, Outcome::Updated);
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

#[test]
fn a_job_can_be_cancelled_until_the_first_change() {
    let mut flash = SimulatedFlash::new(nor(2), vec![0; 512]);
    let mut job = Job::new(image(vec![1; 512]));
    while job.step(&mut flash) == Step::Continue {}
    assert_eq!(job.step(&mut flash), Step::ReadyToChange);
    assert!(job.cancel() && flash.touched().is_empty());
    let end = job.end().unwrap();
    assert_eq!((&end.outcome, end.before_digest), (&Outcome::Unchanged, end.after_digest));
    let mut job = Job::new(image(vec![1; 512]));
    while job.step(&mut flash) == Step::Continue {}
    job.allow_change();
    assert!(!job.cancel());
}

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
    assert_eq!(end.after_digest, None, "not every byte was compared with what it should be");
    assert_eq!(
        end.to_string(),
        "the flash holds the new firmware; somebody else wrote to the chip meanwhile: 0x0-0xff changed, not part of \
         the plan; a reboot is safe"
    );
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
