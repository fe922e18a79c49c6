//! Hosts, releases, rollouts, and the stores that they go into.

use firmcast_fleet::model::{
    Approval, Delivery, Host, Release, RolloutId, RolloutState, Secret, WaveState, Webhook,
};
use firmcast_fleet::rollout::limits::Limits;
use firmcast_fleet::store::requests::{
    ClaimRequest, NewAttempt, NewRollout, NewWave, Open, StateChange, WaveChange,
};
use firmcast_fleet::store::{Backup, MemoryStore, PostgresStore, SqliteStore, Store};
use firmcast_fleet::webhooks::new_secret;
use tempfile::TempDir;

use super::server::Server;

pub(crate) const LEASE_US: i64 = 10_000_000;

/// Rollouts without windows. PostgreSQL leaves out the numbers of those that were refused.
const OPEN: [Open; 8] = {
    let mut open = [Open { rollout: 0, seconds: u32::MAX }; 8];
    let mut index = 0;
    while index < open.len() {
        open[index].rollout = index as i64 + 1;
        index += 1;
    }
    open
};

/// One of each kind.
pub(crate) struct Stores {
    pub(crate) each: Vec<(&'static str, Box<dyn Store>)>,
    pub(crate) server: Server,
    _folder: TempDir,
}

impl Stores {
    pub(crate) fn new() -> Self {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let each = open(&server, &folder);
        Self { each, server, _folder: folder }
    }
}

pub(crate) fn open(server: &Server, folder: &TempDir) -> Vec<(&'static str, Box<dyn Store>)> {
    vec![
        ("memory", Box::new(MemoryStore::default())),
        ("sqlite", Box::new(SqliteStore::open(folder.path()).unwrap())),
        (
            "postgres",
            Box::new(PostgresStore::open(&server.database(), Backup::Unconfirmed).unwrap()),
        ),
    ]
}

pub(crate) fn host(name: &str, site: &str) -> Host {
    Host {
        name: name.to_owned(),
        key: format!("key of {name}"),
        addresses: vec!["192.0.2.1:7070".parse().unwrap(), "[2001:db8::1]:7070".parse().unwrap()],
        vendor: "QEMU".to_owned(),
        product: "Standard PC".to_owned(),
        bios_version: "1".to_owned(),
        agent_version: String::new(),
        security_version_floor: 3,
        labels: [("site".to_owned(), site.to_owned())].into(),
    }
}

pub(crate) fn release() -> Release {
    Release {
        digest: "ab".repeat(32),
        version: "2".to_owned(),
        security_version: 4,
        vendor: "QEMU".to_owned(),
        products: vec!["Standard PC".to_owned()],
        size_bytes: 1 << 40,
        added_at: 1,
    }
}

/// A rollout without limits over hosts with their waves and sites.
pub(crate) fn rollout(name: &str, hosts: &[(&str, u32, &str)]) -> NewRollout {
    let hosts: Vec<_> = hosts.iter().map(|(name, wave, site)| (host(name, site), *wave)).collect();
    limited(name, Limits::default(), &hosts)
}

/// A rollout over hosts with their waves. Each host is predicted to take a second.
pub(crate) fn limited(name: &str, limits: Limits, hosts: &[(Host, u32)]) -> NewRollout {
    let wave =
        |name: &str| NewWave { name: name.to_owned(), approval: Approval::Person, soak_s: 1800 };
    let attempt = |(host, wave): &(Host, u32)| NewAttempt {
        wave: *wave,
        host: host.name.clone(),
        site: host.site().to_owned(),
        domains: limits.domains(*wave, host),
        predicted_s: 1,
    };
    let attempts = hosts.iter().map(attempt).collect();
    NewRollout {
        name: name.to_owned(),
        release: release().digest,
        file: "[rollout]\n".to_owned(),
        plan_digest: "cd".repeat(32),
        limits,
        created_by: "ann".to_owned(),
        at: 5,
        waves: vec![wave("canary"), wave("rest")],
        attempts,
    }
}

pub(crate) fn start(store: &mut dyn Store, id: RolloutId) {
    let from = [RolloutState::Ready];
    let to = RolloutState::Running;
    let change = StateChange { from: &from, to, reason: "", by: "ann", at: 6, revision: None };
    store.change_state(id, &change).unwrap();
    run_wave(store, id, 0);
}

pub(crate) fn run_wave(store: &mut dyn Store, id: RolloutId, wave: u32) {
    let from = [WaveState::Waiting];
    let change =
        WaveChange { from: &from, to: WaveState::Running, by: "ann", at: 6, revision: None };
    store.change_wave(id, wave, &change).unwrap();
}

pub(crate) fn claim<'a>(site: &'a str, worker: &'a str, at: i64, limit: usize) -> ClaimRequest<'a> {
    ClaimRequest { site, worker, at, lease_us: LEASE_US, limit, open: &OPEN, lacking: &[] }
}

/// A webhook that is told of everything.
pub(crate) fn webhook(name: &str, url: &str) -> Webhook {
    Webhook {
        id: 0,
        name: name.to_owned(),
        url: url.to_owned(),
        source: "/firmcast-fleet".to_owned(),
        kinds: Vec::new(),
        secrets: vec![secret()],
        created_by: "ann".to_owned(),
        created_at: 5,
        delivery: Delivery::default(),
    }
}

pub(crate) fn secret() -> Secret {
    new_secret([7; 32])
}
