//! One campaign: what `firmcast update` and `firmcast drill` have in common.

mod drive;
mod targets;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use firmcast::image::Digest;
use firmcast::keys::{ManagerSecretKey, PublicKey as _};
use firmcast::random;
use firmcast::wire::MANAGER_PORT;
use firmcast::wire::finding::{Acceptance, Subject};

use firmcast_manager::campaign::{Campaign, Config, Contents, Deadlines, Purpose};
use firmcast_manager::news::{BundleFacts, Entry, HostFacts, Kind, Narrator, News};
use firmcast_manager::store::flash_backups::{BackupStore, RegionFacts};
use firmcast_manager::store::inventory::Inventory;
use firmcast_manager::store::known_bundles::KnownBundles;
use firmcast_manager::store::records::{self, StartTurn};
use firmcast_manager::store::state::manager_key;
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};

use super::bundle::{self, Opened};
use super::sending::SendingArgs;
use crate::driver::display::Display;
use crate::driver::interview::Asker;
use crate::driver::ledger::Ledger;
use crate::driver::mouth::Mouth;
use crate::driver::network::{self, Route};
use crate::driver::socket;
use crate::driver::stamper::Stamper;
use crate::driver::stderr;
use crate::driver::wait::Waiter;
use drive::{CampaignIo, Drive, WayOut};
use targets::NamedHost;

/// Exit status when nothing was started.
const NOTHING_STARTED: u8 = 3;

/// Which bundle, which hosts, and how.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("targets").args(["hosts", "all"]).required(true))]
pub(super) struct CampaignArgs {
    /// The manager's private key [default: manager.key in the state directory; for root
    /// /etc/firmcast/manager.key unless that is there]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The bundle to bring to the hosts
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// A public release key, or its file: start only if one of these signed the bundle; may be
    /// repeated
    #[arg(long = "trust", value_name = "KEY")]
    trust: Vec<String>,
    /// A host: its name in the inventory, or its address; may be repeated
    #[arg(long = "host", value_name = "ADDRESS|NAME", num_args = 1..)]
    hosts: Vec<String>,
    /// All hosts of the inventory
    #[arg(long)]
    all: bool,
    /// Interface to broadcast on [default: the one whose network holds the hosts]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    #[command(flatten)]
    sending: SendingArgs,
    /// Have each host upload its backup before it changes its flash; see firmcast backup
    #[arg(long)]
    escrow: bool,
    /// Start although this check of a host finds something in the way, where the host lets managers
    /// accept that: sealed-disks (the recovery key is at hand), flash-locks (recovery unlocks the
    /// chip and locks it again), inhibitors or package-manager; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = acceptable())]
    accept: Vec<String>,
    /// Send all of the image, also what every host has on its chip already
    #[arg(long)]
    whole: bool,
    /// Update with a UEFI image in which no variable store is known, although that may overwrite
    /// the settings of every host; needed once for a bundle
    #[arg(long)]
    no_variable_store_known: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
    /// UDP port of the manager, which hosts call back; 0 for any free one. Keep the default: hosts
    /// that a dead manager left in their recovery environment call this port
    #[arg(long, value_name = "PORT", default_value_t = MANAGER_PORT)]
    port: u16,
    /// How long hosts may take to call back from the recovery environment, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(10..=7200)
    )]
    reach_timeout: u64,
    /// How long the transfer to a host may stand still, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(10..=7200)
    )]
    transfer_timeout: u64,
    /// How long hosts may take to come back with the new firmware, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(10..=86400)
    )]
    boot_timeout: u64,
}

impl CampaignArgs {
    /// Runs the campaign. Exit status: 0 when all hosts ended well and kept what they had to, 1
    /// when some did not, 3 when nothing was started.
    pub(super) fn run(&self, state: &Path, purpose: Purpose, learned: Option<PathBuf>) -> ExitCode {
        let absent = learned.as_deref().map_or(Ok(()), bundle::ensure_absent);
        match absent.and_then(|()| self.prepare(state, purpose)).map(|drive| drive.run(learned)) {
            Ok(code) => code,
            Err(error) => {
                stderr::tell(format_args!("{error:#}; nothing was started"));
                ExitCode::from(NOTHING_STARTED)
            }
        }
    }

