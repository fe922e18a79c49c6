//! Every fault at every operation: what the engine says of the chip is true.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::*;

/// A chip, what is on it, and what must come onto it.
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
        if let Some(digest) = end.after_digest() {
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
    assert_eq!(end.before_digest(), Some(Sha256::digest(scenario.placed(&scenario.flash)).into()));
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
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_single_fault_at_every_operation(kind in 0u8..4, seed: u64) {
        check_every_fault(kind, seed);
    }

    #[test]
    fn storms_of_faults_end_in_a_true_statement(
        kind in 0u8..4,
        seed: u64,
        percent in 1u32..60,
        power: bool,
    ) {
        let scenario = Scenario::new(kind, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(!seed);
        let mut flash = scenario.flash.clone();
        // Reads that lie can make any statement false: no program can tell.
        let cut = if power { Fault::CutInside } else { Fault::Error };
        let faults = [Fault::Error, Fault::HalfDone, cut];
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
        let index = differing[choice % differing.len()] as usize;
        let worn = flash.geometry().blocks().nth(index).unwrap();
        flash.wear_out(worn);
        prop_assert_eq!(run_checked(&scenario, &mut flash), Outcome::Restored);
    }
}
