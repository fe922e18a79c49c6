//! Which disks the TPM unlocks for the present firmware only.
//!
//! Headers of disks can be read by root alone, and by the agent's service not at all: that one asks
//! the [`helper`]. What a header and /etc/crypttab say is read by sans-IO code.

mod binding;
pub mod crypttab;
mod devices;
pub mod luks;
mod tokens;

use std::io::{self, ErrorKind};
use std::path::Path;

pub use binding::{Binding, Pcrs};

use crate::helper;

/// Maximum length of an answer of the helper, in bytes.
const ANSWER_SIZE_MAX: usize = 6 << 10;

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many disks with a header of LUKS there are.
    pub looked: usize,
    /// Disks that another firmware does not unlock: device, tool and PCRs.
    pub sealed: Vec<String>,
    /// What is not understood, with the device.
    pub unknown: Vec<String>,
}

impl Found {
    /// Looks at the disks of this machine, by the helper if this process has one. `root` is `/`.
    ///
    /// # Errors
    /// The helper does not answer, or not as it should.
    pub fn look(root: &Path) -> io::Result<Self> {
        match helper::ask("disks", &[]) {
            Some(answer) => {
                Self::from_answer(&answer?.text).ok_or_else(|| ErrorKind::InvalidData.into())
            }
            None => Ok(devices::look(root)),
        }
    }

    /// Answers what another process asks of the [`helper`]: the number of disks; then a line for
    /// each thing found, `sealed` or `unknown` and a text. What does not fit is counted.
    pub fn answer(root: &Path) -> String {
        devices::look(root).to_answer()
    }

    fn to_answer(&self) -> String {
        let mut answer = self.looked.to_string();
        let sealed = self.sealed.iter().map(|text| ("sealed", text));
        let lines = sealed.chain(self.unknown.iter().map(|text| ("unknown", text)));
        let mut left_out = [("sealed", 0), ("unknown", 0)];
        for (word, text) in lines {
            if answer.len() + word.len() + text.len() + 2 <= ANSWER_SIZE_MAX {
                answer += &format!("\n{word} {text}");
            } else if let Some((_, count)) = left_out.iter_mut().find(|(other, _)| *other == word) {
                *count += 1;
            }
        }
        for (word, count) in left_out.iter().filter(|(_, count)| *count > 0) {
            answer += &format!("\n{word} {count} more");
        }
        answer
    }

    fn from_answer(answer: &str) -> Option<Self> {
        let mut lines = answer.split('\n');
        let mut found = Self { looked: lines.next()?.parse().ok()?, ..Self::default() };
        for line in lines {
            match line.split_once(' ')? {
                ("sealed", text) => found.sealed.push(text.to_owned()),
                ("unknown", text) => found.unknown.push(text.to_owned()),
                _ => return None,
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests;
