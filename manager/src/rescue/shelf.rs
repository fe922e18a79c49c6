//! The bundles that can be brought to dead hosts, and which one is for a host.

use std::cmp::Ordering;
use std::sync::Arc;

use firmcast::image::{Board, Manifest, ManifestError, SignedManifest};
use firmcast::keys::Fingerprint;
use firmcast::wire::answer::Identity;
use sha2::{Digest as _, Sha256};

/// Most bundles.
pub const BUNDLES_MAX: usize = 1024;

/// The name of a bundle: SHA-256 of its signed manifest.
pub type BundleId = [u8; 32];

/// A bundle without its payload, which is read when somebody wants it.
#[derive(Clone, Debug)]
pub struct Shelved {
    /// SHA-256 of `signed`.
    pub id: BundleId,
    /// The file's name.
    pub file: String,
    /// The signed manifest, as it travels.
    pub signed: Arc<[u8]>,
    /// What it says.
    pub manifest: Manifest,
    /// The release key that it names.
    pub signer: Fingerprint,
    /// Whether the signature was checked here.
    pub signature_checked: bool,
}

/// A file that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file's name.
    pub file: String,
    /// Why.
    pub why: String,
}

/// All bundles.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    bundles: Vec<Shelved>,
    refused: Vec<Refused>,
}

impl Shelved {
    /// Returns the bundle in `file` whose signed manifest is `signed`. The caller checked what it
    /// wants checked.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn new(
        file: String,
        signed: &[u8],
        signature_checked: bool,
    ) -> Result<Self, ManifestError> {
        let parsed = SignedManifest::parse(signed)?;
        Ok(Self {
            id: Sha256::digest(signed).into(),
            file,
            signed: signed.into(),
            manifest: parsed.unverified()?,
            signer: parsed.signer(),
            signature_checked,
        })
    }

    /// Returns whether both say that they are the same version for the same hosts, and hold other
    /// images.
    fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = (&self.manifest, &other.manifest);
        let same_boards =
            a.vendor() == b.vendor() && a.products().iter().any(|p| b.products().contains(p));
        same_boards
            && a.host() == b.host()
            && a.image_size_bytes() == b.image_size_bytes()
            && a.version() == b.version()
            && a.image_digest() != b.image_digest()
    }

    fn is_newer(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.manifest, &other.manifest);
        let by_security = a.security_version().cmp(&b.security_version());
        by_security
            .then_with(|| compare_versions(a.version(), b.version()))
            .then_with(|| self.id.cmp(&other.id))
    }
}

impl Shelf {
    /// Returns the bundles that are good, of those that were found; of two that contradict each
    /// other neither is, because nobody knows which one was meant.
    pub fn new(mut found: Vec<Shelved>, mut refused: Vec<Refused>) -> Self {
        found.sort_by(|a, b| a.file.cmp(&b.file));
        let judged: Vec<Option<String>> =
            (0..found.len()).map(|index| objection(&found, index)).collect();
        let mut bundles = Vec::new();
        for (bundle, objection) in found.into_iter().zip(judged) {
            match objection {
                Some(why) => refused.push(Refused { file: bundle.file, why }),
                None => bundles.push(bundle),
            }
        }
        refused.sort_by(|a, b| a.file.cmp(&b.file));
        Self { bundles, refused }
    }

    /// Returns the bundles that can be served.
    pub fn bundles(&self) -> &[Shelved] {
        &self.bundles
    }

    /// Returns the files that are not served.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Returns the bundle with this name.
    pub fn get(&self, id: &BundleId) -> Option<&Shelved> {
        self.bundles.iter().find(|bundle| bundle.id == *id)
    }

    /// Serves this bundle no more: it could not be read when it was wanted.
    pub fn refuse(&mut self, id: &BundleId, why: String) {
        if let Some(index) = self.bundles.iter().position(|bundle| bundle.id == *id) {
            let file = self.bundles.remove(index).file;
            self.refused.push(Refused { file, why });
        }
    }

