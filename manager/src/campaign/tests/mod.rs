//! Campaigns against scripted hosts that speak through real sessions and receive through the real
//! transfer.
#![allow(clippy::unwrap_used)]

mod escrow;
mod excerpt;
mod host;
mod world;

use std::time::Duration;

use firmcast::reason::{Condition, Ending, FlashState, Reason};

use super::{CampaignEvent, Delivery, Purpose, Stage};
use host::{DRILL_REPORT, Script, ScriptedHost, Unknown};
use world::{Escrow, World};

/// Ten minutes of virtual time suffice for every end but those that wait for a boot that never
/// comes.
const LONG: Duration = Duration::from_secs(600);

fn ends(script: Script) -> super::Outcome {
    let mut world = World::new(vec![script], Delivery::Broadcast, 0.0);
    world.run_to_end(Duration::from_secs(3600));
    world.outcome(0)
}

#[test]
fn hosts_are_updated_and_confirmed_though_a_tenth_of_all_datagrams_is_lost() {
    for delivery in [Delivery::Broadcast, Delivery::Unicast] {
        let mut world = World::new(vec![Script::default(); 3], delivery, 0.1);
        world.run_to_end(LONG);
        for index in 0..3 {
            let outcome = world.outcome(index);
            assert_eq!(outcome.ending.reason, Reason::Confirmed, "{delivery:?} {outcome:?}");
            assert_eq!(outcome.ending.flash, FlashState::Updated);
            assert_eq!(outcome.bios_version.as_deref(), Some("2.0"));
            assert_eq!(outcome.digests, Some(([1; 32], [2; 32])));
            assert_eq!(world.hosts[index].writes, 1);
        }
    }
}

#[test]
fn stages_come_in_order_and_each_once() {
    let scripts = || vec![Script::default()];
    for (mut world, escrow) in [
        (World::new(scripts(), Delivery::Broadcast, 0.0), false),
        (World::with_escrow(scripts(), 0.0, Escrow::default()), true),
    ] {
        world.run_to_end(LONG);
        let stages: Vec<Stage> = (world.events.iter())
            .filter_map(|event| match event {
                CampaignEvent::Stage { stage, .. } => Some(*stage),
                _ => None,
            })
            .collect();
        let mut expected = Stage::ALL[2..17].to_vec();
        expected.retain(|stage| !matches!(stage, Stage::Foresee | Stage::Enlist));
        expected.retain(|stage| escrow || *stage != Stage::Escrow);
        assert_eq!(stages, expected);
    }
}

#[test]
fn two_hundred_hosts_are_updated_past_a_dead_one_and_a_refusing_one() {
    let mut scripts = vec![Script::default(); 200];
    scripts[7].silent = true;
    scripts[9].refuse = Some(Reason::WrongBoard);
    let mut world = World::new(scripts, Delivery::Broadcast, 0.02);
    world.run_to_end(LONG);
    for index in 0..200 {
        let expected = match index {
            7 => Reason::HostUnreachable,
            9 => Reason::WrongBoard,
            _ => Reason::Confirmed,
        };
        let outcome = world.outcome(index);
        assert_eq!(outcome.ending.reason, expected, "host {index}: {outcome:?}");
    }
    // One stream serves all: little more than the image in a network that loses one in fifty.
    let fragments = world.campaign.stream().stats().fragments;
    assert!(fragments < world.source_fragments() * 3 / 2, "{fragments}");
}

