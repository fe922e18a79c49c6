//! What logind keeps in /run: who forbids a shutdown, who is logged in, when a shutdown is due.
//!
//! The files are those that `systemd-inhibit --list`, `loginctl` and `shutdown` show
//! (systemd `src/login`). Without systemd they are not there, and nothing is known.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{FILES_MAX, Found, read, value};

/// Says who blocks a shutdown and why by this file of `/run/systemd/inhibit`; none where it does
/// something else.
///
/// # Errors
/// A line that must be there is not.
pub fn inhibitor(text: &str) -> Result<Option<String>, &'static str> {
    let what = value(text, "WHAT").ok_or("no WHAT")?;
    let mode = value(text, "MODE").ok_or("no MODE")?;
    if !what.split(':').any(|what| what == "shutdown") || mode.starts_with("delay") {
        return Ok(None);
    }
    let who = value(text, "WHO").unwrap_or("a program");
    let pid = value(text, "PID").unwrap_or("?");
    let why = value(text, "WHY").unwrap_or("no reason given");
    Ok(Some(format!("{who} (process {pid}): {why}")))
}

/// Says who is logged in from where by this file of `/run/systemd/sessions`; none where nobody is.
///
/// # Errors
/// A line that must be there is not.
pub fn session(text: &str) -> Result<Option<String>, &'static str> {
    let class = value(text, "CLASS").ok_or("no CLASS")?;
    let state = value(text, "STATE").ok_or("no STATE")?;
    if !class.starts_with("user") || state == "closing" {
        return Ok(None);
    }
    let user = value(text, "USER").or_else(|| value(text, "UID")).ok_or("no USER")?;
    let from = [("REMOTE_HOST", "from"), ("TTY", "on"), ("SEAT", "at")]
        .into_iter()
        .find_map(|(name, word)| Some(format!(" {word} {}", value(text, name)?)));
    Ok(Some(format!("{user}{}", from.unwrap_or_default())))
}

/// Says what happens when by this file, `/run/systemd/shutdown/scheduled`.
///
/// # Errors
/// A line that must be there is not, or no number.
pub fn scheduled(text: &str) -> Result<String, &'static str> {
    let usec: u64 = value(text, "USEC").and_then(|usec| usec.parse().ok()).ok_or("no USEC")?;
    let mode = value(text, "MODE").ok_or("no MODE")?;
    Ok(format!("{mode} at {}", time(usec / 1_000_000)))
}

/// Seconds since 1970 as `2026-01-31 23:59 UTC`.
fn time(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    // Years begin in March here: the leap day is the last of a year. An era is 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Who forbids a shutdown.
pub(super) fn inhibitors(root: &Path) -> Found {
    folder(root, "run/systemd/inhibit", "nobody blocks a shutdown", inhibitor)
}

/// Who is logged in.
pub(super) fn sessions(root: &Path) -> Found {
    folder(root, "run/systemd/sessions", "nobody is logged in", session)
}

/// What `understand` makes of all files of a folder of logind's.
fn folder(
    root: &Path,
    folder: &str,
    none: &str,
    understand: fn(&str) -> Result<Option<String>, &'static str>,
) -> Found {
    let files = match names(&root.join(folder)) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Found::unknown(&format!("logind does not run: there is no /{folder}"));
        }
        Err(error) => return Found::unknown(&format!("/{folder}: {error}")),
    };
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match read(&root.join(folder).join(&file)) {
            // It has gone meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => problems.push(format!("/{folder}/{file}: {error}")),
            Ok(text) => match understand(&text) {
                Ok(said) => found.extend(said),
                Err(problem) => problems.push(format!("/{folder}/{file}: {problem}")),
            },
        }
    }
    Found::of(&found, &problems, none)
}

/// Names of the files in order, without the FIFOs that belong to them and what logind is just
/// writing.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".ref") && !name.starts_with('.') {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
    }
    names.sort();
    Ok(names)
}

