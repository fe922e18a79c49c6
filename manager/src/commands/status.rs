//! `firmcast status`: asks the service that answers dead hosts what it does.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast_manager::rescue::Snapshot;
use firmcast_manager::rescue::snapshot::{
    BundleStatus, CampaignStatus, HostStatus, STATUS_SIZE_MAX,
};

use crate::driver::output;
use crate::driver::status_socket::SOCKET;

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        let answer = ask(state)?;
        let status: Snapshot = serde_json::from_str(&answer).context(
            "the service answered what is not a status; both must be of the same version",
        )?;
        match self.json {
            true => output::print(&format!("{answer}\n")),
            false => output::print(&to_text(&status)),
        }
    }
}

fn ask(state: &Path) -> anyhow::Result<String> {
    let path = state.join(SOCKET);
    let stream = UnixStream::connect(&path).with_context(|| format!("at {}", path.display()));
    let stream = stream.map_err(|error| {
        let no_service = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        error.context(match kind.is_some_and(|kind| no_service.contains(&kind)) {
            true => "no service answers; start it with firmcast serve",
            false => "the service cannot be asked; run firmcast status as the user of the service",
        })
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut answer = String::new();
    stream
        .take(STATUS_SIZE_MAX + 1)
        .read_to_string(&mut answer)
        .context("the service does not answer")?;
    ensure!(answer.len() as u64 <= STATUS_SIZE_MAX, "the service does not stop answering");
    Ok(answer)
}

fn to_text(status: &Snapshot) -> String {
    let mut lines = Vec::new();
    lines.push(format!("bundles: {}", status.bundles.len()));
    lines.extend(status.bundles.iter().map(bundle_line));
    lines.push(format!("campaigns: {}", status.campaigns.len()));
    lines.extend(status.campaigns.iter().map(campaign_line));
    lines.push(format!("hosts that called: {}", status.hosts.len()));
    lines.extend(status.hosts.iter().map(host_line));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn bundle_line(bundle: &BundleStatus) -> String {
    let BundleStatus { file, why, vendor, products, version, .. } = bundle;
    match bundle.usable {
        true => format!("  {file}: {vendor} / {} version {version}", products.join(", ")),
        false => format!("  {file}: NOT SERVED: {why}"),
    }
}

fn campaign_line(campaign: &CampaignStatus) -> String {
    let CampaignStatus { file, version, active, rescued, failed, .. } = campaign;
    let stream = match campaign.started {
        true => format!("sending at {} Mbit/s", campaign.rate_bits_per_s / 1_000_000),
        false => "gathering hosts".into(),
    };
    format!(
        "  {}: {file} version {version}, {stream}, {active} hosts, {rescued} rescued, {failed} \
         attempts failed",
        campaign.campaign
    )
}

fn host_line(host: &HostStatus) -> String {
    let HostStatus { host: name, address, stage, attempts, failures, .. } = host;
    let percent = u64::from(host.done) * 100 / u64::from(host.total.max(1));
    let progress = if host.total > 0 { format!(" {percent} %") } else { String::new() };
    let rescues = match host.rescues {
        0 => String::new(),
        rescues => format!(", {rescues} rescues within a day"),
    };
    let parked = if host.parked { ", PARKED" } else { "" };
    let conflict = if host.conflict { ", CONFLICT: several machines have its key" } else { "" };
    let held = host.held.as_ref().map(|held| format!(", put off: {held}")).unwrap_or_default();
    let known = if host.known { "" } else { ", not in the inventory" };
    let last = host.last.as_ref().map(|last| format!("; last: {}", last.to_text()));
    format!(
        "  {name} at {address}: {stage}{progress}, {attempts} attempts, {failures} \
         failed{rescues}{parked}{conflict}{held}{known}{}",
        last.unwrap_or_default()
    )
}
