//! The manager's state directory, and the manager's key in it.

use std::path::{Path, PathBuf};
use std::{env, io};

use firmcast::keys::{self, KeyFileError, ManagerSecretKey};
use nix::unistd::geteuid;
use thiserror::Error;

/// Name of the manager's key in the state directory.
pub const MANAGER_KEY: &str = "manager.key";

/// The state directory of root.
const ROOT_STATE: &str = "/var/lib/firmcast-manager";

/// The key of root, which firmcast-serve.service uses too.
const ROOT_KEY: &str = "/etc/firmcast/manager.key";

/// Where the manager keeps its key, inventory and campaign records unless told otherwise.
///
/// For root `/var/lib/firmcast-manager`; for others `$XDG_STATE_HOME/firmcast`, by default
/// `~/.local/state/firmcast` (XDG Base Directory Specification). `None` when neither that variable
/// nor `HOME` is an absolute path.
pub fn default_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(ROOT_STATE.into());
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state_home?.join("firmcast"))
}

/// Where the manager's key is unless `--key` names one: in the state directory; for that of root,
/// when no key is in it, `/etc/firmcast/manager.key`.
pub fn manager_key_path(state: &Path) -> PathBuf {
    let own = state.join(MANAGER_KEY);
    match state == Path::new(ROOT_STATE) && !own.exists() {
        true => ROOT_KEY.into(),
        false => own,
    }
}

/// Why there is no manager key to work with.
#[derive(Debug, Error)]
pub enum ManagerKeyError {
    /// The file is not there.
    #[error(
        "no manager key in {path}: make one with `firmcast key new --role manager`, or give --key \
         FILE"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there.
    #[error("the manager key cannot be used")]
    Unusable(#[source] KeyFileError),
}

/// Returns the manager's key: from the file `named`, else from where `firmcast key new` puts it.
///
/// # Errors
/// When the file is missing, or is there but cannot be used, with the cause.
pub fn manager_key(
    named: Option<&Path>,
    state: &Path,
) -> Result<ManagerSecretKey, ManagerKeyError> {
    let default = manager_key_path(state);
    keys::load_secret(named.unwrap_or(&default)).map_err(|error| match error {
        KeyFileError::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
            ManagerKeyError::Missing { path }
        }
        error => ManagerKeyError::Unusable(error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::error::Error as _;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_that_others_can_read_is_not_a_missing_key() {
        let state = tempfile::tempdir().unwrap();
        let missing = manager_key(None, state.path()).unwrap_err().to_string();
        assert!(missing.contains("no manager key") && missing.contains("key new"), "{missing}");

        let file = state.path().join(MANAGER_KEY);
        fs::write(&file, "not a key").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let exposed = manager_key(None, state.path()).unwrap_err();
        assert!(!exposed.to_string().contains("no manager key"), "{exposed}");
        let cause = exposed.source().unwrap().to_string();
        assert!(cause.contains("mode 0644") && cause.contains("chmod 600"), "{cause}");

        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let damaged = manager_key(None, state.path()).unwrap_err();
        assert!(
            matches!(damaged, ManagerKeyError::Unusable(KeyFileError::Key { .. })),
            "{damaged}"
        );
    }
}
