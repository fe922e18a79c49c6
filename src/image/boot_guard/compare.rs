//! Whether an image has what Boot Guard finds on the chip now.

use std::fmt;

use super::{BootGuard, Component, ComponentKind};

/// Something that the chip has, and the image has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootGuardMismatch {
    /// None of the kind.
    Lacks(Component),
    /// Others of the kind.
    Other {
        /// As the chip has it.
        chip: Component,
        /// As the image has it.
        image: Component,
    },
}

pub(super) fn check(
    image: &BootGuard,
    chip: &BootGuard,
) -> Result<Vec<ComponentKind>, BootGuardMismatch> {
    let mut not_known = Vec::new();
    for kind in ComponentKind::ALL {
        let Some(wanted) = chip.of_kind(kind).next() else { continue };
        let Some(have) = image.of_kind(kind).next() else {
            return Err(BootGuardMismatch::Lacks(wanted.clone()));
        };
        let missing = |wanted: &&Component| !image.of_kind(kind).any(|have| serves(have, wanted));
        let missing = chip.of_kind(kind).find(missing);
        if chip.of_kind(kind).any(is_odd) {
            not_known.push(kind);
        } else if let Some(wanted) = missing {
            if image.of_kind(kind).any(is_not_known) {
                not_known.push(kind);
                continue;
            }
            let (chip, image) = (wanted.clone(), have.clone());
            return Err(BootGuardMismatch::Other { chip, image });
        }
    }
    Ok(not_known)
}

fn is_not_known(component: &Component) -> bool {
    match component {
        Component::Unknown(_) => true,
        Component::BootPolicy { is_by_named_key, .. } => is_by_named_key.is_none(),
        Component::Acm { .. } | Component::KeyManifest { .. } => false,
    }
}

/// Whether a component of the chip is not understood. One that starts has a policy that its key
/// manifest names: where it does not look so, the manifests are of another form.
fn is_odd(component: &Component) -> bool {
    let is_unnamed =
        matches!(component, Component::BootPolicy { is_by_named_key: Some(false), .. });
    is_unnamed || is_not_known(component)
}

/// Whether a processor that takes `wanted` takes `have`.
fn serves(have: &Component, wanted: &Component) -> bool {
    use Component::{BootPolicy, KeyManifest};
    match (have, wanted) {
        (KeyManifest { key, svn }, KeyManifest { key: wanted, svn: least }) => {
            key == wanted && svn >= least
        }
        (BootPolicy { is_by_named_key, svn }, BootPolicy { svn: least, .. }) => {
            *is_by_named_key == Some(true) && svn >= least
        }
        (have, wanted) => have == wanted,
    }
}

impl fmt::Display for BootGuardMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(component) => {
                write!(f, "the chip has a {component}; the image has no {}", component.kind())
            }
            Self::Other { chip, image } => {
                write!(f, "the chip has a {chip}; the image has a {image} instead")
            }
        }
    }
}
