//! The hosts that the manager knows: `inventory.json` in the state directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use firmcast::keys::{Fingerprint, HostPublicKey, PublicKey as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{owner, whole_file};

/// The largest inventory that is read.
const INVENTORY_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// The only form of the file so far.
const FORM: u32 = 1;

/// Why the inventory could not be read or kept.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not an inventory.
    #[error("{path} is not an inventory: {reason}; move it away and enrol the hosts again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A known host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name: unique in the inventory.
    pub name: String,
    /// Its public key, one line of text.
    #[serde(with = "key_text")]
    pub key: HostPublicKey,
    /// Where its agent was last seen.
    pub address: SocketAddr,
    /// DMI vendor.
    pub vendor: String,
    /// DMI product.
    pub product: String,
    /// The highest security version that is known to have been confirmed there: what a host that
    /// lost its memory may not be given less than.
    #[serde(default, skip_serializing_if = "is_none")]
    pub security_version_floor: u64,
}

fn is_none(floor: &u64) -> bool {
    *floor == 0
}

mod key_text {
    use firmcast::keys::HostPublicKey;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(key: &HostPublicKey, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<HostPublicKey, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// All known hosts, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    form: u32,
    hosts: Vec<Entry>,
}

/// What the inventory says about a host that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known yet.
    New,
    /// Known by this name and key.
    Known(String),
    /// Its name or address belongs to another key. Someone made a new key there, or is not who they
    /// seem to be.
    Conflict {
        /// Name in the inventory.
        name: String,
        /// Fingerprint of the known key.
        known: Fingerprint,
    },
}

