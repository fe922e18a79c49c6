//! Campaigns over many hosts, sans-IO: updates, and rescues of dead hosts.
//!
//! The drive rule: after every call that takes `now`, take all of [`Campaign::poll_transmit`],
//! [`Campaign::poll_event`] and [`Campaign::poll_backup`], then wait for a datagram until
//! [`Campaign::poll_timeout`]. Early or repeated timeouts are harmless. The campaign is over when
//! [`Campaign::is_finished`].
//!
//! - [`config`]: what it is told; its limits and deadlines.
//! - `course`: the campaign without its sessions, so that several share one socket; [`Campaign`]
//!   is one with its own.
//! - `host`: one host, and how it goes from one leg to the next; `answers`: what it says, brought
//!   to its leg; `legs`: the legs, one file each.
//! - `boots`: whether one machine has a key, or several.
//! - `contact`, `chip`: what is known of a host in every leg, and what may be stated about its
//!   flash.
//! - [`stage`]: where a host stands, as a view for names and JSON.
//! - `manifest`, `retry`, `outbox`: how a host is told things.
//! - `cargo`: what of the image travels.
//! - `stream`: the image on its way to all hosts at once.
//! - [`event`]: what the campaign tells its driver.
//!
//! No host waits for another, but for one thing: the stream starts when all hosts are ready or the
//! join window is over.

mod answers;
pub(crate) mod boots;
mod cargo;
mod chip;
pub mod config;
mod contact;
pub(crate) mod course;
pub mod event;
mod gathering;
mod host;
mod legs;
mod manifest;
mod outbox;
mod retry;
pub mod stage;
mod stream;

use std::net::SocketAddr;

use firmcast::random;
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::transfer::TransferError;
use firmcast::wire::answer::Answer;
use firmcast::wire::broadcast::Broadcast;
use firmcast::wire::codec::DecodeError;
use firmcast::wire::command::Command;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub use cargo::Pieces;
pub(crate) use config::HOLD_TOLD_S;
pub use config::{Config, Contents, Deadlines, Delivery, Purpose, Target};
pub(crate) use config::{Rescue, Terms};
pub(crate) use course::{Course, Uploads};
pub use event::{Backup, CampaignEvent, Destination, Outcome, Transmit};
pub use host::Host;
pub use legs::escrow::UPLOADS_MAX;
pub use stage::Stage;
pub(crate) use stage::awaits_release;
pub use stream::Stream;

/// Handshakes that the manager answers in a second: all hosts of a campaign may call in the same
/// moment.
pub const HANDSHAKES_PER_SECOND: u32 = 2_000;

/// One campaign with sessions of its own.
#[derive(Debug)]
pub struct Campaign {
    endpoint: Endpoint,
    course: Course,
    interrupts: u32,
}

impl Campaign {
    /// A campaign that brings `contents` to `targets`. Each target has another key.
    ///
    /// # Errors
    /// [`TransferError`] when the payload or fragment size is out of bounds.
    pub fn new(
        now: Time,
        config: &Config,
        contents: Contents,
        targets: Vec<Target>,
    ) -> Result<Self, TransferError> {
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let terms = Terms {
            campaign: config.campaign,
            delivery: config.delivery,
            rate_bits_per_s: u64::from(config.rate_mbit) * config::BITS_PER_MBIT,
            is_polite: config.is_polite,
            fragment_size_bytes: config.fragment_size_bytes,
            escrow: config.escrow,
            purpose: config.purpose,
            accepted: config.accepted,
            rescue: None,
            deadlines: config.deadlines,
            seed: random::seed(&mut rng),
        };
        let mut endpoint = Endpoint::new(config.exchange_secret, random::seed(&mut rng));
        endpoint.set_stamp(config.stamp);
        endpoint.serve_hosts(HANDSHAKES_PER_SECOND);
        let mut course = Course::new(now, &terms, contents, targets)?;
        course.use_sessions(now, &mut endpoint);
        Ok(Self { endpoint, course, interrupts: 0 })
    }

