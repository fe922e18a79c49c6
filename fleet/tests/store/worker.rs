//! What a worker makes of the end of a campaign.

use firmcast_fleet::model::{AttemptState, Stamp};
use firmcast_fleet::store::{MemoryStore, Store, all_attempts};
use firmcast_fleet::work::crew::{Campaign, Crew, Exit, Order, Purpose, Sight, Sighting};

use super::fleet;

const SITE: &str = "berlin";
const TURN_US: Stamp = 2_500_000;
const ALL_AT_ONCE: &str = "[[wave]]\nname = \"all\"\nrest = true\n\
                           [limits]\nin-flight = []\nfailures = []\n";

/// The campaign that the worker begins in this turn.
fn begun(crew: &mut Crew, store: &mut dyn Store, turn: Stamp) -> Option<Campaign> {
    crew.handle_shelf([fleet::release().digest].into());
    crew.turn(store, turn * TURN_US).unwrap();
    crew.take_orders().into_iter().find_map(|order| match order {
        Order::Begin(campaign) => Some(campaign),
        _ => None,
    })
}

/// What a host came to whose campaign ended so, and which was then found at home, as it was before:
/// nothing if a campaign begins with it anew.
fn end_of(exit: Exit) -> Option<String> {
    let mut store = MemoryStore::default();
    fleet::put(&mut store, &[fleet::host(1, SITE, 1)]);
    let rollout = fleet::start(&mut store, "winter", ALL_AT_ONCE);
    let mut crew = Crew::new(SITE, "w1", 9, Vec::new());
    // First the wave begins.
    let first = (1..9).find_map(|turn| begun(&mut crew, &mut store, turn)).unwrap();
    assert_eq!(first.purpose, Purpose::Update);
    crew.handle_exit(first.number, "it ended", exit, 10 * TURN_US);
    let mut next = begun(&mut crew, &mut store, 11);
    if let Some(look) = next.take_if(|next| next.purpose == Purpose::Look) {
        let (sight, reason) = (Sight::Lacks, "wrong-digest".to_owned());
        let sighting = Sighting { sight, reason, detail: String::new() };
        crew.handle_sighting(look.number, &look.hosts[0].name, sighting, 12 * TURN_US);
        crew.handle_exit(look.number, "", Exit::BrokeOff, 12 * TURN_US);
        next = begun(&mut crew, &mut store, 13);
    }
    crew.turn(&mut store, 14 * TURN_US).unwrap();
    let [attempt] = all_attempts(&mut store, rollout).unwrap().try_into().unwrap();
    let is_again = next.is_some_and(|next| next.purpose == Purpose::Update);
    assert_eq!(attempt.state == AttemptState::InFlight, is_again, "{attempt:?}");
    attempt.reason.filter(|_| !is_again)
}

#[test]
fn a_campaign_that_its_worker_ended_fails_nobody_and_one_that_broke_off_is_not_tried_twice() {
    assert_eq!(end_of(Exit::CutOff), None);
    for exit in [Exit::BrokeOff, Exit::NotBegun] {
        assert_eq!(end_of(exit).as_deref(), Some("interrupted"), "{exit:?}");
    }
}