    /// Returns the newest bundle that this host may have, or the one with the version `pinned`. Its
    /// recovery image may be older than what was confirmed there, so `known_floor` counts too.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn choose(
        &self,
        identity: &Identity,
        known_floor: u64,
        key: Fingerprint,
        pinned: Option<&str>,
    ) -> Result<&Shelved, String> {
        let mut refusal = None;
        let mut chosen: Option<&Shelved> = None;
        for bundle in &self.bundles {
            if pinned.is_some_and(|version| bundle.manifest.version() != version) {
                continue;
            }
            match admit(bundle, identity, known_floor, key) {
                Ok(()) if chosen.is_none_or(|best| bundle.is_newer(best).is_gt()) => {
                    chosen = Some(bundle);
                }
                Ok(()) => {}
                // What is for its board but not for it, tells more than what is for another board.
                Err(why) => refusal = refusal.or(why.map(|why| format!("{}: {why}", bundle.file))),
            }
        }
        chosen.ok_or_else(|| {
            let board = format!("{} / {}", identity.vendor, identity.product);
            refusal.unwrap_or_else(|| match pinned {
                Some(version) => format!("no bundle of version {version} for {board}"),
                None => format!("no bundle for {board}"),
            })
        })
    }
}

/// Returns whether the host may have the bundle, and why not if it is for its board.
fn admit(
    bundle: &Shelved,
    identity: &Identity,
    known_floor: u64,
    key: Fingerprint,
) -> Result<(), Option<String>> {
    let manifest = &bundle.manifest;
    if !manifest.fits_board(&identity.vendor, &identity.product) {
        return Err(None);
    }
    let board = Board {
        vendor: identity.vendor.clone(),
        product: identity.product.clone(),
        // What is installed is broken; from which version it comes no longer matters.
        bios_version: manifest.update_from().first().cloned().unwrap_or_default(),
        flash_size_bytes: identity.flash_size_bytes,
        security_version_floor: identity.security_version_floor.max(known_floor),
        host: Some(key),
    };
    board.admit(manifest).map_err(|refusal| Some(refusal.detail))
}

/// Why the bundle at `index` is not served, if so.
fn objection(found: &[Shelved], index: usize) -> Option<String> {
    let bundle = &found[index];
    let version = bundle.manifest.version();
    if let Some(other) = found.iter().find(|other| bundle.contradicts(other)) {
        return Some(format!(
            "{} is version {version} for the same board too, but another image; neither is served",
            other.file
        ));
    }
    let earlier = found[..index].iter().find(|other| other.id == bundle.id);
    earlier.map(|other| format!("it is the same bundle as {}", other.file))
}

/// Compares as people do: numbers within versions count as numbers.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (x, left_rest) = split_run(left);
        let (y, right_rest) = split_run(right);
        let order = match (is_number(x), is_number(y)) {
            (true, true) => {
                let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            _ => x.cmp(y),
        };
        if order.is_ne() || left.is_empty() {
            return order.then_with(|| a.cmp(b));
        }
        (left, right) = (left_rest, right_rest);
    }
}

fn is_number(run: &str) -> bool {
    run.starts_with(|first: char| first.is_ascii_digit())
}

/// Splits off the first run of digits, or of anything else.
fn split_run(text: &str) -> (&str, &str) {
    let digits = is_number(text);
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_compared_as_people_do() {
        let sorted =
            ["", "0.9", "1.2", "1.02.1", "1.9", "1.10", "1.10a", "1.10b2", "1.10b11", "v1"];
        for (index, version) in sorted.iter().enumerate() {
            for later in &sorted[index + 1..] {
                assert_eq!(compare_versions(version, later), Ordering::Less, "{version} {later}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_of_versions_is_one(
            a in "[0-2.a-]{0,6}", b in "[0-2.a-]{0,6}", c in "[0-2.a-]{0,6}",
        ) {
            let (ab, bc) = (compare_versions(&a, &b), compare_versions(&b, &c));
            prop_assert_eq!(ab, compare_versions(&b, &a).reverse());
            prop_assert_eq!(ab.is_eq(), a == b);
            if ab == bc {
                prop_assert_eq!(compare_versions(&a, &c), ab);
            }
        }
    }
}
