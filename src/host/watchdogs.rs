//! The watchdogs of the machine, as sysfs shows them (Linux
//! `Documentation/ABI/testing/sysfs-class-watchdog`).

use std::fs;
use std::path::Path;

use super::read_line;

/// Most watchdogs that are looked at. The kernel has 32 of them at most (`MAX_DOGS`).
pub(crate) const WATCHDOGS_MAX: usize = 32;

/// Shortest time, in seconds, of a watchdog that may run while the flash is written. Recovery feeds
/// it four times as often; no single eraseblock takes longer to be erased than that interval.
pub(crate) const FED_TIMEOUT_MIN_S: u32 = 20;

/// One watchdog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watchdog {
    /// Its name, `watchdog0`, also below `/dev`.
    pub(crate) name: String,
    /// What its driver calls it.
    pub(crate) identity: String,
    /// Whether somebody has started it. None: the kernel does not say.
    pub(crate) is_active: Option<bool>,
    /// Whether it can be stopped by nobody. None: the kernel does not say.
    pub(crate) is_nowayout: Option<bool>,
    /// Seconds from a feed to the reset.
    pub(crate) timeout_s: Option<u32>,
    /// The longest such time; none where the driver has no limit or does not say.
    pub(crate) max_timeout_s: Option<u32>,
    /// Seconds that are left.
    pub(crate) left_s: Option<u32>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watchdogs {
    /// Those that sysfs shows, by name.
    pub(crate) shown: Vec<Watchdog>,
    /// There is a `/dev/watchdog` of a driver that shows nothing in sysfs.
    pub(crate) has_old: bool,
    /// That driver is the one of the BMC's timer.
    pub(crate) is_old_of_bmc: bool,
}

impl Watchdogs {
    /// Those of the system below `root`.
    pub(crate) fn of(root: &Path) -> Self {
        let class = root.join("sys/class/watchdog");
        let names = fs::read_dir(&class).into_iter().flatten();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.truncate(WATCHDOGS_MAX);
        let shown: Vec<Watchdog> = names.into_iter().map(|name| Watchdog::of(root, name)).collect();
        // The first one that sysfs shows has both names.
        let has_old = root.join("sys/class/misc/watchdog").exists()
            && shown.iter().all(|watchdog| watchdog.name != "watchdog0");
        let is_old_of_bmc = has_old && root.join("sys/module/ipmi_watchdog").exists();
        Self { shown, has_old, is_old_of_bmc }
    }
}

impl Watchdog {
    /// The watchdog of this name in the system below `root`.
    pub(crate) fn of(root: &Path, name: String) -> Self {
        let folder = root.join("sys/class/watchdog").join(&name);
        let read = |file: &str| read_line(&folder.join(file));
        let seconds = |file: &str| read(file)?.parse().ok();
        Self {
            identity: read("identity").unwrap_or_default(),
            is_active: read("state").and_then(|state| match state.as_str() {
                "active" => Some(true),
                "inactive" => Some(false),
                _ => None,
            }),
            is_nowayout: read("nowayout").and_then(|digit| match digit.as_str() {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            }),
            timeout_s: seconds("timeout"),
            max_timeout_s: seconds("max_timeout").filter(|seconds| *seconds > 0),
            left_s: seconds("timeleft"),
            name,
        }
    }
}

impl std::fmt::Display for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, identity, .. } = self;
        match identity.is_empty() {
            true => f.write_str(name),
            false => write!(f, "{name} ({identity})"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn all_are_read_and_what_is_not_understood_is_none() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(Watchdogs::of(root), Watchdogs::default());
        for (file, text) in [
            ("watchdog1/identity", "i6300ESB timer\n"),
            ("watchdog1/state", "active\n"),
            ("watchdog1/nowayout", "1\n"),
            ("watchdog1/timeout", "30\n"),
            ("watchdog1/max_timeout", "2046\n"),
            ("watchdog1/timeleft", "17\n"),
            ("watchdog0/state", "perhaps\n"),
            ("watchdog0/nowayout", "\n"),
            ("watchdog0/timeout", "-1\n"),
            ("watchdog0/max_timeout", "0\n"),
        ] {
            put(root, &format!("sys/class/watchdog/{file}"), text);
        }
        put(root, "sys/class/misc/watchdog/dev", "10:130\n");
        let found = Watchdogs::of(root);
        let odd = Watchdog { name: "watchdog0".into(), ..Watchdog::default() };
        let known = Watchdog {
            name: "watchdog1".into(),
            identity: "i6300ESB timer".into(),
            is_active: Some(true),
            is_nowayout: Some(true),
            timeout_s: Some(30),
            max_timeout_s: Some(2046),
            left_s: Some(17),
        };
        assert_eq!(known.to_string(), "watchdog1 (i6300ESB timer)");
        assert_eq!(found.shown, [odd, known]);
        assert!(!found.has_old, "watchdog0 has that name, too");
        fs::remove_dir_all(root.join("sys/class/watchdog/watchdog0")).unwrap();
        assert!(Watchdogs::of(root).has_old && !Watchdogs::of(root).is_old_of_bmc);
        put(root, "sys/module/ipmi_watchdog/parameters/action", "reset\n");
        assert!(Watchdogs::of(root).is_old_of_bmc);
    }
}
