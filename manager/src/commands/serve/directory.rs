//! The bundle directory.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use firmcast::keys::ReleasePublicKey;
use firmcast_manager::rescue::shelf::{BUNDLES_MAX, Refused};
use firmcast_manager::rescue::{BundleId, Shelf, Shelved};

use crate::commands::bundle;

/// All bundles of the directory `path`: every regular file whose name does not begin with a dot.
/// What is none, or is damaged, or signed by no trusted key, is refused with the reason.
///
/// # Errors
/// When the directory itself cannot be read.
pub(super) fn read(path: &Path, trusted: &[ReleasePublicKey]) -> anyhow::Result<Shelf> {
    let cannot = || format!("cannot read the bundle directory {}", path.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if !is_hidden && !path.join(&name).is_dir() {
            names.push(name);
        }
    }
    names.sort();
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (index, name) in names.iter().enumerate() {
        let file = name.to_string_lossy().into_owned();
        let bundle = match index < BUNDLES_MAX {
            true => shelved(path, &file, trusted),
            false => Err(anyhow::anyhow!("there are {BUNDLES_MAX} other files before it")),
        };
        match bundle {
            Ok(bundle) => found.push(bundle),
            Err(error) => refused.push(Refused { file, why: format!("{error:#}") }),
        }
    }
    Ok(Shelf::new(found, refused))
}

fn shelved(path: &Path, file: &str, trusted: &[ReleasePublicKey]) -> anyhow::Result<Shelved> {
    let bytes = bundle::read_bundle(&path.join(file))?;
    let opened = bundle::open(&bytes, trusted)?;
    bundle::tell_if_no_variable_store(file, &opened.manifest);
    Ok(Shelved::new(file.to_owned(), opened.signed, opened.signature_checked)?)
}

/// The payload of a bundle that was read before.
///
/// # Errors
/// When it can be read no more, or another one has taken its place.
pub(super) fn payload(
    path: &Path,
    file: &str,
    id: &BundleId,
    trusted: &[ReleasePublicKey],
) -> anyhow::Result<Vec<u8>> {
    let bytes = bundle::read_bundle(&path.join(file))?;
    let opened = bundle::open(&bytes, trusted)?;
    let now = Shelved::new(file.to_owned(), opened.signed, opened.signature_checked)?;
    ensure!(now.id == *id, "the file was replaced; have the directory read again (SIGHUP)");
    Ok(opened.payload.to_vec())
}
