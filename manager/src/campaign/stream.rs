//! The image on its way to all hosts at once.

use std::collections::{BTreeSet, VecDeque};

use firmcast::time::Time;
use firmcast::transfer::{self, HostId, HostProgress, Sender, SenderConfig, SenderStats};
use firmcast::transfer::{Stall, TransferError};
use firmcast::wire::broadcast::{FragmentStatus, TransferParameters};

use super::config::{Delivery, Terms};
use super::event::{Destination, Transmit};
use super::gathering::{Expected, Gathering};
use super::host::Host;
use super::stage::Stage;

/// A stream of a rescue waits for those who come before this part of the payload was sent: later
/// ones live from repair.
const YOUNG_DIVISOR: u64 = 2;

/// The sender of a campaign, and who listens to it.
#[derive(Debug)]
pub struct Stream {
    sender: Sender,
    delivery: Delivery,
    /// How all copies of the stream together are sent.
    config: SenderConfig,
    /// Hosts that receive it; by unicast each costs a copy.
    receivers: u32,
    /// Whether its hosts are dead ones: who else comes, nobody knows.
    is_rescue: bool,
    /// The hosts that wait for others before the stream starts, or goes on, and until when.
    gathering: Gathering,
    waits_until: Option<Time>,
    started: bool,
    /// Hosts that joined when everybody else had the image.
    newcomers: Vec<HostId>,
    /// Fragments that were sent before those who are served now were gathered.
    sent_before: u64,
    /// Copies for single hosts, of the datagram that was sent last.
    copies: VecDeque<Transmit>,
    /// Hosts whose last answer to a status request cannot be.
    senseless: BTreeSet<HostId>,
}

impl Stream {
    pub(super) fn new(
        terms: &Terms,
        parameters: &TransferParameters,
        payload: Vec<u8>,
    ) -> Result<Self, TransferError> {
        let rate_cap_bits_per_s = terms.rate_bits_per_s.max(1);
        let config = SenderConfig { rate_cap_bits_per_s, is_polite: terms.is_polite };
        Ok(Self {
            sender: Sender::new(payload, parameters, config)?,
            delivery: terms.delivery,
            config,
            receivers: 0,
            is_rescue: terms.rescue.is_some(),
            gathering: Gathering::new(match terms.rescue {
                Some(rescue) => Expected::Anybody(rescue.gather),
                None => Expected::Known(terms.deadlines.join_window()),
            }),
            waits_until: None,
            started: false,
            newcomers: Vec::new(),
            sent_before: 0,
            copies: VecDeque::new(),
            senseless: BTreeSet::new(),
        })
    }

    /// Carries another payload from now on; nothing of the one before was sent.
    pub(super) fn carry(
        &mut self,
        payload: Vec<u8>,
        parameters: &TransferParameters,
    ) -> Result<(), TransferError> {
        self.sender = Sender::new(payload, parameters, self.config)?;
        Ok(())
    }

    /// Another cap from now on, for all copies of the stream together.
    pub(super) fn set_rate_cap(&mut self, now: Time, rate_cap_bits_per_s: u64) {
        self.config.rate_cap_bits_per_s = rate_cap_bits_per_s;
        self.share_cap(now);
    }

    fn share_cap(&mut self, now: Time) {
        let copies = match self.delivery {
            Delivery::Unicast => u64::from(self.receivers.max(1)),
            Delivery::Broadcast | Delivery::Group(_) => 1,
        };
        self.sender.set_rate_cap(now, (self.config.rate_cap_bits_per_s / copies).max(1));
    }

    /// Whether it takes a part of the link now: it has begun, somebody listens, and nobody is
    /// waited for.
    pub(crate) fn is_active(&self) -> bool {
        self.started && self.receivers > 0 && self.waits_until.is_none()
    }

