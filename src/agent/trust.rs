//! The keys of this host: its own, and those that it trusts.

use std::path::Path;

use log::info;
use rand_core::OsRng;

use super::config::Config;
use crate::keys::{
    HostSecretKey, KeyFileError, ManagerPublicKey, PublicKey, ReleasePublicKey, SecretKey as _,
    create_pair, load_public, load_secret,
};
use crate::reason::with_causes;

/// The public keys that the configuration names.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Managers that may give instructions.
    pub managers: Vec<ManagerPublicKey>,
    /// Release keys whose bundles may be flashed.
    pub releases: Vec<ReleasePublicKey>,
    /// Managers that the configuration names in vain: which, and why.
    pub manager_problems: Vec<String>,
    /// Releases that the configuration names in vain.
    pub release_problems: Vec<String>,
}

impl Trust {
    /// Loads every key that can be loaded. One that cannot is trusted less, never more, so the
    /// agent goes on without it.
    pub fn load(config: &Config) -> Self {
        let (managers, manager_problems) = load_list(&config.trusted_managers);
        let (releases, release_problems) = load_list(&config.trusted_releases);
        Self { managers, releases, manager_problems, release_problems }
    }
}

fn load_list<K: PublicKey>(names: &[String]) -> (Vec<K>, Vec<String>) {
    let mut keys: Vec<K> = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        match load_public::<K>(name) {
            Ok(key) if keys.contains(&key) => {}
            Ok(key) => keys.push(key),
            Err(error) => problems.push(with_causes(&error)),
        }
    }
    (keys, problems)
}

/// The secret key in `path`. If there is no such file, a new key is made and kept there, with its
/// public key beside it.
///
/// # Errors
/// When there is a file but it cannot be used, or a new one cannot be written.
pub fn load_or_make_host_key(path: &Path) -> Result<HostSecretKey, KeyFileError> {
    if path.exists() {
        return load_secret(path);
    }
    let key = HostSecretKey::generate(&mut OsRng);
    if let Some(folder) = path.parent() {
        // Should this fail, creating the file fails too and says why.
        let _ = std::fs::create_dir_all(folder);
    }
    create_pair(path, &key, None)?;
    info!("made the host key {} in {}", key.public().fingerprint(), path.display());
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::{ManagerSecretKey, ReleaseSecretKey};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_and_keys_themselves_are_trusted_and_the_rest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let manager = ManagerSecretKey::generate(&mut OsRng).public();
        let release = ReleaseSecretKey::generate(&mut OsRng).public();
        let file = folder.path().join("manager.pub");
        fs::write(&file, format!("{manager} the one upstairs\n")).unwrap();
        let config = Config {
            trusted_managers: vec![file.display().to_string(), manager.to_string()],
            trusted_releases: vec![release.to_string(), "/none.pub".into(), manager.to_string()],
            ..Config::default()
        };
        let trust = Trust::load(&config);
        assert_eq!((trust.managers, trust.releases), (vec![manager], vec![release]));
        assert!(trust.manager_problems.is_empty());
        assert!(trust.release_problems[0].contains("/none.pub"), "{:?}", trust.release_problems);
        assert_eq!(trust.release_problems.len(), 2);
    }

    #[test]
    fn the_host_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/host.key");
        let made = load_or_make_host_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make_host_key(&path).unwrap().public(), made.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make_host_key(&path), Err(KeyFileError::Exposed { .. })));
    }
}
