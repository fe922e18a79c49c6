//! This host's own key: made at the agent's first start, and anew on another machine.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use log::{info, warn};
use rand_core::OsRng;

use super::config::Config;
use super::made_for::{MadeFor, Traits};
use super::state::State;
use crate::dmi::Dmi;
use crate::durable;
use crate::host::boot_id;
use crate::image::KnownGood;
use crate::keys::{
    HostSecretKey, KeyFileError, PublicKey as _, SecretKey as _, is_unfinished, load_secret,
    mend_public, replace_secret,
};
use crate::mailbox;
use crate::reason::with_causes;

/// Most files of former keys.
const FORMER_MAX: u32 = 16;

/// Returns the secret key of the settings. If there is no such file, one that was never written to
/// its end, or one that was made for another machine, makes a new key there. The public key is kept
/// beside it, and so is for which machine it was made.
///
/// # Errors
/// When there is a file but it cannot be used, or a new one cannot be written.
pub(crate) fn of_this_machine(config: &Config) -> Result<HostSecretKey, KeyFileError> {
    let root = Path::new("/");
    let was_flashed = was_flashed(&State::new(config.state_dir.clone()), root);
    load_or_make(&config.host_key, &Traits::read(root), was_flashed)
}

/// Returns what there is to say of the key in `path`, behind its fingerprint; and whether it was
/// made for another machine.
pub(super) fn note(path: &Path, key: &HostSecretKey, root: &Path) -> (String, bool) {
    let Some(made_for) = MadeFor::load(path, key.public().fingerprint()) else {
        return (String::new(), false);
    };
    let differences = made_for.machine.differences(&Traits::read(root));
    match (differences.as_str(), made_for.made_anew.as_str()) {
        ("", "") => (String::new(), false),
        ("", why) => (format!("; {why}"), false),
        _ => {
            let when = "the agent makes a new one when it starts next";
            (format!("; made for a machine with another {differences}: {when}"), true)
        }
    }
}

/// Whether this machine's firmware may have been written since the agent ran: an update or a rescue
/// whose end has not been looked at, or firmware that calls itself otherwise than the recorded one.
fn was_flashed(state: &State, root: &Path) -> bool {
    let is_pending = state
        .last_campaign()
        .ok()
        .flatten()
        .is_some_and(|campaign| campaign.end.is_none() && campaign.boot_id != boot_id(root));
    let word = mailbox::read(state.folder()).ok().flatten();
    let is_rescued =
        word.is_some_and(|word| serde_json::from_slice::<KnownGood>(word.text.as_bytes()).is_ok());
    let running = Dmi::read(root).bios_version;
    let is_other = |good: KnownGood| good.is_outdated(&running);
    let is_renamed = state.known_good().ok().flatten().is_some_and(is_other);
    is_pending || is_rescued || is_renamed
}

fn load_or_make(
    path: &Path,
    here: &Traits,
    was_flashed: bool,
) -> Result<HostSecretKey, KeyFileError> {
    durable::remove_leftover(path);
    let key = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        // What cannot be looked at is not gone.
        _ => load(path)?,
    };
    let key = for_machine(path, key, here, was_flashed)?;
    // Nobody but people needs that file.
    if let Err(error) = mend_public(path, &key.public()) {
        warn!("{}", with_causes(&error));
    }
    Ok(key)
}

/// Returns `key` if it was made for the machine `here`, or if nothing tells; else a new one. New
/// firmware may call the same machine otherwise.
fn for_machine(
    path: &Path,
    key: HostSecretKey,
    here: &Traits,
    was_flashed: bool,
) -> Result<HostSecretKey, KeyFileError> {
    let fingerprint = key.public().fingerprint();
    let made_for = MadeFor::load(path, fingerprint);
    let before = made_for.as_ref().map(|made_for| made_for.machine.clone()).unwrap_or_default();
    let mut made_anew = made_for.map(|made_for| made_for.made_anew).unwrap_or_default();
    let differences = before.differences(here);
    let key = match differences.as_str() {
        "" => key,
        _ if was_flashed && before.may_be(here) => {
            warn!("the new firmware tells another {differences}; host key {fingerprint} is kept");
            key
        }
        _ => {
            made_anew = format!("made in place of {fingerprint}, because of another {differences}");
            replace(path, &key, &made_anew)?
        }
    };
    let is_kept = key.public().fingerprint() == fingerprint;
    let machine = if is_kept { here.clone().or(&before) } else { here.clone() };
    let name = key.public().fingerprint().to_string();
    MadeFor { key: name, machine, made_anew }.save(path);
    Ok(key)
}

fn replace(path: &Path, key: &HostSecretKey, why: &str) -> Result<HostSecretKey, KeyFileError> {
    let former = free_former_path(path);
    replace_secret(&former, key)?;
    let key = make(path)?;
    warn!(
        "host key {} was {why}; the former one is kept in {}. Enroll this host anew: \
         firmcast discover --enroll --replace",
        key.public().fingerprint(),
        former.display()
    );
    Ok(key)
}

/// Returns where a key lies that was made for another machine: `host.key.former`.
fn former_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".former");
    name.into()
}

