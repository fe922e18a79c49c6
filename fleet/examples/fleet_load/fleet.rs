//! A fleet of five sites, and rollouts over it.

use firmcast_fleet::model::{
    Attempt, AttemptId, AttemptState, Host, Release, RolloutId, RolloutState, WaveState,
};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::plan::{Given, plan};
use firmcast_fleet::rollout::prediction::{Prediction, Source};
use firmcast_fleet::store::requests::{
    ClaimRequest, NewRollout, Open, Outcome, PAGE_MAX, Place, StateChange, WaveChange,
};
use firmcast_fleet::store::{Store, all_hosts};

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

fn host(number: usize) -> Host {
    let rack = format!("r{}", number / SITES / HOSTS_OF_RACK);
    let labels = [("site", site(number)), ("rack", rack), ("role", "compute".to_owned())];
    Host {
        name: format!("host{number:06}"),
        // As long as a real one.
        key: format!("firmcast-host-key-v1 {number:044}"),
        addresses: vec![([10, 1, (number >> 8) as u8, number as u8], 9847).into()],
        vendor: "ACME Computers".to_owned(),
        product: "Server S1".to_owned(),
        bios_version: "1.9.4".to_owned(),
        agent_version: "0.1.0".to_owned(),
        security_version_floor: 3,
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

pub(crate) fn release() -> Release {
    Release {
        digest: "ab".repeat(32),
        version: "2.1.0".to_owned(),
        security_version: 4,
        vendor: "ACME Computers".to_owned(),
        products: vec!["Server S1".to_owned()],
        size_bytes: 16 << 20,
        added_at: 0,
    }
}

/// Puts hosts where there are none yet.
fn put(store: &mut dyn Store, hosts: usize) {
    let hosts: Vec<Host> = (0..hosts).map(host).collect();
    store.put_hosts(&hosts).unwrap();
    store.add_release(&release()).unwrap();
}

/// Creates a rollout over all hosts and starts it, with its first wave.
fn start(store: &mut dyn Store, name: &str, waves: &str) -> RolloutId {
    let (at, hosts) = (store.now().unwrap(), all_hosts(store).unwrap());
    let head = format!("name = \"{name}\"\nrelease = \"{}\"\nhosts = \"all\"\n", release().version);
    let text = head + waves + LIMITS;
    let file = RolloutFile::parse(&text).unwrap();
    let (release, hosts) = (&release(), hosts.as_slice());
    let source = Source::Host { asked_at: at };
    let predicted = |_: &Host| Prediction { typical_s: 300, longest_s: 600, source };
    let given = Given { file: &file, release, hosts, predicted: &predicted, now: at };
    let new = NewRollout::of(&text, &file, &plan(&given).unwrap(), "ann".to_owned(), at);
    let id = store.create_rollout(&new).unwrap();
    let (from, to) = (&[RolloutState::Ready], RolloutState::Running);
    let change = StateChange { from, to, reason: "", by: "ann", at, revision: None };
    store.change_state(id, &change).unwrap();
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

/// A rollout with one wave over all hosts, which are put there if there are none.
pub(crate) fn begin(store: &mut dyn Store) -> RolloutId {
    if store.hosts("", 1).unwrap().is_empty() {
        put(store, 10_000);
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
