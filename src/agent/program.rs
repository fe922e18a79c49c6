//! One program of the administrator: run, watched, and killed when its time is over.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};

/// Interval between looks at whether a program has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How much longer systemd may take to kill a program and to say so.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of a program's output that is kept, its last bytes.
const OUTPUT_SIZE_MAX: usize = 4096;
/// Maximum length of what is told of a program's output, in characters.
const LINE_LENGTH_MAX: usize = 100;

/// systemd takes a program that was killed by SIGTERM for one that ended well. The shell has a
/// status for it.
const KEEP_STATUS: &str = r#""$0"; exit $?"#;

/// Runs `program` for at most `limit`; with systemd in `unit`, outside of the helper's confinement.
///
/// # Errors
/// How it ended, if not with status 0, and the last line that it said.
pub(super) fn run(
    program: &Path,
    variables: &[(&str, String)],
    limit: Duration,
    unit: Option<&str>,
) -> Result<(), String> {
    let started = Instant::now();
    let mut command = match unit {
        Some(unit) => in_unit(program, variables, limit, unit),
        None => Command::new(program),
    };
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = Arc::new(Mutex::new(Vec::new()));
    let child = spawn(command, &output);
    let mut child = child.map_err(|error| format!("cannot be run: {error}"))?;
    let grace = if unit.is_some() { KILL_TIMEOUT } else { Duration::ZERO };
    let status = wait(&mut child, started + limit + grace).map_err(|error| error.to_string())?;
    // What it said last may still be in the pipe.
    thread::sleep(LOOK_INTERVAL);
    let said = last_line(&output.lock().unwrap_or_else(PoisonError::into_inner));
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) if started.elapsed() < limit => Err(match status.code() {
            Some(code) => format!("ended with status {code}{said}"),
            None => format!("was killed{said}"),
        }),
        _ => Err(format!("was killed after {} s{said}", whole_seconds(limit))),
    }
}

/// Ends what an agent that was restarted has left running in these units.
pub(super) fn stop(units: &[String]) {
    let mut command = Command::new("systemctl");
    command.args(["--quiet", "stop"]).args(units);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It fails where there is none, which is the rule.
    let _ = command.status();
}

fn in_unit(program: &Path, variables: &[(&str, String)], limit: Duration, unit: &str) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--collect", "--wait", "--pipe", "--unit", unit]);
    command.arg("--property=KillSignal=SIGKILL");
    command.arg(format!("--property=RuntimeMaxSec={}", whole_seconds(limit)));
    command.args(variables.iter().map(|(name, value)| format!("--setenv={name}={value}")));
    command.args(["--", "/bin/sh", "-c", KEEP_STATUS]).arg(program);
    command
}

fn whole_seconds(span: Duration) -> u128 {
    span.as_millis().div_ceil(1000).max(1)
}

fn spawn(mut command: Command, output: &Arc<Mutex<Vec<u8>>>) -> io::Result<Child> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let child = command.spawn()?;
    let kept = Arc::clone(output);
    // Not joined: what the program leaves running may keep the pipe. The writing ends of this
    // process go with `command`.
    thread::Builder::new().spawn(move || keep_last(File::from(reader), &kept))?;
    Ok(child)
}

/// Waits until it ends; kills it with all that it has started when it is time, and returns none.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

fn keep_last(mut reader: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..length]);
        let too_many = kept.len().saturating_sub(OUTPUT_SIZE_MAX);
        kept.drain(..too_many);
    }
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let plain = |line: &str| -> String {
        line.chars().filter(|it| !it.is_control()).take(LINE_LENGTH_MAX).collect()
    };
    line.map(plain).map_or_else(String::new, |line| format!(": {line}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(text: &str, limit: Duration) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        run(&path, &[("ANSWER", "4 2".to_owned())], limit, None)
    }

    #[test]
    fn only_status_0_is_a_good_end() {
        let long = Duration::from_secs(300);
        assert_eq!(script("test \"$ANSWER\" = '4 2'", long), Ok(()));
        assert_eq!(script("exit 3", long), Err("ended with status 3".into()));
        let said = "ended with status 1: notdrained";
        assert_eq!(script("echo one; echo 'not\tdrained' >&2; exit 1", long), Err(said.into()));
        assert_eq!(script("kill -TERM $$", long), Err("was killed".into()));
        let missing = run(Path::new("/nonexistent"), &[], long, None).unwrap_err();
        assert!(missing.starts_with("cannot be run: "), "{missing}");
    }

    #[test]
    fn one_that_does_not_end_is_killed_with_what_it_has_started() {
        let said = "was killed after 1 s: waits";
        let script = script("echo waits; sleep 9999 & wait", Duration::from_millis(900));
        assert_eq!(script, Err(said.into()));
    }

    #[test]
    fn only_the_last_of_what_it_says_is_kept() {
        let kept = Mutex::new(Vec::new());
        keep_last(&[b'a'; 3 * OUTPUT_SIZE_MAX][..], &kept);
        assert_eq!(kept.lock().unwrap().len(), OUTPUT_SIZE_MAX);
        assert_eq!(last_line(&kept.lock().unwrap()).len(), LINE_LENGTH_MAX + 2);
        assert_eq!(last_line(b"\xff\n \n"), ": \u{fffd}");
        assert_eq!(last_line(b"\n"), "");
    }

    #[test]
    fn with_systemd_a_program_has_a_unit_of_its_own() {
        let variables = [("FIRMCAST_VERSION", "2 1".to_owned())];
        let limit = Duration::from_millis(6500);
        let command = in_unit(Path::new("/x"), &variables, limit, "u.service");
        let said = format!("{command:?}").replace('"', "");
        let head = "systemd-run --quiet --collect --wait --pipe --unit u.service";
        assert!(said.starts_with(head), "{said}");
        assert!(said.contains("RuntimeMaxSec=7") && said.ends_with("/x"), "{said}");
        assert!(said.contains("--setenv=FIRMCAST_VERSION=2 1"), "{said}");
    }

    #[test]
    fn the_shell_has_a_status_for_a_program_that_was_killed() {
        let ended = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", KEEP_STATUS, script]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, "#!/bin/sh\nkill -TERM $$\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(ended(path.to_str().unwrap()), Some(128 + 15));
        assert_eq!(ended("/bin/true"), Some(0));
    }
}
