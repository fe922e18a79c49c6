//! Reading whole files within a limit, and writing new ones without ever showing half of one.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::{fs::File, fs::Permissions};

use anyhow::{Context as _, bail, ensure};
use firmcast::image::BUNDLE_MAX;

/// Returns the bytes of the bundle file `path`.
///
/// # Errors
/// When it cannot be read or is larger than any bundle.
pub(crate) fn read_bundle(path: &Path) -> anyhow::Result<Vec<u8>> {
    read("bundle", path, BUNDLE_MAX)
}

/// Returns the bytes of the regular file `path`, at most `max_bytes`.
pub(super) fn read(what: &str, path: &Path, max_bytes: usize) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {what} {}", path.display());
    // Without O_NONBLOCK a FIFO would hang the open.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = file.with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    ensure!(metadata.is_file(), "{}: not a regular file", cannot());
    let mut bytes = Vec::with_capacity((metadata.len() as usize).min(max_bytes) + 1);
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).with_context(cannot)?;
    ensure!(bytes.len() <= max_bytes, "{}: expected at most {max_bytes} bytes", cannot());
    Ok(bytes)
}

/// Fails when `path` is taken, before any work is done for it.
pub(crate) fn ensure_absent(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => bail!("{}", exists(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Who may read a new file, from its first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Everybody: a bundle made of an image that its vendor gives away.
    Everybody,
    /// The owner alone: what a host held may hold secrets of that host.
    Owner,
}

/// Writes the new file `path`: durable and whole, or not there at all.
pub(crate) fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".firmcast-")
        .permissions(Permissions::from_mode(match readers {
            Readers::Everybody => 0o644,
            Readers::Owner => 0o600,
        }))
        .tempfile_in(dir)
        .with_context(cannot)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(cannot)?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(dir).and_then(|dir| dir.sync_all()).with_context(cannot),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{}", exists(path))
        }
        Err(error) => Err(error.error).with_context(cannot),
    }
}

fn exists(path: &Path) -> String {
    let path = path.display();
    format!("{path} exists already and is not overwritten: choose another name or move it away")
}