#[test]
fn every_failure_ends_with_its_reason_and_what_is_known_of_the_flash() {
    let untouched = FlashState::UNTOUCHED;
    let script = Script::default();
    let fails = |flash| Script { fails_to_write: Some(flash), ..script };
    let restored = FlashState::Restored(Condition::Whole);
    let unknown = FlashState::Unknown;
    let returned = Script { loses_power_while_flashing: true, ..script };
    let cases = [
        // Nobody has said anything about it.
        (Script { silent: true, ..script }, Reason::HostUnreachable, unknown),
        (Script { refuse: Some(Reason::FlashLocked), ..script }, Reason::FlashLocked, untouched),
        (Script { dies_in_kexec: true, ..script }, Reason::NoReady, untouched),
        (Script { gives_up_in_recovery: true, ..script }, Reason::NetworkUnavailable, untouched),
        (Script { deaf_to_fragments: true, ..script }, Reason::LeftBehind, untouched),
        (
            Script { answers_nonsense: true, deaf_to_fragments: true, ..script },
            Reason::LeftBehind,
            untouched,
        ),
        (Script { loses_manifests: true, ..script }, Reason::LeftBehind, untouched),
        // It was never told to write, so what it did is not known.
        (Script { claims_update: true, ..script }, Reason::LeftBehind, unknown),
        (Script { dies_while_flashing: true, ..script }, Reason::LostWhileFlashing, unknown),
        (fails(restored), Reason::WriteFailed, restored),
        (fails(FlashState::Mixed), Reason::WriteFailed, FlashState::Mixed),
        (
            Script { never_boots_again: true, ..script },
            Reason::NoAgentAfterReboot,
            FlashState::Updated,
        ),
        // It came back by itself in the middle of writing; what it holds then, only a measurement
        // tells.
        (Script { answers_at_home: Some(1), ..returned }, Reason::NoAgentAfterReboot, unknown),
        (Script { answers_at_home: Some(40), ..returned }, Reason::ReturnedSilently, unknown),
        (Script { cannot_measure: true, ..script }, Reason::NotMeasured, FlashState::Updated),
        (Script { measured_before: true, ..script }, Reason::NotMeasured, FlashState::Updated),
        (Script { other_digest: true, ..script }, Reason::WrongDigest, unknown),
        (Script { other_version: true, ..script }, Reason::WrongVersion, FlashState::Updated),
    ];
    for (script, reason, flash) in cases {
        let outcome = ends(script);
        assert_eq!(
            (outcome.ending.reason, outcome.ending.flash),
            (reason, flash),
            "{script:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_host_that_answers_without_progress_is_told_apart_from_a_silent_one() {
    let script = Script::default();
    for answering in [
        Script { deaf_to_fragments: true, ..script },
        Script { answers_nonsense: true, deaf_to_fragments: true, ..script },
        Script { loses_manifests: true, ..script },
        Script { claims_update: true, ..script },
    ] {
        let detail = ends(answering).ending.detail;
        assert!(detail.starts_with("it answers, but"), "{detail}");
    }
    let mut world = World::new(vec![script], Delivery::Broadcast, 0.0);
    world.run_until(LONG, |campaign| campaign.hosts()[0].stage() == Stage::Join);
    world.hosts[0].fall_silent();
    world.run_to_end(LONG);
    let detail = world.outcome(0).ending.detail;
    assert!(detail.starts_with("no answer while"), "{detail}");
}

#[test]
fn sessions_of_one_key_that_alternate_between_machines_are_told_once() {
    for (has_twin, expected) in [(true, 1), (false, 0)] {
        let script = Script { has_twin, ..Script::default() };
        let mut world = World::new(vec![script], Delivery::Broadcast, 0.0);
        world.run_to_end(Duration::from_secs(3600));
        let told = world.events.iter().filter(|event| **event == CampaignEvent::Twins { host: 0 });
        assert_eq!(told.count(), expected);
    }
}

#[test]
fn a_late_host_is_served_by_the_same_stream() {
    let mut scripts = vec![Script::default(); 3];
    scripts[2].recovery_boot = Duration::from_secs(100);
    let mut world = World::new(scripts, Delivery::Broadcast, 0.05);
    world.run_to_end(LONG);
    assert!((0..3).all(|index| world.outcome(index).ending.reason == Reason::Confirmed));
    let started =
        world.events.iter().find(|event| matches!(event, CampaignEvent::TransferStarted { .. }));
    assert_eq!(started, Some(&CampaignEvent::TransferStarted { hosts: 2, pieces: None }));
}

#[test]
fn an_update_that_finished_unseen_is_confirmed_by_the_measurement() {
    let script = Script { reboots_without_release: true, ..Script::default() };
    assert_eq!(ends(script).ending.reason, Reason::Confirmed);
}

#[test]
fn a_host_that_is_less_protected_than_before_is_confirmed_with_that_remark() {
    let remark = "the chip is less protected than before, not locked: 0x0-0xfff";
    let script = Script { remark, cannot_keep: "no record", ..Script::default() };
    let ending = ends(script).ending;
    assert_eq!((ending.reason, ending.detail), (Reason::Confirmed, format!("{remark}; no record")));
}

#[test]
fn what_the_administrators_programs_came_to_is_in_the_outcome() {
    let outcome = ends(Script { programs: "10-undrain 3", ..Script::default() });
    let told = outcome.programs.as_ref().map(|programs| programs.told.as_str());
    assert_eq!((outcome.ending.reason, told), (Reason::Confirmed, Some("10-undrain 3")));
}

#[test]
fn a_dry_run_asks_every_host_and_moves_none() {
    let mut scripts = vec![Script::default(); 3];
    scripts[1].silent = true;
    let mut world = World::short(Purpose::DryRun, scripts, 0.2, None);
    world.run_to_end(LONG);
    for host in [0, 2] {
        let outcome = world.outcome(host);
        assert_eq!((outcome.ending.reason, outcome.is_confirmed()), (Reason::Possible, true));
        assert!(
            outcome.ending.detail.contains("at most 16 of 512 eraseblocks"),
            "{}",
            outcome.ending.detail
        );
    }
    assert_eq!(world.outcome(1).ending.reason, Reason::HostUnreachable);
    assert!(world.hosts.iter().all(|host| host.is_in_normal_os() && host.writes == 0));
}

#[test]
fn a_look_measures_every_host_where_it_is() {
    let mut scripts = vec![Script { has_release: true, ..Script::default() }; 4];
    scripts[1].silent = true;
    scripts[2].has_release = false;
    scripts[3].other_version = true;
    let mut world = World::short(Purpose::Look, scripts, 0.2, None);
    world.run_to_end(LONG);
    let reasons =
        [Reason::Confirmed, Reason::HostUnreachable, Reason::WrongDigest, Reason::WrongVersion];
    for (host, reason) in reasons.into_iter().enumerate() {
        let outcome = world.outcome(host);
        let is_well = reason == Reason::Confirmed;
        assert_eq!((outcome.ending.reason, outcome.is_confirmed()), (reason, is_well));
    }
    assert!(world.hosts.iter().all(ScriptedHost::is_in_normal_os));
}

#[test]
fn a_drill_brings_every_host_home_with_its_flash_as_it_was() {
    for escrow in [None, Some(Escrow::default())] {
        let mut scripts = vec![Script::default(); 4];
        scripts[1].silent = true;
        scripts[2].reboots_without_release = true;
        scripts[3].deaf_to_fragments = true;
        let mut world = World::short(Purpose::Drill, scripts, 0.1, escrow);
        world.run_to_end(Duration::from_secs(1200));
        for host in [0, 2] {
            let outcome = world.outcome(host);
            assert!(outcome.is_confirmed(), "{outcome:?}");
            let Ending { reason, flash, detail } = outcome.ending;
            assert_eq!((reason, flash), (Reason::Drilled, FlashState::UNTOUCHED));
            assert_eq!(detail, DRILL_REPORT);
            assert!(world.hosts[host].is_in_normal_os(), "it ends when its host is home");
        }
        assert_eq!(world.outcome(1).ending.reason, Reason::HostUnreachable);
        assert_eq!(world.outcome(3).ending.reason, Reason::LeftBehind);
        assert!(world.hosts.iter().all(|host| host.writes == 0));
        assert_eq!(world.backups.len(), if escrow.is_some() { 2 } else { 0 });
    }
}

#[test]
fn a_drill_that_does_not_end_as_one_is_no_success() {
    let script = Script::default();
    for (script, reason) in [
        (Script { knows_no_drills: Some(Unknown::Told), ..script }, Reason::ProtocolMismatch),
        (Script { knows_no_drills: Some(Unknown::Ignored), ..script }, Reason::HostUnreachable),
        (Script { never_boots_again: true, ..script }, Reason::NoAgentAfterReboot),
        (Script { dies_in_kexec: true, ..script }, Reason::NoReady),
        (Script { writes_in_drill: true, ..script }, Reason::Drilled),
    ] {
        let mut world = World::short(Purpose::Drill, vec![script], 0.0, None);
        world.run_to_end(Duration::from_secs(3600));
        let outcome = world.outcome(0);
        assert_eq!((outcome.ending.reason, outcome.is_confirmed()), (reason, false));
        let is_as_it_was = outcome.ending.flash == FlashState::UNTOUCHED;
        assert_eq!(is_as_it_was, !script.writes_in_drill, "{outcome:?}");
    }
}

#[test]
fn an_interrupt_sends_home_whom_it_can_and_lets_flashing_hosts_finish() {
    let not_there = [Stage::Recall, Stage::Foresee, Stage::Enlist];
    for stage in Stage::ALL[..17].iter().filter(|stage| !not_there.contains(stage)) {
        let mut scripts = vec![Script::default(); 2];
        scripts[1].silent = true;
        let mut world = World::with_escrow(scripts, 0.0, Escrow::default());
        world.run_until(LONG, |campaign| campaign.hosts()[0].stage() == *stage);
        assert_eq!(world.campaign.hosts()[0].stage(), *stage);
        let now = world.now;
        world.campaign.interrupt(now);
        world.run_to_end(LONG);
        let reason = world.outcome(0).ending.reason;
        let expected = if *stage < Stage::Commit { Reason::Interrupted } else { Reason::Confirmed };
        assert_eq!(reason, expected, "{stage:?}");
        world.run_for(Duration::from_secs(600));
        assert!(world.hosts[0].is_in_normal_os(), "{stage:?}: the host got out of it by itself");
        assert_eq!(world.hosts[0].writes, u32::from(*stage >= Stage::Commit));
    }
}

#[test]
fn a_second_interrupt_ends_the_campaign_at_once() {
    let mut world = World::new(vec![Script::default()], Delivery::Broadcast, 0.0);
    world.run_until(LONG, |campaign| campaign.hosts()[0].stage() == Stage::Flash);
    let now = world.now;
    world.campaign.interrupt(now);
    assert!(!world.campaign.is_finished());
    world.campaign.interrupt(now);
    assert!(world.campaign.is_finished());
    assert_eq!(world.outcome(0).ending.flash, FlashState::Unknown);
}

#[test]
fn noise_from_strangers_and_lying_hosts_changes_nothing() {
    let mut world = World::new(vec![Script::default()], Delivery::Broadcast, 0.0);
    world.chatter = true;
    world.run_to_end(LONG);
    assert_eq!(world.outcome(0).ending.reason, Reason::Confirmed);
}

#[test]
fn hosts_that_a_dead_manager_left_anywhere_are_brought_home_and_updated_by_the_next() {
    for stage in Stage::ALL[6..13].iter().filter(|stage| **stage != Stage::Enlist) {
        let mut world = World::with_escrow(vec![Script::default()], 0.05, Escrow::default());
        world.run_until(LONG, |campaign| campaign.hosts()[0].stage() == *stage);
        assert_eq!(world.campaign.hosts()[0].stage(), *stage);
        world.restart_manager();
        world.run_to_end(Duration::from_secs(1200));
        assert_eq!(world.outcome(0).ending.reason, Reason::Confirmed, "{stage:?}");
    }
}

#[test]
fn a_host_with_a_damaged_chip_is_told_to_write_it_again_by_the_next_campaign() {
    let script =
        Script { fails_to_write: Some(FlashState::Mixed), fails_once: true, ..Script::default() };
    let mut world = World::new(vec![script], Delivery::Broadcast, 0.0);
    world.run_to_end(LONG);
    assert_eq!(world.outcome(0).ending.flash, FlashState::Mixed);
    world.restart_manager();
    world.run_to_end(LONG);
    assert_eq!(world.outcome(0).ending.reason, Reason::Confirmed);
    assert_eq!(world.hosts[0].writes, 2);
}
