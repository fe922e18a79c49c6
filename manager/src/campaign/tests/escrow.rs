//! Backups on their way to the manager.

use std::time::Duration;

use firmcast::reason::{FlashState, Reason};

use super::host::{Script, ScriptedBackup};
use super::world::{Disk, Escrow, World};
use crate::campaign::UPLOADS_MAX;

const LONG: Duration = Duration::from_secs(1200);

#[test]
fn each_backup_is_stored_before_its_host_changes_its_flash_though_a_tenth_is_lost() {
    let hosts = UPLOADS_MAX * 2;
    // World::step checks the order all the time.
    let mut world = World::with_escrow(vec![Script::default(); hosts], 0.1, Escrow::default());
    world.run_to_end(LONG);
    for index in 0..hosts {
        assert_eq!(world.outcome(index).ending.reason, Reason::Confirmed, "{index}");
        let of_host = world.backups.iter().filter(|backup| backup.host == index);
        let stored: Vec<_> = of_host.map(|backup| &backup.bytes).collect();
        assert_eq!(stored, [&world.hosts[index].backup()], "{index}");
    }
    assert_eq!(world.uploads, UPLOADS_MAX);
}

#[test]
fn hosts_that_wait_long_for_their_turn_do_not_go_home_and_the_rate_holds() {
    let escrow = Escrow { image_size_bytes: 500_000, rate_mbit: 1 };
    let hosts = UPLOADS_MAX * 4;
    let mut world = World::with_escrow(vec![Script::default(); hosts], 0.0, escrow);
    world.run_to_end(LONG);
    assert!((0..hosts).all(|index| world.outcome(index).ending.reason == Reason::Confirmed));
    let spent = world.now.since(firmcast::time::Time::ZERO);
    let least = Duration::from_secs_f64((hosts * 500_000 * 8) as f64 / 1e6);
    assert!(spent > least && least > Duration::from_secs(250), "{spent:?} {least:?}");
}

#[test]
fn without_a_stored_backup_the_flash_stays_as_it_is() {
    let cases = [
        (ScriptedBackup::Nothing, Disk::Good, "no progress"),
        (ScriptedBackup::Offer, Disk::Good, "no progress"),
        (ScriptedBackup::OtherSize, Disk::Good, "0xea61 bytes"),
        (ScriptedBackup::OtherDigest, Disk::Good, "digest"),
        (ScriptedBackup::Good, Disk::Full, "no space left"),
    ];
    for (backup, disk, detail) in cases {
        let script = Script { backup, ..Script::default() };
        let mut world = World::with_escrow(vec![script], 0.0, Escrow::default());
        world.disk = disk;
        world.run_to_end(LONG);
        let outcome = world.outcome(0);
        let end = (outcome.ending.reason, outcome.ending.flash);
        assert_eq!(end, (Reason::EscrowFailed, FlashState::UNTOUCHED), "{outcome:?}");
        assert!(outcome.ending.detail.contains(detail), "{outcome:?}");
        assert!(world.backups.is_empty() && world.hosts[0].writes == 0, "{backup:?} {disk:?}");
    }
}

#[test]
fn no_host_holds_its_turn_to_upload_for_ever() {
    let mut scripts = Vec::new();
    for backup in [ScriptedBackup::AlwaysAnother, ScriptedBackup::Drop] {
        scripts.extend([Script { backup, ..Script::default() }; UPLOADS_MAX / 2]);
    }
    scripts.extend([Script::default(); 2]);
    let mut world = World::with_escrow(scripts, 0.0, Escrow::default());
    world.run_to_end(LONG);
    for index in 0..UPLOADS_MAX {
        let ending = &world.outcome(index).ending;
        assert_eq!(ending.reason, Reason::EscrowFailed, "{index}");
        let expected = if index < UPLOADS_MAX / 2 { "offered 3 others" } else { "of 42 fragments" };
        assert!(ending.detail.contains(expected), "{}", ending.detail);
    }
    for honest in UPLOADS_MAX..UPLOADS_MAX + 2 {
        assert_eq!(world.outcome(honest).ending.reason, Reason::Confirmed);
    }
}

#[test]
fn noise_at_the_manager_does_not_disturb_uploads() {
    let mut world = World::with_escrow(vec![Script::default()], 0.0, Escrow::default());
    world.chatter = true;
    world.run_to_end(LONG);
    assert_eq!(world.outcome(0).ending.reason, Reason::Confirmed);
}
