//! `firmcastd`: the agent on a host, its check, and the recovery environment.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use firmcast::agent::config::Config;
use firmcast::agent::idle::Told;
use firmcast::agent::local_machine::LocalMachine;
use firmcast::agent::plan::plan;
use firmcast::agent::provide::FirmwareToRecord;
use firmcast::agent::state::State;
use firmcast::agent::trust::Trust;
use firmcast::agent::verdict;
use firmcast::agent::{helping, idle, logging, preflight};
use firmcast::bmc;
use firmcast::dmi::Dmi;
use firmcast::environment;
use firmcast::flash::refusal_json;
use firmcast::image::validity::Verdict;
use firmcast::image::{BUNDLE_MAX, ByteRanges, closed_note};
use firmcast::kexec::Formats;
use firmcast::usage;

/// What the command line asks for.
enum Task {
    Agent { config: Option<PathBuf>, foreground: bool },
    Check { config: Option<PathBuf>, json: bool },
    Plan { config: Option<PathBuf>, bundle: PathBuf, json: bool },
    Validate { config: Option<PathBuf>, image: Option<PathBuf>, json: bool },
    RescueArchive { config: Option<PathBuf>, output: Option<PathBuf>, record: FirmwareToRecord },
    Learn { config: Option<PathBuf>, json: bool },
    Backup { config: Option<PathBuf>, output: PathBuf },
    RescueHook,
    Bmc(bmc::command::Command),
    Recover { is_wanted: bool },
    Trusts { config: Option<PathBuf> },
    Helper,
    Formats,
    Help,
    Version,
}

/// The word without which nobody but PID 1 is the recovery environment.
const RESETS_THIS_MACHINE: &str = "--resets-this-machine";

