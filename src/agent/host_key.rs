//! This host's own key: made at the agent's first start.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use log::{info, warn};
use rand_core::OsRng;

use crate::durable;
use crate::keys::{
    HostSecretKey, KeyFileError, PublicKey as _, SecretKey as _, is_unfinished, load_secret,
    mend_public, replace_secret,
};
use crate::reason::with_causes;

/// Returns the secret key in `path`. If there is no such file, or one that was never written to its
/// end, makes a new key there. The public key is kept beside it.
///
/// # Errors
/// When there is a file but it cannot be used, or a new one cannot be written.
pub(crate) fn load_or_make(path: &Path) -> Result<HostSecretKey, KeyFileError> {
    durable::remove_leftover(path);
    let key = match path.symlink_metadata() {
        Ok(_) => load(path)?,
        Err(_) => make(path)?,
    };
    // Nobody but people needs that file.
    if let Err(error) = mend_public(path, &key.public()) {
        warn!("{}", with_causes(&error));
    }
    Ok(key)
}

fn load(path: &Path) -> Result<HostSecretKey, KeyFileError> {
    let loaded = load_secret(path);
    if loaded.is_err() && is_unfinished(path, &HostSecretKey::generate(&mut OsRng))? {
        warn!("{} was never written to its end", path.display());
        return make(path);
    }
    loaded
}

fn make(path: &Path) -> Result<HostSecretKey, KeyFileError> {
    let key = HostSecretKey::generate(&mut OsRng);
    if let Some(folder) = path.parent() {
        // Should this fail, creating the file fails too and says why.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    replace_secret(path, &key)?;
    info!("made the host key {} in {}", key.public().fingerprint(), path.display());
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::{HostPublicKey, load_public, public_path};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_host_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/host.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().public(), made.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make(&path), Err(KeyFileError::Exposed { .. })));
    }

    /// Names and contents of what a cut of the power has left.
    type Left<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn wherever_the_power_is_cut_the_next_start_has_a_whole_key() {
        let key = HostSecretKey::generate(&mut OsRng);
        let (text, public) = (key.to_text(), key.public().to_string() + "\n");
        let zeros = "\0".repeat(text.len());
        let made: &[Left<'_>] = &[
            // As this version goes about it.
            &[("host.key.new", "")],
            &[("host.key.new", &text[..60])],
            &[("host.key.new", &text)],
            // As older versions went about it.
            &[("host.pub", "")],
            &[("host.pub", &public)],
            &[("host.pub", &public), ("host.key", "")],
            &[("host.pub", &public), ("host.key", &text[..1])],
            &[("host.pub", &public), ("host.key", &text[..60])],
            &[("host.pub", &public), ("host.key", &text[..text.len() - 2])],
            &[("host.pub", &public), ("host.key", &zeros)],
        ];
        let kept: &[Left<'_>] = &[
            &[("host.key", &text)],
            &[("host.key", &text), ("host.key.new", &text)],
            &[("host.key", &text), ("host.pub.new", "")],
            &[("host.key", &text), ("host.pub.new", &public)],
            &[("host.key", &text), ("host.pub", &public[..9])],
            &[("host.key", &text), ("host.pub", &public)],
        ];
        for (left, is_kept) in
            made.iter().map(|left| (left, false)).chain(kept.iter().map(|left| (left, true)))
        {
            let folder = tempfile::tempdir().unwrap();
            for (name, contents) in *left {
                fs::write(folder.path().join(name), contents).unwrap();
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(folder.path().join(name), mode).unwrap();
            }
            let path = folder.path().join("host.key");
            let started = load_or_make(&path).unwrap_or_else(|error| panic!("{left:?}: {error}"));
            assert_eq!(started.public() == key.public(), is_kept, "{left:?}");
            assert_eq!(load_or_make(&path).unwrap().public(), started.public(), "{left:?}");
            let public: HostPublicKey = load_public(public_path(&path).to_str().unwrap()).unwrap();
            assert_eq!(public, started.public(), "{left:?}");
            let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            assert_eq!(names, ["host.key", "host.pub"], "{left:?}");
        }
    }

    #[test]
    fn a_key_that_was_whole_once_is_never_replaced() {
        let key = HostSecretKey::generate(&mut OsRng).to_text();
        let damaged = key.replacen('=', "A", 1);
        let public = HostSecretKey::generate(&mut OsRng).public().to_string();
        for contents in [damaged.as_str(), &public, "something else\n", " "] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("host.key");
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            load_or_make(&path).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
    }
}