impl Inventory {
    /// Reads the inventory of a state directory; a missing one is empty.
    ///
    /// # Errors
    /// When the file cannot be read, or is no inventory.
    pub fn load(state: &Path) -> Result<Self, InventoryError> {
        let path = path(state);
        let io_error = |source| InventoryError::Io { action: "read", path: path.clone(), source };
        let damaged = |reason: String| InventoryError::Damaged { path: path.clone(), reason };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { form: FORM, hosts: Vec::new() });
            }
            Err(error) => return Err(io_error(error)),
        };
        let size_bytes = file.metadata().map_err(io_error)?.len();
        if size_bytes > INVENTORY_SIZE_MAX {
            return Err(damaged(format!("it has {size_bytes} bytes")));
        }
        // Read piece by piece: the text of a large one would take as much memory as its hosts.
        let inventory: Self = serde_json::from_reader(BufReader::new(file)).map_err(|error| {
            match error.io_error_kind() {
                Some(kind) => io_error(kind.into()),
                None => damaged(error.to_string()),
            }
        })?;
        match inventory.form {
            FORM => Ok(inventory),
            other => Err(damaged(format!("form {other}, expected {FORM}"))),
        }
    }

    /// Changes the inventory of a state directory, durably and as a whole, while no other process
    /// does. `change` is given what is there now, and what it returns is returned.
    ///
    /// # Errors
    /// When it cannot be read or written; then the old one still stands.
    pub fn change<T>(
        state: &Path,
        change: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, InventoryError> {
        let failed = |action| {
            let path = path(state);
            move |source| InventoryError::Io { action, path, source }
        };
        owner::make_directory(state).map_err(failed("create the directory of"))?;
        let lock = state.join("inventory.lock");
        let _alone = whole_file::lock(&lock).map_err(failed("lock"))?;
        let mut inventory = Self::load(state)?;
        let changed = change(&mut inventory);
        whole_file::replace_with(&path(state), |file| {
            let mut file = BufWriter::new(file);
            serde_json::to_writer_pretty(&mut file, &inventory)?;
            file.write_all(b"\n")?;
            file.flush()
        })
        .map_err(failed("write"))?;
        Ok(changed)
    }

    /// Writes the inventory of a state directory anew, durably and as a whole, with the hosts that
    /// `hand_over` passes on, one by one and sorted by name, each with a name and a key of its own:
    /// for fleets that are too large to be held here.
    ///
    /// # Errors
    /// When it cannot be written, or `hand_over` fails; then the old one still stands.
    pub fn rewrite(
        state: &Path,
        hand_over: impl FnOnce(&mut dyn FnMut(&Entry) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(), InventoryError> {
        let failed = |action| {
            let path = path(state);
            move |source| InventoryError::Io { action, path, source }
        };
        owner::make_directory(state).map_err(failed("create the directory of"))?;
        let _alone = whole_file::lock(&state.join("inventory.lock")).map_err(failed("lock"))?;
        whole_file::replace_with(&path(state), |file| {
            let mut file = BufWriter::new(file);
            write!(file, "{{\"form\": {FORM}, \"hosts\": [")?;
            let mut before = "\n";
            hand_over(&mut |host| {
                file.write_all(std::mem::replace(&mut before, ",\n").as_bytes())?;
                Ok(serde_json::to_writer(&mut file, host)?)
            })?;
            file.write_all(b"\n]}\n")?;
            file.flush()
        })
        .map_err(failed("write"))
    }

    /// The hosts, sorted by name.
    pub fn hosts(&self) -> &[Entry] {
        &self.hosts
    }

    /// The host with this name.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The host whose agent was last seen at this address.
    pub fn at(&self, address: SocketAddr) -> Option<&Entry> {
        self.hosts.iter().find(|host| host.address == address)
    }

    /// What is known of a host that was found. `answered` are all keys that were found with it: a
    /// known key that answered too still lives, so another host merely has the same name.
    pub fn standing(&self, found: &Entry, answered: &BTreeSet<[u8; 32]>) -> Standing {
        if let Some(known) = self.hosts.iter().find(|host| host.key == found.key) {
            return Standing::Known(known.name.clone());
        }
        let lives = |host: &Entry| answered.contains(host.key.exchange());
        let clash = self.hosts.iter().find(|host| {
            (host.name == found.name || host.address == found.address) && !lives(host)
        });
        match clash {
            Some(host) => {
                Standing::Conflict { name: host.name.clone(), known: host.key.fingerprint() }
            }
            None => Standing::New,
        }
    }

    /// Takes a found host in, or brings what is known of it up to date; gives the name it has here.
    /// With `replace` a host in conflict takes the place of the known one; without it nothing
    /// happens.
    pub fn enrol(
        &mut self,
        found: &Entry,
        answered: &BTreeSet<[u8; 32]>,
        replace: bool,
    ) -> Option<String> {
        let name = match self.standing(found, answered) {
            Standing::Known(name) => name,
            Standing::New => self.free_name(&found.name),
            Standing::Conflict { name, .. } if replace => name,
            Standing::Conflict { .. } => return None,
        };
        let known = self.hosts.iter().find(|host| host.key == found.key);
        let known_floor = known.map_or(0, |host| host.security_version_floor);
        let security_version_floor = found.security_version_floor.max(known_floor);
        self.hosts.retain(|host| host.name != name);
        self.hosts.push(Entry { name: name.clone(), security_version_floor, ..found.clone() });
        self.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Some(name)
    }

    /// Keeps what was confirmed on a host, by its X25519 key; a floor is never lowered.
    pub fn raise_floor(&mut self, key: &[u8; 32], security_version: u64) {
        for host in self.hosts.iter_mut().filter(|host| host.key.exchange() == key) {
            host.security_version_floor = host.security_version_floor.max(security_version);
        }
    }

    fn free_name(&self, wanted: &str) -> String {
        let wanted = if wanted.is_empty() { "host" } else { wanted };
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| self.named(name).is_none())
            .unwrap_or_default()
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("inventory.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use firmcast::keys::{HostSecretKey, SecretKey as _};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn host(name: &str, key: u8, address: &str) -> Entry {
        let secret = HostSecretKey::generate(&mut ChaCha20Rng::from_seed([key; 32]));
        Entry {
            name: name.into(),
            key: secret.public(),
            address: address.parse().unwrap(),
            vendor: "V".into(),
            product: "P".into(),
            security_version_floor: 0,
        }
    }

    #[test]
    fn a_floor_that_is_known_is_never_lowered() {
        let mut inventory = Inventory { form: FORM, hosts: Vec::new() };
        let (first, none) = (host("a", 1, "10.0.0.1:9847"), BTreeSet::new());
        inventory.enrol(&Entry { security_version_floor: 3, ..first.clone() }, &none, false);
        // A wiped disk, and an older bundle that was confirmed somewhere else.
        inventory.enrol(&first, &none, false);
        inventory.raise_floor(first.key.exchange(), 2);
        assert_eq!(inventory.named("a").unwrap().security_version_floor, 3);
        inventory.raise_floor(first.key.exchange(), 5);
        let text = serde_json::to_string(&inventory).unwrap();
        let again: Inventory = serde_json::from_str(&text).unwrap();
        assert_eq!(again.named("a").unwrap().security_version_floor, 5);
        // Another machine in its place has its own.
        let other = host("a", 2, "10.0.0.1:9847");
        inventory.enrol(&other, &none, true);
        assert_eq!(inventory.named("a").unwrap().security_version_floor, 0);
    }

    #[test]
    fn hosts_are_kept_and_a_changed_key_is_never_taken_over_silently() {
        let state = tempfile::tempdir().unwrap();
        let none = BTreeSet::new();
        let mut inventory = Inventory::load(state.path()).unwrap();
        let first = host("a", 1, "10.0.0.1:9847");
        assert_eq!(inventory.enrol(&first, &none, false).as_deref(), Some("a"));
        let moved = Entry { address: "10.0.0.9:9847".parse().unwrap(), ..first.clone() };
        assert_eq!(inventory.enrol(&moved, &none, false).as_deref(), Some("a"));
        assert_eq!(inventory.at(moved.address), Some(&moved));

        let impostor = host("a", 2, "10.0.0.2:9847");
        let known = first.key.fingerprint();
        let conflict = Standing::Conflict { name: "a".into(), known };
        assert_eq!(inventory.standing(&impostor, &none), conflict);
        assert_eq!(inventory.enrol(&impostor, &none, false), None);
        assert_eq!(inventory.named("a").unwrap().key, first.key);

        let both = BTreeSet::from([*first.key.exchange(), *impostor.key.exchange()]);
        assert_eq!(inventory.enrol(&impostor, &both, false).as_deref(), Some("a-2"));
        let reinstalled = host("a", 3, "10.0.0.9:9847");
        assert_eq!(inventory.enrol(&reinstalled, &none, true).as_deref(), Some("a"));
        assert_eq!(inventory.hosts().len(), 2);

        let kept = inventory.clone();
        Inventory::change(state.path(), |there| *there = kept).unwrap();
        assert_eq!(Inventory::load(state.path()).unwrap(), inventory);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2, "it, its lock, no leftovers");

        let again = |fails: bool| {
            Inventory::rewrite(state.path(), |pass_on| {
                inventory.hosts().iter().rev().take(1).try_for_each(pass_on)?;
                if fails { Err(io::Error::other("away")) } else { Ok(()) }
            })
        };
        again(true).unwrap_err();
        assert_eq!(Inventory::load(state.path()).unwrap(), inventory);
        again(false).unwrap();
        assert_eq!(Inventory::load(state.path()).unwrap().hosts(), &inventory.hosts()[1..]);
        Inventory::rewrite(state.path(), |_| Ok(())).unwrap();
        assert_eq!(Inventory::load(state.path()).unwrap().hosts(), []);
    }

    #[test]
    fn two_that_enrol_at_once_lose_no_host() {
        let state = tempfile::tempdir().unwrap();
        let enrol = |process: u8| {
            let state = state.path().to_owned();
            std::thread::spawn(move || {
                for nth in 0..20 {
                    let number = process * 20 + nth;
                    let found = host(&format!("h{number}"), number, &format!("10.0.0.{number}:1"));
                    Inventory::change(&state, |inventory| {
                        inventory.enrol(&found, &BTreeSet::new(), false)
                    })
                    .unwrap();
                }
            })
        };
        let threads: Vec<_> = (0..3).map(enrol).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(Inventory::load(state.path()).unwrap().hosts().len(), 60);
    }

    #[test]
    fn a_damaged_inventory_is_an_error_that_names_the_file() {
        let state = tempfile::tempdir().unwrap();
        let host = host("a", 1, "[fe80::1]:9847");
        let enrol = |inventory: &mut Inventory| inventory.enrol(&host, &BTreeSet::new(), false);
        Inventory::change(state.path(), enrol).unwrap();
        let text = fs::read_to_string(path(state.path())).unwrap();
        for length in 0..text.trim_end().len() {
            fs::write(path(state.path()), &text[..length]).unwrap();
            let error = Inventory::load(state.path()).unwrap_err().to_string();
            assert!(error.contains("inventory.json"), "{error}");
        }
    }
}