/// Returns the first of `host.key.former`, `host.key.former.2` and so on that is not taken, so that
/// no key takes another one's place; the last of [`FORMER_MAX`] is taken again and again.
fn free_former_path(path: &Path) -> PathBuf {
    let first = former_path(path);
    let later = (2..=FORMER_MAX).map(|number| {
        let mut name = first.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let mut names = std::iter::once(first.clone()).chain(later);
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    names.find(is_free).unwrap_or_else(|| {
        let mut last = first.into_os_string();
        last.push(format!(".{FORMER_MAX}"));
        last.into()
    })
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
        let made = load_or_make(&path, &Traits::default(), false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path, &Traits::default(), false).unwrap().public(), made.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_make(&path, &Traits::default(), false),
            Err(KeyFileError::Exposed { .. })
        ));
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
            &[("host.key", &text), ("host.pub", &public), ("host.machine", "")],
            &[("host.key", &text), ("host.pub", &public), ("host.machine.new", "{")],
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
            let started = load_or_make(&path, &Traits::default(), false)
                .unwrap_or_else(|error| panic!("{left:?}: {error}"));
            assert_eq!(started.public() == key.public(), is_kept, "{left:?}");
            assert_eq!(
                load_or_make(&path, &Traits::default(), false).unwrap().public(),
                started.public(),
                "{left:?}"
            );
            let public: HostPublicKey = load_public(public_path(&path).to_str().unwrap()).unwrap();
            assert_eq!(public, started.public(), "{left:?}");
            let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            assert_eq!(names, ["host.key", "host.machine", "host.pub"], "{left:?}");
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
            load_or_make(&path, &Traits::default(), false).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
    }

    const HERE: [&str; 3] = ["id", "uuid", "serial"];

    /// A host's folder; what an agent that starts there finds.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("host.key")
        }

        fn start(&self, machine: [&str; 3]) -> HostPublicKey {
            load_or_make(&self.path(), &Traits::of(machine), false).unwrap().public()
        }

        fn start_after_flashing(&self, machine: [&str; 3]) -> HostPublicKey {
            load_or_make(&self.path(), &Traits::of(machine), true).unwrap().public()
        }
    }

    #[test]
    fn a_cloned_disk_gets_a_key_of_its_own_and_keeps_the_former() {
        for other in [
            ["other", "uuid", "serial"],
            ["id", "other", "serial"],
            ["id", "uuid", "other"],
            ["other", "", ""],
            ["", "other", ""],
        ] {
            let disk = Disk::new();
            let first = disk.start(HERE);
            assert_eq!(disk.start(HERE), first);
            let second = disk.start(other);
            assert_ne!(second, first, "{other:?}");
            assert_eq!(disk.start(other), second, "{other:?}");
            let public = public_path(&disk.path());
            assert_eq!(load_public::<HostPublicKey>(public.to_str().unwrap()).unwrap(), second);
            let former: HostSecretKey = load_secret(&former_path(&disk.path())).unwrap();
            assert_eq!(former.public(), first);
            let mode = fs::metadata(former_path(&disk.path())).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let made_for = MadeFor::load(&disk.path(), second.fingerprint()).unwrap();
            assert!(made_for.made_anew.contains(&first.fingerprint().to_string()));
            assert_eq!(made_for.machine, Traits::of(other));

            // Whoever puts the former one back means it.
            fs::rename(former_path(&disk.path()), disk.path()).unwrap();
            assert_eq!((disk.start(other), disk.start(other)), (first, first));
        }
    }

    #[test]
    fn a_machine_that_tells_less_or_more_than_before_keeps_its_key() {
        let disk = Disk::new();
        let first = disk.start(["", "", ""]);
        for machine in [["", "", ""], ["id", "", ""], ["", "", "serial"], HERE, ["", "uuid", ""]] {
            assert_eq!(disk.start(machine), first, "{machine:?}");
        }
        // What was told once still counts.
        assert_ne!(disk.start(["", "", "other"]), first);
    }

    #[test]
    fn a_key_without_a_word_or_with_a_damaged_one_is_kept() {
        let disk = Disk::new();
        let key = HostSecretKey::generate(&mut OsRng);
        crate::keys::create_pair(&disk.path(), &key, Some("rack 7")).unwrap();
        assert_eq!(disk.start(HERE), key.public());
        let public = fs::read_to_string(public_path(&disk.path())).unwrap();
        assert!(public.ends_with("rack 7\n"), "{public}");
        fs::write(super::super::made_for::path(&disk.path()), "{").unwrap();
        assert_eq!(disk.start(["id", "other", ""]), key.public());
        assert_ne!(disk.start(HERE), key.public());
    }

    #[test]
    fn new_firmware_may_call_the_machine_otherwise_but_not_its_operating_system() {
        let disk = Disk::new();
        let first = disk.start(HERE);
        let renamed = ["id", "other", "another"];
        assert_eq!(disk.start_after_flashing(renamed), first);
        assert_eq!(disk.start(renamed), first);
        assert_ne!(disk.start_after_flashing(["other", "other", "another"]), first);
        let disk = Disk::new();
        let first = disk.start(["", "uuid", ""]);
        assert_eq!(disk.start_after_flashing(["", "other", ""]), first);
    }
}
