//! Who may act: people with passwords, their sessions in a browser, and tokens for programs.
//! Time and randomness are handed in; only `register.rs` reads and writes a file.
//!
//! | file | what it does |
//! | --- | --- |
//! | `password.rs` | passwords, kept as Argon2id |
//! | `roster.rs` | the people, and their tokens; what the file says |
//! | `register.rs` | the file of the people |
//! | `sessions.rs` | who is logged in |
//! | `throttle.rs` | how often a password may be tried |
//! | `origin.rs` | whether a request comes from the page itself |
//! | `caller.rs` | who calls, and what they may do |

mod caller;
mod origin;
mod password;
mod register;
mod roster;
mod sessions;
mod throttle;

pub use caller::{Caller, May, Way};
pub use origin::Origin;
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Password, PasswordError};
pub use register::{FILE, Register, RegisterError};
pub use roster::{
    NAME_BYTES_MAX, PEOPLE_MAX, Person, Roster, RosterError, TOKENS_MAX, Token, is_name,
};
pub use sessions::{IDLE, LIFE, SESSIONS_MAX, SESSIONS_OF_ONE_MAX, Sessions, form_token};
pub use throttle::{TRACKED_MAX, Throttle, WAIT_MAX};

use sha2::{Digest as _, Sha256};

/// A secret of 256 random bits that a browser or a program shows.
pub type Secret = [u8; 32];

/// SHA-256.
type Digest = [u8; 32];

/// Returns bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the 32 bytes that 64 hexadecimal digits say.
pub fn unhex(digits: &str) -> Option<Secret> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
