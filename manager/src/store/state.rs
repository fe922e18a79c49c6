//! The manager's state directory.

use std::env;
use std::path::PathBuf;

use nix::unistd::geteuid;

/// Name of the manager's key in the state directory.
pub const MANAGER_KEY: &str = "manager.key";

/// Where the manager keeps its key, inventory and campaign records unless told otherwise.
///
/// For root `/var/lib/firmcast-manager`; for others `$XDG_STATE_HOME/firmcast`, by default `~/.local/state/firmcast`
/// (XDG Base Directory Specification). `None` when neither that variable nor `HOME` is an absolute path.
pub fn default_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some("/var/lib/firmcast-manager".into());
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state_home?.join("firmcast"))
}
