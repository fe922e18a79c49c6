//! `firmcast serve`: answers dead hosts.

mod directory;
mod drive;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast::keys::{ManagerSecretKey, ReleasePublicKey};
use firmcast::random;
use firmcast::wire::MANAGER_PORT;
use firmcast_manager::campaign::{Deadlines, Delivery};
use firmcast_manager::rescue::KNOWN_MAX;
use firmcast_manager::rescue::{Known, Policy, Service, Settings, Shelf};
use firmcast_manager::store::flash_backups::BackupStore;
use firmcast_manager::store::inventory::{self, Inventory};
use firmcast_manager::store::state::manager_key;
use rand_core::OsRng;

use super::bundle;
use super::sending::SendingArgs;
use crate::driver::display::Display;
use crate::driver::ledger::Ledger;
use crate::driver::mouth::Mouth;
use crate::driver::network::{self, Route};
use crate::driver::socket;
use crate::driver::status_socket::StatusSocket;
use crate::driver::wait::Waiter;
use drive::{Drive, Facts, ServiceIo};

/// An enlisted host must report within this time.
const ENLIST_TIMEOUT: Duration = Duration::from_secs(60);

const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), MANAGER_PORT);

/// SIGTERM ends the service: hosts that write their flash go on by themselves, the others ask
/// again. SIGHUP makes it read policy, bundles and inventory again, and parked hosts may try again;
/// SIGUSR1 the same, but parked hosts stay parked.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory of the bundles that dead hosts may get
    #[arg(long, value_name = "DIR")]
    bundles: PathBuf,
    /// Whom to help, and with which version [default: hosts of the inventory, with the newest]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A public release key, or its file: serve only bundles that one of these signed; may be
    /// repeated
    #[arg(long = "trust", value_name = "KEY")]
    trust: Vec<String>,
    /// The manager's private key [default: manager.key in the state directory; for root
    /// /etc/firmcast/manager.key unless that is there]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Interface to broadcast on [default: the only one, or the one whose network holds hosts of
    /// the inventory]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    #[command(flatten)]
    sending: SendingArgs,
    /// Address and UDP port to listen on; at one address no broadcast of a dead host arrives
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
}

/// The files that are read at the start, and again when the operator says so.
pub(crate) struct Files {
    bundles: PathBuf,
    policy: Option<PathBuf>,
    trusted: Vec<ReleasePublicKey>,
    state: PathBuf,
}

impl ServeArgs {
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        self.prepare(state)?.run()
    }

    /// Everything that can be off before it listens.
    fn prepare(self, state: &Path) -> anyhow::Result<Drive> {
        let secret = manager_key(self.key.as_deref(), state)?;
        let trusted = bundle::trusted(&self.trust)?;
        let files = Files {
            bundles: self.bundles.clone(),
            policy: self.policy.clone(),
            trusted,
            state: state.into(),
        };
        let (policy, shelf, inventory) = (files.policy()?, files.shelf()?, files.inventory()?);
        let mut status = StatusSocket::open(state)?;
        let mut socket = socket::listen(self.listen)?;
        let route = self.route(&socket, &inventory)?;
        let mut waiter = Waiter::new(&mut socket, true)?;
        waiter.heed_refreshes()?;
        status.watch(&waiter)?;
        let known = known(&inventory);
        drop(inventory);
        let service = Service::new(self.settings(&secret, &route), policy, shelf, known);
        let facts = Facts {
            address: socket.local_addr().context("the socket has no address")?,
            delivery: self.sending.delivery(),
            rate_mbit: self.sending.rate_mbit,
        };
        let mouth = Mouth::new(Display::for_service(self.json), Ledger::new(state.into()));
        let backups = BackupStore::new(state);
        let io = ServiceIo { mouth, waiter, socket, status, files, backups };
        Ok(Drive::new(service, io, route.group, facts))
    }

    fn route(&self, socket: &mio::net::UdpSocket, inventory: &Inventory) -> anyhow::Result<Route> {
        let delivery = self.sending.delivery();
        let interface = match (&self.interface, delivery) {
            (None, Delivery::Broadcast) => {
                ensure!(
                    self.listen.is_ipv4(),
                    "only IPv4 broadcasts: use --group or --unicast, or an IPv4 address with \
                     --listen"
                );
                let hosts = inventory.hosts().iter().map(|host| host.address.ip());
                Some(network::only_interface(self.listen.ip(), hosts)?)
            }
            (named, _) => named.clone(),
        };
        let near = [self.listen];
        network::route(socket, delivery, interface.as_deref(), &near, self.sending.agent_port)
    }

    fn settings(&self, secret: &ManagerSecretKey, route: &Route) -> Settings {
        Settings {
            delivery: self.sending.delivery(),
            rate_bits_per_s: u64::from(self.sending.rate_mbit) * 1_000_000,
            is_polite: self.sending.polite,
            fragment_size_bytes: route.fragment_size_bytes,
            deadlines: Deadlines { reach: ENLIST_TIMEOUT, ..Deadlines::default() },
            exchange_secret: *secret.exchange(),
            seed: random::seed(&mut OsRng),
        }
    }
}

impl Files {
    fn policy(&self) -> anyhow::Result<Policy> {
        Ok(self.policy.as_deref().map(Policy::load).transpose()?.unwrap_or_default())
    }

    fn shelf(&self) -> anyhow::Result<Shelf> {
        directory::read(&self.bundles, &self.trusted)
    }

    fn inventory(&self) -> anyhow::Result<Inventory> {
        let inventory = Inventory::load(&self.state)?;
        let count = inventory.hosts().len();
        ensure!(
            count <= KNOWN_MAX,
            "the inventory has {count} hosts, at most {KNOWN_MAX} are possible"
        );
        Ok(inventory)
    }
}

/// What the service knows of the hosts of the inventory.
fn known(inventory: &Inventory) -> Vec<Known> {
    let known = |host: &inventory::Entry| Known {
        name: host.name.clone(),
        key: *host.key.exchange(),
        security_version_floor: host.security_version_floor,
    };
    inventory.hosts().iter().map(known).collect()
}
