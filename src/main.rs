//! `firmcastd`: the agent on a host, its check, and the recovery environment.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use firmcast::agent::config::Config;
use firmcast::agent::plan::{self, PlanReport};
use firmcast::agent::system::System;
use firmcast::agent::trust::Trust;
use firmcast::agent::{idle, logging};
use firmcast::image::BUNDLE_MAX;

const HELP: &str = "\
firmcastd waits for a trusted manager's instruction to replace this machine's firmware.

Usage: firmcastd [--config FILE] [--foreground]    run the agent
       firmcastd check [--config FILE] [--json]    tell whether this machine could be updated, and why not
       firmcastd plan --bundle FILE [--config FILE] [--json]
                                                   tell what an update with this bundle would change, or why it cannot be
       firmcastd recover                           be the recovery environment (what PID 1 does there)
       firmcastd --help | --version

  --config FILE   settings, /etc/firmcast/agent.toml if not given; FIRMCAST_* in the environment wins
  --foreground    log to stderr even if that is no terminal
  --json          print the result as one JSON object

Exit status: 0 all well (check, plan: an update could start), 1 failed (check, plan: something is in the way), 2 wrong usage.
";

/// What the command line asks for.
enum Task {
    Agent { config: Option<PathBuf>, foreground: bool },
    Check { config: Option<PathBuf>, json: bool },
    Plan { config: Option<PathBuf>, bundle: PathBuf, json: bool },
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
        Task::Recover => match firmcast::recovery::run()? {},
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
    Recover,
}

/// PID 1 is the recovery environment, whatever the kernel passes on to it from its command line.
fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    if std::process::id() == 1 {
        return Ok(Task::Recover);
    }
    let (mut task, mut config, mut foreground, mut json) = (None, None, false, false);
    let mut bundle = None;
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
            Some("--foreground") if task.is_none() => foreground = true,
            Some("--json") if matches!(task, Some(Word::Check | Word::Plan)) => json = true,
            Some("plan") if task.is_none() => task = Some(Word::Plan),
            Some("check") if task.is_none() => task = Some(Word::Check),
            Some("recover") if task.is_none() => task = Some(Word::Recover),
            _ => return Err(format!("unknown argument {}", argument.display())),
        }
    }
    Ok(match task {
        Some(Word::Check) => Task::Check { config, json },
        Some(Word::Plan) => {
            let bundle = bundle.ok_or("plan needs --bundle FILE")?;
            Task::Plan { config, bundle, json }
        }
        Some(Word::Recover) => Task::Recover,
        None => Task::Agent { config, foreground },
    })
}
