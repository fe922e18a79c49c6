//! `firmcast history`: what the records of earlier campaigns say.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::driver::output;
use crate::driver::stderr;

use firmcast_manager::news::{BundleFacts, Entry, HostResult, Kind, News};
use firmcast_manager::store::records;

/// The largest record that is read; a campaign of 10,000 hosts stays far below.
const RECORD_SIZE_MAX: u64 = 256 * 1024 * 1024;

/// What became of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// A manager works on it.
    Running,
    /// It ended for every host.
    Finished,
    /// Its manager ended before it did: hosts that were not flashing went back by themselves.
    Unfinished,
}

/// One campaign, as its record tells it.
#[derive(Clone, Debug, Serialize)]
struct Campaign {
    /// Its number, 16 hexadecimal digits.
    campaign: String,
    /// What it was for.
    kind: Kind,
    /// When it began.
    started: String,
    /// The last entry's time.
    last_entry: String,
    /// What became of it.
    state: State,
    /// Whether the operator interrupted it.
    interrupted: bool,
    /// What was brought to the hosts.
    bundle: BundleFacts,
    /// Lines of the record that cannot be read: what they said is missing here.
    damaged_lines: usize,
    /// Hosts that ended well: confirmed, could be updated, or rescued.
    confirmed: usize,
    /// The hosts.
    hosts: Vec<Host>,
}

/// One host of a campaign.
#[derive(Clone, Debug, Serialize)]
struct Host {
    /// Its name.
    host: String,
    /// The last stage that was recorded.
    stage: String,
    /// How it ended; none when the manager ended first.
    result: Option<HostResult>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

impl HistoryArgs {
    /// Shows all campaigns, the oldest first. Records that cannot be read are named on standard
    /// error.
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        show(&read_all(state)?, state, self.json)
    }
}

fn show(campaigns: &[Campaign], state: &Path, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        return output::print(&(serde_json::to_string_pretty(campaigns)? + "\n"));
    }
    if campaigns.is_empty() {
        return output::print(&format!("no campaigns in {}\n", state.display()));
    }
    output::print(&campaigns.iter().map(to_text).collect::<String>())
}

fn to_text(campaign: &Campaign) -> String {
    let Campaign { campaign: number, started, bundle, hosts, confirmed, .. } = campaign;
    let state = match (campaign.state, campaign.interrupted) {
        (State::Running, _) => "running",
        (State::Finished, false) => "finished",
        (State::Finished, true) => "interrupted by the operator",
        (State::Unfinished, _) => "UNFINISHED: its manager ended before it did",
    };
    let kind = match campaign.kind {
        Kind::Update => "",
        Kind::DryRun => "dry run: ",
        Kind::Drill => "drill: ",
        Kind::Look => "look: ",
        Kind::Rescue => "rescue: ",
    };
    let damaged = match campaign.damaged_lines {
        0 => String::new(),
        lines => format!(", {lines} damaged lines in its record"),
    };
    let (total, good_end) = (hosts.len(), campaign.kind.good_end());
    let mut text = format!(
        "{started}  {number}  {} {}  {kind}{confirmed} of {total} {good_end}, {state}{damaged}\n",
        bundle.vendor, bundle.version
    );
    for host in hosts {
        text += &match &host.result {
            Some(result) => format!("    {}: {}\n", host.host, result.to_text()),
            None => format!("    {}: no result, last seen {}\n", host.host, host.stage),
        };
    }
    text
}

fn read_all(state: &Path) -> anyhow::Result<Vec<Campaign>> {
    let cannot = || format!("cannot read {}", records::directory(state).display());
    let mut campaigns = Vec::new();
    for path in records::paths(state).with_context(cannot)? {
        match read(&path) {
            Ok(campaign) => campaigns.push(campaign),
            Err(error) => stderr::tell(format_args!("{}: {error:#}", path.display())),
        }
    }
    Ok(campaigns)
}

fn read(path: &Path) -> anyhow::Result<Campaign> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(RECORD_SIZE_MAX).read_to_end(&mut bytes)?;
    let is_running = records::is_worked_on(&file).context("cannot tell whether it is running")?;
    summarise(&String::from_utf8_lossy(&bytes), is_running)
}

