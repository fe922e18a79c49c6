//! `firmcast bundle try`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use firmcast::image::{Board, Bundle, ByteRanges, IMAGE_MAX, VerifiedImage, VerifiedManifest};
use firmcast_manager::store::flash_backups::{BackupRecord, BackupStore};
use firmcast_manager::trial::{BOARD_FILE_MAX, Machine, Trial};
use serde_json::json;

use super::file;
use super::open::trusted;
use crate::driver::output;
use crate::driver::stderr;

#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    /// Read the bundle from FILE
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Trust this public release key (or the one in this file), as hosts do; may be repeated
    #[arg(long = "trust", value_name = "KEY", required = true)]
    trust: Vec<String>,
    /// Try it on the contents of a chip in FILE (firmcastd backup, flashrom -r)
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "backups",
        conflicts_with = "backups"
    )]
    chip: Option<PathBuf>,
    /// Read from FILE which machine that is: what firmcastd backup writes beside the dump
    /// [default: the dump's name with .json, if that is there]
    #[arg(long, value_name = "FILE", requires = "chip")]
    board: Option<PathBuf>,
    /// Try it on the newest backup of every host that gave one
    #[arg(long)]
    backups: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl TryArgs {
    pub(crate) fn run(
        self,
        state: impl FnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<ExitCode> {
        let what = || format!("bundle {}", self.bundle.display());
        let image = self.open(file::read_bundle(&self.bundle)?).with_context(what)?;
        match &self.chip {
            Some(chip) => self.try_on_dump(&image, chip),
            None => self.try_on_backups(&image, &BackupStore::new(&state()?)),
        }
    }

    /// Opens the bundle; of its file nothing is kept in memory.
    fn open(&self, file: Vec<u8>) -> anyhow::Result<VerifiedImage> {
        let bundle = Bundle::parse(&file)?;
        let manifest = VerifiedManifest::verify(bundle.manifest, &trusted(&self.trust)?)?;
        Ok(manifest.open_payload(bundle.payload)?)
    }

    fn try_on_dump(&self, image: &VerifiedImage, chip: &Path) -> anyhow::Result<ExitCode> {
        let machine = self.machine(chip)?;
        if !machine.is_known() {
            stderr::tell(format_args!(
                "note: nothing is known of the machine (--board): vendor, product and versions are \
                 not compared"
            ));
        }
        if !machine.knows_eraseblocks() {
            stderr::tell(format_args!("note: eraseblocks of 4 KiB are assumed"));
        }
        let dump = file::read("dump", chip, IMAGE_MAX)?;
        ensure!(!dump.is_empty(), "dump {} is empty", chip.display());
        let trial = machine
            .try_on(image, dump)
            .with_context(|| format!("cannot try it on {}", chip.display()))?;
        match self.json {
            true => output::print(&format!("{:#}\n", trial.to_json()))?,
            false => output::print(&trial.to_text())?,
        };
        Ok(verdict(trial.refusal().is_none()))
    }

    fn machine(&self, chip: &Path) -> anyhow::Result<Machine> {
        let beside = || Some(Machine::file_of(chip)).filter(|path| path.exists());
        let Some(path) = self.board.clone().or_else(beside) else { return Ok(Machine::unknown()) };
        let json = file::read("board file", &path, BOARD_FILE_MAX)?;
        Machine::parse(&json).with_context(|| format!("board file {}", path.display()))
    }

    fn try_on_backups(
        &self,
        image: &VerifiedImage,
        store: &BackupStore,
    ) -> anyhow::Result<ExitCode> {
        let (records, problems) = store.list()?;
        for problem in &problems {
            stderr::tell(format_args!("{problem}"));
        }
        // The oldest come first.
        let newest: BTreeMap<String, BackupRecord> =
            records.into_iter().map(|record| (record.key.clone(), record)).collect();
        ensure!(
            !newest.is_empty(),
            "there are no backups to try it on; firmcast update --escrow keeps them"
        );
        let mut fleet = Fleet::default();
        for record in newest.into_values() {
            if !image.manifest().fits_board(&record.vendor, &record.product) {
                fleet.others += 1;
                continue;
            }
            let trial = try_on_backup(image, store, &record)
                .with_context(|| format!("cannot try it on the backup of {}", record.host))?;
            fleet.tried.push((record.host, trial));
        }
        match self.json {
            true => output::print(&format!("{:#}\n", fleet.to_json()))?,
            false => output::print(&fleet.to_text())?,
        };
        Ok(verdict(problems.is_empty() && fleet.refusing().next().is_none()))
    }
}

fn verdict(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn try_on_backup(
    image: &VerifiedImage,
    store: &BackupStore,
    record: &BackupRecord,
) -> anyhow::Result<Trial> {
    let dump = store.read(&record.sha256)?;
    let board = Board {
        vendor: record.vendor.clone(),
        product: record.product.clone(),
        bios_version: record.bios_version.clone(),
        flash_size_bytes: dump.len() as u64,
        security_version_floor: record.security_version_floor,
        host: record.key.parse().ok(),
    };
    let ranges = record.closed.iter();
    let closed: ByteRanges = ranges
        .map(|range| range.offset_bytes..range.offset_bytes.saturating_add(range.length_bytes))
        .collect();
    Ok(Machine::known(&board, closed).try_on(image, dump)?)
}

/// What the trials on the backups came to.
#[derive(Debug, Default)]
struct Fleet {
    tried: Vec<(String, Trial)>,
    /// Hosts of which the board is another one.
    others: usize,
}

impl Fleet {
    fn refusing(&self) -> impl Iterator<Item = (&str, String)> {
        self.tried.iter().filter_map(|(host, trial)| {
            let (reason, detail) = trial.refusal()?;
            Some((host.as_str(), format!("{}: {detail}", reason.name())))
        })
    }

    /// Hosts that refuse for the same reason are one line.
    fn to_text(&self) -> String {
        let mut because: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        self.refusing().for_each(|(host, why)| because.entry(why).or_default().push(host));
        let (all, refuse) = (self.tried.len(), self.refusing().count());
        let mut text = match refuse {
            0 => format!("all of {all} hosts would take it, as far as their backups tell\n"),
            _ => format!("{refuse} of {all} hosts would refuse it:\n"),
        };
        for (why, hosts) in because {
            text += &format!("{}: because of {why}\n", hosts.join(", "));
        }
        if self.others > 0 {
            text += &format!("{} hosts have other boards and were not tried\n", self.others);
        }
        text
    }

    fn to_json(&self) -> serde_json::Value {
        let host =
            |(host, trial): &(String, Trial)| json!({ "host": host, "plan": trial.to_json() });
        json!({
            "hosts": self.tried.iter().map(host).collect::<Vec<_>>(),
            "refusing": self.refusing().count(),
            "other_boards": self.others,
        })
    }
}
