use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Minimum number of characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Maximum number of bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Memory of one hash in KiB, passes and lanes: the first choice for Argon2id in the OWASP
/// Password Storage Cheat Sheet (19 MiB, 2, 1).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Why a password is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Too short.
    #[error(
        "the password has {0} characters, expected at least {PASSWORD_CHARS_MIN}; take a longer one"
    )]
    Short(usize),
    /// Too long.
    #[error(
        "the password has {0} bytes, expected at most {PASSWORD_BYTES_MAX}; take a shorter one"
    )]
    Long(usize),
    /// The parameters are refused: our own bug.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// A password as it is kept: Argon2id with its salt, as a PHC string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Returns a new password as it is kept. `salt` is random.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn new(password: &str, salt: [u8; 16]) -> Result<Self, PasswordError> {
        let chars = password.chars().count();
        if chars < PASSWORD_CHARS_MIN {
            return Err(PasswordError::Short(chars));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::Long(password.len()));
        }
        Self::hash(password, salt)
    }

    /// Says whether `password` is the one that is kept. Nobody's password takes as long to compare:
    /// a name that is not known cannot be told from a wrong password.
    pub fn check(kept: Option<&Self>, password: &str) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let Some(Self(kept)) = kept else {
            // The same work; the result is dropped behind a barrier, so it is not optimised away.
            std::hint::black_box(Self::hash(password, [0; 16]).is_ok());
            return false;
        };
        PasswordHash::new(kept)
            .is_ok_and(|kept| Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
    }

    /// Text from which a session knows that the password is still the same.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn hash(password: &str, salt: [u8; 16]) -> Result<Self, PasswordError> {
        let wrong = |error: argon2::password_hash::Error| PasswordError::Hash(error.to_string());
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
        let params = params.map_err(|error| PasswordError::Hash(error.to_string()))?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::encode_b64(&salt).map_err(wrong)?;
        let hash = hasher.hash_password(password.as_bytes(), &salt).map_err(wrong)?;
        Ok(Self(hash.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_taken_and_none_that_is_short() {
        let kept = Password::new("correct horse", [7; 16]).expect("long enough");
        assert!(kept.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept:?}");
        assert!(Password::check(Some(&kept), "correct horse"));
        for wrong in ["correct horsf", "", "correct horse "] {
            assert!(!Password::check(Some(&kept), wrong), "{wrong}");
        }
        assert!(!Password::check(None, "correct horse"));
        assert!(!Password::check(Some(&Password("$argon2id$v=19$".into())), "correct horse"));
        assert_eq!(Password::new("too short", [7; 16]), Err(PasswordError::Short(9)));
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(Password::new(&long, [7; 16]), Err(PasswordError::Long(long.len())));
    }
}
