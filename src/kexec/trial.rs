//! A trial: whether the running kernel takes a recovery kernel, found out before anything depends
//! on it.

use std::os::fd::AsFd;

use super::{KexecError, RecoveryFiles, is_loaded, load_files, unload};
use crate::helper;

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The kernel took the files, and has forgotten them again.
    Taken,
    /// Another kernel is loaded and was left alone: nothing was tried.
    Occupied,
}

/// Loads kernel and initramfs and unloads them at once: what signatures, lockdown and IMA make of
/// them is known before anybody relies on them.
///
/// # Errors
/// [`KexecError::Load`] and the errors of [`super::load`].
pub fn try_to_load(files: &RecoveryFiles, cmdline: &str) -> Result<Trial, KexecError> {
    if is_loaded() {
        return Ok(Trial::Occupied);
    }
    let (kernel, initramfs) = (files.kernel.as_fd(), files.initramfs.as_fd());
    match helper::ask(&format!("load {cmdline}"), &[kernel, initramfs]) {
        Some(answer) => answer.map(drop).map_err(KexecError::Load)?,
        None => load_files(kernel, initramfs, cmdline)?,
    }
    unload().map(|()| Trial::Taken)
}