    /// The hosts, in the order of the targets.
    pub fn hosts(&self) -> &[Host] {
        self.course.hosts()
    }

    /// Whether it has ended for every host.
    pub fn is_finished(&self) -> bool {
        self.course.is_finished()
    }

    /// The image on its way.
    pub fn stream(&self) -> &Stream {
        self.course.stream()
    }

    /// Sets the stamp of the next call, unless it is above that already: stamps follow the clock.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.endpoint.set_stamp(stamp);
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let Self { endpoint, course, .. } = self;
        if let Ok(sealed) = Broadcast::parse(datagram) {
            course.handle_fragment(now, from, &sealed);
        } else {
            match endpoint.handle_datagram(now, from, datagram) {
                Some(session::SessionEvent::Connected { peer, .. }) => course.connected(now, &peer),
                Some(session::SessionEvent::Message { peer, address, bytes, .. }) => {
                    match Answer::parse(&bytes) {
                        Ok(answer) => {
                            let version = endpoint.spoken(&peer);
                            course.handle_answer(now, &peer, (address, version), &answer);
                        }
                        Err(error) => tell_not_understood(endpoint, now, &peer, error),
                    }
                }
                Some(session::SessionEvent::Incompatible { peer, mismatch, .. }) => {
                    course.incompatible(now, &peer, mismatch);
                }
                Some(session::SessionEvent::StaleCall { .. }) | None => {}
            }
        }
        course.use_sessions(now, endpoint);
    }

    /// The next backup to be made durable.
    pub fn poll_backup(&mut self) -> Option<Backup> {
        self.course.poll_backup()
    }

    /// Records that this host's backup with this digest is durable. From here on it may change its
    /// flash.
    pub fn backup_stored(&mut self, now: Time, host: usize, digest: [u8; 32]) {
        self.course.backup_stored(now, host, digest);
        self.course.use_sessions(now, &mut self.endpoint);
    }

    /// Records that this host's backup could not be made durable, and why: its flash stays as it
    /// is.
    pub fn backup_not_stored(&mut self, now: Time, host: usize, why: String) {
        self.course.backup_not_stored(now, host, why);
        self.course.use_sessions(now, &mut self.endpoint);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.endpoint.handle_timeout(now);
        self.course.handle_timeout(now);
        self.course.use_sessions(now, &mut self.endpoint);
    }

    /// The operator wants it to stop. Hosts that may be writing their flash are let finish; the
    /// others are sent home. The second time the campaign ends at once.
    pub fn interrupt(&mut self, now: Time) {
        self.interrupts += 1;
        match self.interrupts {
            1 => self.course.interrupt(now),
            _ => self.course.abandon(now),
        }
        self.course.use_sessions(now, &mut self.endpoint);
    }

    /// Whether the operator interrupted it.
    pub fn is_interrupted(&self) -> bool {
        self.interrupts > 0
    }

    /// The next datagram to send now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        let said = self.endpoint.poll_transmit().map(Transmit::from);
        said.or_else(|| self.course.poll_transmit(now))
    }

    /// Prepares a part of what will be sent: to be called before waiting.
    pub fn work(&mut self) {
        self.course.work();
    }

    /// When [`Campaign::handle_timeout`] or [`Campaign::poll_transmit`] want to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.course.poll_timeout(), self.endpoint.poll_timeout()].into_iter().flatten().min()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<CampaignEvent> {
        self.course.poll_event()
    }
}

/// Tells a newer host which of its answers nobody here knows. One that talks nonsense is as good as
/// a silent one.
pub(crate) fn tell_not_understood(
    endpoint: &mut Endpoint,
    now: Time,
    peer: &PeerKey,
    error: DecodeError,
) {
    if let DecodeError::UnknownType(kind) = error {
        endpoint.send(now, peer, &Command::NotUnderstood { kind }.emit());
    }
}

#[cfg(test)]
mod tests;
