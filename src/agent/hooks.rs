//! The administrator's own programs before and after an update, in `/etc/firmcast/pre-update.d`
//! and `post-update.d`: to drain a host of its work, and to take the work back.
//!
//! They run as root and not in the agent's confinement, so root alone may change them. Nothing of
//! them comes from the network but the campaign's number, its version and its end, as environment
//! variables.

use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::program;
use crate::helper;
use crate::host;
use crate::reason::Reason;
use crate::wire::answer::Programs;

/// Maximum time of one program; then it is killed.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum time of all programs of a folder: the agent's helper lives for 900 s.
pub const ALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How much longer the helper may take to answer than its programs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of programs in a folder.
const PROGRAMS_MAX: usize = 32;
/// What they are told, in the environment.
pub(super) const VARIABLES: [&str; 4] =
    ["FIRMCAST_CAMPAIGN", "FIRMCAST_VERSION", "FIRMCAST_HOST", "FIRMCAST_RESULT"];

/// When programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the normal OS is left.
    PreUpdate,
    /// After it is known how a campaign ended, or when it did not begin after all.
    PostUpdate,
}

impl When {
    /// Both.
    pub const ALL: [When; 2] = [When::PreUpdate, When::PostUpdate];

    fn name(self) -> &'static str {
        match self {
            Self::PreUpdate => "pre-update",
            Self::PostUpdate => "post-update",
        }
    }
}

/// What programs are told of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// The campaign.
    pub campaign: u64,
    /// The version that it brings.
    pub version: String,
    /// How it ended, as far as that is known; [`Reason::None`] before it.
    pub end: Reason,
}

/// Returns the programs that would run, in their order.
///
/// # Errors
/// Others than root may change one of them, or the folder cannot be read.
pub fn programs(root: &Path, when: When) -> Result<Vec<PathBuf>, String> {
    let settings = root.join("etc/firmcast");
    let folder = settings.join(format!("{}.d", when.name()));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(said(&folder, error)),
    };
    for path in [&settings, &folder] {
        let metadata = fs::symlink_metadata(path).map_err(|error| said(path, error))?;
        is_roots_alone(&metadata).map_err(|problem| said(path, problem))?;
    }
    let mut programs = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| said(&folder, error))?.path();
        if is_program(&path).map_err(|problem| said(&path, problem))? {
            programs.push(path);
        }
    }
    programs.sort();
    match programs.len() > PROGRAMS_MAX {
        true => Err(said(&folder, format_args!("more than {PROGRAMS_MAX} programs"))),
        false => Ok(programs),
    }
}

fn said(path: &Path, problem: impl Display) -> String {
    format!("{}: {problem}", path.display())
}

/// Whether this is to be run: what editors and package managers leave behind is not, nor what is
/// not executable.
fn is_program(path: &Path) -> Result<bool, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let is_left_over = name.starts_with('.')
        || name.ends_with('~')
        || [".dpkg-", ".ucf-", ".rpm"].iter().any(|mark| name.contains(mark));
    let is_link = metadata.file_type().is_symlink();
    if is_left_over || !is_link && metadata.permissions().mode() & 0o111 == 0 {
        return Ok(false);
    }
    if !metadata.is_file() {
        return Err("not a file: put the program itself here".to_owned());
    }
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    if !name.chars().all(is_plain) {
        return Err("name it with letters, digits, hyphens, underscores and dots".to_owned());
    }
    is_roots_alone(&metadata)?;
    Ok(true)
}

/// The agent and its helper are root; a user who types `firmcastd check` may be shown his own.
fn is_roots_alone(metadata: &Metadata) -> Result<(), &'static str> {
    if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
        return Err("not owned by root");
    }
    match metadata.permissions().mode() & 0o022 {
        0 => Ok(()),
        _ => Err("others than root may write to it: chmod go-w"),
    }
}

/// Runs the programs, or has the helper run them, one after the other, all of them in `limit`.
pub fn run(root: &Path, when: When, occasion: &Occasion, limit: Duration) -> Programs {
    let Occasion { campaign, version, end } = occasion;
    let (limit_s, end) = (limit.as_secs(), end.name());
    let question = format!("hooks {} {limit_s} {campaign:016x} {end} {version}", when.name());
    match helper::ask_alone(&question, limit + ANSWER_TIMEOUT) {
        None => run_here(root, when, occasion, limit),
        Some(answer) => {
            let failed = |told: String| Programs { failed: true, told };
            answer.map_or_else(
                |error| failed(format!("{}.d: {error}", when.name())),
                |answer| read(&answer.text).unwrap_or_else(|| failed(answer.text)),
            )
        }
    }
}

