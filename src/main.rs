//! `firmcastd`: the agent on a host, its check, and the recovery environment.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use firmcast::agent::config::Config;
use firmcast::agent::plan::{self, PlanReport};
use firmcast::agent::provide::Record;
use firmcast::agent::state::State;
use firmcast::agent::system::System;
use firmcast::agent::trust::Trust;
use firmcast::agent::verdict;
use firmcast::agent::{idle, logging};
use firmcast::bmc;
use firmcast::dmi::Dmi;
use firmcast::image::validity::Verdict;
use firmcast::image::{BUNDLE_MAX, ByteRanges, closed_note};

const HELP: &str = "\
firmcastd waits for a trusted manager's instruction to replace this machine's firmware.

Usage: firmcastd [--config FILE] [--foreground]    run the agent
       firmcastd check [--config FILE] [--json]    tell whether this machine could be updated, and why not
       firmcastd plan --bundle FILE [--config FILE] [--json]
                                                   tell what an update with this bundle would change, or why it cannot be
       firmcastd validate [--image FILE] [--config FILE] [--json]
                                                   tell whether the firmware in the chip, or in FILE, is whole
       firmcastd rescue-archive [--output FILE] [--renew | --image FILE] [--config FILE]
                                                   write what the recovery environment needs when it comes up by itself
       firmcastd bmc show [--json] | set --url URL | clear
                                                   tell, change or remove the manager's address in the BMC
       firmcastd recover                           be the recovery environment (what PID 1 does there)
       firmcastd rescue --hook                     what the distribution's initramfs runs; nothing without firmcast.recover
       firmcastd --help | --version

  --config FILE   settings, /etc/firmcast/agent.toml if not given; FIRMCAST_* in the environment wins
  --foreground    log to stderr even if that is no terminal
  --json          print the result as one JSON object
  --renew         record the firmware in the chip as good; with --image FILE that in FILE

Exit status: 0 all well (check, plan: an update could start; validate: valid), 1 failed (check, plan: something is in the
way; validate: invalid), 2 wrong usage, 3 validate: unknown.
";

/// What the command line asks for.
enum Task {
    Agent { config: Option<PathBuf>, foreground: bool },
    Check { config: Option<PathBuf>, json: bool },
    Plan { config: Option<PathBuf>, bundle: PathBuf, json: bool },
    Validate { config: Option<PathBuf>, image: Option<PathBuf>, json: bool },
    RescueArchive { config: Option<PathBuf>, output: Option<PathBuf>, record: Record },
    RescueHook,
    Bmc(bmc::command::Command),
    Recover,
    Help,
    Version,
}

