//! What text the stores keep. PostgreSQL refuses NUL; so do the others, in the same words.

use super::error::StoreError;
use crate::model::{Host, LABEL_BYTES_MAX, LABELS_MAX, Release, Secret, Webhook, Worker};

/// Maximum number of bytes of a name, a key, a version, a signature.
pub const NAME_BYTES_MAX: usize = 1024;

/// Maximum number of bytes of details for a person; what is longer is cut.
pub const DETAIL_BYTES_MAX: usize = 4096;

/// Maximum number of secrets of a webhook, and of kinds of events that it names.
const WEBHOOK_LIST_MAX: usize = 16;

/// Maximum number of addresses of one host, and of products of one release.
pub const LIST_MAX: usize = 64;

/// Checks text that something is known by.
pub(super) fn name(what: &str, text: &str) -> Result<(), StoreError> {
    if text.is_empty() {
        return Err(bad(what, "is empty"));
    }
    words(what, text)
}

/// Checks text that may be empty.
pub(super) fn words(what: &str, text: &str) -> Result<(), StoreError> {
    bounded(what, text, NAME_BYTES_MAX)
}

/// Checks text against a limit of its own.
pub(super) fn bounded(what: &str, text: &str, bytes_max: usize) -> Result<(), StoreError> {
    if text.len() > bytes_max {
        return Err(bad(what, &format!("has {} bytes, expected at most {bytes_max}", text.len())));
    }
    if text.contains('\0') {
        return Err(bad(what, "contains a NUL character, which no store keeps"));
    }
    Ok(())
}

/// Returns details as they are kept: without NUL, and cut. A host's last words must not be what
/// keeps its attempt from ending.
pub(super) fn detail(text: &str) -> String {
    let mut kept = text.replace('\0', "\u{fffd}");
    let mut end = kept.len().min(DETAIL_BYTES_MAX);
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    kept.truncate(end);
    kept
}

pub(super) fn host(host: &Host) -> Result<(), StoreError> {
    name("the name of a host", &host.name)?;
    let of = |what: &str| format!("the {what} of host {}", host.name.escape_debug());
    name(&of("key"), &host.key)?;
    for (what, text) in [
        ("vendor", &host.vendor),
        ("product", &host.product),
        ("BIOS version", &host.bios_version),
        ("agent version", &host.agent_version),
    ] {
        words(&of(what), text)?;
    }
    at_most("the number of addresses of a host", host.addresses.len(), LIST_MAX)?;
    at_most("the number of labels of a host", host.labels.len(), LABELS_MAX)?;
    for (label, value) in &host.labels {
        bounded(&of("name of a label"), label, LABEL_BYTES_MAX)?;
        bounded(&of(&format!("label {}", label.escape_debug())), value, LABEL_BYTES_MAX)?;
    }
    fits("the floor of security versions of a host", host.security_version_floor)
}

pub(super) fn worker(worker: &Worker) -> Result<(), StoreError> {
    name("the name of a worker", &worker.name)?;
    words("the name of a site", &worker.site)
}

pub(super) fn webhook(webhook: &Webhook) -> Result<(), StoreError> {
    name("the name of a webhook", &webhook.name)?;
    name("the URL of a webhook", &webhook.url)?;
    name("the source of a webhook", &webhook.source)?;
    name("who adds a webhook", &webhook.created_by)?;
    at_most("the number of kinds of a webhook", webhook.kinds.len(), WEBHOOK_LIST_MAX)?;
    secrets(&webhook.secrets)
}

pub(super) fn secrets(secrets: &[Secret]) -> Result<(), StoreError> {
    at_most("the number of secrets of a webhook", secrets.len(), WEBHOOK_LIST_MAX)?;
    secrets.iter().try_for_each(|secret| name("the secret of a webhook", &secret.0))
}

pub(super) fn release(release: &Release) -> Result<(), StoreError> {
    name("the digest of a release", &release.digest)?;
    words("the version of a release", &release.version)?;
    words("the vendor of a release", &release.vendor)?;
    at_most("the number of products of a release", release.products.len(), LIST_MAX)?;
    for product in &release.products {
        words("a product of a release", product)?;
    }
    fits("the security version of a release", release.security_version)?;
    fits("the size of a release in bytes", release.size_bytes)
}

/// Refuses more than a limit.
pub(super) fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), StoreError> {
    if got > max {
        return Err(StoreError::TooMuch { what, got: got as u64, max: max as u64 });
    }
    Ok(())
}

/// Databases have signed numbers only.
fn fits(what: &'static str, number: u64) -> Result<(), StoreError> {
    let max = i64::MAX.unsigned_abs();
    if number > max {
        return Err(StoreError::TooMuch { what, got: number, max });
    }
    Ok(())
}

fn bad(what: &str, problem: &str) -> StoreError {
    StoreError::Text { what: what.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_cut_between_characters() {
        let long = format!("a\0{}", "ä".repeat(DETAIL_BYTES_MAX));
        let kept = detail(&long);
        assert!(kept.len() <= DETAIL_BYTES_MAX && kept.len() > DETAIL_BYTES_MAX - 2);
        assert!(kept.starts_with("a\u{fffd}ä"));
    }
}
