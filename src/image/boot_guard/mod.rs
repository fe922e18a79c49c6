//! What Intel Boot Guard wants of an image: the components that its Firmware Interface Table names
//! ([`Fit`]), and whether those of two images belong together.
//!
//! A processor with Boot Guard starts nothing whose startup ACM is not for its chipset, or whose
//! key manifest is by another key than the one that is fused into the chipset. A maker's update has
//! other digests and signatures, but the same keys: only what stays is compared.

mod compare;
mod parts;
#[cfg(test)]
pub(crate) mod samples;

use std::fmt;

pub use compare::BootGuardMismatch;

use super::Digest;
use super::layout::{Fit, FitEntry, fit_type};
use parts::Policy;

/// Most components that are compared; those of an image with more are not known.
pub const COMPONENTS_MAX: usize = 32;

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ComponentKind {
    /// Startup authenticated code module (ACM).
    Acm = fit_type::STARTUP_ACM,
    /// Key manifest (KM).
    KeyManifest = fit_type::KEY_MANIFEST,
    /// Boot policy manifest (BPM).
    BootPolicy = fit_type::BOOT_POLICY,
}

impl ComponentKind {
    /// Every kind, in the order in which the processor needs them.
    pub const ALL: [Self; 3] = [Self::Acm, Self::KeyManifest, Self::BootPolicy];

    /// Returns the kind with this type in the table.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acm => "startup ACM",
            Self::KeyManifest => "key manifest",
            Self::BootPolicy => "boot policy manifest",
        })
    }
}

/// What of a component is the same in all updates by its maker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// A startup ACM.
    Acm {
        /// Which chipsets it is for.
        chipset_id: u16,
        /// Bit 15: signed for debugging; bit 14: for chipsets before production.
        flags: u16,
        /// Whose it is; 8086h is Intel.
        vendor: u32,
    },
    /// A key manifest.
    KeyManifest {
        /// SHA-256 of the public key that has signed it, and of which a digest is fused.
        key: Digest,
        /// Its security version number.
        svn: u8,
    },
    /// A boot policy manifest.
    BootPolicy {
        /// Whether the key manifest of the same image names its public key; `None` where that is
        /// not known.
        is_by_named_key: Option<bool>,
        /// Its security version number.
        svn: u8,
    },
    /// One that is not understood, or lies outside the image.
    Unknown(ComponentKind),
}

impl Component {
    /// Returns what it is.
    pub fn kind(&self) -> ComponentKind {
        match self {
            Self::Acm { .. } => ComponentKind::Acm,
            Self::KeyManifest { .. } => ComponentKind::KeyManifest,
            Self::BootPolicy { .. } => ComponentKind::BootPolicy,
            Self::Unknown(kind) => *kind,
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acm { chipset_id, flags, vendor } => {
                write!(f, "startup ACM for chipset {chipset_id:#06x} of vendor {vendor:#06x}")?;
                f.write_str(match flags {
                    0 => "",
                    _ => ", not for production",
                })
            }
            Self::KeyManifest { key, svn } => {
                f.write_str("key manifest by key ")?;
                key[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, ", SVN {svn}")
            }
            Self::BootPolicy { is_by_named_key, svn } => {
                let key = match is_by_named_key {
                    Some(true) => "by the key of its key manifest",
                    Some(false) => "NOT by the key of its key manifest",
                    None => "by a key of which nothing is known",
                };
                write!(f, "boot policy manifest {key}, SVN {svn}")
            }
            Self::Unknown(kind) => write!(f, "{kind} that is not understood"),
        }
    }
}

/// What Boot Guard finds in an image: sorted, nothing twice, at most [`COMPONENTS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootGuard(Vec<Component>);

impl BootGuard {
    /// Reads what the table of `image` names. Empty where there is no whole table.
    pub fn read(image: &[u8]) -> Self {
        let Ok(Some(fit)) = Fit::find(image) else { return Self::default() };
        let named = || ComponentKind::ALL.into_iter().flat_map(|kind| fit.of_kind(kind as u8));
        if named().count() > COMPONENTS_MAX {
            let kinds = ComponentKind::ALL.into_iter();
            let found = kinds.filter(|kind| fit.of_kind(*kind as u8).next().is_some());
            return Self::of(found.map(Component::Unknown).collect());
        }
        let policies: Vec<Policy> = fit
            .of_kind(fit_type::KEY_MANIFEST)
            .filter_map(|entry| parts::key_manifest(contents(image, entry)?)?.policy)
            .collect();
        Self::of(named().filter_map(|entry| component(image, entry, &policies)).collect())
    }

    /// Returns these components in order.
    pub fn of(mut components: Vec<Component>) -> Self {
        components.sort();
        components.dedup();
        components.truncate(COMPONENTS_MAX);
        Self(components)
    }

    /// Returns the components.
    pub fn components(&self) -> &[Component] {
        &self.0
    }

    /// Compares this, of an image, with `live`, that of the chip which it is for. Returns the kinds
    /// of which it is not known whether they belong together.
    ///
    /// # Errors
    /// [`BootGuardMismatch`] for what the chip has and the image has not, or has otherwise.
    pub fn check_against(&self, live: &Self) -> Result<Vec<ComponentKind>, BootGuardMismatch> {
        compare::check(self, live)
    }

    fn of_kind(&self, kind: ComponentKind) -> impl Iterator<Item = &Component> {
        self.0.iter().filter(move |component| component.kind() == kind)
    }
}

/// Returns what an operator reads about kinds of which it is not known whether image and chip have
/// the same.
pub fn not_known(kinds: &[ComponentKind]) -> String {
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    format!("not known whether the processor takes the image's {}", kinds.join(", "))
}

/// Returns everything from where a component begins; its own fields have its size.
fn contents<'a>(image: &'a [u8], entry: &FitEntry) -> Option<&'a [u8]> {
    image.get(entry.offset_bytes?..)
}

fn component(image: &[u8], entry: &FitEntry, policies: &[Policy]) -> Option<Component> {
    let kind = ComponentKind::from_code(entry.kind)?;
    let read = contents(image, entry).and_then(|bytes| match kind {
        ComponentKind::Acm => parts::acm(bytes),
        ComponentKind::KeyManifest => {
            let manifest = parts::key_manifest(bytes)?;
            Some(Component::KeyManifest { key: manifest.key, svn: manifest.svn })
        }
        ComponentKind::BootPolicy => {
            let (key, svn) = parts::boot_policy(bytes)?;
            Some(Component::BootPolicy { is_by_named_key: parts::is_named(key, policies), svn })
        }
    });
    Some(read.unwrap_or(Component::Unknown(kind)))
}

#[cfg(test)]
mod tests;