/// Exit status of an agent that was told to read its settings again: firmcastd.service starts it
/// anew.
const START_AGAIN: u8 = 75;

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
            Ok(match idle::run(config)? {
                Told::StartAgain => ExitCode::from(START_AGAIN),
                Told::End => ExitCode::SUCCESS,
            })
        }
        Task::Check { config, json } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            check(&LocalMachine::new(config, trust), json)
        }
        Task::Plan { config, bundle, json } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            tell_plan(&LocalMachine::new(config, trust), &bundle, json)
        }
        Task::Validate { config, image, json } => {
            logging::start(true);
            validate(config.as_deref(), image.as_deref(), json)
        }
        Task::RescueArchive { config, output, record } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            let machine = LocalMachine::new(config, trust);
            let output = output.unwrap_or_else(|| machine.archive());
            machine.write_archive(&output, &record)?;
            print(&format!("{} written\n", output.display()))
        }
        Task::Learn { config, json } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            learn(&LocalMachine::new(config, trust), json)
        }
        Task::Backup { config, output } => {
            logging::start(true);
            let config = Config::load(config.as_deref())?;
            let trust = Trust::load(&config);
            print(&LocalMachine::new(config, trust).back_up(&output)?)
        }
        Task::RescueHook => {
            environment::check_place().inspect_err(|_| logging::start(true))?;
            environment::hook()?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Bmc(command) => {
            logging::start(true);
            print(&bmc::command::run(&command)?)
        }
        Task::Recover { is_wanted } => {
            match is_wanted {
                true => logging::start(true),
                false => environment::check_place().inspect_err(|_| logging::start(true))?,
            }
            match environment::run()? {}
        }
        Task::Trusts { config } => {
            logging::start(true);
            trusts(&Trust::load(&Config::load(config.as_deref())?))
        }
        Task::Helper => {
            logging::start(false);
            helping::run().context("no question came over standard input")?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Formats => {
            print(&format!("{}firmcastd {}\n", Formats::OWN.lines(), env!("CARGO_PKG_VERSION")))
        }
        Task::Help => print(&usage::help()),
        Task::Version => print(concat!("firmcastd ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// The service has nothing to do, and no port to open, on a machine that trusts nobody.
fn trusts(trust: &Trust) -> Result<ExitCode> {
    for problem in trust.manager_problems.iter().chain(&trust.release_problems) {
        log::warn!("not trusted: {problem}");
    }
    if trust.managers.is_empty() {
        print("no manager is trusted: copy its public key to /etc/firmcast/trusted.d\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let (managers, releases) = (trust.managers.len(), trust.releases.len());
    print(&format!("{managers} managers and {releases} release keys are trusted\n"))
}

fn check(machine: &LocalMachine, json: bool) -> Result<ExitCode> {
    let list = preflight::check(machine);
    let text = if json { format!("{:#}\n", list.to_json()) } else { list.to_string() };
    print(&text)?;
    Ok(if list.verdict().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exit status of a verdict that says neither.
const UNKNOWN: u8 = 3;

/// Exit status of a verdict that doubts.
const DOUBTFUL: u8 = 4;

fn validate(config: Option<&Path>, image: Option<&Path>, json: bool) -> Result<ExitCode> {
    let (verdict, closed) = match image {
        Some(image) => (verdict::of_file(image)?, ByteRanges::default()),
        None => {
            let config = Config::load(config)?;
            let good = State::new(config.state_dir.clone()).known_good()?;
            let flash = LocalMachine::new(config, Trust::default()).flash();
            ensure!(
                !flash.is_empty(),
                "name a file with --image, or set flash in agent.toml; firmcastd check lists the \
                 chips"
            );
            let bios_version = Dmi::read(Path::new("/")).bios_version;
            verdict::of_chip(&flash, good.as_ref(), &bios_version)?
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
        Verdict::Doubtful { .. } => ExitCode::from(DOUBTFUL),
        Verdict::Unknown { .. } => ExitCode::from(UNKNOWN),
    })
}

/// Exit status 3 says that two boots could not be compared yet.
fn learn(machine: &LocalMachine, json: bool) -> Result<ExitCode> {
    let report = machine.learn()?;
    print(&if json { format!("{:#}\n", report.to_json()) } else { report.to_string() })?;
    Ok(if report.is_lesson() { ExitCode::SUCCESS } else { ExitCode::from(UNKNOWN) })
}

fn tell_plan(machine: &LocalMachine, bundle: &Path, json: bool) -> Result<ExitCode> {
    let size_bytes = std::fs::metadata(bundle)
        .with_context(|| format!("cannot read the bundle {}", bundle.display()))?
        .len();
    ensure!(size_bytes <= BUNDLE_MAX as u64, "{} is too large for a bundle", bundle.display());
    let bytes = std::fs::read(bundle)
        .with_context(|| format!("cannot read the bundle {}", bundle.display()))?;
    match plan(machine, &bytes) {
        Ok(report) if json => print(&format!("{:#}\n", report.to_json())),
        Ok(report) => print(&report.to_string()),
        Err(refusal) => {
            let text = match json {
                true => format!("{:#}\n", refusal_json(&refusal)),
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

/// PID 1 is the recovery environment, whatever the kernel passes on to it from its command line.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    if std::process::id() == 1 {
        return Ok(Task::Recover { is_wanted: false });
    }
    let mut words = Words(arguments.collect());
    if words.flag("--help") || words.flag("-h") {
        return Ok(Task::Help);
    }
    if words.flag("--formats") {
        return Ok(Task::Formats);
    }
    if words.flag("--version") || words.flag("-V") {
        return Ok(Task::Version);
    }
    let config = words.file("--config")?;
    let task = match words.subcommand().as_deref() {
        None => Task::Agent { config, foreground: words.flag("--foreground") },
        Some("trusts") => Task::Trusts { config },
        Some("helper") => Task::Helper,
        Some("check") => Task::Check { config, json: words.flag("--json") },
        Some("plan") => parse_plan(config, &mut words)?,
        Some("validate") => parse_validate(config, &mut words)?,
        Some("learn") => Task::Learn { config, json: words.flag("--json") },
        Some("backup") => parse_backup(config, &mut words)?,
        Some("rescue-archive") => parse_rescue_archive(config, &mut words)?,
        Some("rescue") => parse_rescue(&mut words)?,
        Some("recover") => parse_recover(&mut words)?,
        Some("bmc") => parse_bmc(&mut words)?,
        Some(other) => return Err(format!("unknown argument {other}")),
    };
    words.end().map(|()| task)
}

fn parse_plan(config: Option<PathBuf>, words: &mut Words) -> Result<Task, String> {
    let bundle = words.file("--bundle")?.ok_or("plan needs --bundle FILE")?;
    Ok(Task::Plan { config, bundle, json: words.flag("--json") })
}

fn parse_backup(config: Option<PathBuf>, words: &mut Words) -> Result<Task, String> {
    let output = words.file("--output")?.ok_or("backup needs --output FILE")?;
    Ok(Task::Backup { config, output })
}

fn parse_validate(config: Option<PathBuf>, words: &mut Words) -> Result<Task, String> {
    Ok(Task::Validate { config, image: words.file("--image")?, json: words.flag("--json") })
}

fn parse_rescue_archive(config: Option<PathBuf>, words: &mut Words) -> Result<Task, String> {
    let record = match (words.file("--image")?, words.flag("--renew")) {
        (Some(_), true) => return Err("--renew and --image exclude each other".into()),
        (Some(image), false) => FirmwareToRecord::Image(image),
        (None, true) => FirmwareToRecord::Renew,
        (None, false) => FirmwareToRecord::Keep,
    };
    Ok(Task::RescueArchive { config, output: words.file("--output")?, record })
}

/// Whoever types it must say that the machine may be reset.
fn parse_recover(words: &mut Words) -> Result<Task, String> {
    match words.flag(RESETS_THIS_MACHINE) {
        true => Ok(Task::Recover { is_wanted: true }),
        false => Err(format!(
            "recover may write this machine's flash and resets it; that needs {RESETS_THIS_MACHINE}"
        )),
    }
}

fn parse_rescue(words: &mut Words) -> Result<Task, String> {
    match words.flag("--hook") {
        true => Ok(Task::RescueHook),
        false => Err("rescue needs --hook".into()),
    }
}

fn parse_bmc(words: &mut Words) -> Result<Task, String> {
    let rest: Vec<String> =
        words.0.drain(..).map(|word| word.to_string_lossy().into_owned()).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let command = match rest.as_slice() {
        ["show"] => bmc::command::Command::Show { json: false },
        ["show", "--json"] => bmc::command::Command::Show { json: true },
        ["set", "--url", url] => {
            let url = url.parse().map_err(|error| format!("--url {url}: {error}"))?;
            bmc::command::Command::Set { url }
        }
        ["clear"] => bmc::command::Command::Clear,
        _ => return Err("bmc needs show [--json], set --url URL, or clear".into()),
    };
    Ok(Task::Bmc(command))
}

/// The words of the command line that nobody has taken yet.
struct Words(Vec<OsString>);

impl Words {
    /// Takes the subcommand, the first word.
    fn subcommand(&mut self) -> Option<String> {
        let is_option = self.0.first()?.to_string_lossy().starts_with('-');
        (!is_option).then(|| self.0.remove(0).to_string_lossy().into_owned())
    }

    /// Takes every `name`; whether there was one.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// Takes every `name` with the word behind it; the last one counts.
    fn file(&mut self, name: &str) -> Result<Option<PathBuf>, String> {
        let mut file = None;
        while let Some(at) = self.0.iter().position(|word| word == name) {
            if at + 1 == self.0.len() {
                return Err(format!("{name} needs the name of a file"));
            }
            file = self.0.drain(at..at + 2).next_back().map(PathBuf::from);
        }
        Ok(file)
    }

    fn end(&self) -> Result<(), String> {
        match self.0.first() {
            Some(word) => Err(format!("unknown argument {}", word.display())),
            None => Ok(()),
        }
    }
}
