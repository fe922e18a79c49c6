//! Secrets and signatures, as the specification "Standard Webhooks" has them: `v1`, symmetric.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use thiserror::Error;

use crate::model::{Secret, Stamp};

/// What every secret begins with.
const PREFIX: &str = "whsec_";

/// Sizes of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Maximum number of secrets that sign at a time: one and its successor.
pub const SECRETS_MAX: usize = 2;

/// What a secret is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a secret of a webhook: expected whsec_ and 24 to 64 bytes in Base64")]
pub struct SecretError;

/// Returns the secret that these random bytes are.
pub fn new_secret(random: [u8; 32]) -> Secret {
    Secret(format!("{PREFIX}{}", STANDARD.encode(random)))
}

/// Checks a secret that somebody brings.
///
/// # Errors
/// When it is none.
pub fn check_secret(secret: &Secret) -> Result<(), SecretError> {
    bytes(secret).map(|_| ())
}

fn bytes(secret: &Secret) -> Result<Vec<u8>, SecretError> {
    let text = secret.0.strip_prefix(PREFIX).ok_or(SecretError)?;
    let bytes = STANDARD.decode(text).map_err(|_| SecretError)?;
    if SECRET_BYTES.contains(&bytes.len()) { Ok(bytes) } else { Err(SecretError) }
}

/// Returns the value of the header `webhook-signature`: one signature for each secret.
///
/// # Errors
/// When a secret is none, or there is no secret.
pub(super) fn sign(
    secrets: &[Secret],
    id: &str,
    at: Stamp,
    body: &[u8],
) -> Result<String, SecretError> {
    let seconds = timestamp(at);
    let signature = |secret: &Secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(secret)?);
        let mut signed = hmac::Context::with_key(&key);
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            signed.update(part);
        }
        Ok(format!("v1,{}", STANDARD.encode(signed.sign())))
    };
    let signatures = secrets.iter().map(signature).collect::<Result<Vec<_>, _>>()?;
    if signatures.is_empty() { Err(SecretError) } else { Ok(signatures.join(" ")) }
}

/// Returns the value of the header `webhook-timestamp`: seconds since 1970.
pub(super) fn timestamp(at: Stamp) -> String {
    at.div_euclid(1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries, and what they make of it.
    #[test]
    fn signatures_are_those_of_other_implementations() {
        let secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_999_999);
        let body = br#"{"test": 2432232314}"#;
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&secret), id, at, body), Ok(one.to_owned()));
        let both = sign(&[new_secret([7; 32]), secret], id, at, body).expect("two signatures");
        assert!(both.ends_with(&format!(" {one}")), "{both}");
        assert_eq!(sign(&[], id, at, body), Err(SecretError));
    }

    #[test]
    fn secrets_are_long_enough_and_not_shown() {
        let secret = new_secret([1; 32]);
        assert_eq!(check_secret(&secret), Ok(()));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ä"] {
            assert_eq!(check_secret(&Secret(bad.to_owned())), Err(SecretError), "{bad}");
        }
    }
}
