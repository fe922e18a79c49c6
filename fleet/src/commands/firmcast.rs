//! How `firmcast update` is called for hosts of the store, and what it tells as JSON.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast_fleet::model::Host;
use firmcast_manager::news::{Entry, News};
use firmcast_manager::store::inventory::{Entry as Known, Inventory};
use firmcast_manager::store::state;

use super::Place;
use super::shelf::Shelf;

/// Longest line of a campaign that is read, in bytes.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// How campaigns are run.
#[derive(Clone, Debug, Args)]
pub(crate) struct FirmcastArgs {
    /// The manager's private key [default: manager.key in the state directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The program that runs campaigns
    #[arg(long, value_name = "PROGRAM", default_value = "firmcast")]
    firmcast: PathBuf,
    /// Options for each firmcast update, after --, for example -- --rate 400 --polite. Hosts that
    /// are only asked or measured are reached one by one, whatever these say of --group. Dead hosts
    /// are answered with those of these that firmcast serve has, too
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// What hosts are called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// They are updated.
    Update,
    /// They are only measured.
    Look,
    /// They are only asked what an update would change.
    DryRun,
}

impl Errand {
    /// Returns the options of an errand, with those of the operator. Where nothing is streamed or
    /// written, no network has to be able to broadcast, and what the operator says of the stream
    /// and of backups is left out: firmcast refuses it there.
    fn options(self, operators: &[String]) -> Vec<String> {
        let errand = match self {
            Self::Update => return operators.to_vec(),
            Self::Look => "--look",
            Self::DryRun => "--dry-run",
        };
        let mut options: Vec<String> = [errand, "--unicast"].map(str::to_owned).into();
        let mut rest = operators.iter();
        while let Some(option) = rest.next() {
            match option.as_str() {
                "--unicast" | "--escrow" => {}
                "--group" => drop(rest.next()),
                other if other.starts_with("--group=") => {}
                other => options.push(other.to_owned()),
            }
        }
        options
    }
}

/// The options of updates that `firmcast serve` has, too, and whether a value follows.
const OF_SERVICE: [(&str, bool); 7] = [
    ("--group", true),
    ("--unicast", false),
    ("--rate", true),
    ("--polite", false),
    ("--agent-port", true),
    ("--interface", true),
    ("--trust", true),
];

/// Returns those of the operator's options that `firmcast serve` has.
fn of_service(operators: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    let mut rest = operators.iter();
    while let Some(option) = rest.next() {
        let name = option.split_once('=').map_or(option.as_str(), |(name, _)| name);
        let Some((_, has_value)) = OF_SERVICE.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        options.push(option.clone());
        if *has_value && name == option {
            options.extend(rest.next().cloned());
        }
    }
    options
}

/// The manager's program.
#[derive(Clone, Debug)]
pub(crate) struct Firmcast {
    program: PathBuf,
    key: PathBuf,
    options: Vec<String>,
    shelf: Shelf,
    place: PathBuf,
}

impl FirmcastArgs {
    /// Returns the program as it is called with the bundles of this machine. What it keeps itself
    /// lies in a `folder` of the state directory: one for each program of the fleet, as these may
    /// be run by different users.
    pub(crate) fn of(self, place: &Place, folder: &str) -> Firmcast {
        let state = place.state();
        Firmcast {
            place: state.join(folder),
            program: self.firmcast,
            key: self.key.unwrap_or_else(|| state::manager_key_path(state)),
            options: self.options,
            shelf: place.shelf(),
        }
    }
}

impl Firmcast {
    /// Starts a campaign for hosts with a release. It dies with this process, however that ends.
    pub(crate) fn update(
        &self,
        release: &str,
        hosts: &[Host],
        errand: Errand,
    ) -> anyhow::Result<Child> {
        let place = &self.place;
        std::fs::create_dir_all(place)
            .with_context(|| format!("cannot create {}", place.display()))?;
        enrol(place, hosts)?;
        let mut command = dying_with_caller(&self.program);
        command.arg("--state").arg(place).args(["update", "--json", "--port", "0", "--bundle"]);
        command.arg(self.shelf.path(release)).arg("--key").arg(&self.key);
        command.args(errand.options(&self.options));
        // With the sign no name is taken for an option.
        command.args(hosts.iter().map(|host| format!("--host={}", host.name)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("cannot start setpriv (package util-linux)")
    }

    /// Where it keeps what it keeps itself.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Starts the service that answers dead hosts, with bundles and policy of its place. It dies
    /// with the thread that calls this, however that ends.
    pub(crate) fn serve(
        &self,
        bundles: &Path,
        policy: &Path,
        listen: SocketAddr,
    ) -> anyhow::Result<Child> {
        let mut command = dying_with_caller(&self.program);
        command.arg("--state").arg(&self.place).arg("serve").arg("--bundles").arg(bundles);
        command.arg("--policy").arg(policy).arg("--key").arg(&self.key);
        command.arg("--listen").arg(listen.to_string()).args(of_service(&self.options));
        command.stdin(Stdio::null());
        command.spawn().context("cannot start setpriv (package util-linux)")
    }
}

fn dying_with_caller(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Lets `firmcast` know the hosts by the keys that the store has.
fn enrol(place: &Path, hosts: &[Host]) -> anyhow::Result<()> {
    let mut known = Vec::with_capacity(hosts.len());
    for host in hosts {
        let whose = || format!("host {:?}", host.name);
        known.push(Known {
            name: host.name.clone(),
            key: host.key.parse().with_context(whose)?,
            address: *host
                .addresses
                .first()
                .with_context(|| format!("{} has no address", whose()))?,
            vendor: host.vendor.clone(),
            product: host.product.clone(),
            security_version_floor: host.security_version_floor,
        });
    }
    let names = Inventory::change(place, |inventory| {
        let nobody = BTreeSet::new();
        known.iter().map(|host| inventory.enrol(host, &nobody, true)).collect::<Vec<_>>()
    })?;
    for (host, name) in hosts.iter().zip(names) {
        ensure!(
            name.as_ref() == Some(&host.name),
            "host {:?} is known here as {name:?}: remove inventory.json in {}",
            host.name,
            place.display()
        );
    }
    Ok(())
}

/// Returns what a campaign tells, until it is over. What a newer firmcast tells otherwise is not
/// for this program.
pub(crate) fn news(output: impl Read) -> impl Iterator<Item = News> {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    std::iter::from_fn(move || {
        loop {
            line.clear();
            match output.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
            if let Ok(Entry { news, .. }) = serde_json::from_str(&line) {
                return Some(news);
            }
        }
    })
}

/// Returns the last line that a campaign wrote to its standard error, when that is closed.
pub(crate) fn last_words(errors: impl Read) -> Option<String> {
    let lines = BufReader::new(errors.take(LINE_BYTES_MAX)).lines();
    lines.map_while(Result::ok).filter(|line| !line.trim().is_empty()).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_only_asked_gets_no_options_that_are_for_updates() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let operators = words("--group 239.1.2.3 --rate 400 --escrow --unicast --group=ff15::1");
        assert_eq!(Errand::Update.options(&operators), operators);
        assert_eq!(Errand::Look.options(&operators), words("--look --unicast --rate 400"));
        assert_eq!(Errand::DryRun.options(&operators), words("--dry-run --unicast --rate 400"));
    }

    #[test]
    fn the_service_gets_those_options_that_it_has() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let operators = words("--escrow --rate 400 --accept flash-locks --interface=eth1 --polite");
        assert_eq!(of_service(&operators), words("--rate 400 --interface=eth1 --polite"));
    }
}
