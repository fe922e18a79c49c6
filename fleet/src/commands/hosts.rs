//! `firmcast-fleet hosts`: which computers there are.

mod answers;
mod foresee;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use firmcast_fleet::exchange::{self, Format, LIST_BYTES_MAX, PROBLEMS_MAX, Problem};
use firmcast_fleet::model::{Host, SITE};
use firmcast_fleet::rollout::selector::Selector;
use firmcast_fleet::store::{Store, all_hosts};

use super::Place;
use super::terminal::{columns, remark, say, shown};

#[derive(Debug, Args)]
pub(crate) struct HostsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take over hosts from a list; what it does not say of a known host stays as it is
    Import {
        /// The list: firmcast's inventory.json, a table (CSV), or what ansible-inventory --list
        /// writes
        file: PathBuf,
        /// The form of the list; without, it is guessed
        #[arg(long)]
        format: Option<Form>,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the hosts as a list that others read
    Export {
        #[command(flatten)]
        which: Which,
        /// The form of the list
        #[arg(long, default_value = "csv")]
        format: Form,
    },
    /// Ask the hosts how long an update to a release would take, or why it is not possible, and
    /// keep that for plans; nothing is changed on them
    Foresee(foresee::ForeseeArgs),
    /// Show the hosts
    List {
        #[command(flatten)]
        which: Which,
        /// Write JSON, one host in each line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Only hosts for which this holds, for example 'site=berlin role!=db version<2.1'
    #[arg(default_value = "all")]
    selector: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The inventory of firmcast; only read
    Manager,
    /// A table with a header
    Csv,
    /// JSON that Ansible reads as an inventory
    Ansible,
}

impl From<Form> for Format {
    fn from(form: Form) -> Self {
        match form {
            Form::Manager => Self::Manager,
            Form::Csv => Self::Csv,
            Form::Ansible => Self::Ansible,
        }
    }
}

impl HostsArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Import { file, format, dry_run } => {
                import(place.store()?.as_mut(), &file, format, dry_run)?;
            }
            Command::Export { which, format } => {
                let hosts = selected(place.store()?.as_mut(), &which.selector)?;
                let Some(text) = exchange::write(&hosts, format.into()) else {
                    bail!("firmcast keeps no labels: write csv or ansible");
                };
                say(text.trim_end());
            }
            Command::Foresee(args) => return args.run(place),
            Command::List { which, json } => {
                let hosts = selected(place.store()?.as_mut(), &which.selector)?;
                list(&hosts, json)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn selected(store: &mut dyn Store, selector: &str) -> anyhow::Result<Vec<Host>> {
    let selector = Selector::parse(selector).context("the selector")?;
    let mut hosts = all_hosts(store)?;
    let of = hosts.len();
    hosts.retain(|host| selector.matches(host));
    if hosts.is_empty() {
        remark(&format!("{selector} matches none of {of} hosts"));
    }
    Ok(hosts)
}

fn import(
    store: &mut dyn Store,
    file: &Path,
    format: Option<Form>,
    dry_run: bool,
) -> anyhow::Result<()> {
    let text = read(file)?;
    let format = format.map_or_else(|| exchange::guess(&text), Format::from);
    let list = exchange::read(&text, format).map_err(|problems| refused(file, &problems))?;
    let (mut hosts, mut problems, mut new, mut changed) = (Vec::new(), Vec::new(), 0, 0);
    let mut passed_over = list.passed_over.len();
    for entry in list.entries {
        let known = store.host(&entry.name)?;
        if known.is_none() && entry.key.is_none() && format == Format::Ansible {
            passed_over += 1;
            continue;
        }
        match entry.onto(known.clone()) {
            Ok(host) if known.as_ref() == Some(&host) => {}
            Ok(host) => {
                *if known.is_none() { &mut new } else { &mut changed } += 1;
                hosts.push(host);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(refused(file, &problems));
    }
    if !dry_run {
        store.put_hosts(&hosts)?;
    }
    let would = if dry_run { "would be " } else { "" };
    say(&format!("{new} hosts {would}new, {changed} {would}changed, {passed_over} passed over"));
    let homeless = hosts.iter().filter(|host| host.site().is_empty()).count();
    if homeless > 0 {
        remark(&format!(
            "{homeless} of them have no label {SITE:?}, so no worker takes them: import a table \
             with the columns name,{SITE}"
        ));
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(cannot)?;
    opened.take(LIST_BYTES_MAX + 1).read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > LIST_BYTES_MAX {
        bail!("{} has more than {LIST_BYTES_MAX} bytes: import it in parts", file.display());
    }
    Ok(text)
}

fn refused(file: &Path, problems: &[Problem]) -> anyhow::Error {
    let shown = problems.iter().take(PROBLEMS_MAX);
    let mut text = format!("nothing was taken from {}:", file.display());
    for problem in shown {
        text += &format!("\n  {problem}");
    }
    if problems.len() >= PROBLEMS_MAX {
        text += "\n  and perhaps more";
    }
    anyhow::Error::msg(text)
}

fn list(hosts: &[Host], json: bool) -> anyhow::Result<()> {
    if json {
        for host in hosts {
            say(&serde_json::to_string(host)?);
        }
        return Ok(());
    }
    let head = ["NAME", "ADDRESS", "BOARD", "VERSION", "LABELS"].map(str::to_owned).to_vec();
    let row = |host: &Host| {
        let address = host.addresses.first().map_or(String::new(), ToString::to_string);
        let labels: Vec<String> =
            host.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let board = format!("{} {}", host.vendor, host.product);
        let cells = [host.name.clone(), address, board, host.bios_version.clone()];
        cells.iter().chain([&labels.join(" ")]).map(|cell| shown(cell)).collect()
    };
    let rows: Vec<_> = std::iter::once(head).chain(hosts.iter().map(row)).collect();
    say(&columns(&rows));
    Ok(())
}
