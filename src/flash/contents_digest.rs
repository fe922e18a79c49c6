//! A digest that is computed where it is asked for: a report wants it, the chip does not wait.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::image::Digest;

/// SHA-256 of what a chip holds, or held.
#[derive(Clone, Debug)]
pub(super) enum ContentsDigest {
    /// It is known already.
    Known(Digest),
    /// These are the contents.
    Of(Arc<Vec<u8>>),
}

impl ContentsDigest {
    /// Returns the digest. Takes one pass over the contents where it is not known.
    pub(super) fn value(&self) -> Digest {
        match self {
            Self::Known(digest) => *digest,
            Self::Of(contents) => Sha256::digest(contents.as_slice()).into(),
        }
    }
}
