//! The bundles of this machine, each kept once, by its digest: `bundles/DIGEST.fcb` in the state
//! directory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use firmcast::image::{Bundle, MANIFEST_MAX, Manifest, PAYLOAD_MAX, SignedManifest};
use firmcast_fleet::model::{Release, Stamp};
use sha2::{Digest as _, Sha256};

/// Largest file that can be a bundle, in bytes: both parts, and more than their header has.
const BUNDLE_BYTES_MAX: u64 = MANIFEST_MAX as u64 + PAYLOAD_MAX as u64 + 4096;

/// Where bundles lie in the state directory.
const FOLDER: &str = "bundles";

/// A bundle that was read.
pub(crate) struct Found {
    file: Vec<u8>,
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
        opened.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut file).with_context(cannot)?;
        if file.len() as u64 > BUNDLE_BYTES_MAX {
            bail!("{} is too large for a bundle", path.display());
        }
        let whose = || path.display().to_string();
        let manifest = SignedManifest::parse(Bundle::parse(&file).with_context(whose)?.manifest)
            .and_then(|signed| signed.unverified())
            .with_context(whose)?;
        let digest = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
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

    /// Keeps it in the state directory, durably.
    pub(crate) fn keep(&self, state: &Path) -> anyhow::Result<()> {
        let path = path(state, &self.digest);
        if Self::read(&path).is_ok_and(|kept| kept.digest == self.digest) {
            return Ok(());
        }
        let folder = state.join(FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let unfinished = path.with_extension("unfinished");
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(&self.file)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where a bundle lies.
pub(crate) fn path(state: &Path, digest: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{digest}.fcb"))
}