/// Reads what [`answer`] says.
fn read(text: &str) -> Option<Programs> {
    let (word, told) = text.split_once(' ')?;
    let failed = match word {
        "passed" => false,
        "failed" => true,
        _ => return None,
    };
    Some(Programs { failed, told: told.to_owned() })
}

/// Does what another process asks of the helper, behind its word `hooks`; none when the question is
/// not understood.
pub(super) fn answer(root: &Path, question: &str) -> Option<String> {
    let (when, occasion, limit) = understand(question)?;
    let Programs { failed, told } = run_here(root, when, &occasion, limit);
    let word = if failed { "failed" } else { "passed" };
    Some(format!("{word} {told}"))
}

fn understand(question: &str) -> Option<(When, Occasion, Duration)> {
    let mut words = question.splitn(5, ' ');
    let (when, limit_s, campaign) = (words.next()?, words.next()?, words.next()?);
    let (end, version) = (words.next()?, words.next()?);
    let when = When::ALL.into_iter().find(|known| known.name() == when)?;
    let end = *Reason::ALL.iter().find(|known| known.name() == end)?;
    let limit = Duration::from_secs(limit_s.parse::<u32>().ok()?.into());
    let campaign = u64::from_str_radix(campaign, 16).ok()?;
    if version.contains(char::is_control) {
        return None;
    }
    Some((when, Occasion { campaign, version: version.to_owned(), end }, limit))
}

fn run_here(root: &Path, when: When, occasion: &Occasion, limit: Duration) -> Programs {
    let programs = match programs(root, when) {
        Ok(programs) => programs,
        Err(told) => return Programs { failed: true, told },
    };
    let values = [
        format!("{:016x}", occasion.campaign),
        occasion.version.clone(),
        host::name(),
        occasion.end.name().to_owned(),
    ];
    let variables: Vec<_> = VARIABLES.into_iter().zip(values).collect();
    let unit = has_systemd(root).then(|| format!("firmcast-{}.service", when.name()));
    if unit.is_some() && !programs.is_empty() {
        program::stop(&When::ALL.map(|when| format!("firmcast-{}.service", when.name())));
    }
    let until = Instant::now() + limit.min(ALL_TIMEOUT);
    let mut tally = Tally::new(when);
    for program in programs {
        let left = until.saturating_duration_since(Instant::now()).min(PROGRAM_TIMEOUT);
        let ended = program::run(&program, &variables, left, unit.as_deref());
        tally.add(&program, ended);
        // What is undone is undone as far as possible.
        if !tally.problems.is_empty() && when == When::PreUpdate {
            break;
        }
    }
    tally.told()
}

fn has_systemd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir()
}

/// What came of the programs of a folder; problems are told first, because texts are cut.
struct Tally {
    folder: String,
    problems: Vec<String>,
    passed: Vec<String>,
}

impl Tally {
    fn new(when: When) -> Self {
        let folder = format!("{}.d", when.name());
        Self { folder, problems: Vec::new(), passed: Vec::new() }
    }

    fn add(&mut self, program: &Path, ended: Result<(), String>) {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        match ended {
            Ok(()) => self.passed.push(format!("{name} 0")),
            Err(problem) => self.problems.push(format!("{}/{name} {problem}", self.folder)),
        }
    }

