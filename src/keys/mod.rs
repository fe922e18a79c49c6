//! Keys: three roles, one text form, and the files they lie in.
//!
//! | role | secret | public | used for |
//! | --- | --- | --- | --- |
//! | release | Ed25519 seed | Ed25519, 32 bytes | signs bundles; kept offline |
//! | manager | seed of two keys | X25519 + Ed25519, 64 bytes | instructs; signs discovery |
//! | host | X25519 | X25519, 32 bytes | proves which host answers |
//!
//! Text and types are pure; only `file` touches the file system. See docs/PROTOCOL.md, "Keys".

mod file;
mod fingerprint;
mod host;
mod manager;
mod release;
mod role;
mod text;

pub use file::{KEY_FILE_MAX, KeyFileError, create_pair, load_public, load_secret, public_path};
pub(crate) use file::{is_unfinished, mend_public, replace_secret};
pub use fingerprint::{BadFingerprint, FINGERPRINT_BYTES, Fingerprint};
pub use host::{HostPublicKey, HostSecretKey};
pub use manager::{ManagerPublicKey, ManagerSecretKey};
pub use release::{ReleasePublicKey, ReleaseSecretKey};
pub use role::{Role, UnknownRole};
pub use text::{COMMENT_MAX, KeyError};

use std::fmt::{Debug, Display};
use std::str::FromStr;

use zeroize::Zeroizing;

/// A public key of any role: parsed from and shown as one line of text.
pub trait PublicKey: FromStr<Err = KeyError> + Display + Debug + Clone + Eq {
    /// The role that this type stands for.
    const ROLE: Role;

    /// Returns the short name of the key, for people and for the key id in signatures.
    fn fingerprint(&self) -> Fingerprint;
}

/// A secret key of any role. Wiped from memory when dropped; never shown by `Debug`.
pub trait SecretKey: FromStr<Err = KeyError> + Debug {
    /// The matching public key.
    type Public: PublicKey;

    /// Returns the public key that belongs to this secret.
    fn public(&self) -> Self::Public;

    /// Returns the contents of the secret key file.
    fn to_text(&self) -> Zeroizing<String>;
}

#[cfg(test)]
mod tests;
