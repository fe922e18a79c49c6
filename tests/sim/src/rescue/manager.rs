//! Managers: the real service with its disk, good or with a rogue's bundles, and one that takes
//! calls and says nothing.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::ManagerSecretKey;
use firmcast::session::Endpoint;
use firmcast::time::Time;
use firmcast_manager::campaign::{Deadlines, HANDSHAKES_PER_SECOND, Transmit};
use firmcast_manager::rescue::policy::{BundleChoice, Rule};
use firmcast_manager::rescue::{BundleId, Deposit, Known, Load, Note, Policy, Service, Settings};

use super::memory;
use super::scenario::{Rogue, Scenario};
use super::truth::Truth;
use crate::chance::Chance;
use crate::engine::Alarm;

/// Strangers that the mute one lets call.
const MUTE_STRANGERS_MAX: usize = 1024;
/// What `firmcast serve` gives enlisted hosts until their first report.
const ENLIST_TIMEOUT: Duration = Duration::from_secs(60);

/// A place where a manager runs, again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    pub(crate) address: SocketAddr,
    /// Which of the trusted keys it has.
    key: usize,
    pub(crate) rogue: Option<Rogue>,
}

enum Mind {
    Service(Box<Service>),
    Mute(Box<Endpoint>),
}

/// One run of a manager's program.
pub(crate) struct Manager {
    pub(crate) post: Post,
    mind: Mind,
    /// When its next wake is planned.
    pub(crate) wake: Alarm,
    origin: Time,
    /// What the service holds in memory, payloads included.
    pub(crate) held_bytes: i64,
    pub(crate) held_bytes_max: i64,
    /// Datagrams from and to each host, until it takes part in a campaign.
    pub(crate) heard: Vec<u64>,
    pub(crate) said: Vec<u64>,
    pub(crate) enlisted: Vec<bool>,
}

/// What a manager wants of the world after a step.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) transmits: Vec<Transmit>,
    pub(crate) loads: Vec<Load>,
    pub(crate) deposits: Vec<Deposit>,
    pub(crate) notes: Vec<Note>,
}

impl Post {
    /// Returns where managers are in this world, in the order in which they are named to hosts.
    pub(crate) fn all(scenario: &Scenario, chance: &mut Chance) -> Vec<Self> {
        let at = |last, key, rogue| Self { address: ([10, 0, 0, last], 9848).into(), key, rogue };
        let mut posts = vec![at(1, 0, None)];
        if scenario.second_manager {
            posts.push(at(2, 1, None));
        }
        if let Some(rogue) = scenario.rogue {
            let rogue = at(3, chance.within(0..2) as usize, Some(rogue));
            let place = if scenario.rogue_first { 0 } else { posts.len() };
            posts.insert(place, rogue);
        }
        posts
    }

    pub(crate) fn is_genuine(&self) -> bool {
        self.rogue.is_none()
    }

    fn secret<'a>(&self, truth: &'a Truth) -> &'a ManagerSecretKey {
        match self.rogue {
            Some(Rogue::UntrustedManager) => &truth.impostor,
            _ => &truth.managers[self.key],
        }
    }
}

impl Manager {
    /// A manager that starts now; the operator holds the second board for as long as `holds`.
    pub(crate) fn start(
        now: Time,
        post: Post,
        scenario: &Scenario,
        truth: &Truth,
        chance: &mut Chance,
        holds: bool,
    ) -> Self {
        let secret = *post.secret(truth).exchange();
        let seed = chance.seed();
        let (mind, held_bytes) = match post.rogue {
            Some(Rogue::Mute) => (Mind::Mute(Box::new(mute(secret, seed))), 0),
            _ => {
                let settings = Settings {
                    delivery: scenario.delivery,
                    rate_bits_per_s: u64::from(scenario.rate_mbit) * 1_000_000,
                    is_polite: scenario.is_polite,
                    fragment_size_bytes: scenario.fragment_size_bytes,
                    deadlines: Deadlines { reach: ENLIST_TIMEOUT, ..Deadlines::default() },
                    exchange_secret: secret,
                    seed,
                };
                let policy = policy(scenario, truth, holds && post.is_genuine());
                let shelf = truth.shelf(!post.is_genuine());
                let known = known(scenario, truth, &post);
                let (service, held_bytes) = memory::count(|| {
                    Box::new(Service::new(settings, policy.clone(), shelf.clone(), known.clone()))
                });
                (Mind::Service(service), held_bytes)
            }
        };
        Self {
            post,
            mind,
            wake: Alarm::default(),
            origin: now,
            held_bytes,
            held_bytes_max: held_bytes,
            heard: vec![0; scenario.hosts],
            said: vec![0; scenario.hosts],
            enlisted: vec![false; scenario.hosts],
        }
    }

