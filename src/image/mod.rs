//! Bundles: the signed manifest and the firmware image, from untrusted bytes to a [`VerifiedImage`].

mod verified;

pub use verified::{Region, VerifiedImage};
