//! `firmcast discover`: who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast::keys::{HostPublicKey, ManagerSecretKey, PublicKey as _};
use firmcast::reason::Reason;
use firmcast::session::discovery::Discovery;
use firmcast::wire::DEFAULT_PORT;
use firmcast::wire::answer::{Environment, Identity};
use firmcast_manager::clock;
use firmcast_manager::inventory::{Entry, Inventory, Standing};
use mio::net::UdpSocket;
use rand_core::{OsRng, RngCore as _};
use serde::Serialize;

use crate::targets;
use crate::wait::Waiter;
use crate::{network, output};

/// Questions follow each other after this; hosts answer each only once.
const REPEAT_INTERVAL: Duration = Duration::from_millis(700);

/// Most questions in one discovery.
const QUESTIONS_MAX: usize = 64;

/// Most hosts that are listed.
const FOUND_MAX: usize = 65_536;

#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// The manager's private key [default: manager.key in the state directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Ask only in the network of this interface [default: of every interface that can broadcast]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Ask this host only, also behind routers; may be repeated
    #[arg(long = "host", value_name = "ADDRESS")]
    hosts: Vec<String>,
    /// Keep the hosts that answer in the inventory
    #[arg(long)]
    enroll: bool,
    /// With --enroll: hosts whose key has changed take the place of the known ones. Only for hosts that you know were
    /// installed anew
    #[arg(long, requires = "enroll")]
    replace: bool,
    /// How long to wait for answers, in seconds
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// UDP port of the agents
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    agent_port: u16,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// A host that answered.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: HostPublicKey,
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
}

impl Found {
    fn entry(&self) -> Entry {
        Entry {
            name: self.identity.host_name.clone(),
            key: self.key,
            address: self.address,
            vendor: self.identity.vendor.clone(),
            product: self.identity.product.clone(),
        }
    }
}

/// One line of the list. The names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Line {
    host: String,
    address: SocketAddr,
    key: String,
    vendor: String,
    product: String,
    bios_version: String,
    flash: String,
    flash_size_bytes: u64,
    environment: &'static str,
    agent_version: String,
    can_update: bool,
    obstacle: Option<&'static str>,
    obstacle_detail: String,
    /// `new`, `known`, `enrolled` or `conflict`.
    standing: &'static str,
    /// With a conflict: fingerprint of the known key.
    known_key: Option<String>,
}

