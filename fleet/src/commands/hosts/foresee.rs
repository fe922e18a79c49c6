//! `firmcast-fleet hosts foresee`: what an update would come to, asked of the hosts themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, bail};
use clap::Args;
use firmcast_fleet::deeds::named_release;
use firmcast_fleet::model::{Foresight, Host, Release};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::PAGE_MAX;
use firmcast_manager::news::{HostResult, Kind, News};

use super::answers::{Answer, Answers};
use super::{Which, selected};
use crate::commands::firmcast::{self, Errand, Firmcast, FirmcastArgs};
use crate::commands::terminal::{remark, say};
use crate::commands::work::fetcher::fetch;
use crate::commands::{Place, now};

/// Maximum number of hosts that one dry run asks: what they say is kept after each.
const ASKED_AT_ONCE_MAX: usize = 500;

#[derive(Debug, Args)]
pub(super) struct ForeseeArgs {
    /// Version or digest of the release
    #[arg(long, value_name = "RELEASE")]
    release: String,
    /// Only hosts of this site: those that this machine reaches
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Write JSON, one host in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    firmcast: FirmcastArgs,
}

impl ForeseeArgs {
    /// Asks the hosts, keeps what they foresee, and says what they said.
    pub(super) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let mut store = place.store()?;
        let release = named_release(store.as_mut(), &self.release)?;
        if !place.shelf().has(&release.digest) {
            fetch(place, &release.digest).context("cannot get the release's bundle")?;
        }
        let mut hosts = selected(store.as_mut(), &self.which.selector)?;
        hosts.retain(|host| self.site.as_ref().is_none_or(|site| host.site() == site));
        let firmcast = self.firmcast.of(place, "foresee");
        let mut answers = Answers::new(&release.version);
        let asked = left_to_ask(store.as_mut(), &release, hosts, &mut answers)?;
        let of = asked.len();
        for (number, hosts) in asked.chunks(ASKED_AT_ONCE_MAX).enumerate() {
            if of > ASKED_AT_ONCE_MAX {
                remark(&format!("asked {} of {of} hosts", number * ASKED_AT_ONCE_MAX));
            }
            ask(store.as_mut(), &firmcast, &release, hosts, &mut answers)?;
        }
        match self.json {
            true => answers.to_json().for_each(|line| say(&line)),
            false => say(answers.to_string().trim_end()),
        }
        Ok(if answers.are_all_possible() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Takes out whom it is of no use to ask, or who must not be disturbed.
fn left_to_ask(
    store: &mut dyn Store,
    release: &Release,
    hosts: Vec<Host>,
    answers: &mut Answers,
) -> anyhow::Result<Vec<Host>> {
    let in_flight = in_flight(store)?;
    let against = |host: &Host| match () {
        () if !release.is_for(host) => Some("the release is not for its board"),
        () if release.is_on(host) => Some("it has this version already"),
        () if in_flight.contains(&host.name) => Some("it is in flight in a rollout"),
        () if host.addresses.is_empty() => Some("it has no address"),
        () => None,
    };
    let mut asked = Vec::with_capacity(hosts.len());
    for host in hosts {
        match against(&host) {
            Some(why) => answers.add(Answer::not_asked(&host, why)),
            None => asked.push(host),
        }
    }
    Ok(asked)
}

fn in_flight(store: &mut dyn Store) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::<String>::new();
    loop {
        let after = all.last().cloned().unwrap_or_default();
        let page = store.in_flight(&after, PAGE_MAX)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Asks some hosts by a dry run, and keeps what they foresee.
fn ask(
    store: &mut dyn Store,
    firmcast: &Firmcast,
    release: &Release,
    hosts: &[Host],
    answers: &mut Answers,
) -> anyhow::Result<()> {
    let mut results = dry_run(firmcast, release, hosts)?;
    let mut foresights = Vec::new();
    for host in hosts {
        let Some(result) = results.remove(&host.name) else {
            bail!("firmcast update --dry-run says nothing of host {:?}", host.name);
        };
        foresights.extend(foresight(host, release, &result));
        answers.add(Answer::of(host, &result));
    }
    store.keep_foresights(&foresights)?;
    Ok(())
}

/// Returns what a dry run says of each host, by name.
fn dry_run(
    firmcast: &Firmcast,
    release: &Release,
    hosts: &[Host],
) -> anyhow::Result<BTreeMap<String, HostResult>> {
    let mut child = firmcast.update(&release.digest, hosts, Errand::DryRun)?;
    let output = child.stdout.take().context("no standard output")?;
    let errors = child.stderr.take().context("no standard error")?;
    let last_words = thread::spawn(move || firmcast::last_words(errors));
    let result = |news: News| match news {
        News::Result(result) if result.kind == Kind::DryRun => Some((result.host.clone(), *result)),
        _ => None,
    };
    let results: BTreeMap<_, _> = firmcast::news(output).filter_map(result).collect();
    let status = child.wait().context("firmcast update --dry-run")?;
    if results.len() < hosts.len() {
        let words = last_words.join().ok().flatten();
        bail!("firmcast update --dry-run: {}", words.unwrap_or_else(|| status.to_string()));
    }
    Ok(results)
}

fn foresight(host: &Host, release: &Release, result: &HostResult) -> Option<Foresight> {
    let foreseen = result.foreseen.filter(|_| result.confirmed)?;
    let version = result.bios_version.as_ref().filter(|version| !version.is_empty());
    Some(Foresight {
        host: host.name.clone(),
        release: release.digest.clone(),
        from_version: version.unwrap_or(&host.bios_version).clone(),
        typical_s: foreseen.typical_ms.div_ceil(1000),
        longest_s: foreseen.longest_ms.div_ceil(1000),
        at: now(),
    })
}
