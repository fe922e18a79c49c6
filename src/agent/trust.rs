//! The keys that this host trusts.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::{Config, TRUSTED_MAX};
use crate::keys::{
    KeyError, KeyFileError, ManagerPublicKey, PublicKey, ReleasePublicKey, Role, load_public,
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
        let mut trust = Self { managers, releases, manager_problems, release_problems };
        if !config.trusted_dir.as_os_str().is_empty() {
            trust.add_folder(&config.trusted_dir);
        }
        trust
    }

    /// Adds the keys of a folder, each to those of its role, in the order of their names.
    fn add_folder(&mut self, folder: &Path) {
        let files = match public_key_files(folder) {
            Ok(files) => files,
            Err(problem) => return self.manager_problems.push(problem),
        };
        for file in files {
            self.add_file(&file);
        }
    }

    fn add_file(&mut self, file: &Path) {
        let name = file.to_string_lossy();
        match load_public::<ManagerPublicKey>(&name) {
            Ok(key) => add(&mut self.managers, key, &mut self.manager_problems, file),
            Err(KeyFileError::Key {
                source: KeyError::WrongRole { got: Role::Release, .. },
                ..
            }) => match load_public::<ReleasePublicKey>(&name) {
                Ok(key) => add(&mut self.releases, key, &mut self.release_problems, file),
                Err(error) => self.release_problems.push(with_causes(&error)),
            },
            Err(error) => self.manager_problems.push(with_causes(&error)),
        }
    }
}

/// The files `*.pub` of a folder, by name; none where there is no such folder.
fn public_key_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", folder.display())),
        Ok(entries) => entries,
    };
    let is_public = |path: &PathBuf| path.extension().is_some_and(|end| end == "pub");
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_public).collect();
    files.sort();
    Ok(files)
}

fn add<K: PublicKey>(keys: &mut Vec<K>, key: K, problems: &mut Vec<String>, file: &Path) {
    if keys.contains(&key) {
        return;
    }
    match keys.len() < TRUSTED_MAX {
        true => keys.push(key),
        false => problems
            .push(format!("{}: left out, {TRUSTED_MAX} keys are trusted already", file.display())),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::{HostSecretKey, ManagerSecretKey, ReleaseSecretKey, SecretKey as _};
    use rand_core::OsRng;
    use std::fs;

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
            trusted_dir: PathBuf::new(),
            ..Config::default()
        };
        let trust = Trust::load(&config);
        assert_eq!((trust.managers, trust.releases), (vec![manager], vec![release]));
        assert!(trust.manager_problems.is_empty());
        assert!(trust.release_problems[0].contains("/none.pub"), "{:?}", trust.release_problems);
        assert_eq!(trust.release_problems.len(), 2);
    }

    #[test]
    fn keys_in_the_folder_are_trusted_for_the_role_that_they_state() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let manager = ManagerSecretKey::generate(&mut OsRng).public();
        let release = ReleaseSecretKey::generate(&mut OsRng).public();
        put("b.pub", format!("{manager}\n"));
        put("again.pub", format!("{manager} the same\n"));
        put("release.pub", format!("{release}\n"));
        put("host.pub", format!("{}\n", HostSecretKey::generate(&mut OsRng).public()));
        put("broken.pub", "no key".into());
        put("README", "copy public keys here".into());
        let with =
            |dir: &Path| Trust::load(&Config { trusted_dir: dir.into(), ..Config::default() });
        let trust = with(folder.path());
        assert_eq!((trust.managers, trust.releases), (vec![manager], vec![release]));
        assert!(trust.release_problems.is_empty(), "{:?}", trust.release_problems);
        let problems = trust.manager_problems.join("\n");
        assert_eq!(trust.manager_problems.len(), 2, "{problems}");
        assert!(problems.contains("broken.pub") && problems.contains("host.pub"), "{problems}");

        for number in 0..=TRUSTED_MAX {
            put(
                &format!("x{number:02}.pub"),
                ManagerSecretKey::generate(&mut OsRng).public().to_string(),
            );
        }
        let full = with(folder.path());
        assert_eq!(full.managers.len(), TRUSTED_MAX);
        assert!(full.manager_problems.iter().any(|problem| problem.contains("left out")));
        let absent = with(Path::new("/nonexistent/trusted.d"));
        assert!(absent.managers.is_empty() && absent.manager_problems.is_empty());
    }
}
