//! `firmcast backup`: the backups that hosts gave before their flash was changed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use firmcast::image::layout::{Layout, RegionKind};
use firmcast::image::{ByteRanges, Description, Region, RegionAction};
use firmcast::keys::{self, ReleaseSecretKey};
use firmcast_manager::store::flash_backups::{BackupRecord, BackupStore, RegionFacts};

use super::bundle;
use crate::driver::output;
use crate::driver::stderr;

/// Fewest digits of a digest that name a backup.
const DIGITS_MIN: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// List the backups of each host, the oldest first
    List(ListArgs),
    /// Make a signed bundle that restores a backup on the host that gave it, and on no other
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    /// Choose the backup by its SHA-256, or by the first 8 digits or more
    digest: String,
    /// Choose the host when several gave the same bytes: by name, or by its key's fingerprint
    #[arg(long, value_name = "NAME|FINGERPRINT")]
    host: Option<String>,
    /// Sign the bundle with the private release key in FILE
    #[arg(long, value_name = "FILE")]
    release_key: PathBuf,
    /// Write the bundle to FILE, which must not exist
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Set the bundle's security version: at least the host's floor, which an update may have
    /// raised
    /// [default: the host's floor when it gave the backup]
    #[arg(long, value_name = "N")]
    security_version: Option<u64>,
}

impl BackupArgs {
    pub(crate) fn run(self, state: &Path) -> anyhow::Result<ExitCode> {
        let store = BackupStore::new(state);
        match self.command {
            BackupCommand::List(args) => list(&store, args.json),
            BackupCommand::Restore(args) => args.run(&store),
        }
    }
}

fn list(store: &BackupStore, json: bool) -> anyhow::Result<ExitCode> {
    let (records, problems) = store.list()?;
    let complete = problems.is_empty();
    for problem in problems {
        stderr::tell(format_args!("{:#}", anyhow::Error::from(problem)));
    }
    let printed = if json {
        let text = serde_json::to_string_pretty(&records).context("cannot print the backups")?;
        output::print(&(text + "\n"))
    } else if records.is_empty() {
        output::print("no backups; firmcast update --escrow keeps them\n")
    } else {
        output::print(&records.iter().map(line).collect::<String>())
    };
    printed.map(|code| if complete { code } else { ExitCode::FAILURE })
}

fn line(record: &BackupRecord) -> String {
    let BackupRecord { time, host, vendor, product, bios_version, sha256, .. } = record;
    let closed = closed(record);
    let without = match closed.is_empty() {
        true => String::new(),
        false => format!("  without {closed}, which the host may not read"),
    };
    format!("{time}  {host}  {vendor} {product}  {bios_version}  {sha256}{without}\n")
}

fn closed(record: &BackupRecord) -> ByteRanges {
    let ranges = record.closed.iter();
    ranges
        .map(|range| range.offset_bytes..range.offset_bytes.saturating_add(range.length_bytes))
        .collect()
}

impl RestoreArgs {
    fn run(self, store: &BackupStore) -> anyhow::Result<ExitCode> {
        bundle::ensure_absent(&self.output)?;
        let record = self.record(store)?;
        let key: ReleaseSecretKey = keys::load_secret(&self.release_key)?;
        let image = store.read(&record.sha256)?;
        let bytes = bundle::sign(self.description(&record, &image)?, image, &key)
            .with_context(|| format!("cannot make a bundle of the backup of {}", record.host))?;
        bundle::write_new(&self.output, &bytes, bundle::Readers::Owner)?;
        output::print(&format!(
            "{}: brings {} back to BIOS version {} of {}\n",
            self.output.display(),
            record.host,
            record.bios_version,
            record.time
        ))
    }

    /// The newest record that is meant.
    fn record(&self, store: &BackupStore) -> anyhow::Result<BackupRecord> {
        let digest = self.digest.to_ascii_lowercase();
        ensure!(
            digest.len() >= DIGITS_MIN && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{:?} is no digest: expected at least {DIGITS_MIN} hexadecimal digits from firmcast \
             backup list",
            self.digest
        );
        let (mut records, problems) = store.list()?;
        records.retain(|record| record.sha256.starts_with(&digest));
        if let Some(host) = &self.host {
            records.retain(|record| [&record.host, &record.host_name, &record.key].contains(&host));
        }
        let distinct =
            |of: fn(&BackupRecord) -> &String| records.iter().map(of).collect::<BTreeSet<_>>();
        if distinct(|record| &record.sha256).len() > 1 {
            bail!("several backups begin with {digest}: give more of its digits");
        }
        let hosts = distinct(|record| &record.key);
        if hosts.len() > 1 {
            let names: Vec<&str> =
                distinct(|record| &record.host).into_iter().map(String::as_str).collect();
            bail!("several hosts gave this backup ({}): choose one with --host", names.join(", "));
        }
        let Some(record) = records.pop() else {
            // What cannot be read may be what is meant.
            return Err(match problems.into_iter().next() {
                Some(problem) => {
                    anyhow::Error::from(problem).context(format!("no backup {digest} can be found"))
                }
                None => anyhow!("no backup {digest}; firmcast backup list shows them"),
            });
        };
        Ok(record)
    }

