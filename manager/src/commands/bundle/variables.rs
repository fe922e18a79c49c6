//! What is said of a bundle that may overwrite the settings of every host.

use firmcast::image::Manifest;

use crate::driver::stderr;

/// What it means that no variable store is known, and what to do about it.
pub(crate) const NO_VARIABLE_STORE: &str = "no variable store is known in this UEFI image, so an \
    update overwrites settings, boot order and Secure Boot keys of every host, unless they lie in \
    another chip: name their place with firmcast bundle create --volatile vars=OFFSET:LENGTH, or \
    learn it with firmcastd learn";

/// Warns where the bundle `file` of `manifest` is such a one.
pub(crate) fn tell_if_no_variable_store(file: &str, manifest: &Manifest) {
    if manifest.lacks_variable_store() {
        stderr::tell(format_args!("WARNING: {file}: {NO_VARIABLE_STORE}"));
    }
}
