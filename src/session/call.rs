//! A call that goes on until the peer answers.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use snow::{HandshakeState, StatelessTransportState};

use super::cookie::Received;
use super::noise;
use crate::backoff::Backoff;
use crate::random::jitter;
use crate::time::Time;
use crate::wire::datagram::MAC_SIZE;

/// First and longest pause between two initiations, and by how much each varies.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(5);
const RETRY_SPREAD_PERMILLE: u32 = 250;

/// Longest pause of a manager that calls few hosts: so soon it finds one that has booted.
const RETRY_OF_FEW_MAX: Duration = Duration::from_millis(250);
/// Maximum number of initiations in a second to all hosts together before pauses grow, up to
/// [`RETRY_MAX`]: 0.8 Mbit/s.
const INITIATIONS_PER_SECOND: u32 = 500;

/// Longest pause between two initiations to one of so many peers that are called at a time.
pub(super) fn pause_max(calls: usize, is_manager: bool) -> Duration {
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    match is_manager {
        true => (Duration::from_secs(1) / INITIATIONS_PER_SECOND)
            .saturating_mul(calls)
            .clamp(RETRY_OF_FEW_MAX, RETRY_MAX),
        false => RETRY_MAX,
    }
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) to: SocketAddr,
    /// The address is a broadcast's: whoever holds the key answers from another one.
    anywhere: bool,
    pauses: Backoff,
    /// When the next initiation is due.
    pub(super) next: Time,
    /// Our session index in the newest initiation.
    pub(super) index: Option<u32>,
    handshake: Option<HandshakeState>,
    /// The mac of the newest initiation, which a cookie reply has to know.
    pub(super) mac: [u8; MAC_SIZE],
    /// What a busy peer wants to see.
    pub(super) cookies: Received,
}

impl Call {
    pub(super) fn new(now: Time, to: SocketAddr, anywhere: bool) -> Self {
        Self {
            to,
            anywhere,
            pauses: Backoff::new(RETRY_MIN, RETRY_MAX),
            next: now,
            index: None,
            handshake: None,
            mac: [0; MAC_SIZE],
            cookies: Received::default(),
        }
    }

    /// Records that an initiation with this index and handshake is sent, and plans the next, after
    /// `pause_max` at the latest.
    /// Returns the index that no answer fits any more.
    pub(super) fn initiate(
        &mut self,
        now: Time,
        index: u32,
        handshake: HandshakeState,
        pause_max: Duration,
        rng: &mut ChaCha20Rng,
    ) -> Option<u32> {
        self.handshake = Some(handshake);
        let pause = self.pauses.next_pause().min(pause_max);
        self.next = now + jitter(pause, RETRY_SPREAD_PERMILLE, rng);
        self.index.replace(index)
    }

    /// Opens the answer to the newest initiation. Returns the keys of the session, and where the
    /// peer is.
    pub(super) fn answered(
        &mut self,
        from: SocketAddr,
        noise: &[u8; 48],
    ) -> Option<(StatelessTransportState, SocketAddr)> {
        let keys = noise::open_response(&mut self.handshake, noise)?;
        Some((keys, if self.anywhere { from } else { self.to }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_hosts_are_called_often_and_many_do_not_add_up() {
        assert_eq!(pause_max(1, true), RETRY_OF_FEW_MAX);
        assert_eq!(pause_max(10_000, true), RETRY_MAX);
        for hosts in [1, 100, 124, 126, 1_000, 2_499, 2_501, 100_000, usize::MAX] {
            let per_second = hosts as f64 / pause_max(hosts, true).as_secs_f64();
            let until_now = hosts as f64 / RETRY_MAX.as_secs_f64();
            assert!(
                per_second <= until_now.max(f64::from(INITIATIONS_PER_SECOND)) * 1.001,
                "{hosts}"
            );
            assert_eq!(pause_max(hosts, false), RETRY_MAX);
        }
    }
}
