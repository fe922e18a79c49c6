//! Whom to call next. Sans-IO; the driver looks the places up.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::{info, warn};
use rand_chacha::ChaCha20Rng;

use crate::keys::{ManagerPublicKey, PublicKey as _};
use crate::random;
use crate::time::Time;

/// How long one address is called.
pub const CALL_PATIENCE: Duration = Duration::from_secs(6);

/// First and longest pause after all places have been tried without success.
pub const REST_MIN: Duration = Duration::from_secs(1);
/// See [`REST_MIN`].
pub const REST_MAX: Duration = Duration::from_secs(60);

/// Most addresses that are taken from one place.
pub const CANDIDATES_MAX: usize = 32;

/// A place that may know a manager's address, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel's command line and the provision.
    Stored,
    /// The board's management controller.
    Bmc,
    /// The DHCP server.
    Dhcp,
    /// SRV records of the DHCP server's domain.
    Dns,
    /// Everybody in the network is called.
    Broadcast,
}

impl Source {
    /// Every place, in order.
    pub const ALL: [Self; 5] = [Self::Stored, Self::Bmc, Self::Dhcp, Self::Dns, Self::Broadcast];
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored address",
            Self::Bmc => "BMC",
            Self::Dhcp => "DHCP",
            Self::Dns => "DNS",
            Self::Broadcast => "broadcast",
        })
    }
}

/// An address at which a manager may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address, or a broadcast's.
    pub address: SocketAddr,
    /// Whether it is a broadcast's.
    pub broadcast: bool,
    /// A hint at the manager's key: the key as text, or its fingerprint.
    pub key: Option<String>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look this place up, then [`Seek::found`].
    LookUp(Source),
    /// Call this address until the time given.
    Call(Candidate, Time),
    /// Rest until the time given, then ask [`Seek::next`] again.
    Rest(Time),
}

/// The order of the calls: each place's addresses in turn, then a pause that grows, for ever.
#[derive(Debug)]
pub(super) struct Seek {
    /// The next place to look up; `Source::ALL.len()` when all have been asked in this round.
    place: usize,
    queue: VecDeque<Candidate>,
    rest: Duration,
}

impl Seek {
    pub(super) fn new() -> Self {
        Self { place: 0, queue: VecDeque::new(), rest: REST_MIN }
    }

    pub(super) fn next(&mut self, now: Time, rng: &mut ChaCha20Rng) -> Next {
        if let Some(candidate) = self.queue.pop_front() {
            return Next::Call(candidate, now + CALL_PATIENCE);
        }
        if let Some(source) = Source::ALL.get(self.place) {
            self.place += 1;
            return Next::LookUp(*source);
        }
        self.place = 0;
        let rest = jitter(self.rest, rng);
        self.rest = (self.rest * 2).min(REST_MAX);
        info!("no manager answers, trying all again in {} s", rest.as_secs().max(1));
        Next::Rest(now + rest)
    }

    /// Takes the addresses that a place knows.
    pub(super) fn found(&mut self, source: Source, found: Result<Vec<Candidate>, String>) {
        match found {
            Ok(candidates) if candidates.is_empty() => info!("manager from {source}: none there"),
            Ok(candidates) => {
                for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
                    info!("manager from {source}: {}", candidate.address);
                    self.queue.push_back(candidate);
                }
            }
            Err(error) => warn!("manager from {source}: {error}; going on with the next place"),
        }
    }

    /// A manager said something: pauses begin small again. If it does not help after all, the next
    /// address has its turn, so that no manager keeps hosts from those that are named behind it.
    pub(super) fn answered(&mut self) {
        self.rest = REST_MIN;
    }
}

/// ±25 %, so that hosts that died together do not call together for ever.
pub(super) fn jitter(pause: Duration, rng: &mut ChaCha20Rng) -> Duration {
    random::jitter(pause, 250, rng)
}

/// Returns which of the trusted keys are tried at an address: all, or the one that is hinted at.
/// None when the hint is at a key that is not trusted.
pub(super) fn keys_for<'a>(
    candidate: &Candidate,
    trusted: &'a [ManagerPublicKey],
) -> Vec<&'a ManagerPublicKey> {
    let Some(hint) = &candidate.key else { return trusted.iter().collect() };
    let is_meant = |key: &&ManagerPublicKey| {
        let text = key.to_string();
        key.fingerprint().to_string() == *hint || text.split(' ').any(|word| word == hint)
    };
    let meant: Vec<_> = trusted.iter().filter(is_meant).collect();
    if meant.is_empty() {
        warn!("the manager at {} has a key that is not trusted here: {hint}", candidate.address);
    }
    meant
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand_core::SeedableRng as _;

    fn candidate(number: u8) -> Candidate {
        Candidate { address: ([10, 0, 0, number], 9848).into(), broadcast: false, key: None }
    }

    #[test]
    fn places_are_asked_in_order_for_ever_with_pauses_that_grow_to_a_minute() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (mut seek, mut now) = (Seek::new(), Time::ZERO);
        let mut rests = Vec::new();
        for _ in 0..12 {
            for source in Source::ALL {
                assert_eq!(seek.next(now, &mut rng), Next::LookUp(source));
                match source {
                    Source::Bmc => seek.found(source, Err("it hangs".into())),
                    Source::Dhcp => seek.found(source, Ok(vec![candidate(1), candidate(2)])),
                    _ => seek.found(source, Ok(Vec::new())),
                }
                if source == Source::Dhcp {
                    for number in [1, 2] {
                        let Next::Call(called, until) = seek.next(now, &mut rng) else {
                            panic!("expected a call")
                        };
                        assert_eq!((called, until), (candidate(number), now + CALL_PATIENCE));
                    }
                }
            }
            let Next::Rest(until) = seek.next(now, &mut rng) else { panic!("expected a rest") };
            rests.push(until.since(now));
            now = until;
        }
        assert!(
            rests[0] < Duration::from_secs(2) && rests.iter().all(|rest| *rest <= REST_MAX * 5 / 4)
        );
        assert!(rests[9..].iter().all(|rest| *rest >= REST_MAX * 3 / 4) && rests[9] != rests[10]);
        seek.found(Source::Dns, Ok(vec![candidate(9); 1000]));
        assert_eq!(seek.queue.len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_hint_chooses_among_the_trusted_keys_and_adds_none() {
        use crate::keys::{ManagerSecretKey, SecretKey as _};
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let mut key = || ManagerSecretKey::generate(&mut rng).public();
        let trusted: Vec<ManagerPublicKey> = vec![key(), key()];
        assert_eq!(keys_for(&candidate(1), &trusted).len(), 2);
        let text = trusted[1].to_string();
        let base64 = text.split(' ').nth(1).unwrap().to_owned();
        for hint in [base64, trusted[1].fingerprint().to_string()] {
            let hinted = Candidate { key: Some(hint), ..candidate(1) };
            let keys = keys_for(&hinted, &trusted);
            assert!(keys.len() == 1 && keys[0].to_string() == text);
        }
        let stranger = Candidate { key: Some(key().fingerprint().to_string()), ..candidate(1) };
        assert!(keys_for(&stranger, &trusted).is_empty());
    }
}