    /// Everything that can be off before a host is told anything.
    fn prepare(&self, state: &Path, purpose: Purpose) -> anyhow::Result<Drive> {
        let opened = self.read_bundle()?;
        self.admit_variables(state, purpose, &opened)?;
        let secret = manager_key(self.key.as_deref(), state)?;
        let mut stamper = Stamper::new(state, &secret);
        let asker = Asker { secret: &secret, stamper: &mut stamper };
        let (hosts, way) = self.find_hosts(state, asker)?;
        // Of two that start at the same moment, the second one sees the first.
        let turn = StartTurn::take(state)?;
        refuse_if_running(state, &hosts)?;
        let stamp = stamper.campaign(way.waiter.now())?;
        let config = Config { purpose, ..self.config(&secret, &way.route, stamp) };
        let backups = BackupStore::new(state);
        if self.escrow {
            backups.prepare(hosts.len(), opened.contents.image_size_bytes)?;
        }
        let security_version = opened.facts.security_version;
        let started = self.started(&config, opened.facts, &hosts);
        let targets = hosts.iter().map(NamedHost::target).collect();
        let campaign = Campaign::new(way.waiter.now(), &config, opened.contents, targets)
            .context("the bundle's payload cannot be sent")?;
        let kind = Kind::of(purpose);
        let mut mouth =
            Mouth::new(Display::for_campaign(self.json, kind), Ledger::new(state.into()));
        mouth.begin(config.campaign, started)?;
        drop(turn);
        let (state, regions) = (state.into(), opened.regions);
        let io = CampaignIo { mouth, way, stamper, backups, state, security_version, regions };
        Ok(Drive::new(config.campaign, Narrator::new(kind), campaign, io))
    }

    /// A bundle that may overwrite the settings of all hosts is flashed only if that is meant. Who
    /// has said so of a bundle once is not asked again.
    fn admit_variables(
        &self,
        state: &Path,
        purpose: Purpose,
        opened: &OpenedBundle,
    ) -> anyhow::Result<()> {
        if !opened.lacks_variable_store {
            return Ok(());
        }
        stderr::tell(format_args!("WARNING: {}", bundle::NO_VARIABLE_STORE));
        let known = KnownBundles::new(state);
        if matches!(purpose, Purpose::DryRun | Purpose::Look) || known.contains(&opened.id)? {
            return Ok(());
        }
        ensure!(
            self.no_variable_store_known,
            "this bundle may overwrite the settings of every host; to go on nevertheless, give \
             --no-variable-store-known"
        );
        Ok(known.insert(&opened.id)?)
    }

    /// Finds the hosts that are meant, and the way to them.
    fn find_hosts(
        &self,
        state: &Path,
        mut asker: Asker<'_>,
    ) -> anyhow::Result<(Vec<NamedHost>, WayOut)> {
        let inventory = Inventory::load(state)?;
        let hosts = targets::named(&inventory, &self.hosts, self.sending.agent_port)?;
        let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
        let mut socket = socket::open(self.port, &addresses)?;
        let interface = self.interface.as_deref();
        let route = network::route(
            &socket,
            self.sending.delivery(),
            interface,
            &addresses,
            self.sending.agent_port,
        )?;
        let mut waiter = Waiter::new(&mut socket, true)?;
        let hosts = targets::with_keys(&mut waiter, &socket, &mut asker, hosts)?;
        Ok((hosts, WayOut { socket, waiter, route }))
    }

    fn started(&self, config: &Config, bundle: BundleFacts, hosts: &[NamedHost]) -> Entry {
        let started = News::Started {
            kind: Kind::of(config.purpose),
            bundle,
            delivery: config.delivery.name().to_owned(),
            rate_mbit: config.rate_mbit,
            escrow: config.escrow,
            dry_run: config.purpose == Purpose::DryRun,
            accepted: config.accepted.names().into_iter().map(str::to_owned).collect(),
            hosts: hosts.iter().map(host_facts).collect(),
        };
        Entry::now(config.campaign, started)
    }

