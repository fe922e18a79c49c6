//! Streams that carry only what some host lacks.

use std::time::Duration;

use firmcast::reason::Reason;

use super::super::Delivery;
use super::host::Script;
use super::world::World;
use super::{CampaignEvent, LONG, Stage};

fn lacking(pieces: &'static [usize]) -> Script {
    Script { lacks: Some(pieces), ..Script::default() }
}

/// Pieces that the hosts were told to receive; they are all confirmed.
fn carried(scripts: Vec<Script>, delivery: Delivery, loss: f64) -> Option<Vec<usize>> {
    let mut world = World::in_pieces(scripts, delivery, loss);
    world.run_to_end(LONG);
    for index in 0..world.hosts.len() {
        let outcome = world.outcome(index);
        assert_eq!(outcome.ending.reason, Reason::Confirmed, "{index}: {outcome:?}");
        assert_eq!(world.hosts[index].received(), world.hosts[0].received());
    }
    let fragments = world.campaign.stream().stats().fragments;
    let saves = world.hosts[0].received().is_some() && loss == 0.0;
    assert!(!saves || fragments < world.source_fragments(), "{fragments}");
    world.hosts[0].received()
}

#[test]
fn the_stream_carries_the_union_of_what_hosts_lack() {
    let scripts = || vec![lacking(&[1]), lacking(&[1, 4]), lacking(&[])];
    for (delivery, loss) in [(Delivery::Broadcast, 0.0), (Delivery::Unicast, 0.0)] {
        assert_eq!(carried(scripts(), delivery, loss), Some(vec![1, 4]));
    }
    // A host whose last piece is all that it lacks, and none that lacks anything.
    assert_eq!(carried(vec![lacking(&[5])], Delivery::Broadcast, 0.0), Some(vec![5]));
    assert_eq!(carried(vec![lacking(&[])], Delivery::Broadcast, 0.0), Some(vec![5]));
}

#[test]
fn everything_is_carried_when_a_host_does_not_say_what_it_lacks() {
    let scripts = vec![lacking(&[1]), Script::default()];
    assert_eq!(carried(scripts, Delivery::Broadcast, 0.0), None);
    assert_eq!(carried(vec![lacking(&[0, 1, 2, 3, 4, 5])], Delivery::Broadcast, 0.0), None);
}

#[test]
fn a_host_that_the_excerpt_does_not_help_gets_everything_before_the_stream_begins() {
    // The last host is on its way when the others have joined.
    let slow = Script { recovery_boot: Duration::from_secs(40), ..lacking(&[2]) };
    for loss in [0.0, 0.1] {
        let changed = Script { lacks_more: true, ..lacking(&[1]) };
        assert_eq!(carried(vec![lacking(&[1]), changed, slow], Delivery::Broadcast, loss), None);
    }
}

#[test]
fn a_host_that_comes_late_and_lacks_more_is_let_go_with_advice() {
    let late =
        Script { recovery_boot: Duration::from_secs(120), lacks_more: true, ..lacking(&[1]) };
    let mut world = World::in_pieces(vec![lacking(&[1]), late], Delivery::Broadcast, 0.0);
    world.run_to_end(LONG);
    assert_eq!(world.outcome(0).ending.reason, Reason::Confirmed);
    assert_eq!(world.hosts[0].received(), Some(vec![1]));
    let outcome = world.outcome(1);
    assert_eq!(outcome.ending.reason, Reason::LeftBehind, "{outcome:?}");
    assert!(outcome.ending.detail.contains("--whole"), "{outcome:?}");
    assert_eq!(world.hosts[1].writes, 0);
    let joined = |event: &&CampaignEvent| {
        matches!(event, CampaignEvent::Stage { host: 0, stage: Stage::Join })
    };
    assert_eq!(world.events.iter().filter(joined).count(), 1);
}