fn main() -> ExitCode {
    let task = match parse(std::env::args_os().skip(1)) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("firmcastd: {error}; see firmcastd --help");
            return ExitCode::from(2);
        }
    };
    match run(task) {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Agent { config, foreground } => {
            logging::start(foreground);
            let config = Config::load(config.as_deref())?;
            match idle::run(config)? {}
        }
        Task::Check { config, json } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            check(&System::new(config, trust), json)
        }
        Task::Plan { config, bundle, json } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            plan(&System::new(config, trust), &bundle, json)
        }
        Task::Validate { config, image, json } => {
            logging::start(true);
            validate(config.as_deref(), image.as_deref(), json)
        }
        Task::RescueArchive { config, output, record } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let output = output.unwrap_or_else(|| config.rescue_archive.clone());
            ensure!(
                !output.as_os_str().is_empty(),
                "name the archive with --output, or set rescue_archive in agent.toml"
            );
            let trust = Trust::load(&config);
            System::new(config, trust).write_archive(&output, &record)?;
            print(&format!("{} written\n", output.display()))
        }
        Task::RescueHook => {
            firmcast::environment::hook()?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Bmc(command) => {
            logging::start(true);
            print(&bmc::command::run(&command)?)
        }
        Task::Recover => match firmcast::environment::run()? {},
        Task::Help => print(HELP),
        Task::Version => print(concat!("firmcastd ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn check(system: &System, json: bool) -> Result<ExitCode> {
    let list = system.check();
    let text = if json { format!("{:#}\n", list.to_json()) } else { list.to_string() };
    print(&text)?;
    Ok(if list.verdict().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exit status of a verdict that says neither.
const UNKNOWN: u8 = 3;

fn validate(config: Option<&Path>, image: Option<&Path>, json: bool) -> Result<ExitCode> {
    let (verdict, closed) = match image {
        Some(image) => (verdict::of_file(image)?, ByteRanges::default()),
        None => {
            let config = Config::load(config)?;
            ensure!(
                !config.flash.is_empty(),
                "name a file with --image, or set flash in agent.toml"
            );
            let good = State::new(config.state_dir.clone()).known_good()?;
            let bios_version = Dmi::read(Path::new("/")).bios_version;
            verdict::of_chip(&config.flash, good.as_ref(), &bios_version)?
        }
    };
    let text = match json {
        true => format!("{:#}\n", verdict::to_json(&verdict, &closed)),
        false if closed.is_empty() => format!("{verdict}\n"),
        false => format!("{verdict}\n{}\n", closed_note(&closed)),
    };
    print(&text)?;
    Ok(match verdict {
        Verdict::Valid { .. } => ExitCode::SUCCESS,
        Verdict::Invalid { .. } => ExitCode::FAILURE,
        Verdict::Unknown { .. } => ExitCode::from(UNKNOWN),
    })
}

fn plan(system: &System, bundle: &Path, json: bool) -> Result<ExitCode> {
    let size_bytes = std::fs::metadata(bundle)
        .with_context(|| format!("cannot read the bundle {}", bundle.display()))?
        .len();
    ensure!(size_bytes <= BUNDLE_MAX as u64, "{} is too large for a bundle", bundle.display());
    let bytes = std::fs::read(bundle)
        .with_context(|| format!("cannot read the bundle {}", bundle.display()))?;
    match PlanReport::new(system, &bytes) {
        Ok(report) if json => print(&format!("{:#}\n", report.to_json())),
        Ok(report) => print(&report.to_string()),
        Err(refusal) => {
            let text = match json {
                true => format!("{:#}\n", plan::refusal_json(&refusal)),
                false => format!(
                    "An update would be refused: {refusal}\n-> {}\n",
                    refusal.reason.advice()
                ),
            };
            print(&text)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

#[derive(PartialEq)]
enum Word {
    Check,
    Plan,
    Validate,
    RescueArchive,
    Rescue,
    Recover,
}

/// PID 1 is the recovery environment, whatever the kernel passes on to it from its command line.
fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    if std::process::id() == 1 {
        return Ok(Task::Recover);
    }
    let (mut task, mut config, mut foreground, mut json) = (None, None, false, false);
    let (mut bundle, mut image, mut output, mut renew, mut hook) = (None, None, None, false, false);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Task::Help),
            Some("--version" | "-V") => return Ok(Task::Version),
            Some("--config") => match arguments.next() {
                Some(file) => config = Some(PathBuf::from(file)),
                None => return Err("--config needs the name of a file".into()),
            },
            Some("--bundle") if task == Some(Word::Plan) => match arguments.next() {
                Some(file) => bundle = Some(PathBuf::from(file)),
                None => return Err("--bundle needs the name of a file".into()),
            },
            Some("--image") if matches!(task, Some(Word::Validate | Word::RescueArchive)) => {
                match arguments.next() {
                    Some(file) => image = Some(PathBuf::from(file)),
                    None => return Err("--image needs the name of a file".into()),
                }
            }
            Some("--output") if task == Some(Word::RescueArchive) => match arguments.next() {
                Some(file) => output = Some(PathBuf::from(file)),
                None => return Err("--output needs the name of a file".into()),
            },
            Some("--renew") if task == Some(Word::RescueArchive) => renew = true,
            Some("--hook") if task == Some(Word::Rescue) => hook = true,
            Some("--foreground") if task.is_none() => foreground = true,
            Some("--json") if matches!(task, Some(Word::Check | Word::Plan | Word::Validate)) => {
                json = true
            }
            Some("plan") if task.is_none() => task = Some(Word::Plan),
            Some("check") if task.is_none() => task = Some(Word::Check),
            Some("validate") if task.is_none() => task = Some(Word::Validate),
            Some("rescue-archive") if task.is_none() => task = Some(Word::RescueArchive),
            Some("rescue") if task.is_none() => task = Some(Word::Rescue),
            Some("recover") if task.is_none() => task = Some(Word::Recover),
            Some("bmc") if task.is_none() => return parse_bmc(arguments).map(Task::Bmc),
            _ => return Err(format!("unknown argument {}", argument.display())),
        }
    }
    Ok(match task {
        Some(Word::Check) => Task::Check { config, json },
        Some(Word::Plan) => {
            let bundle = bundle.ok_or("plan needs --bundle FILE")?;
            Task::Plan { config, bundle, json }
        }
        Some(Word::Validate) => Task::Validate { config, image, json },
        Some(Word::RescueArchive) => {
            let record = match (image, renew) {
                (Some(_), true) => return Err("--renew and --image exclude each other".into()),
                (Some(image), false) => Record::Image(image),
                (None, true) => Record::Renew,
                (None, false) => Record::Keep,
            };
            Task::RescueArchive { config, output, record }
        }
        Some(Word::Rescue) if hook => Task::RescueHook,
        Some(Word::Rescue) => return Err("rescue needs --hook".into()),
        Some(Word::Recover) => Task::Recover,
        None => Task::Agent { config, foreground },
    })
}

fn parse_bmc(arguments: impl Iterator<Item = OsString>) -> Result<bmc::command::Command, String> {
    let words: Vec<String> =
        arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show"] => Ok(bmc::command::Command::Show { json: false }),
        ["show", "--json"] => Ok(bmc::command::Command::Show { json: true }),
        ["set", "--url", url] => match url.parse() {
            Ok(url) => Ok(bmc::command::Command::Set { url }),
            Err(error) => Err(format!("--url {url}: {error}")),
        },
        ["clear"] => Ok(bmc::command::Command::Clear),
        _ => Err("bmc needs show [--json], set --url URL, or clear".into()),
    }
}