/// Reads the lines of a record; the last one may be torn, because the manager died while it was
/// written.
fn summarise(text: &str, is_running: bool) -> anyhow::Result<Campaign> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first: Entry = serde_json::from_str(first).context("its first line is damaged")?;
    let News::Started { kind, dry_run, bundle, hosts, .. } = first.news else {
        anyhow::bail!("its first line does not start a campaign");
    };
    let mut campaign = Campaign {
        campaign: first.campaign,
        // Records from before there were kinds.
        kind: if dry_run { Kind::DryRun } else { kind },
        started: first.time.clone(),
        last_entry: first.time,
        state: if is_running { State::Running } else { State::Unfinished },
        interrupted: false,
        damaged_lines: 0,
        bundle,
        confirmed: 0,
        hosts: hosts.into_iter().map(|facts| Host::not_begun(facts.host)).collect(),
    };
    let named = |(index, host): (usize, &Host)| (host.host.clone(), index);
    let mut by_name: HashMap<String, usize> =
        campaign.hosts.iter().enumerate().map(named).collect();
    // A line is torn where the manager died or the disk was full; what follows may be whole again.
    for line in lines {
        match serde_json::from_str::<Entry>(line) {
            Ok(entry) => campaign.apply(entry, &mut by_name),
            Err(_) => campaign.damaged_lines += 1,
        }
    }
    let is_confirmed = |host: &&Host| host.result.as_ref().is_some_and(|result| result.confirmed);
    campaign.confirmed = campaign.hosts.iter().filter(is_confirmed).count();
    Ok(campaign)
}

impl Campaign {
    fn apply(&mut self, entry: Entry, by_name: &mut HashMap<String, usize>) {
        self.last_entry = entry.time;
        match entry.news {
            News::Stage { host: name, stage } => {
                let host = self.host(by_name, &name);
                // A dead host that failed begins anew when it asks again.
                (host.stage, host.result) = (stage, None);
            }
            News::Result(result) => {
                let result = HostResult { kind: self.kind, ..*result };
                let host = self.host(by_name, &result.host);
                host.stage = "ended".into();
                host.result = Some(result);
            }
            News::Interrupted => self.interrupted = true,
            News::Finished { .. } => self.state = State::Finished,
            News::Started { .. }
            | News::Progress { .. }
            | News::TransferStarted { .. }
            | News::BackupStored { .. }
            | News::Warning { .. } => {}
        }
    }

    /// Returns the host with this name. Those of a rescue are not known before they call.
    fn host(&mut self, by_name: &mut HashMap<String, usize>, name: &str) -> &mut Host {
        let index = *by_name.entry(name.to_owned()).or_insert_with(|| {
            self.hosts.push(Host::not_begun(name.to_owned()));
            self.hosts.len() - 1
        });
        &mut self.hosts[index]
    }
}

impl Host {
    fn not_begun(host: String) -> Self {
        Self { host, stage: "connecting".into(), result: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use firmcast::reason::{Ending, FlashState, Reason};
    use firmcast_manager::campaign::{Outcome, Stage};
    use firmcast_manager::news::HostFacts;

    fn record() -> String {
        let bundle = BundleFacts {
            file: "b.fcb".into(),
            version: "2".into(),
            security_version: 2,
            vendor: "V".into(),
            products: vec!["P".into()],
            image_sha256: "00".into(),
            image_size_bytes: 1,
            payload_size_bytes: 1,
            signer: "SHA256:x".into(),
            signature_checked: true,
        };
        let host = |name: &str| HostFacts { host: name.into(), address: "a".into(), key: None };
        let started = News::Started {
            kind: Kind::Update,
            bundle,
            delivery: "broadcast".into(),
            rate_mbit: 100,
            escrow: false,
            dry_run: false,
            accepted: Vec::new(),
            hosts: vec![host("a"), host("b")],
        };
        let outcome = Outcome {
            ending: Ending::new(Reason::Confirmed, FlashState::Updated, ""),
            bios_version: Some("2".into()),
            digests: None,
            programs: None,
        };
        [
            started,
            News::Stage { host: "b".into(), stage: Stage::Flash.name().into() },
            News::Result(Box::new(HostResult::new(Kind::Update, "a", &outcome))),
            News::Finished { kind: Kind::Update, confirmed: 1, failed: 1 },
        ]
        .map(|news| Entry::now(7, news).to_line() + "\n")
        .concat()
    }

    #[test]
    fn a_record_is_told_as_far_as_it_goes_wherever_it_is_torn() {
        let record = record();
        let whole = summarise(&record, false).unwrap();
        assert_eq!((whole.state, whole.confirmed, whole.hosts.len()), (State::Finished, 1, 2));
        assert_eq!(whole.hosts[1].stage, "flashing");
        let first_line = record.lines().next().unwrap().len();
        for length in 0..record.len() - 1 {
            let torn = summarise(&record[..length], false);
            if length < first_line {
                assert!(torn.is_err());
            } else {
                let torn = torn.unwrap();
                let is_cut = length > 0 && !record[..length].ends_with('\n');
                let cut_line = record[..length].lines().last().unwrap_or_default();
                let is_damaged = is_cut && serde_json::from_str::<Entry>(cut_line).is_err();
                assert_eq!(torn.damaged_lines, usize::from(is_damaged), "{length}");
                let complete = length >= record.trim_end().len();
                assert_eq!(torn.state == State::Finished, complete, "{length}");
            }
        }
        assert_eq!(summarise(record.lines().next().unwrap(), true).unwrap().state, State::Running);
    }
}
