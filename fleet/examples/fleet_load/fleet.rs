//! A fleet of five sites, and rollouts over it.

use firmcast_fleet::model::{Attempt, AttemptId, AttemptState, RolloutId, RolloutState, WaveState};
use firmcast_fleet::store::requests::{
    ClaimRequest, Open, Outcome, PAGE_MAX, Place, StateChange, WaveChange,
};
use firmcast_fleet::store::{Store, all_hosts};

use super::made::{self, host};

pub(crate) const SITES: usize = 5;
const HOSTS_OF_RACK: usize = 40;
/// Who holds the hosts that are in flight from the beginning.
const HOLDER: &str = "holder";
/// How long leases hold, in microseconds: longer than a benchmark.
pub(crate) const LEASE_US: i64 = 86_400_000_000;
pub(crate) const CONFIRMED: Outcome<'_> =
    Outcome { confirmed: true, reason: Some("confirmed"), flash: Some("updated"), detail: "ok" };

/// Limits such as operators write; here they hold nobody back.
const LIMITS: &str = "
[limits]
in-flight = [
    { per = \"all\", hosts = 1000 },
    { per = \"site\", percent = 20 },
    { per = \"rack\", percent = 50 },
]
failures = [
    { per = \"all\", percent = 5, sample = 100 },
    { per = \"rack\", hosts = 3, action = \"stop\" },
]
";

pub(crate) fn site(number: usize) -> String {
    format!("site{}", number % SITES)
}

/// Puts hosts where there are none yet.
fn put(store: &mut dyn Store, hosts: usize) {
    let host = |number| host(number, &site(number), number / SITES / HOSTS_OF_RACK);
    made::put(store, &(0..hosts).map(host).collect::<Vec<_>>());
}

/// Creates a rollout over all hosts and starts it, with its first wave.
fn start(store: &mut dyn Store, name: &str, waves: &str) -> RolloutId {
    let id = made::start(store, name, &(waves.to_owned() + LIMITS));
    move_wave(store, id, 0, WaveState::Waiting, WaveState::Running);
    id
}

pub(crate) fn move_wave(
    store: &mut dyn Store,
    rollout: RolloutId,
    wave: u32,
    from: WaveState,
    to: WaveState,
) {
    let at = store.now().unwrap();
    let change = WaveChange { from: &[from], to, by: "ann", at, revision: None };
    store.change_wave(rollout, wave, &change).unwrap();
}

/// A rollout with one wave over all hosts, which are put there if there are none. Those that a
/// rollout has confirmed before are as they were before that.
pub(crate) fn begin(store: &mut dyn Store) -> RolloutId {
    match all_hosts(store).unwrap().len() {
        0 => put(store, 10_000),
        hosts => put(store, hosts),
    }
    let name = format!("load-{}", store.now().unwrap());
    start(store, &name, "[[wave]]\nname = \"all\"\nrest = true\n")
}

pub(crate) fn abort(store: &mut dyn Store, rollout: RolloutId) {
    let at = store.now().unwrap();
    let (from, to) = (&[RolloutState::Running, RolloutState::Paused], RolloutState::Error);
    let change = StateChange { from, to, reason: "over", by: "ann", at, revision: None };
    store.change_state(rollout, &change).unwrap();
}

/// Claims hosts of a site.
pub(crate) fn claim(
    store: &mut dyn Store,
    rollout: RolloutId,
    site: &str,
    limit: usize,
) -> Vec<AttemptId> {
    let at = store.now().unwrap();
    let open = &[Open { rollout, seconds: u32::MAX }];
    let request =
        ClaimRequest { site, worker: HOLDER, at, lease_us: LEASE_US, limit, open, lacking: &[] };
    store.claim(&request).unwrap().into_iter().map(|claim| claim.attempt.id).collect()
}

/// Claims hosts of all sites until `wanted` have begun, or none is left, and confirms them.
fn confirm(store: &mut dyn Store, rollout: RolloutId, wanted: usize) {
    let mut confirmed = 0;
    loop {
        let before = confirmed;
        for site in (0..SITES).map(site) {
            let limit = (wanted - confirmed).min(100);
            for attempt in claim(store, rollout, &site, limit) {
                let at = store.now().unwrap();
                store.report(attempt, HOLDER, &CONFIRMED, at).unwrap();
                confirmed += 1;
            }
        }
        if confirmed == before {
            return;
        }
    }
}

/// Makes a fleet with a rollout: the canaries and `ended` hosts more are confirmed, and `in_flight`
/// have begun.
pub(crate) fn fill(store: &mut dyn Store, hosts: usize, ended: usize, in_flight: usize) {
    put(store, hosts);
    let waves = "[[wave]]\nname = \"canary\"\ncount = 50\n[[wave]]\nname = \"rest\"\nrest = true\n";
    let rollout = start(store, "winter", waves);
    confirm(store, rollout, hosts);
    move_wave(store, rollout, 0, WaveState::Running, WaveState::Finished);
    move_wave(store, rollout, 1, WaveState::Waiting, WaveState::Running);
    confirm(store, rollout, ended);
    for site in (0..SITES).map(site) {
        claim(store, rollout, &site, in_flight / SITES);
    }
}

/// Makes a fleet with a rollout whose only wave has ended, with all hosts confirmed.
pub(crate) fn confirm_all(store: &mut dyn Store, hosts: usize) -> RolloutId {
    put(store, hosts);
    let rollout = begin(store);
    confirm(store, rollout, hosts);
    rollout
}

/// Tells a stage of a host that is in flight, again and again.
pub(crate) struct Teller {
    store: Box<dyn Store>,
    attempt: AttemptId,
    told: usize,
}

impl Teller {
    pub(crate) fn new(mut store: Box<dyn Store>) -> Self {
        let (mut after, mut found) = (None, None);
        while found.is_none() {
            let page = store.attempts(1, after, PAGE_MAX).unwrap();
            after = Some(Place::from(page.last().expect("nobody is in flight: fill it first")));
            let flies = |attempt: &&Attempt| attempt.state == AttemptState::InFlight;
            found = page.iter().find(flies).map(|attempt| attempt.id);
        }
        Self { store, attempt: found.unwrap(), told: 0 }
    }

    pub(crate) fn tell(&mut self) {
        let stage = ["receiving", "flashing"][self.told % 2];
        let at = self.store.now().unwrap();
        self.store.tell_stage(self.attempt, HOLDER, stage, at).unwrap();
        self.told += 1;
    }
}