/// When the machine is shut down anyway.
pub(super) fn scheduled_shutdown(root: &Path) -> Found {
    const FILE: &str = "run/systemd/shutdown/scheduled";
    match read(&root.join(FILE)) {
        Ok(text) => match scheduled(&text) {
            Ok(said) => Found::of(&[said], &[], ""),
            Err(problem) => Found::unknown(&format!("/{FILE}: {problem}")),
        },
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Found::unknown(&format!("/{FILE}: {error}"))
        }
        Err(_) if root.join("run/systemd/system").is_dir() => Found::clear("none"),
        Err(_) => Found::unknown("systemd does not run"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::State;
    use super::super::tests::put;
    use super::*;

    const BACKUP: &str = "# Private.\nWHAT=sleep:shutdown\nMODE=block\n\
        UID=0\nPID=812\nWHO=backup\nWHY=writing \\x22tape 7\\x22\nFIFO=/run/x/1.ref\n";
    const SESSION: &str = "# Private.\nUID=1000\nUSER=ada\nACTIVE=1\n\
        STATE=active\nREMOTE=1\nCLASS=user\nREMOTE_HOST=192.0.2.7\nTTY=pts/0\n";

    #[test]
    fn only_blocks_of_a_shutdown_are_in_the_way() {
        let said = "backup (process 812): writing \\x22tape 7\\x22".to_owned();
        assert_eq!(inhibitor(BACKUP), Ok(Some(said)));
        let delay = BACKUP.replace("MODE=block", "MODE=delay");
        let sleep = BACKUP.replace(":shutdown", ":handle-power-key");
        assert_eq!((inhibitor(&delay), inhibitor(&sleep)), (Ok(None), Ok(None)));
        let newer = BACKUP.replace("MODE=block", "MODE=block-weak");
        assert!(inhibitor(&newer).unwrap().is_some());
        assert!(inhibitor("").is_err() && inhibitor("WHAT=shutdown\nmode=block\n").is_err());
    }

    #[test]
    fn files_of_logind_are_read_and_what_is_odd_is_named() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "run/systemd/inhibit/1.ref", "");
        assert_eq!(inhibitors(root.path()).state, State::Clear);
        put(root.path(), "run/systemd/inhibit/2", "\0\u{1b}[31m\n");
        let odd = inhibitors(root.path());
        let said = (odd.state, odd.detail.as_str());
        assert_eq!(said, (State::Unknown, "/run/systemd/inhibit/2: no WHAT"));
        put(root.path(), "run/systemd/inhibit/1", BACKUP);
        let both = inhibitors(root.path());
        assert_eq!(both.state, State::Busy);
        assert!(both.detail.starts_with("backup (process 812)"), "{}", both.detail);
        assert!(both.detail.ends_with("not understood: /run/systemd/inhibit/2: no WHAT"));
    }

    #[test]
    fn who_is_logged_in_is_told_with_the_place() {
        assert_eq!(session(SESSION), Ok(Some("ada from 192.0.2.7".into())));
        let local = SESSION.replace("REMOTE_HOST=192.0.2.7\n", "");
        assert_eq!(session(&local), Ok(Some("ada on pts/0".into())));
        for other in [
            SESSION.replace("STATE=active", "STATE=closing"),
            SESSION.replace("CLASS=user", "CLASS=greeter"),
            SESSION.replace("CLASS=user", "CLASS=manager"),
        ] {
            assert_eq!(session(&other), Ok(None));
        }
        assert!(session("USER=ada\n").is_err());
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "run/systemd/sessions/3", SESSION);
        assert_eq!(sessions(root.path()).state, State::Busy);
    }

    #[test]
    fn a_scheduled_shutdown_is_told_with_its_time() {
        let at = |usec: &str| scheduled(&format!("USEC={usec}\nWARN_WALL=1\nMODE=reboot\n"));
        assert_eq!(at("1772323140000000"), Ok("reboot at 2026-02-28 23:59 UTC".into()));
        assert_eq!(at("1709164800000000"), Ok("reboot at 2024-02-29 00:00 UTC".into()));
        assert!(at("18446744073709551615").is_ok());
        assert!(at("soon").is_err() && scheduled("USEC=1\n").is_err());
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert_eq!(scheduled_shutdown(root.path()).state, State::Clear);
        put(root.path(), "run/systemd/shutdown/scheduled", "USEC=0\nMODE=poweroff\n");
        assert_eq!(scheduled_shutdown(root.path()).detail, "poweroff at 1970-01-01 00:00 UTC");
        put(root.path(), "run/systemd/shutdown/scheduled", "USEC=-1\nMODE=poweroff\n");
        assert_eq!(scheduled_shutdown(root.path()).state, State::Unknown);
    }
}
