//! The text forms of keys.
//!
//! A public key is one line, fields separated by one space:
//! ```text
//! firmcast-<role>-key <base64 of the key> <fingerprint>[ <comment>]
//! ```
//! A secret key is three lines; the last one lets damage show before the key is used:
//! ```text
//! firmcast-<role>-key PRIVATE: keep this file secret
//! <base64 of the 32-byte secret>
//! <fingerprint of the public key>
//! ```
//! Base64 is the standard alphabet with padding (RFC 4648, section 4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::fingerprint::{BadFingerprint, Fingerprint};
use super::role::{Role, UnknownRole};

/// Longest comment behind a public key, in bytes.
pub const COMMENT_MAX: usize = 128;

const PRIVATE: &str = "PRIVATE: keep this file secret";

/// Why a text is not the key that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a public nor a secret key.
    #[error(
        "this is not a firmcast key: expected one line `firmcast-<role>-key <base64> <fingerprint>`"
    )]
    NotAKey,
    /// A role name that does not exist.
    #[error(transparent)]
    Role(#[from] UnknownRole),
    /// A key of another role.
    #[error("this is a {got} key, expected a {expected} key")]
    WrongRole {
        /// The role that was asked for.
        expected: Role,
        /// The role that the text names.
        got: Role,
    },
    /// A secret key where a public one belongs.
    #[error("this is a PRIVATE key, expected the public one: give the file that ends in .pub")]
    IsPrivate,
    /// A public key where a secret one belongs.
    #[error("this is a public key, expected the private one: give the file that ends in .key")]
    IsPublic,
    /// The key is not base64, or not of the role's length.
    #[error("the key is damaged: expected {expected_bytes} bytes in base64")]
    BadEncoding {
        /// The length of a key of this role.
        expected_bytes: usize,
    },
    /// Not of the form `SHA256:...`.
    #[error(transparent)]
    Fingerprint(#[from] BadFingerprint),
    /// The fingerprint in the text is not the one of the key in the text.
    #[error(
        "the key is damaged or was edited: its fingerprint is {computed}, the text says {stated}"
    )]
    FingerprintMismatch {
        /// Over the key that was read.
        computed: Fingerprint,
        /// As read.
        stated: Fingerprint,
    },
    /// Bytes that no honestly made key has, such as a point of small order.
    #[error("this key is not safe to use: make a new one with `firmcast key new`")]
    WeakKey,
    /// A comment with control characters, or too long.
    #[error("the comment must be printable and at most {COMMENT_MAX} bytes long")]
    BadComment,
    /// More text after the key.
    #[error("unexpected text after the key: expected one key")]
    TrailingText,
}

/// Returns the public line of `key`, without comment or line end.
pub(super) fn public_line(role: Role, key: &[u8]) -> String {
    format!("{} {} {}", role.word(), STANDARD.encode(key), Fingerprint::of(role, key))
}

/// Returns the key of exactly `role` in a public line; one line end is allowed.
pub(super) fn parse_public<const N: usize>(text: &str, role: Role) -> Result<[u8; N], KeyError> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let mut fields = line.splitn(4, ' ');
    expect_role(fields.next(), role)?;
    let key = fields.next().ok_or(KeyError::NotAKey)?;
    if key.starts_with("PRIVATE") {
        return Err(KeyError::IsPrivate);
    }
    if line.contains('\n') {
        return Err(KeyError::TrailingText);
    }
    let key: [u8; N] = decode(key)?;
    let stated = fields.next().ok_or(BadFingerprint)?.parse()?;
    expect_fingerprint(Fingerprint::of(role, &key), stated)?;
    if let Some(comment) = fields.next() {
        check_comment(comment)?;
    }
    Ok(key)
}

/// Returns whether `comment` may stand behind a public key.
pub(super) fn check_comment(comment: &str) -> Result<(), KeyError> {
    if comment.len() > COMMENT_MAX || comment.chars().any(char::is_control) {
        return Err(KeyError::BadComment);
    }
    Ok(())
}

/// The secret file's text.
pub(super) fn secret_text(
    role: Role,
    secret: &[u8; 32],
    fingerprint: Fingerprint,
) -> Zeroizing<String> {
    let digits = Zeroizing::new(STANDARD.encode(secret));
    Zeroizing::new(format!("{} {PRIVATE}\n{}\n{fingerprint}\n", role.word(), *digits))
}

/// Returns the secret of exactly `role` and the fingerprint that its public key must have.
pub(super) fn parse_secret(
    text: &str,
    role: Role,
) -> Result<(Zeroizing<[u8; 32]>, Fingerprint), KeyError> {
    let mut lines = text.lines();
    let (word, mark) = lines.next().and_then(|l| l.split_once(' ')).ok_or(KeyError::NotAKey)?;
    expect_role(Some(word), role)?;
    if mark != PRIVATE {
        return Err(KeyError::IsPublic);
    }
    let secret = decode(lines.next().unwrap_or_default()).map(Zeroizing::new)?;
    let stated = lines.next().ok_or(BadFingerprint)?.parse()?;
    match lines.next() {
        None => Ok((secret, stated)),
        Some(_) => Err(KeyError::TrailingText),
    }
}

/// Fails unless the key that was read is the one the text names.
pub(super) fn expect_fingerprint(
    computed: Fingerprint,
    stated: Fingerprint,
) -> Result<(), KeyError> {
    if computed == stated {
        Ok(())
    } else {
        Err(KeyError::FingerprintMismatch { computed, stated })
    }
}

fn expect_role(word: Option<&str>, expected: Role) -> Result<(), KeyError> {
    let got = word.and_then(Role::from_word).ok_or(KeyError::NotAKey)?;
    if got == expected { Ok(()) } else { Err(KeyError::WrongRole { expected, got }) }
}

fn decode<const N: usize>(digits: &str) -> Result<[u8; N], KeyError> {
    let bad = KeyError::BadEncoding { expected_bytes: N };
    let bytes = Zeroizing::new(STANDARD.decode(digits).map_err(|_| bad.clone())?);
    bytes.as_slice().try_into().map_err(|_| bad)
}
