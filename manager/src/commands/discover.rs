//! `firmcast discover`: who is there.

mod summary;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use firmcast::keys::PublicKey as _;
use firmcast::reason::Reason;
use firmcast::wire::DEFAULT_PORT;
use firmcast::wire::answer::{End, Environment, Identity};
use firmcast::wire::finding::Finding;
use firmcast_manager::news::campaign_text;
use firmcast_manager::store::inventory::{Entry, Inventory, Standing};
use firmcast_manager::store::state::manager_key;
use serde::Serialize;

use self::summary::Summary;
use crate::driver::interview::{self, Asker, Found};
use crate::driver::stamper::Stamper;
use crate::driver::stderr;
use crate::driver::wait::Waiter;
use crate::driver::{network, output, socket};

#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// The manager's private key [default: manager.key in the state directory; for root
    /// /etc/firmcast/manager.key unless that is there]
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
    /// With --enroll: replace known hosts whose key has changed. Only for hosts that you know were
    /// installed anew
    #[arg(long, requires = "enroll")]
    replace: bool,
    /// How long to wait for answers, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    timeout: u64,
    /// UDP port of the agents
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    agent_port: u16,
    /// Instead of the hosts, count what stands in their way: a fleet is made ready once
    #[arg(long)]
    summary: bool,
    /// Print one JSON array, or with --summary an object
    #[arg(long)]
    json: bool,
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
    /// What stands in the way, in words, and what does not but should be mended.
    obstacle_detail: String,
    /// The preconditions of an update that are not simply met.
    findings: Vec<LineFinding>,
    /// What the contents of the flash look like: `whole`, `doubtful` or `broken`.
    firmware: &'static str,
    /// Why the firmware is not whole; empty when it is.
    doubt: String,
    /// How the last campaign ended there, as the host says.
    last_end: Option<LastEnd>,
    /// `new`, `known`, `enrolled` or `conflict`.
    standing: &'static str,
    /// With a conflict: fingerprint of the known key.
    known_key: Option<String>,
    /// With a conflict: where other machines answered with the same key.
    same_key_at: Vec<SocketAddr>,
}

/// One precondition. `firmcastd check` on the host has the facts.
#[derive(Debug, Serialize)]
struct LineFinding {
    check: &'static str,
    verdict: &'static str,
    reason: Option<&'static str>,
}

/// How the last campaign ended on a host.
#[derive(Debug, Serialize)]
struct LastEnd {
    campaign: String,
    reason: &'static str,
    message: &'static str,
    detail: String,
    flash: &'static str,
    reboot_safe: bool,
}

/// What the inventory says of a host that answered.
struct Place {
    standing: &'static str,
    /// Its name in the inventory, if it was enrolled now.
    name: Option<String>,
    known_key: Option<String>,
}

