//! A call that goes on until the peer answers.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use snow::{HandshakeState, StatelessTransportState};

use super::cookie::Received;
use super::noise;
use crate::random::jitter;
use crate::time::Time;
use crate::wire::datagram::MAC_SIZE;

/// First and longest pause between two initiations, and by how much each varies.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(5);
const RETRY_SPREAD_PERMILLE: u32 = 250;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) to: SocketAddr,
    /// The address is a broadcast's: whoever holds the key answers from another one.
    anywhere: bool,
    pause: Duration,
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
            pause: RETRY_MIN,
            next: now,
            index: None,
            handshake: None,
            mac: [0; MAC_SIZE],
            cookies: Received::default(),
        }
    }

    /// Records that an initiation with this index and handshake is sent, and plans the next.
    /// Returns the index that no answer fits any more.
    pub(super) fn initiate(
        &mut self,
        now: Time,
        index: u32,
        handshake: HandshakeState,
        rng: &mut ChaCha20Rng,
    ) -> Option<u32> {
        self.handshake = Some(handshake);
        self.next = now + jitter(self.pause, RETRY_SPREAD_PERMILLE, rng);
        self.pause = (self.pause * 2).min(RETRY_MAX);
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
