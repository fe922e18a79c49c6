//! What the service reads: the hosts of the site, its policy, and links to bundles on the shelf.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use firmcast_fleet::work::rescue::Plan;
use firmcast_manager::store::inventory::Inventory;
use firmcast_manager::store::owner;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::commands::shelf::Shelf;

/// Name of the file that the worker has locked whose service reads these files.
const LOCK: &str = "worker.lock";

/// The files, held by this worker.
pub(super) struct Files {
    place: PathBuf,
    /// SHA-256 over what was written last.
    written: Option<[u8; 32]>,
    _lock: Flock<File>,
}

impl Files {
    /// Takes the files, unless another worker of this machine has them.
    pub(super) fn take(place: &Path) -> anyhow::Result<Option<Self>> {
        let cannot = || format!("cannot use {}", place.display());
        owner::make_directory(place).with_context(cannot)?;
        let lock = File::options().create(true).append(true).open(place.join(LOCK));
        match Flock::lock(lock.with_context(cannot)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                let files = Self { place: place.to_owned(), written: None, _lock: lock };
                owner::make_directory(&files.bundles()).with_context(cannot)?;
                Ok(Some(files))
            }
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error).with_context(cannot),
        }
    }

    /// The folder of the bundles.
    pub(super) fn bundles(&self) -> PathBuf {
        self.place.join("bundles")
    }

    /// The policy.
    pub(super) fn policy(&self) -> PathBuf {
        self.place.join("policy.toml")
    }

    /// Says whether the service can be started: somebody has written the files once.
    pub(super) fn are_there(&self) -> bool {
        self.policy().exists()
    }

    /// Writes what is planned, with those of its releases that are on the shelf. Says whether that
    /// changed anything.
    pub(super) fn write(&mut self, plan: Plan, shelf: &Shelf) -> anyhow::Result<bool> {
        let bundles: BTreeSet<String> =
            plan.releases.into_iter().filter(|release| shelf.has(release)).collect();
        let written = digest(&plan.known, &plan.policy, &bundles)?;
        if self.written == Some(written) {
            return Ok(false);
        }
        self.link(&bundles, shelf).context("cannot link the bundles for dead hosts")?;
        Inventory::change(&self.place, |inventory| inventory.replace(plan.known))?;
        let (path, new) = (self.policy(), self.place.join("policy.new"));
        let cannot = || format!("cannot write {}", path.display());
        let mut file = File::create(&new).with_context(cannot)?;
        file.write_all(plan.policy.as_bytes()).with_context(cannot)?;
        fs::rename(&new, &path).with_context(cannot)?;
        self.written = Some(written);
        Ok(true)
    }

    /// Has links to just these bundles.
    fn link(&self, bundles: &BTreeSet<String>, shelf: &Shelf) -> io::Result<()> {
        let folder = self.bundles();
        let mut wanted = bundles.iter().map(|digest| shelf.path(digest)).collect::<Vec<_>>();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kept = wanted.len();
            wanted.retain(|path| path.file_name() != Some(&entry.file_name()));
            // What was linked from another shelf is linked anew.
            let is_meant = fs::read_link(entry.path())
                .is_ok_and(|to| to.file_name() == Some(&entry.file_name()) && to.is_file());
            if kept == wanted.len() {
                fs::remove_file(entry.path())?;
            } else if !is_meant {
                fs::remove_file(entry.path())?;
                wanted.extend(entry.path().file_name().map(|name| shelf.folder().join(name)));
            }
        }
        for path in wanted {
            let Some(name) = path.file_name() else { continue };
            symlink(fs::canonicalize(&path)?, folder.join(name))?;
        }
        Ok(())
    }
}

/// SHA-256 over all that is written.
fn digest(
    known: &[firmcast_manager::store::inventory::Entry],
    policy: &str,
    bundles: &BTreeSet<String>,
) -> anyhow::Result<[u8; 32]> {
    struct Into(Sha256);
    impl io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut into = Into(Sha256::new());
    serde_json::to_writer(&mut into, &(known, policy, bundles)).context("cannot be written")?;
    Ok(into.0.finalize().into())
}
