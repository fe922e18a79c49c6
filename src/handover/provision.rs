//! What the recovery environment has with it when nobody hands anything over: one JSON file,
//! readable by root alone.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{HandoverError, MailboxPlace, SecretText};
use crate::image::KnownGood;
use crate::net::InterfaceConfig;

/// Where the recovery environment finds its provision.
pub const PROVISION_PATH: &str = "/firmcast/rescue.json";

/// Largest provision, in bytes of JSON.
pub const PROVISION_SIZE_MAX: usize = 256 * 1024;

/// The version of the provision's form.
pub const PROVISION_VERSION: u32 = 2;

/// Most addresses of managers.
pub const MANAGERS_MAX: usize = 16;

/// What to do when nothing tells whether the firmware is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknown {
    /// Boot on, and tell the manager.
    #[default]
    BootOn,
    /// Ask for help as if it were invalid.
    Rescue,
}

/// Everything that a host needs to find help and to know whom to believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// [`PROVISION_VERSION`].
    pub version: u32,
    /// The host's name, for people.
    pub host_name: String,
    /// The host's private key, in the text form of key files.
    pub host_key: SecretText,
    /// Public keys of managers that are believed, in the text form of `.pub` files.
    pub trusted_managers: Vec<String>,
    /// Public keys of releases that are accepted.
    pub trusted_releases: Vec<String>,
    /// Where managers may be: URLs, tried in this order.
    pub managers: Vec<String>,
    /// The MTD device with the firmware, by name or path.
    pub flash: String,
    /// The UDP port that the host listens on, for broadcasts too.
    pub listen_port: u16,
    /// Bundles with a security version below this are refused.
    pub security_version_floor: u64,
    /// The interfaces to bring up; none: DHCP on every NIC.
    pub network: Vec<InterfaceConfig>,
    /// What to do when nothing tells whether the firmware is whole.
    pub on_unknown: OnUnknown,
    /// The firmware that was good when it was last seen.
    pub known_good: Option<KnownGood>,
    /// Where word for the agent may be left.
    pub result_mailbox: Option<MailboxPlace>,
}

impl Provision {
    /// Returns the JSON that the archive carries; it holds the host's private key, so it wipes
    /// itself.
    ///
    /// # Errors
    /// [`HandoverError::ProvisionTooLarge`].
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, HandoverError> {
        let json = Zeroizing::new(serde_json::to_vec(self).map_err(HandoverError::ProvisionForm)?);
        match json.len() {
            size if size > PROVISION_SIZE_MAX => {
                Err(HandoverError::ProvisionTooLarge { size_bytes: size })
            }
            _ => Ok(json),
        }
    }

    /// Reads what [`Provision::to_json`] wrote.
    ///
    /// # Errors
    /// [`HandoverError::ProvisionForm`], [`HandoverError::ProvisionTooLarge`],
    /// [`HandoverError::ProvisionVersion`].
    pub fn from_json(json: &[u8]) -> Result<Self, HandoverError> {
        if json.len() > PROVISION_SIZE_MAX {
            return Err(HandoverError::ProvisionTooLarge { size_bytes: json.len() });
        }
        let provision: Self = serde_json::from_slice(json).map_err(HandoverError::ProvisionForm)?;
        match provision.version {
            PROVISION_VERSION => Ok(provision),
            got => Err(HandoverError::ProvisionVersion { got }),
        }
    }

    /// Reads the provision at `path` ([`PROVISION_PATH`] in recovery).
    ///
    /// # Errors
    /// As [`Provision::from_json`], [`HandoverError::Read`] and [`HandoverError::NoProvision`].
    pub fn read(path: &Path) -> Result<Self, HandoverError> {
        let unreadable = |source| HandoverError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => HandoverError::NoProvision,
            _ => unreadable(error),
        })?;
        let mut json = Zeroizing::new(Vec::with_capacity(PROVISION_SIZE_MAX + 1));
        let limit = PROVISION_SIZE_MAX as u64 + 1;
        file.take(limit).read_to_end(&mut json).map_err(unreadable)?;
        Self::from_json(&json)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn example() -> Provision {
        Provision {
            version: PROVISION_VERSION,
            host_name: "node17".into(),
            host_key: SecretText::new("the host's secret".into()),
            trusted_managers: vec!["manager key".into()],
            trusted_releases: vec!["release key".into()],
            managers: vec!["firmcast://192.0.2.1".into()],
            flash: "BIOS".into(),
            listen_port: 9847,
            security_version_floor: 7,
            network: Vec::new(),
            on_unknown: OnUnknown::BootOn,
            known_good: None,
            result_mailbox: None,
        }
    }

    #[test]
    fn survives_the_way_and_hides_the_secret() {
        let json = example().to_json().unwrap();
        assert_eq!(Provision::from_json(&json).unwrap(), example());
        assert!(!format!("{:?}", example()).contains("the host's secret"));
        for end in 0..json.len() {
            assert!(Provision::from_json(&json[..end]).is_err());
        }
        let other = Provision { version: 1, ..example() }.to_json().unwrap();
        assert!(matches!(
            Provision::from_json(&other),
            Err(HandoverError::ProvisionVersion { got: 1 })
        ));
        let absent = Provision::read(Path::new("/nonexistent/rescue.json"));
        assert!(matches!(absent, Err(HandoverError::NoProvision)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_not_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert!(Provision::from_json(&bytes).is_err());
        }
    }
}
