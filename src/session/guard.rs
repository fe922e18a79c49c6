//! Who gets past before anything is spent on public-key work.
//!
//! ```text
//! a copy of what was handled before -------------> dropped
//! with a cookie: the limit of its source --------> handled, or dropped
//! without one: the limit of all who have none ---> handled, or answered with a cookie
//! ```
//!
//! So a flood from forged addresses, of copies, or from one place leaves room for everybody else. A
//! sender has to prove its address only while others use up the room of those who have not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rand_chacha::ChaCha20Rng;

use super::cookie::{Cookie, CookieJar};
use super::limit::RateLimit;
use crate::time::Time;
use crate::wire::datagram::MAC_SIZE;

/// Maximum number of datagrams that are handled in a second for one address that was proved.
pub(super) const PER_SOURCE_PER_SECOND: u32 = 10;

/// The same for all addresses of a /64 of IPv6 together, which may have one owner: no single
/// address can use this up.
const PER_PREFIX_PER_SECOND: u32 = 100;

/// How much a guard lets through, and how much it remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Handled in a second from all senders that have proved nothing, and once more as many of
    /// those with a cookie, whatever their sources.
    pub(super) per_second: u32,
    /// Maximum number of handled datagrams whose copies are known.
    pub(super) seen_max: usize,
    /// Maximum number of sources with a limit of their own; the one not heard for longest goes.
    pub(super) sources_max: usize,
}

/// What to do with a datagram whose mac is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Handle it.
    Handle,
    /// Nothing.
    Drop,
    /// Answer with this cookie, and forget it.
    Prove(Cookie),
}

/// A datagram, as the guard looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knock<'a> {
    /// Where it says that it comes from.
    pub(super) from: SocketAddr,
    /// What `cookie_mac` is over.
    pub(super) checked: &'a [u8],
    /// Its keyed check, which is right.
    pub(super) mac: &'a [u8; MAC_SIZE],
    /// The check made with a cookie, if there is one.
    pub(super) cookie_mac: Option<&'a [u8; MAC_SIZE]>,
}

/// Lets some datagrams through.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    seen: Seen,
    unproven: RateLimit,
    proven: RateLimit,
    /// By address, and by the /64 of one.
    sources: BTreeMap<(Extent, IpAddr), Source>,
    jar: CookieJar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Address,
    Prefix,
}

#[derive(Debug)]
struct Source {
    limit: RateLimit,
    heard: Time,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seen: Seen::default(),
            unproven: RateLimit::new(limits.per_second),
            proven: RateLimit::new(limits.per_second.saturating_mul(PROVEN_SHARE)),
            sources: BTreeMap::new(),
            jar: CookieJar::default(),
        }
    }

    pub(super) fn check(&mut self, now: Time, knock: Knock<'_>, rng: &mut ChaCha20Rng) -> Pass {
        let Knock { from, checked, mac, cookie_mac } = knock;
        if self.seen.contains(mac) {
            return Pass::Drop;
        }
        let proves = |mac| self.jar.knows(now, from, checked, mac);
        match cookie_mac.is_some_and(proves) {
            true if self.take_of_source(now, from) && self.proven.take(now) => Pass::Handle,
            true => Pass::Drop,
            false if self.unproven.take(now) => Pass::Handle,
            false => Pass::Prove(self.jar.make(now, from, rng)),
        }
    }

    /// Returns the owner of the sender's address, if the sender has proved that it is there.
    pub(super) fn proven_source(&self, now: Time, knock: Knock<'_>) -> Option<IpAddr> {
        let Knock { from, checked, cookie_mac, .. } = knock;
        let address = from.ip().to_canonical();
        let proves = |mac| self.jar.knows(now, from, checked, mac);
        cookie_mac.is_some_and(proves).then(|| prefix(address).unwrap_or(address))
    }

    /// Returns the cookie with which a sender proves that it is at this address.
    pub(super) fn cookie(&mut self, now: Time, from: SocketAddr, rng: &mut ChaCha20Rng) -> Cookie {
        self.jar.make(now, from, rng)
    }

    /// Remembers what was handled and is worth it: copies of it are dropped from here on.
    pub(super) fn remember(&mut self, mac: &[u8; MAC_SIZE]) {
        self.seen.insert(mac, self.limits.seen_max);
    }

    fn take_of_source(&mut self, now: Time, from: SocketAddr) -> bool {
        let address = from.ip().to_canonical();
        let of_address = ((Extent::Address, address), PER_SOURCE_PER_SECOND);
        let of_prefix =
            prefix(address).map(|prefix| ((Extent::Prefix, prefix), PER_PREFIX_PER_SECOND));
        self.take_of(now, of_address) && of_prefix.is_none_or(|prefix| self.take_of(now, prefix))
    }

    fn take_of(&mut self, now: Time, (place, per_second): ((Extent, IpAddr), u32)) -> bool {
        if !self.sources.contains_key(&place) && self.sources.len() >= self.limits.sources_max {
            let silent = self.sources.iter().min_by_key(|(_, source)| source.heard);
            let silent = silent.map(|(place, _)| *place);
            silent.and_then(|place| self.sources.remove(&place));
        }
        let limit = RateLimit::new(per_second);
        let source = self.sources.entry(place).or_insert(Source { limit, heard: now });
        source.heard = now;
        source.limit.take(now)
    }
}

