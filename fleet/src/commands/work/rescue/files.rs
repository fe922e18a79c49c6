//! What the service reads: the hosts of the site, its policy, and links to bundles on the shelf.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use firmcast_fleet::model::Host;
use firmcast_fleet::work::rescue::Plan;
use firmcast_manager::store::inventory::Inventory;
use firmcast_manager::store::owner;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::commands::shelf::Shelf;

/// Name of the file that the worker has locked whose service reads these files.
const LOCK: &str = "worker.lock";

/// The files, held by this worker.
pub(super) struct Files {
    place: PathBuf,
    /// The digest of the plan that was written last, and the bundles.
    written: Option<([u8; 32], BTreeSet<String>)>,
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

    /// Says whether just this was written last: a plan of this digest, with these bundles.
    pub(super) fn hold(&self, plan: [u8; 32], bundles: &BTreeSet<String>) -> bool {
        self.written.as_ref().is_some_and(|(known, linked)| *known == plan && linked == bundles)
    }

    /// Writes what is planned, of this digest, with these bundles, which are on the shelf.
    /// `each_host` hands over the hosts of the site. Says how many are left out.
    pub(super) fn write(
        &mut self,
        mut plan: Plan<'_>,
        digest: [u8; 32],
        bundles: BTreeSet<String>,
        shelf: &Shelf,
        each_host: impl FnOnce(&mut dyn FnMut(&Host) -> io::Result<()>) -> io::Result<()>,
    ) -> anyhow::Result<usize> {
        self.written = None;
        self.link(&bundles, shelf).context("cannot link the bundles for dead hosts")?;
        let mut left_out = 0;
        Inventory::rewrite(&self.place, |pass_on| {
            each_host(&mut |host| match plan.take(host) {
                Some(entry) => pass_on(&entry),
                None => {
                    left_out += 1;
                    Ok(())
                }
            })
        })?;
        let (path, new) = (self.policy(), self.place.join("policy.new"));
        let cannot = || format!("cannot write {}", path.display());
        let mut file = File::create(&new).with_context(cannot)?;
        file.write_all(plan.into_policy().as_bytes()).with_context(cannot)?;
        fs::rename(&new, &path).with_context(cannot)?;
        self.written = Some((digest, bundles));
        Ok(left_out)
    }

    /// Has links to just these bundles.
    fn link(&self, bundles: &BTreeSet<String>, shelf: &Shelf) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        for digest in bundles {
            let bundle = fs::canonicalize(shelf.path(digest))?;
            wanted
                .extend(bundle.file_name().map(|name| (self.bundles().join(name), bundle.clone())));
        }
        for entry in fs::read_dir(self.bundles())? {
            let link = entry?.path();
            let to = fs::read_link(&link).ok();
            if to.is_none() || to.as_ref() != wanted.get(&link) {
                fs::remove_file(&link)?;
            }
        }
        wanted.retain(|link, _| !link.is_symlink());
        wanted.iter().try_for_each(|(link, bundle)| symlink(bundle, link))
    }
}
