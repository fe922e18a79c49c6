//! Bundles in which no variable store is known, and which an operator has let pass nevertheless:
//! `no-variable-store` in the state directory, a digest in each line.

use std::io;
use std::path::{Path, PathBuf};
use std::{fs, io::ErrorKind};

use firmcast::image::Digest;
use thiserror::Error;

use super::{owner, whole_file};

/// Most bundles that are remembered: the oldest one is forgotten first.
const BUNDLES_MAX: usize = 1024;

/// The file cannot be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {path}")]
pub struct KnownBundlesError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The bundles that were let pass.
#[derive(Clone, Debug)]
pub struct KnownBundles {
    path: PathBuf,
}

impl KnownBundles {
    /// Those of this state directory; nothing is read yet.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("no-variable-store") }
    }

    /// Returns whether the bundle with this digest of its signed manifest is one of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn contains(&self, bundle: &Digest) -> Result<bool, KnownBundlesError> {
        Ok(self.lines()?.contains(&hex(bundle)))
    }

    /// Adds a bundle.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn insert(&self, bundle: &Digest) -> Result<(), KnownBundlesError> {
        let state = self.path.parent().unwrap_or(&self.path);
        owner::make_directory(state).map_err(self.failed("create the directory of"))?;
        let mut lines = self.lines()?;
        lines.push(hex(bundle));
        let kept = &lines[lines.len().saturating_sub(BUNDLES_MAX)..];
        let text = kept.join("\n") + "\n";
        whole_file::replace(&self.path, text.as_bytes()).map_err(self.failed("write"))
    }

    fn lines(&self) -> Result<Vec<String>, KnownBundlesError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> KnownBundlesError {
        let path = self.path.clone();
        move |source| KnownBundlesError { action, path, source }
    }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