impl DiscoverArgs {
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        let secret = manager_key(self.key.as_deref(), state)?;
        let mut inventory = Inventory::load(state)?;
        let destinations = self.destinations()?;
        let mut socket = socket::open(0, &destinations)?;
        let timeout = Duration::from_secs(self.timeout);
        let mut waiter = Waiter::new(&mut socket, false)?;
        let single_hosts = !self.hosts.is_empty();
        let mut stamper = Stamper::new(state, &secret);
        let mut asker = Asker { secret: &secret, stamper: &mut stamper };
        let found =
            interview::ask(&mut waiter, &socket, &mut asker, &destinations, timeout, single_hosts)?;
        // Others may have enrolled hosts meanwhile.
        let lines = match self.enroll && !found.is_empty() {
            true => Inventory::change(state, |inventory| self.lines(&found, inventory))?,
            false => self.lines(&found, &mut inventory),
        };
        match self.summary {
            true => self.print_summary(&Summary::of(&found))?,
            false => self.print(&lines)?,
        };
        let conflict = lines.iter().any(|line| line.standing == "conflict");
        Ok(if conflict || lines.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Returns what is shown of the hosts that answered, enrolled before where that is wanted.
    fn lines(&self, found: &[Found], inventory: &mut Inventory) -> Vec<Line> {
        let answered: BTreeSet<[u8; 32]> = found.iter().map(|host| *host.key.exchange()).collect();
        let mut line = |host: &Found| Line::new(host, self.enrol(host, inventory, &answered));
        found.iter().map(&mut line).collect()
    }

    fn destinations(&self) -> anyhow::Result<Vec<SocketAddr>> {
        if !self.hosts.is_empty() {
            return self.hosts.iter().map(|host| network::resolve(host, self.agent_port)).collect();
        }
        let interfaces = network::interfaces(self.interface.as_deref())?;
        let addresses: BTreeSet<_> = interfaces.iter().filter_map(|own| own.broadcast).collect();
        ensure!(!addresses.is_empty(), "no interface can broadcast; name hosts with --host");
        Ok(addresses.into_iter().map(|to| SocketAddr::new(to.into(), self.agent_port)).collect())
    }

    /// Returns what the inventory says of a host that answered, enrolled before where that is
    /// wanted.
    fn enrol(
        &self,
        found: &Found,
        inventory: &mut Inventory,
        answered: &BTreeSet<[u8; 32]>,
    ) -> Place {
        let entry = inventory_entry(found);
        let standing = inventory.standing(&entry, answered);
        if !found.twins.is_empty() {
            return Place { standing: "conflict", name: None, known_key: None };
        }
        let name = match self.enroll {
            true => inventory.enrol(&entry, answered, self.replace),
            false => None,
        };
        let (standing, known_key) = match standing {
            Standing::Known(_) => ("known", None),
            Standing::New | Standing::Conflict { .. } if name.is_some() => ("enrolled", None),
            Standing::New => ("new", None),
            Standing::Conflict { known, .. } => ("conflict", Some(known.to_string())),
        };
        Place { standing, name, known_key }
    }

    fn print_summary(&self, summary: &Summary) -> anyhow::Result<ExitCode> {
        output::print(&match self.json {
            true => serde_json::to_string_pretty(summary)? + "\n",
            false => summary.to_text(),
        })
    }

    fn print(&self, lines: &[Line]) -> anyhow::Result<ExitCode> {
        if self.json {
            return output::print(&(serde_json::to_string_pretty(lines)? + "\n"));
        }
        if lines.is_empty() {
            stderr::tell(
                "no host answered; agents answer only managers whose key they trust \
                 (trusted_managers)",
            );
        }
        output::print(&lines.iter().map(Line::to_text).collect::<String>())
    }
}

impl Line {
    fn new(found: &Found, place: Place) -> Self {
        let Identity { obstacle, environment, .. } = found.identity;
        let identity = found.identity.clone();
        Self {
            host: place.name.unwrap_or(identity.host_name),
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
            findings: identity.findings.iter().map(LineFinding::new).collect(),
            firmware: identity.firmware.name(),
            doubt: identity.doubt,
            last_end: identity.last_end.as_ref().map(LastEnd::new),
            standing: place.standing,
            known_key: place.known_key,
            same_key_at: found.twins.iter().copied().collect(),
        }
    }

    fn to_text(&self) -> String {
        let Self { host, address, key, vendor, product, bios_version, .. } = self;
        let flash = match self.flash_size_bytes {
            0 => "flash not found".to_owned(),
            size => format!("flash {} ({} KiB)", self.flash, size / 1024),
        };
        let ability = match (self.obstacle, self.obstacle_detail.as_str()) {
            (None, "") => "can be updated".to_owned(),
            (None, warning) => format!("can be updated, BUT: {warning}"),
            (Some(obstacle), detail) => format!("CANNOT be updated: {obstacle} {detail}"),
        };
        let standing = match &self.known_key {
            Some(known) => format!(
                "CONFLICT: its name or address belongs to the key {known}; if the host was \
                 installed \
                 anew, take it over with --enroll --replace"
            ),
            None if self.same_key_at.is_empty() => self.standing.to_owned(),
            None => {
                let others: Vec<String> =
                    self.same_key_at.iter().map(|at| at.to_string()).collect();
                format!(
                    "CONFLICT: {} has the same key, as copies of one disk do; give all but one a \
                     new key (remove host.key from their state_dir, restart firmcastd) and enrol \
                     them",
                    others.join(", ")
                )
            }
        };
        let firmware = match self.firmware {
            "whole" => String::new(),
            condition => format!("    its firmware is {condition}: {}\n", self.doubt),
        };
        let findings: Vec<String> = self.findings.iter().map(LineFinding::to_text).collect();
        let findings = match findings.is_empty() {
            true => String::new(),
            false => format!("    checks: {}\n", findings.join(", ")),
        };
        let last_end = self.last_end.as_ref().map(LastEnd::to_text).unwrap_or_default();
        format!(
            "{host}  {address}  {vendor} / {product}, BIOS {bios_version}, {flash}\n    \
             key {key}\n    {ability}\n{findings}{firmware}{last_end}    {standing}\n"
        )
    }
}

impl LineFinding {
    fn new(finding: &Finding) -> Self {
        let Finding { subject, verdict, reason } = finding;
        let reason = (*reason != Reason::None).then(|| reason.name());
        Self { check: subject.name(), verdict: verdict.name(), reason }
    }