    /// Whether hosts that receive it wait for others.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits_until.is_some()
    }

    /// Whether it has begun.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Figures so far, of one copy of the stream.
    pub fn stats(&self) -> SenderStats {
        self.sender.stats()
    }

    /// The present rate of one copy of the stream.
    pub fn rate_bits_per_s(&self) -> u64 {
        self.sender.rate_bits_per_s()
    }

    /// How far a host was when it last answered a status request.
    pub fn host_progress(&self, host: usize) -> Option<HostProgress> {
        self.sender.host_progress(id(host)?)
    }

    /// Takes over that a host came from one stage to another.
    pub(super) fn host_moved(&mut self, now: Time, host: usize, from: Stage, to: Stage) {
        let Some(id) = id(host) else { return };
        self.senseless.remove(&id);
        if to == Stage::Transfer {
            let is_done = self.started && self.is_rescue && self.sender.is_done();
            if is_done && self.newcomers.is_empty() {
                self.gathering.close();
                self.sent_before = self.sender.stats().fragments;
            }
            if !self.started || self.is_rescue && (is_done || self.has_just_begun()) {
                self.gathering.came(now);
                self.waits_until = self.gathering.until();
            }
            if is_done {
                self.newcomers.push(id);
            } else {
                // A campaign has fewer hosts than a sender serves.
                let _ = self.sender.add_host(now, id);
            }
            self.receivers += 1;
        } else if from == Stage::Transfer {
            self.sender.remove_host(id);
            self.newcomers.retain(|newcomer| *newcomer != id);
            self.receivers -= 1;
        }
        if self.delivery == Delivery::Unicast {
            self.share_cap(now);
        }
    }

    pub(super) fn handle_status(&mut self, now: Time, host: usize, status: &FragmentStatus) {
        if let Some(id) = id(host) {
            // One whose answers make no sense counts as one that does not answer.
            match self.sender.handle_status(now, id, status) {
                Ok(()) => self.senseless.remove(&id),
                Err(_) => self.senseless.insert(id),
            };
        }
    }

    /// Whether so little was sent that it is worth waiting for those who come now.
    fn has_just_begun(&self) -> bool {
        let sent = self.sender.stats().fragments - self.sent_before;
        sent < u64::from(self.sender.source_fragments()) / YOUNG_DIVISOR
    }

    /// Starts, or goes on with those who came late, when nobody is waited for any more: all are
    /// there, or have had their time. Gives the number of hosts when it starts.
    pub(super) fn run_if_ready(&mut self, now: Time, all_are_there: bool) -> Option<usize> {
        self.waits_until.take_if(|until| all_are_there || now >= *until)?;
        for id in self.newcomers.drain(..) {
            let _ = self.sender.add_host(now, id);
        }
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        self.sender.start(now);
        Some(self.receivers as usize)
    }

    /// Hosts that the stream no longer waits for, and why.
    pub(super) fn take_stalled(&mut self) -> Vec<(usize, &'static str)> {
        let mut stalled = Vec::new();
        while let Some(event) = self.sender.poll_event() {
            if let transfer::TransferEvent::Stalled(HostId(host), stall) = event {
                let why = match stall {
                    Stall::Silent if self.senseless.contains(&HostId(host)) => {
                        "it answers, but its answers to status requests make no sense"
                    }
                    Stall::Silent => "it does not answer status requests",
                    Stall::NoProgress => "it answers, but what is sent does not help it",
                };
                stalled.push((host as usize, why));
            }
        }
        stalled
    }

    pub(super) fn poll_transmit(&mut self, now: Time, hosts: &[Host]) -> Option<Transmit> {
        if let Some(copy) = self.copies.pop_front() {
            return Some(copy);
        }
        if self.waits_until.is_some() {
            return None;
        }
        loop {
            let bytes = self.sender.poll_transmit(now)?;
            if self.delivery != Delivery::Unicast {
                return Some(Transmit { destination: Destination::Group, bytes });
            }
            let receivers = hosts.iter().filter(|host| host.stage() == Stage::Transfer);
            self.copies = receivers
                .filter_map(Host::recovery_address)
                .map(|to| Transmit { destination: Destination::Host(to), bytes: bytes.clone() })
                .collect();
            if let Some(copy) = self.copies.pop_front() {
                return Some(copy);
            }
        }
    }

    /// Prepares a part of what will be sent: to be called before waiting. Returns whether there
    /// was something to do.
    pub(super) fn work(&mut self) -> bool {
        self.sender.work()
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.waits_until.or_else(|| self.sender.poll_timeout())
    }
}

fn id(host: usize) -> Option<HostId> {
    u32::try_from(host).ok().map(HostId)
}
