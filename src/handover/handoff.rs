//! What the agent tells the recovery environment: one JSON file in the initramfs, readable by root
//! alone.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::HandoverError;
use crate::net::InterfaceConfig;
use crate::reason::Condition;

/// Where the recovery environment finds the handoff.
pub const HANDOFF_PATH: &str = "/firmcast/handoff.json";

/// Largest handoff, in bytes of JSON.
pub const HANDOFF_SIZE_MAX: usize = 256 * 1024;

/// The version of the handoff's form. Agent and recovery come from one binary in the ordinary case,
/// but the initramfs may be older than the agent.
pub const HANDOFF_VERSION: u32 = 3;

/// Everything that recovery has to know and that the normal OS knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// [`HANDOFF_VERSION`].
    pub version: u32,
    /// The host's name, for people.
    pub host_name: String,
    /// The host's private key, in the text form of key files.
    pub host_key: SecretText,
    /// Public keys of managers that may instruct this host, in the text form of `.pub` files.
    pub trusted_managers: Vec<String>,
    /// Public keys of releases that this host accepts, in the text form of `.pub` files.
    pub trusted_releases: Vec<String>,
    /// The manager that gave the instruction.
    pub manager: ManagerContact,
    /// The campaign that this recovery belongs to.
    pub campaign: u64,
    /// Set when this is a drill: the chip is not changed, and the search for help is rehearsed. An
    /// environment that knows no drills takes no handoff that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// How long recovery may wait for what.
    pub deadlines: Deadlines,
    /// Bundles with a security version below this are refused.
    pub security_version_floor: u64,
    /// The MTD device to update, by name or path.
    pub flash: String,
    /// What the agent found that the chip's contents look like.
    pub firmware: Condition,
    /// Why they look doubtful; empty where nothing speaks against them.
    pub doubt: String,
    /// The UDP port that recovery listens on.
    pub listen_port: u16,
    /// The interfaces through which the manager is reached, most specific route first. Empty: ask
    /// DHCP on every NIC.
    pub network: Vec<InterfaceConfig>,
    /// Where recovery leaves word for the agent when it ends without an update; `None` when no disk
    /// place is right for it.
    pub result_mailbox: Option<MailboxPlace>,
}

/// What a drill needs to know beside an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Where managers may be when nobody hands one over: URLs, as the provision has them.
    pub managers: Vec<String>,
}

/// Where the manager is, and how it proves to be it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerContact {
    /// Address and UDP port.
    pub address: SocketAddr,
    /// The manager's public key, in the text form of `.pub` files.
    pub public_key: String,
}

/// How long each phase of recovery may take, in seconds from the start of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// Until the manager answers.
    pub reach_manager_s: u32,
    /// Until the whole image is verified in RAM.
    pub transfer_s: u32,
}

/// Where on the host's disks recovery may leave word: a file of the normal OS that is found there
/// without mounting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxPlace {
    /// Where the file begins in its block device, in bytes from the device's beginning.
    pub offset_bytes: u64,
    /// What the file holds, as 64 hexadecimal digits: only where these stand may anything be
    /// written.
    pub nonce: String,
}

/// A text that is wiped from memory when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        SecretText(text)
    }

    /// Returns the secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

impl Handoff {
    /// Returns the JSON that the archive carries; it holds the host's private key, so it wipes
    /// itself.
    ///
    /// # Errors
    /// [`HandoverError::HandoffTooLarge`].
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, HandoverError> {
        let json = Zeroizing::new(serde_json::to_vec(self).map_err(HandoverError::HandoffForm)?);
        if json.len() > HANDOFF_SIZE_MAX {
            return Err(HandoverError::HandoffTooLarge { size_bytes: json.len() });
        }
        Ok(json)
    }