    /// Its own clock.
    fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.origin)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let timeout = match &self.mind {
            Mind::Service(service) => service.poll_timeout(),
            Mind::Mute(endpoint) => endpoint.poll_timeout(),
        };
        timeout.map(|at| self.origin + at.since(Time::ZERO))
    }

    pub(crate) fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        let local = self.local(now);
        if let Mind::Mute(endpoint) = &mut self.mind {
            endpoint.handle_datagram(local, from, bytes);
        }
        self.serve(|service| service.handle_datagram(local, from, bytes));
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        let local = self.local(now);
        if let Mind::Mute(endpoint) = &mut self.mind {
            endpoint.handle_timeout(local);
        }
        self.serve(|service| service.handle_timeout(local));
    }

    /// Its disk gave a payload, or did not.
    pub(crate) fn loaded(&mut self, now: Time, id: &BundleId, payload: &Result<Vec<u8>, String>) {
        let local = self.local(now);
        self.serve(|service| service.loaded(local, id, payload.clone()));
    }

    /// Its disk took a backup, or did not.
    pub(crate) fn stored(&mut self, now: Time, deposit: &Deposit, stored: &Result<(), String>) {
        let local = self.local(now);
        self.serve(|service| service.backup_stored(local, deposit, stored.clone()));
    }

    /// Returns the name of the host whose backup this is.
    pub(crate) fn depositor(&self, deposit: &Deposit) -> Option<&str> {
        let Mind::Service(service) = &self.mind else { return None };
        service.depositor(deposit).map(|(host, _)| host.target().name.as_str())
    }

    /// The operator has it read its policy again, by SIGHUP.
    pub(crate) fn reread_policy(&mut self, scenario: &Scenario, truth: &Truth) {
        let policy = policy(scenario, truth, false);
        self.serve(|service| {
            service.pardon();
            service.set_policy(policy.clone());
        });
    }

    /// Takes all that it wants to send and have done.
    pub(crate) fn wishes(&mut self, now: Time) -> Wishes {
        let local = self.local(now);
        let mut wishes = Wishes::default();
        if let Mind::Mute(endpoint) = &mut self.mind {
            let said = std::iter::from_fn(|| endpoint.poll_transmit()).map(Transmit::from);
            wishes.transmits.extend(said);
        }
        self.serve(|service| {
            // What was allocated in there is freed in there: only copies leave.
            service.work();
            while let Some(transmit) = service.poll_transmit(local) {
                memory::uncounted(|| wishes.transmits.push(transmit.clone()));
            }
            while let Some(load) = service.poll_load() {
                memory::uncounted(|| wishes.loads.push(load.clone()));
            }
            while let Some(deposit) = service.poll_backup() {
                memory::uncounted(|| wishes.deposits.push(deposit.clone()));
            }
            while let Some(note) = service.poll_note() {
                memory::uncounted(|| wishes.notes.push(note.clone()));
            }
        });
        wishes
    }

    /// Ends the program. Gives back how many bytes the count of its memory is off.
    pub(crate) fn die(self) -> i64 {
        let Mind::Service(service) = self.mind else { return 0 };
        let ((), freed) = memory::count(|| drop(service));
        self.held_bytes + freed
    }

    fn serve(&mut self, work: impl FnOnce(&mut Service)) {
        let Mind::Service(service) = &mut self.mind else { return };
        let ((), more) = memory::count(|| work(service));
        self.held_bytes += more;
        self.held_bytes_max = self.held_bytes_max.max(self.held_bytes);
    }
}

fn mute(secret: [u8; 32], seed: [u8; 32]) -> Endpoint {
    let mut endpoint = Endpoint::new(secret, seed);
    endpoint.serve_hosts(HANDSHAKES_PER_SECOND);
    endpoint.serve_strangers(MUTE_STRANGERS_MAX);
    endpoint
}

fn policy(scenario: &Scenario, truth: &Truth, holds: bool) -> Policy {
    let second = truth.boards.get(1).filter(|_| holds && scenario.holds_second_board);
    let hold = |board: &super::truth::BoardTruth| Rule {
        vendor: None,
        product: Some(board.product.clone()),
        host: None,
        choice: BundleChoice::Hold,
    };
    Policy {
        unknown_hosts: scenario.helps_strangers,
        escrow: scenario.escrow,
        attempts_max: scenario.attempts_max,
        rules: second.map(hold).into_iter().collect(),
        ..Policy::default()
    }
}

/// The inventory: a rogue knows everybody.
fn known(scenario: &Scenario, truth: &Truth, post: &Post) -> Vec<Known> {
    let hosts = (0..scenario.hosts)
        .filter(|host| !post.is_genuine() || !truth.is_stranger(*host, scenario.strangers));
    hosts
        .map(|host| Known {
            name: host_name(host),
            key: truth.host_peer(host),
            security_version_floor: 0,
        })
        .collect()
}

/// Returns the name of a host in inventories.
pub(crate) fn host_name(host: usize) -> String {
    format!("host{host}")
}
