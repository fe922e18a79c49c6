//! A drill: everything up to the first change, on a chip that would tell of one.

use std::num::NonZeroU32;

use super::*;
use crate::flash::{Asked, Flash as _, Geometry, SimulatedFlash, WriteRule};
use crate::recovery::flashing::Flashing;

const REHEARSE: Command = Command::Rehearse { campaign: CAMPAIGN, escrow_rate_kbit_s: None };

fn chip() -> SimulatedFlash {
    let geometry = Geometry::uniform(CHIP as u64, 4096, 1, WriteRule::ClearBits).unwrap();
    let mut chip = SimulatedFlash::new(geometry, image(2));
    let first = chip.geometry().block_at(0).unwrap();
    chip.lock(first, false);
    chip
}

#[test]
fn a_drill_ends_before_the_first_change_and_follows_no_commit() {
    let (mut bench, now) = Bench::verified_in(true, &image(1));
    let campaign = CAMPAIGN;
    for commit in [
        Command::Commit { campaign },
        Command::CommitWithEscrow { campaign, rate_kbit_s: 9, unless_broken: true },
    ] {
        bench.command(now, &commit);
        assert!(bench.host.poll_action().is_none(), "{commit:?} is not for a drill");
    }
    bench.command(now, &REHEARSE);
    let action = bench.host.poll_action();
    let Some(Action::Flash { image, flash, drill: true }) = action else { panic!("{action:?}") };
    let mut chip = chip();
    let old = chip.contents().to_vec();
    let (mut job, mut held_off) = (Flashing::drill(image, flash), 0);
    while job.step(now, &mut chip, &mut bench.host, || {
        held_off += 1;
        Ok(())
    }) {}
    assert_eq!(held_off, 1, "the watchdogs are stopped as before an erase");
    assert_eq!(chip.contents(), old);
    let reading = [Asked::Read, Asked::IsLocked, Asked::IsBad];
    assert!(chip.history().iter().all(|asked| reading.contains(asked)), "{:?}", chip.history());

    bench.run(now);
    let report = bench.last().clone();
    assert_eq!((report.phase, report.ending.reason), (Phase::Drilled, Reason::Drilled));
    let detail = &report.ending.detail;
    assert!(detail.starts_with("32 of 32 eraseblocks would change, 1 of them locked"), "{detail}");
    assert!(report.digests.is_some_and(|(before, after)| before == after));
    bench.command(now, &Command::Release { campaign });
    bench.expect_reboot(Reason::Drilled, FlashState::UNTOUCHED);
}

#[test]
fn outside_of_a_drill_nothing_is_rehearsed() {
    let (mut bench, now) = Bench::verified(&image(1));
    for escrow_rate_kbit_s in [None, NonZeroU32::new(9)] {
        bench.command(now, &Command::Rehearse { campaign: CAMPAIGN, escrow_rate_kbit_s });
        assert!(bench.host.poll_action().is_none());
    }
}