    fn told(mut self) -> Programs {
        let failed = !self.problems.is_empty();
        let passed = match self.passed.is_empty() {
            true if failed => None,
            true => Some("no program".to_owned()),
            false => Some(self.passed.join(", ")),
        };
        self.problems.extend(passed.map(|passed| format!("{}: {passed}", self.folder)));
        Programs { failed, told: self.problems.join("; ") }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// A program in a folder of `/etc/firmcast` below `root`.
    pub(in crate::agent) fn put(root: &Path, name: &str, text: &str, mode: u32) {
        let path = root.join("etc/firmcast").join(name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        for folder in [folder, folder.parent().unwrap()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn occasion() -> Occasion {
        Occasion { campaign: 0xab, version: "2.1 beta".into(), end: Reason::None }
    }

    fn run(root: &Path, when: When) -> (bool, String) {
        let Programs { failed, told } = run_here(root, when, &occasion(), PROGRAM_TIMEOUT);
        (failed, told.replace(root.to_str().unwrap(), ""))
    }

    fn passed(told: &str) -> (bool, String) {
        (false, told.to_owned())
    }

    fn failed(told: &str) -> (bool, String) {
        (true, told.to_owned())
    }

    #[test]
    fn programs_run_in_order_with_what_they_need_to_know() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let variables = "$FIRMCAST_CAMPAIGN $FIRMCAST_VERSION $FIRMCAST_RESULT";
        let line = format!(
            "echo $(basename $0) {variables} >>{0}/out; echo $FIRMCAST_HOST >{0}/host",
            root.display()
        );
        put(root, "pre-update.d/20-b", &line, 0o755);
        put(root, "pre-update.d/10-a.sh", &line, 0o700);
        put(root, "pre-update.d/README", "exit 1", 0o644);
        put(root, "pre-update.d/30.dpkg-old", "exit 1", 0o755);
        put(root, "post-update.d/10-a", "exit 1", 0o755);
        assert_eq!(run(root, When::PreUpdate), passed("pre-update.d: 10-a.sh 0, 20-b 0"));
        let said = fs::read_to_string(root.join("out")).unwrap();
        let told = "00000000000000ab 2.1 beta none";
        assert_eq!(said, format!("10-a.sh {told}\n20-b {told}\n"));
        let host = fs::read_to_string(root.join("host")).unwrap();
        assert_eq!(host.trim_end(), host::name());
        let nothing = tempfile::tempdir().unwrap();
        let told = passed("pre-update.d: no program");
        assert_eq!(run(nothing.path(), When::PreUpdate), told);
    }

    #[test]
    fn the_first_that_fails_ends_it_before_an_update_and_not_after() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["pre-update.d", "post-update.d"] {
            put(root, &format!("{folder}/10-a"), "exit 0", 0o755);
            put(root, &format!("{folder}/20-b"), "echo one; echo 'not drained' >&2; exit 3", 0o755);
            put(root, &format!("{folder}/30-c"), "exit 0", 0o755);
        }
        let told = "pre-update.d/20-b ended with status 3: not drained; pre-update.d: 10-a 0";
        assert_eq!(run(root, When::PreUpdate), failed(told));
        let told =
            "post-update.d/20-b ended with status 3: not drained; post-update.d: 10-a 0, 30-c 0";
        assert_eq!(run(root, When::PostUpdate), failed(told));
    }

    #[test]
    fn what_others_may_change_is_not_run() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let mode = |path: &str, mode| {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        let refused = |why: &str| {
            let (failed, told) = run(root, When::PreUpdate);
            assert!(failed && told.contains(why), "{told}");
        };
        put(root, "pre-update.d/10-a", "exit 0", 0o757);
        refused("10-a: others than root may write to it: chmod go-w");
        put(root, "pre-update.d/10-a", "exit 0", 0o755);
        assert_eq!(run(root, When::PreUpdate), passed("pre-update.d: 10-a 0"));
        for folder in ["etc/firmcast/pre-update.d", "etc/firmcast"] {
            mode(folder, 0o775);
            refused(&format!("/{folder}: others than root"));
            mode(folder, 0o755);
        }
        put(root, "pre-update.d/20 $b", "exit 0", 0o755);
        refused("20 $b: name it with letters");
        fs::remove_file(root.join("etc/firmcast/pre-update.d/20 $b")).unwrap();
        let link = root.join("etc/firmcast/pre-update.d/20-link");
        std::os::unix::fs::symlink("/bin/true", link).unwrap();
        refused("20-link: not a file");
    }

    #[test]
    fn only_whole_questions_are_answered() {
        let root = tempfile::tempdir().unwrap();
        for odd in [
            "",
            "pre-update 9 ab none",
            "install 9 ab none 2",
            "pre-update x ab none 2",
            "pre-update 9 xy none 2",
            "pre-update 9 ab whatever 2",
            "pre-update 9 ab none 2\nmore",
        ] {
            assert!(answer(root.path(), odd).is_none(), "{odd:?}");
        }
        put(root.path(), "post-update.d/10-a", "echo $FIRMCAST_RESULT; exit 1", 0o755);
        let text = answer(root.path(), "post-update 9 ab updated 2.1 beta").unwrap();
        let told = "post-update.d/10-a ended with status 1: updated".to_owned();
        assert_eq!(read(&text), Some(Programs { failed: true, told }));
        let text = answer(root.path(), "pre-update 9 ab none 2").unwrap();
        let told = "pre-update.d: no program".to_owned();
        assert_eq!(read(&text), Some(Programs { failed: false, told }));
        assert_eq!(read("whatever it is"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(
            text in "(pre|post)?(-update)? ?[0-9]{0,12} ?[0-9a-g]{0,17} ?(none|x)? ?.*",
        ) {
            if let Some((_, occasion, _)) = understand(&text) {
                prop_assert!(!occasion.version.contains(char::is_control));
            }
            let _ = read(&text);
        }
    }
}