    /// Reads what [`Handoff::to_json`] wrote.
    ///
    /// # Errors
    /// [`HandoverError::HandoffForm`], [`HandoverError::HandoffTooLarge`],
    /// [`HandoverError::HandoffVersion`].
    pub fn from_json(json: &[u8]) -> Result<Self, HandoverError> {
        if json.len() > HANDOFF_SIZE_MAX {
            return Err(HandoverError::HandoffTooLarge { size_bytes: json.len() });
        }
        let handoff: Handoff = serde_json::from_slice(json).map_err(HandoverError::HandoffForm)?;
        if handoff.version != HANDOFF_VERSION {
            return Err(HandoverError::HandoffVersion { got: handoff.version });
        }
        Ok(handoff)
    }

    /// Reads the handoff at `path` ([`HANDOFF_PATH`] in recovery); `None` when there is none, i.e.
    /// when recovery was booted by itself and not by an agent.
    ///
    /// # Errors
    /// As [`Handoff::from_json`], and [`HandoverError::Read`].
    pub fn read(path: &Path) -> Result<Option<Self>, HandoverError> {
        let unreadable = |source| HandoverError::Read { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut json = Zeroizing::new(Vec::with_capacity(HANDOFF_SIZE_MAX + 1));
        file.take(HANDOFF_SIZE_MAX as u64 + 1).read_to_end(&mut json).map_err(unreadable)?;
        Self::from_json(&json).map(Some)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn example() -> Handoff {
        Handoff {
            version: HANDOFF_VERSION,
            host_name: "node17".into(),
            host_key: SecretText::new("the host's secret".into()),
            trusted_managers: vec!["manager key".into()],
            trusted_releases: vec!["release key".into()],
            manager: ManagerContact {
                address: "192.0.2.1:7117".parse().unwrap(),
                public_key: "manager key".into(),
            },
            campaign: 0x0123_4567_89ab_cdef,
            drill: None,
            deadlines: Deadlines { reach_manager_s: 300, transfer_s: 1800 },
            security_version_floor: 7,
            flash: "BIOS".into(),
            firmware: Condition::Whole,
            doubt: String::new(),
            listen_port: 7117,
            network: Vec::new(),
            result_mailbox: None,
        }
    }

    #[test]
    fn survives_the_way_and_hides_the_secret() {
        let handoff = example();
        let json = handoff.to_json().unwrap();
        assert_eq!(Handoff::from_json(&json).unwrap(), handoff);
        assert!(!format!("{handoff:?}").contains("the host's secret"));
        for end in 0..json.len() {
            assert!(Handoff::from_json(&json[..end]).is_err());
        }
    }

    #[test]
    fn a_handoff_that_lacks_anything_is_refused() {
        let whole: serde_json::Value =
            serde_json::from_slice(&example().to_json().unwrap()).unwrap();
        let names: Vec<&String> = whole.as_object().unwrap().keys().collect();
        assert!(names.iter().any(|name| *name == "firmware"));
        // serde takes a missing `Option` for none.
        for name in names.into_iter().filter(|name| *name != "result_mailbox") {
            let mut lacking = whole.clone();
            lacking.as_object_mut().unwrap().remove(name);
            let refused = Handoff::from_json(lacking.to_string().as_bytes());
            assert!(matches!(refused, Err(HandoverError::HandoffForm(_))), "{name}");
        }
    }

    #[test]
    fn refuses_another_version_and_a_huge_file() {
        let other = Handoff { version: HANDOFF_VERSION + 1, ..example() };
        let json = other.to_json().unwrap();
        assert!(matches!(
            Handoff::from_json(&json),
            Err(HandoverError::HandoffVersion { got, .. }) if got == HANDOFF_VERSION + 1
        ));
        let huge = Handoff { flash: "x".repeat(HANDOFF_SIZE_MAX), ..example() };
        assert!(matches!(huge.to_json(), Err(HandoverError::HandoffTooLarge { .. })));
        assert!(Handoff::from_json(&vec![b' '; HANDOFF_SIZE_MAX + 1]).is_err());
        assert!(Handoff::read(Path::new("/nonexistent/handoff.json")).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_not_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert!(Handoff::from_json(&bytes).is_err());
        }
    }
}
