//! Backups that hosts give into keeping before they are written.

use firmcast::wire::help::Finding;

use super::dead_host::{Dead, DeadHost};
use super::world::{World, bundle};
use super::{LONG, MINUTE};
use crate::campaign::UPLOADS_MAX;
use crate::news::News;

#[test]
fn with_escrow_a_chip_that_is_whole_is_kept_first_and_a_damaged_one_repaired_at_once() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut world =
        World::new(vec![whole, Dead::default()], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.policy.escrow = true;
    world.loss = 0.05;
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    assert_eq!(world.backups, [(world.hosts[0].name(), "b.fcb".to_owned())]);
    let stored = world.news().filter(|(_, news)| matches!(news, News::BackupStored { .. }));
    assert_eq!(stored.count(), 1);
}

#[test]
fn all_courses_together_have_one_budget_of_uploads() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut hosts = vec![whole; 20];
    hosts.extend([Dead { product: "Q", ..whole }; 20]);
    let library = [("p.fcb", bundle("P", "2.0", 1, 1)), ("q.fcb", bundle("Q", "2.0", 1, 2))];
    let mut world = World::new(hosts, &library);
    world.policy.escrow = true;
    world.rate_bits_per_s = 20_000_000;
    world.start();
    let uploads = |world: &World| -> Vec<usize> {
        let courses = world.service.iter().flat_map(|service| &service.courses);
        courses.map(|running| running.course.uploads().held).collect()
    };
    let both = std::cell::Cell::new(false);
    let too_many = |world: &World| {
        let now = uploads(world);
        both.set(both.get() || now.len() == 2 && now.iter().all(|count| *count > 0));
        now.iter().sum::<usize>() > UPLOADS_MAX
    };
    world.run_until(LONG, |world| too_many(world) || world.all_rescued());
    assert!(world.all_rescued(), "{:?} uploads at a time", uploads(&world));
    assert!(both.get(), "one board waited until the other was through");
    assert_eq!(world.backups.len(), 40);
}

#[test]
fn strangers_that_hold_their_uploads_back_keep_no_turn_from_others() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut hosts = vec![Dead { is_known: false, dawdles: true, ..whole }; 7];
    let late = Dead { up_at: MINUTE, ..whole };
    hosts.extend([late, Dead { product: "Q", is_known: false, ..late }]);
    let library = [("p.fcb", bundle("P", "2.0", 1, 1)), ("q.fcb", bundle("Q", "2.0", 1, 2))];
    let mut world = World::new(hosts, &library);
    (world.policy.escrow, world.policy.unknown_hosts) = (true, true);
    world.rate_bits_per_s = 2_000_000;
    world.start();
    let honest = |world: &World| world.hosts[7..].iter().all(DeadHost::is_rescued);
    assert!(world.run_until(3 * MINUTE, honest), "a known host, and a stranger with another board");
    // Those that dawdle lose their turns.
    world.run_for(10 * MINUTE);
    let results: Vec<_> = (0..7).flat_map(|host| world.results(host)).collect();
    assert_eq!(results.len(), 5);
    assert!(results.iter().all(|result| result.reason == "escrow-failed" && result.reboot_safe));
}
