//! Who does it.

use nix::unistd::{User, getuid};

/// Returns the name of who runs the program; behind sudo, of who called that.
pub(crate) fn who() -> String {
    let caller = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    caller.unwrap_or_else(|| match User::from_uid(getuid()) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {}", getuid()),
    })
}
