//! The bundles of this machine, or of a site whose machines share a directory: each is kept once,
//! by its digest, as `DIGEST.fcb`.
//!
//! Who writes holds a lock, so that of several workers one fetches, and the others wait for what it
//! brings. A file has its name only when it is whole, checked and durable.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use firmcast::image::{BUNDLE_MAX, Bundle, Manifest, SignedManifest};
use firmcast_fleet::model::{Release, Stamp};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

/// How the file of a bundle ends.
const BUNDLE: &str = "fcb";

/// How a file ends that is being written. What is left of one that broke off is removed by the
/// next who holds the lock.
const UNFINISHED: &str = "unfinished";

/// Name of the file that who writes has locked.
const LOCK: &str = "lock";

/// Its mode: who may write into the folder may lock it.
const LOCK_MODE: u32 = 0o660;

/// A bundle that was read.
pub(crate) struct Found {
    /// The file as it is.
    pub(crate) file: Vec<u8>,
    /// SHA-256 of the file, in hexadecimal digits.
    pub(crate) digest: String,
    /// What it carries. Whose signature it has, each host decides.
    pub(crate) manifest: Manifest,
}

impl Found {
    /// Reads a bundle file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let mut file = Vec::new();
        let opened = File::open(path).with_context(cannot)?;
        opened.take(BUNDLE_MAX as u64 + 1).read_to_end(&mut file).with_context(cannot)?;
        if file.len() > BUNDLE_MAX {
            bail!("{} is too large for a bundle", path.display());
        }
        let whose = || path.display().to_string();
        let manifest = SignedManifest::parse(Bundle::parse(&file).with_context(whose)?.manifest)
            .and_then(|signed| signed.unverified())
            .with_context(whose)?;
        let digest = hex(Sha256::digest(&file).as_slice());
        Ok(Self { file, digest, manifest })
    }

    /// What the store keeps of it.
    pub(crate) fn release(&self, at: Stamp) -> Release {
        Release {
            digest: self.digest.clone(),
            version: self.manifest.version().to_owned(),
            security_version: self.manifest.security_version(),
            vendor: self.manifest.vendor().to_owned(),
            products: self.manifest.products().to_vec(),
            size_bytes: self.file.len() as u64,
            added_at: at,
        }
    }
}

/// Where bundles are kept.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

/// Who holds the lock of a shelf, and may write to it.
pub(crate) struct Keeper<'a> {
    shelf: &'a Shelf,
    _lock: Flock<File>,
}

