//! What outlives a wiped disk: the floor of security versions and the digest of the last good
//! image, in the NV memory of the TPM, where the machine has one.
//!
//! Only root reaches the TPM, and the agent's service does not: that one asks the
//! [`helper`]. Whoever is root can lower or remove what stands there.

pub mod command;

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use command::{MESSAGE_SIZE_MAX, ResponseError};

use crate::helper;

/// The kernel's TPM device with its resource manager, which several programs may use.
const DEVICE: &str = "dev/tpmrm0";
/// Ours among the indices that an owner may define (TCG Registry of Reserved TPM 2.0 Handles:
/// 0x0180 0000 to 0x01bf ffff).
const INDEX: u32 = 0x0180_f1ca;
/// The first bytes of what is ours: its name and form.
const MAGIC: [u8; 8] = *b"FCFLOOR1";
const DIGEST_SIZE: usize = 32;
/// Magic, floor u64, digest.
const SIZE: usize = MAGIC.len() + 8 + DIGEST_SIZE;

/// What the TPM keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The floor of security versions.
    pub floor: u64,
    /// Stable digest of the last image that was confirmed.
    pub digest: [u8; DIGEST_SIZE],
}

impl Kept {
    /// What the TPM of this machine keeps; None where there is no TPM, or nothing of ours in it.
    /// `root` is `/`.
    ///
    /// # Errors
    /// The TPM, or the helper, does not answer as it should.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        match helper::ask("kept", &[]) {
            Some(answer) => Self::from_text(&answer?.text).ok_or_else(not_understood),
            None => read(root),
        }
    }

    /// Has the TPM keep this; nothing is done where there is none.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn write(&self, root: &Path) -> io::Result<()> {
        match helper::ask(&format!("keep {}", Self::to_text(Some(self))), &[]) {
            Some(answer) => answer.map(drop),
            None => write(root, self),
        }
    }

    /// Answers the question `kept` of another process.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn answer(root: &Path) -> io::Result<String> {
        Ok(Self::to_text(read(root)?.as_ref()))
    }

    /// Does what another process asks, behind the word `keep`.
    ///
    /// # Errors
    /// As [`Kept::read`], or the question is not understood.
    pub fn do_keep(root: &Path, question: &str) -> io::Result<()> {
        match Self::from_text(question) {
            Some(Some(kept)) => write(root, &kept),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// `none`, or the floor and the digest in hex.
    fn to_text(kept: Option<&Self>) -> String {
        kept.map_or_else(|| "none".to_owned(), |kept| format!("{} {}", kept.floor, kept.hex()))
    }

    fn from_text(text: &str) -> Option<Option<Self>> {
        if text == "none" {
            return Some(None);
        }
        let (floor, digits) = text.split_once(' ')?;
        let mut digest = [0; DIGEST_SIZE];
        let is_whole = digits.len() == 2 * DIGEST_SIZE && digits.is_ascii();
        for (index, byte) in digest.iter_mut().enumerate() {
            let pair = is_whole.then(|| &digits[2 * index..2 * index + 2])?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Some(Self { floor: floor.parse().ok()?, digest }))
    }

    /// The digest's digits.
    fn hex(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &self.floor.to_be_bytes(), &self.digest].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (floor, digest) = rest.split_first_chunk()?;
        Some(Self { floor: u64::from_be_bytes(*floor), digest: digest.try_into().ok()? })
    }
}

fn not_understood() -> io::Error {
    io::Error::other(ResponseError::Malformed)
}

fn read(root: &Path) -> io::Result<Option<Kept>> {
    let response = match ask(root, &command::read(INDEX, SIZE as u16)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        response => response?,
    };
    match command::data(&response) {
        Ok(bytes) => {
            let foreign = || {
                let what = format!("index {INDEX:#x} of the TPM is not firmcast's");
                io::Error::other(what)
            };
            Kept::from_bytes(bytes).map(Some).ok_or_else(foreign)
        }
        Err(error) if error.is_nothing_kept() => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn write(root: &Path, kept: &Kept) -> io::Result<()> {
    if !root.join(DEVICE).exists() {
        return Ok(());
    }
    // An index of somebody else is not written over.
    if read(root)?.is_none() {
        let response = ask(root, &command::define(INDEX, SIZE as u16))?;
        match command::response(&response) {
            Err(error) if !error.is_defined() => return Err(io::Error::other(error)),
            _ => {}
        }
    }
    let response = ask(root, &command::write(INDEX, &kept.to_bytes()))?;
    command::response(&response).map(drop).map_err(io::Error::other)
}

/// One write is one command, and one read its response (Linux `Documentation/security/tpm`).
fn ask(root: &Path, command: &[u8]) -> io::Result<Vec<u8>> {
    let mut device = OpenOptions::new().read(true).write(true).open(root.join(DEVICE))?;
    device.write_all(command)?;
    let mut response = vec![0; MESSAGE_SIZE_MAX];
    let length = device.read(&mut response)?;
    response.truncate(length);
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept() -> Kept {
        Kept { floor: 7, digest: [0xab; DIGEST_SIZE] }
    }

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else_is_taken_for_it() {
        let bytes = kept().to_bytes();
        assert_eq!((bytes.len(), Kept::from_bytes(&bytes)), (SIZE, Some(kept())));
        assert_eq!(Kept::from_bytes(&bytes[1..]), None);
        for length in 0..SIZE {
            assert_eq!(Kept::from_bytes(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_helper_tells_the_same() {
        for what in [None, Some(kept())] {
            assert_eq!(Kept::from_text(&Kept::to_text(what.as_ref())), Some(what));
        }
        let digits = "ab".repeat(DIGEST_SIZE);
        for wrong in [
            "",
            "7",
            "7 ab",
            &format!("x {digits}"),
            &format!("7 {digits}0"),
            &format!("7 {}", "é".repeat(DIGEST_SIZE)),
            &format!("7 {}", "xy".repeat(DIGEST_SIZE)),
        ] {
            assert_eq!(Kept::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_machine_without_a_tpm_keeps_nothing_there() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), None);
        write(root.path(), &kept()).unwrap();
        assert!(!root.path().join(DEVICE).exists());
        let error = Kept::do_keep(root.path(), "none").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
