//! What happened, as one number that two runs of a seed must share, and as lines for a person who
//! looks into a seed.

use std::fmt::Arguments;

use firmcast::time::Time;

const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;

/// The running digest over every event of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    verbose: bool,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { digest: PRIME, verbose }
    }

    /// Returns the digest so far. No cryptography: nobody forges a simulation.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes a number in.
    pub(crate) fn count(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(PRIME).rotate_left(29);
    }

    /// Takes a datagram in.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.count(u64::from_le_bytes(word));
        }
    }

    /// Prints a line when somebody looks.
    pub(crate) fn line(&self, now: Time, line: Arguments<'_>) {
        if self.verbose {
            println!("{:>12.6} {line}", now.as_micros() as f64 / 1e6);
        }
    }
}