impl Shelf {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where a bundle lies.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.{BUNDLE}"))
    }

    pub(crate) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_file()
    }

    /// The digests of all bundles; none where there is no such directory yet.
    pub(crate) fn digests(&self) -> io::Result<BTreeSet<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let mut digests = BTreeSet::new();
        for entry in entries {
            let path = PathBuf::from(entry?.file_name());
            let digest = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|extension| extension == BUNDLE) {
                digests.extend(digest.map(str::to_owned));
            }
        }
        Ok(digests)
    }

    /// Waits until nobody else writes, and removes what was left unfinished.
    pub(crate) fn hold(&self) -> anyhow::Result<Keeper<'_>> {
        match self.lock(FlockArg::LockExclusive)? {
            Some(keeper) => Ok(keeper),
            None => bail!("cannot lock {}", self.folder.display()),
        }
    }

    /// Removes what was left unfinished, unless somebody writes just now.
    pub(crate) fn tidy(&self) -> anyhow::Result<()> {
        self.lock(FlockArg::LockExclusiveNonblock).map(drop)
    }

    /// Nothing when somebody else holds the lock, and that is not waited for.
    fn lock(&self, how: FlockArg) -> anyhow::Result<Option<Keeper<'_>>> {
        let cannot = || format!("cannot use {}", self.folder.display());
        fs::create_dir_all(&self.folder).with_context(cannot)?;
        let path = self.folder.join(LOCK);
        loop {
            let file = File::options().create(true).append(true).open(&path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            // Whoever made it: people and services of the group share it, whatever their umask.
            // Somebody else's has that mode already.
            let _ = file.set_permissions(fs::Permissions::from_mode(LOCK_MODE));
            match Flock::lock(file, how) {
                Ok(lock) => {
                    let keeper = Keeper { shelf: self, _lock: lock };
                    keeper.remove_unfinished().with_context(cannot)?;
                    return Ok(Some(keeper));
                }
                Err((_, Errno::EINTR)) => {}
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }
}

impl Keeper<'_> {
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.shelf.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Keeps a bundle that was read.
    pub(crate) fn keep(&self, found: &Found) -> anyhow::Result<()> {
        let path = self.shelf.path(&found.digest);
        if Found::read(&path).is_ok_and(|kept| kept.digest == found.digest) {
            return Ok(());
        }
        self.write(&found.digest, |write| write(&found.file))
    }

    /// Writes a bundle piece by piece, as `bring` hands the pieces on. It gets its name when it is
    /// whole and has this digest: then it is the file that was checked when it was added.
    ///
    /// # Errors
    /// Those of `bring`, of the disk, or another digest. Nothing is left of the bundle then.
    pub(crate) fn write(
        &self,
        digest: &str,
        bring: impl FnOnce(&mut dyn FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.shelf.path(digest);
        let unfinished = path.with_extension(UNFINISHED);
        let cannot = || format!("cannot write {}", path.display());
        let written = (|| {
            let mut file = File::create(&unfinished).with_context(cannot)?;
            let mut sha256 = Sha256::new();
            bring(&mut |piece| {
                sha256.update(piece);
                file.write_all(piece).with_context(cannot)
            })?;
            let got = hex(sha256.finalize().as_slice());
            if got != digest {
                bail!(
                    "the bundle is damaged where it was read: its SHA-256 is {got}; put it into \
                     the store again with firmcast-fleet release add --again"
                );
            }
            file.sync_all().with_context(cannot)?;
            fs::rename(&unfinished, &path).with_context(cannot)?;
            File::open(&self.shelf.folder).and_then(|folder| folder.sync_all()).with_context(cannot)
        })();
        if written.is_err() {
            // Should that fail, too, the next who holds the lock does it.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Removes a bundle, and says whether it was there.
    pub(crate) fn remove(&self, digest: &str) -> anyhow::Result<bool> {
        let path = self.shelf.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_its_name_only_when_it_is_whole_and_leftovers_go() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let shelf = Shelf::at(folder.path().join("shelf"));
        assert_eq!(shelf.digests().expect("readable"), BTreeSet::new());
        let digest = hex(Sha256::digest(b"abc").as_slice());
        let pieces = |pieces: &'static [&'static [u8]]| {
            move |write: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>| {
                pieces.iter().try_for_each(|piece| write(piece))
            }
        };
        let names = || {
            let entries = fs::read_dir(folder.path().join("shelf")).expect("readable");
            let names = entries.map(|entry| entry.expect("an entry").file_name());
            names.filter(|name| name != LOCK).count()
        };
        let keeper = shelf.hold().expect("the lock");
        let other = keeper.write(&digest, pieces(&[b"a", b"x"])).expect_err("other bytes");
        assert!(other.to_string().contains("is damaged"), "{other}");
        let away = keeper.write(&digest, |write| {
            write(b"ab")?;
            bail!("the store is away")
        });
        assert!(away.is_err() && names() == 0 && !shelf.has(&digest));
        // As a worker leaves it that is killed.
        fs::write(shelf.path(&digest).with_extension(UNFINISHED), b"ab").expect("written");
        shelf.tidy().expect("somebody writes");
        assert_eq!(names(), 1, "it may be the one who holds the lock");
        drop(keeper);
        shelf.tidy().expect("nobody writes");
        assert_eq!(names(), 0);
        let keeper = shelf.hold().expect("the lock");
        let mode =
            fs::metadata(folder.path().join("shelf").join(LOCK)).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, LOCK_MODE, "others of the group lock it, too");
        keeper.write(&digest, pieces(&[b"ab", b"c"])).expect("whole");
        assert_eq!(shelf.digests().expect("readable"), [digest.clone()].into());
        assert!(keeper.remove(&digest).expect("removed") && !shelf.has(&digest));
    }
}