    fn to_text(&self) -> String {
        let Self { check, verdict, reason } = self;
        match reason {
            Some(reason) => format!("{check} {verdict} ({reason})"),
            None => format!("{check} {verdict}"),
        }
    }
}

impl LastEnd {
    fn new(end: &End) -> Self {
        let End { campaign, ending } = end;
        Self {
            campaign: campaign_text(*campaign),
            reason: ending.reason.name(),
            message: ending.reason.sentence(),
            detail: ending.detail.clone(),
            flash: ending.flash.name(),
            reboot_safe: ending.flash.reboot_is_safe(),
        }
    }

    fn to_text(&self) -> String {
        let Self { campaign, message, detail, flash, reboot_safe, .. } = self;
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        let reset = if *reboot_safe { "safe" } else { "NOT known to be safe" };
        format!("    last campaign {campaign}: {message}{detail}; flash {flash}, reset {reset}\n")
    }
}

fn inventory_entry(found: &Found) -> Entry {
    Entry {
        name: found.identity.host_name.clone(),
        key: found.key,
        address: found.address,
        vendor: found.identity.vendor.clone(),
        product: found.identity.product.clone(),
        security_version_floor: found.identity.security_version_floor,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use firmcast::keys::{HostSecretKey, SecretKey as _};
    use firmcast::reason::{Condition, Ending, FlashState};
    use firmcast::wire::samples;
    use rand_core::OsRng;

    fn found(firmware: Condition, doubt: &str, last_end: Option<End>) -> Found {
        let identity = Identity { firmware, doubt: doubt.into(), last_end, ..samples::identity() };
        let key = HostSecretKey::generate(&mut OsRng).public();
        let (address, twins) = ("10.0.0.1:9847".parse().unwrap(), BTreeSet::new());
        Found { key, address, identity, twins }
    }

    fn line(found: &Found) -> Line {
        Line::new(found, Place { standing: "new", name: None, known_key: None })
    }

    #[test]
    fn how_the_last_campaign_ended_and_what_the_firmware_looks_like_are_shown() {
        let flash = FlashState::Restored(Condition::Whole);
        let end = End { campaign: 7, ending: Ending::new(Reason::WriteFailed, flash, "at 0x1000") };
        let shown = line(&found(Condition::Doubtful, "checksum of file X", Some(end)));
        let text = shown.to_text();
        assert!(text.contains("its firmware is doubtful: checksum of file X"), "{text}");
        let last = "last campaign 0000000000000007: the flash could not be written (at 0x1000); \
                    flash restored, reset safe";
        assert!(text.contains(last), "{text}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(
            (&json["firmware"], &json["doubt"]),
            (&"doubtful".into(), &"checksum of file X".into())
        );
        assert_eq!(json["last_end"]["reason"], "write-failed");
        assert_eq!(json["last_end"]["campaign"], "0000000000000007");

        let mut warned = found(Condition::Whole, "", None);
        warned.identity.obstacle_detail = "the last build for kernel 6.1 failed: no space".into();
        let text = line(&warned).to_text();
        assert!(
            text.contains("can be updated, BUT: the last build for kernel 6.1 failed"),
            "{text}"
        );

        let mut copied = found(Condition::Whole, "", None);
        copied.twins.insert("10.0.0.2:9847".parse().unwrap());
        let text = line(&copied).to_text();
        assert!(text.contains("CONFLICT: 10.0.0.2:9847 has the same key"), "{text}");

        let plain = line(&found(Condition::Whole, "", None)).to_text();
        assert!(!plain.contains("firmware is") && !plain.contains("last campaign"), "{plain}");
    }
}