    /// Every byte is this machine's own, so all are brought back, but to no other machine. What the
    /// host may not read is not in the backup and stays as it is.
    fn description(&self, record: &BackupRecord, image: &[u8]) -> anyhow::Result<Description> {
        let date = record.time.split('T').next().unwrap_or_default();
        Ok(Description {
            version: format!("backup of {} {date}", record.host),
            security_version: self.security_version.unwrap_or(record.security_version_floor),
            vendor: record.vendor.clone(),
            products: vec![record.product.clone()],
            update_from: Vec::new(),
            expect_version: Some(record.bios_version.clone()).filter(|text| !text.is_empty()),
            regions: regions(record, &facts(record, image)),
            host: Some(record.key.parse().context("the record names no key of a host")?),
            ..Description::default()
        })
    }
}

/// What the bundle named that the host was updated with, or where it named nothing, what the backup
/// itself tells that its firmware writes.
fn facts(record: &BackupRecord, image: &[u8]) -> Vec<RegionFacts> {
    if !record.regions.is_empty() {
        return record.regions.clone();
    }
    let Ok(layout) = Layout::read(image) else { return Vec::new() };
    let is_volatile = |kind: &&RegionKind| kind.usual_action() == Some(RegionAction::Volatile);
    let kinds = RegionKind::ALL;
    let found = kinds.iter().filter(is_volatile).flat_map(|kind| layout.select(kind.name()));
    let facts = found.map(|region| RegionFacts {
        name: region.name.clone(),
        offset_bytes: region.offset_bytes,
        length_bytes: region.length_bytes,
    });
    facts.collect()
}

/// What the firmware writes itself comes back too, and may have changed when the host is measured
/// after the boot. What is closed to the host stays.
fn regions(record: &BackupRecord, facts: &[RegionFacts]) -> Vec<Region> {
    let closed = closed(record);
    let region = |name: String, range: &Range<u64>, action| Region {
        name,
        offset_bytes: range.start,
        length_bytes: range.end - range.start,
        action,
    };
    let mut regions: Vec<Region> = Vec::new();
    for RegionFacts { name, offset_bytes, length_bytes } in facts {
        let end = offset_bytes.saturating_add(*length_bytes);
        let whole: ByteRanges = std::iter::once(*offset_bytes..end).collect();
        for (nth, range) in whole.without(&closed).iter().enumerate() {
            let name = if nth == 0 { name.clone() } else { format!("{name} {}", nth + 1) };
            regions.push(region(name, range, RegionAction::Replace));
        }
    }
    let closed = closed.iter().enumerate();
    let closed = closed
        .map(|(nth, range)| region(format!("closed {}", nth + 1), range, RegionAction::Preserve));
    regions.extend(closed);
    regions.sort_by_key(|region| region.offset_bytes);
    regions
}

#[cfg(test)]
mod tests {
    use firmcast_manager::store::flash_backups::ClosedRange;

    use super::*;

    #[test]
    fn what_the_host_may_not_read_is_never_written_back() {
        let facts = |name: &str, offset_bytes, length_bytes| RegionFacts {
            name: name.into(),
            offset_bytes,
            length_bytes,
        };
        let record = BackupRecord {
            time: "2026-01-01T00:00:00Z".into(),
            campaign: "1".into(),
            sha256: "0".into(),
            size_bytes: 0x1_0000,
            host: "h".into(),
            key: String::new(),
            host_name: "h".into(),
            vendor: "V".into(),
            product: "P".into(),
            bios_version: "1".into(),
            security_version_floor: 0,
            regions: vec![facts("me", 0x1000, 0x4000), facts("vars", 0x8000, 0x1000)],
            closed: vec![ClosedRange { offset_bytes: 0x2000, length_bytes: 0x1000 }],
        };
        let found: Vec<_> = regions(&record, &record.regions)
            .into_iter()
            .map(|region| (region.name.clone(), region.range(), region.action))
            .collect();
        let replace = RegionAction::Replace;
        assert_eq!(
            found,
            [
                ("me".to_owned(), 0x1000..0x2000, replace),
                ("closed 1".to_owned(), 0x2000..0x3000, RegionAction::Preserve),
                ("me 2".to_owned(), 0x3000..0x5000, replace),
                ("vars".to_owned(), 0x8000..0x9000, replace),
            ]
        );
        assert!(line(&record).contains("without 0x2000-0x2fff, which the host may not read"));
    }
}