impl DiscoverArgs {
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        let secret = targets::load_manager_key(self.key.as_deref(), state)?;
        let mut inventory = Inventory::load(state)?;
        let destinations = self.destinations()?;
        let mut socket = network::open(0, &destinations)?;
        let timeout = Duration::from_secs(self.timeout);
        let mut waiter = Waiter::new(&mut socket, false)?;
        let single_hosts = !self.hosts.is_empty();
        let found = ask(&mut waiter, &socket, &secret, &destinations, timeout, single_hosts)?;
        let answered: BTreeSet<[u8; 32]> = found.iter().map(|host| *host.key.exchange()).collect();
        let mut lines = Vec::new();
        for host in &found {
            lines.push(self.line(host, &mut inventory, &answered));
        }
        if self.enroll && !found.is_empty() {
            inventory.save(state)?;
        }
        self.print(&lines)?;
        let conflict = lines.iter().any(|line| line.standing == "conflict");
        Ok(if conflict || lines.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn destinations(&self) -> anyhow::Result<Vec<SocketAddr>> {
        if !self.hosts.is_empty() {
            return self.hosts.iter().map(|host| targets::resolve(host, self.agent_port)).collect();
        }
        let interfaces = network::interfaces(self.interface.as_deref())?;
        ensure!(!interfaces.is_empty(), "no interface can broadcast; name hosts with --host");
        let addresses: BTreeSet<_> = interfaces.iter().map(|own| own.broadcast).collect();
        Ok(addresses.into_iter().map(|to| SocketAddr::new(to.into(), self.agent_port)).collect())
    }

    fn line(
        &self,
        found: &Found,
        inventory: &mut Inventory,
        answered: &BTreeSet<[u8; 32]>,
    ) -> Line {
        let entry = found.entry();
        let standing = inventory.standing(&entry, answered);
        let enrolled =
            self.enroll.then(|| inventory.enrol(&entry, answered, self.replace)).flatten();
        let (standing, known_key) = match standing {
            Standing::Known(_) => ("known", None),
            Standing::New if enrolled.is_some() => ("enrolled", None),
            Standing::New => ("new", None),
            Standing::Conflict { .. } if enrolled.is_some() => ("enrolled", None),
            Standing::Conflict { known, .. } => ("conflict", Some(known.to_string())),
        };
        let Identity { obstacle, environment, .. } = found.identity;
        let identity = found.identity.clone();
        Line {
            host: enrolled.unwrap_or(identity.host_name),
            address: found.address,
            key: found.key.fingerprint().to_string(),
            vendor: identity.vendor,
            product: identity.product,
            bios_version: identity.bios_version,
            flash: identity.flash_name,
            flash_size_bytes: identity.flash_size_bytes,
            environment: match environment {
                Environment::NormalOs => "normal-os",
                Environment::Recovery => "recovery",
            },
            agent_version: identity.agent_version,
            can_update: obstacle == Reason::None,
            obstacle: (obstacle != Reason::None).then(|| obstacle.name()),
            obstacle_detail: identity.obstacle_detail,
            standing,
            known_key,
        }
    }

    fn print(&self, lines: &[Line]) -> anyhow::Result<ExitCode> {
        if self.json {
            return output::print(&(serde_json::to_string_pretty(lines)? + "\n"));
        }
        if lines.is_empty() {
            eprintln!(
                "firmcast: no host answered; agents answer only managers whose key they trust (trusted_managers)"
            );
        }
        output::print(&lines.iter().map(Line::to_text).collect::<String>())
    }
}

impl Line {
    fn to_text(&self) -> String {
        let Self { host, address, key, vendor, product, bios_version, .. } = self;
        let flash = match self.flash_size_bytes {
            0 => "flash not found".to_owned(),
            size => format!("flash {} ({} KiB)", self.flash, size / 1024),
        };
        let ability = match self.obstacle {
            None => "can be updated".to_owned(),
            Some(obstacle) => format!("CANNOT be updated: {obstacle} {}", self.obstacle_detail),
        };
        let standing = match &self.known_key {
            Some(known) => format!(
                "CONFLICT: its name or address belongs to the key {known}; if the host was installed \
                 anew, take it over with --enroll --replace"
            ),
            None => self.standing.to_owned(),
        };
        format!(
            "{host}  {address}  {vendor} / {product}, BIOS {bios_version}, {flash}\n    \
             key {key}\n    {ability}\n    {standing}\n"
        )
    }
}

/// Asks and gathers answers until `timeout`, or, when single hosts are asked, until all have answered.
pub(crate) fn ask(
    waiter: &mut Waiter,
    socket: &UdpSocket,
    secret: &ManagerSecretKey,
    destinations: &[SocketAddr],
    timeout: Duration,
    single_hosts: bool,
) -> anyhow::Result<Vec<Found>> {
    let end = waiter.now() + timeout;
    let mut questions: Vec<Discovery> = Vec::new();
    let mut found: BTreeMap<[u8; 32], Found> = BTreeMap::new();
    let mut next_question = waiter.now();
    let mut warned = false;
    while waiter.now() < end {
        if waiter.now() >= next_question && questions.len() < QUESTIONS_MAX {
            let question = question(secret);
            send(socket, &question, destinations, &mut warned);
            questions.push(question);
            next_question = waiter.now() + REPEAT_INTERVAL;
        }
        waiter.wait(next_question.min(end))?;
        ensure!(waiter.stop_requests()? == 0, "interrupted");
        receive(socket, secret, &questions, &mut found)?;
        let answered = |to: &SocketAddr| found.values().any(|host| host.address == *to);
        if single_hosts && destinations.iter().all(answered) {
            break;
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by(|a, b| {
        (&a.identity.host_name, a.address).cmp(&(&b.identity.host_name, b.address))
    });
    Ok(found)
}

fn question(secret: &ManagerSecretKey) -> Discovery {
    let mut nonce = [0; 16];
    OsRng.fill_bytes(&mut nonce);
    Discovery::new(secret, clock::unix_micros(SystemTime::now()), nonce)
}

fn send(socket: &UdpSocket, question: &Discovery, to: &[SocketAddr], warned: &mut bool) {
    for to in to {
        // A question that cannot be sent now is asked again.
        if let Err(error) = socket.send_to(&question.request(), *to)
            && !std::mem::replace(warned, true)
        {
            eprintln!("firmcast: cannot ask {to}: {error}");
        }
    }
}

fn receive(
    socket: &UdpSocket,
    secret: &ManagerSecretKey,
    questions: &[Discovery],
    found: &mut BTreeMap<[u8; 32], Found>,
) -> anyhow::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (size, address) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The network says that an earlier question did not arrive.
            Err(error) if is_network_error(&error) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let open = |question: &Discovery| question.open(secret, &buffer[..size]);
        if let Some((key, identity)) = questions.iter().rev().find_map(open)
            && found.len() < FOUND_MAX
        {
            found.insert(*key.exchange(), Found { key, address, identity });
        }
    }
}

/// Whether an error of the socket tells of the network rather than of the socket itself: it may be better later.
pub(crate) fn is_network_error(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | Interrupted
    )
}