    /// Only names that can be accepted are parsed.
    fn accepted(&self) -> Acceptance {
        Acceptance::of_names(self.accept.iter().map(String::as_str)).unwrap_or_default()
    }

    fn config(&self, secret: &ManagerSecretKey, route: &Route, stamp: u64) -> Config {
        let deadlines = Deadlines {
            reach: Duration::from_secs(self.reach_timeout),
            transfer: Duration::from_secs(self.transfer_timeout),
            boot: Duration::from_secs(self.boot_timeout),
            ..Deadlines::default()
        };
        Config {
            // Zero means no campaign.
            campaign: OsRng.next_u64().max(1),
            delivery: self.sending.delivery(),
            rate_mbit: self.sending.rate_mbit,
            is_polite: self.sending.polite,
            fragment_size_bytes: route.fragment_size_bytes,
            escrow: self.escrow,
            purpose: Purpose::Update,
            accepted: self.accepted(),
            deadlines,
            exchange_secret: *secret.exchange(),
            stamp,
            seed: random::seed(&mut OsRng),
        }
    }

    fn read_bundle(&self) -> anyhow::Result<OpenedBundle> {
        let what = || format!("bundle {}", self.bundle.display());
        let bytes = bundle::read_bundle(&self.bundle)?;
        self.open_bundle(&bytes).with_context(what)
    }

    fn open_bundle(&self, bytes: &[u8]) -> anyhow::Result<OpenedBundle> {
        let opened = bundle::open(bytes, &bundle::trusted(&self.trust)?)?;
        let Opened { manifest, signed, payload, signer, signature_checked } = opened;
        let file = self.bundle.display().to_string();
        let facts = BundleFacts::new(file, &manifest, &signer, signature_checked);
        let pieces = bundle::pieces(&manifest, payload).filter(|_| !self.whole);
        let contents = Contents {
            manifest: signed.to_vec(),
            payload: payload.to_vec(),
            pieces,
            image_size_bytes: manifest.image_size_bytes(),
            is_part: !manifest.parts().is_empty(),
            expect_version: manifest.expect_version().map(str::to_owned),
            stable_digest: *manifest.stable_digest(),
        };
        let regions = RegionFacts::of(&manifest);
        let lacks_variable_store = manifest.lacks_variable_store();
        let id = Sha256::digest(signed).into();
        Ok(OpenedBundle { contents, facts, regions, id, lacks_variable_store })
    }
}

fn acceptable() -> PossibleValuesParser {
    PossibleValuesParser::new(Subject::ACCEPTABLE.iter().map(|subject| subject.name()))
}

/// What the campaign needs of its bundle.
struct OpenedBundle {
    contents: Contents,
    facts: BundleFacts,
    /// Regions of the chip that firmware changes itself.
    regions: Vec<RegionFacts>,
    /// SHA-256 of the signed manifest.
    id: Digest,
    /// A UEFI image in which no variable store is known.
    lacks_variable_store: bool,
}

/// A second campaign would end the first one on its hosts.
fn refuse_if_running(state: &Path, hosts: &[NamedHost]) -> anyhow::Result<()> {
    let ours: BTreeSet<String> = hosts.iter().filter_map(|host| host_facts(host).key).collect();
    for started in records::running(state)? {
        let News::Started { hosts, .. } = &started.news else { continue };
        let both =
            hosts.iter().find(|host| host.key.as_ref().is_some_and(|key| ours.contains(key)));
        if let Some(host) = both {
            bail!("{} takes part in campaign {}, which is running", host.host, started.campaign);
        }
    }
    Ok(())
}

fn host_facts(host: &NamedHost) -> HostFacts {
    HostFacts {
        host: host.target().name,
        address: host.address.to_string(),
        key: host.key.map(|key| key.fingerprint().to_string()),
    }
}