/// How many times as much of those with a cookie is handled as of those without one.
const PROVEN_SHARE: u32 = 10;

/// Returns the /64 of an address of IPv6.
fn prefix(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    Some(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
}

/// The checks of what was handled. They are as good as digests: nobody can make another datagram
/// with the same.
#[derive(Debug, Default)]
struct Seen {
    known: BTreeSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    fn contains(&self, mac: &[u8; MAC_SIZE]) -> bool {
        self.known.contains(&short(mac))
    }

    fn insert(&mut self, mac: &[u8; MAC_SIZE], max: usize) {
        if self.order.len() >= max {
            self.order.pop_front().map(|oldest| self.known.remove(&oldest));
        }
        if self.known.insert(short(mac)) {
            self.order.push_back(short(mac));
        }
    }
}

fn short(mac: &[u8; MAC_SIZE]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&mac[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rand_core::{RngCore as _, SeedableRng as _};

    use super::*;
    use crate::session::cookie;

    const LIMITS: Limits = Limits { per_second: 20, seen_max: 64, sources_max: 8 };

    fn at(number: u32) -> SocketAddr {
        SocketAddr::from((number.to_be_bytes(), 9))
    }

    struct World {
        guard: Guard,
        rng: ChaCha20Rng,
        now: Time,
    }

    impl World {
        fn new() -> Self {
            let (guard, rng) = (Guard::new(LIMITS), ChaCha20Rng::from_seed([1; 32]));
            Self { guard, rng, now: Time::ZERO }
        }

        fn knock(&mut self, from: SocketAddr, mac: [u8; 16], cookie: Option<Cookie>) -> Pass {
            let cookie_mac = cookie.map(|cookie| cookie::mac(&cookie, &mac));
            let (checked, cookie_mac) = (mac.as_slice(), cookie_mac.as_ref());
            let knock = Knock { from, checked, mac: &mac, cookie_mac };
            let pass = self.guard.check(self.now, knock, &mut self.rng);
            if pass == Pass::Handle {
                self.guard.remember(&mac);
            }
            pass
        }

        fn fresh(&mut self, from: SocketAddr, cookie: Option<Cookie>) -> Pass {
            let mut mac = [0; 16];
            self.rng.fill_bytes(&mut mac);
            self.knock(from, mac, cookie)
        }
    }

    #[test]
    fn copies_cost_nothing() {
        let mut world = World::new();
        assert_eq!(world.knock(at(1), [7; 16], None), Pass::Handle);
        for _ in 0..100_000 {
            assert_eq!(world.knock(at(1), [7; 16], None), Pass::Drop);
        }
        assert_eq!(world.fresh(at(2), None), Pass::Handle);
    }

    /// The flood comes from everywhere, and knows no cookie of these addresses.
    #[test]
    fn a_flood_from_forged_addresses_keeps_nobody_out() {
        let mut world = World::new();
        for number in 0..100_000 {
            world.now += Duration::from_micros(10);
            world.fresh(at(number % 10_000), Some([3; 16]));
        }
        let Pass::Prove(cookie) = world.fresh(at(1 << 31), None) else { panic!("no cookie") };
        assert_eq!(world.fresh(at(1 << 31), Some(cookie)), Pass::Handle);
        assert!(world.guard.sources.len() <= LIMITS.sources_max);
        assert!(world.guard.seen.order.len() <= LIMITS.seen_max);
        assert_eq!(world.guard.seen.order.len(), world.guard.seen.known.len());
    }

    #[test]
    fn who_floods_with_a_cookie_uses_up_its_own_share() {
        let mut world = World::new();
        while world.fresh(at(1), None) == Pass::Handle {}
        let Pass::Prove(cookie) = world.fresh(at(1), None) else { panic!("no cookie") };
        let passed = (0..1000).filter(|_| world.fresh(at(1), Some(cookie)) == Pass::Handle).count();
        assert_eq!(passed, PER_SOURCE_PER_SECOND as usize);
        let Pass::Prove(other) = world.fresh(at(2), None) else { panic!("no cookie") };
        assert_eq!(world.fresh(at(2), Some(other)), Pass::Handle);
        // The cookie of one is none of the other's.
        assert!(matches!(world.fresh(at(3), Some(other)), Pass::Prove(_)));
    }

    /// With one address nobody shuts out the neighbours; with all of a /64 nobody takes everything.
    #[test]
    fn one_owner_of_a_prefix_has_its_share() {
        let mut world = World::new();
        while world.fresh(at(1), None) == Pass::Handle {}
        let near = |host: u16| SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, host], 9));
        let mut handled = |host, count: u32| {
            let Pass::Prove(cookie) = world.fresh(near(host), None) else { panic!("no cookie") };
            let mut passes = (0..count).map(|_| world.fresh(near(host), Some(cookie)));
            passes.by_ref().filter(|pass| *pass == Pass::Handle).count() as u32
        };
        assert_eq!(handled(1, 1000), PER_SOURCE_PER_SECOND);
        assert_eq!(handled(2, 1), 1, "a neighbour");
        let all: u32 = (3..100).map(|host| handled(host, 20)).sum();
        assert!(all < PER_PREFIX_PER_SECOND, "{all}");
        assert_eq!(prefix(IpAddr::from([192, 0, 2, 1])), None);
    }
}
