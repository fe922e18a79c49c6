use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use firmcast::time::Time;

use super::{Digest, digest};

/// Longest wait between two tries.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Maximum number of names, addresses and pairs of them that are remembered.
pub const TRACKED_MAX: usize = 10_000;

/// How long failures are remembered after the last one.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// The first wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// Failures without a wait: of a name from one address; of an address, behind which many may be; of
/// a name from anywhere, so that a stranger cannot easily lock somebody out.
const FREE_OF_PAIR: u32 = 5;
const FREE_OF_ADDRESS: u32 = 30;
const FREE_OF_NAME: u32 = 60;

/// How often a password may be tried, by name and by address. A try counts when it begins, so many
/// at once are no way around.
#[derive(Debug, Default)]
pub struct Throttle {
    tracked: HashMap<Digest, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_at: Time,
    free: u32,
}

impl Failures {
    fn next_at(&self) -> Time {
        let Some(over) = self.count.checked_sub(self.free) else { return Time::ZERO };
        let wait = WAIT_FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX));
        self.last_at + wait.min(WAIT_MAX)
    }
}

impl Throttle {
    /// Counts a try.
    ///
    /// # Errors
    /// How long to wait, when it is too early for another one. Then it is not counted.
    pub fn admit(&mut self, name: &str, from: IpAddr, now: Time) -> Result<(), Duration> {
        let keys = keys(name, from);
        let known = keys.iter().filter_map(|(key, _)| self.tracked.get(key));
        let known = known.filter(|failures| now.since(failures.last_at) < MEMORY);
        let next_at = known.map(Failures::next_at).max().unwrap_or(Time::ZERO);
        if now < next_at {
            return Err(next_at.since(now));
        }
        for (key, free) in keys {
            self.make_room(now);
            let failures =
                self.tracked.entry(key).or_insert(Failures { count: 0, last_at: now, free });
            if now.since(failures.last_at) >= MEMORY {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last_at = now;
        }
        Ok(())
    }

    /// The try that was counted last for them was right.
    pub fn succeeded(&mut self, name: &str, from: IpAddr) {
        let [(pair, _), others @ ..] = keys(name, from);
        self.tracked.remove(&pair);
        for (key, _) in others {
            if let Some(failures) = self.tracked.get_mut(&key) {
                failures.count = failures.count.saturating_sub(1);
            }
        }
    }

    /// Forgets those that say least, when there is no room.
    fn make_room(&mut self, now: Time) {
        if self.tracked.len() < TRACKED_MAX {
            return;
        }
        self.tracked.retain(|_, failures| now.since(failures.last_at) < MEMORY);
        if self.tracked.len() < TRACKED_MAX {
            return;
        }
        // Half at once, so that a flood does not make each try look through all.
        let mut counts: Vec<_> =
            self.tracked.values().map(|one| (one.count, one.last_at)).collect();
        counts.sort_unstable();
        let middle = counts[counts.len() / 2];
        self.tracked.retain(|_, one| (one.count, one.last_at) > middle);
    }
}

/// What a try counts for, the pair first. Somebody with IPv6 has a whole /64.
fn keys(name: &str, from: IpAddr) -> [(Digest, u32); 3] {
    let network = match from.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    let of = |kind: u8, name: &str, network: &[u8]| {
        let name = digest(name.as_bytes());
        digest(&[&[kind], network, name.as_slice()].concat())
    };
    [
        (of(0, name, &network), FREE_OF_PAIR),
        (of(1, "", &network), FREE_OF_ADDRESS),
        (of(2, name, &[]), FREE_OF_NAME),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn stranger(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 | number).into()
    }

    /// Tries that come through in `span`, when the next one follows as soon as it may.
    fn tries(
        throttle: &mut Throttle,
        span: Duration,
        caller: impl Fn(u32) -> (String, IpAddr),
    ) -> u32 {
        let (mut now, mut tried, end) = (Time::from_micros(1), 0, Time::from_micros(1) + span);
        while now < end && tried < 100_000 {
            let (name, from) = caller(tried);
            match throttle.admit(&name, from, now) {
                Ok(()) => tried += 1,
                Err(wait) => now += wait,
            }
        }
        tried
    }

    #[test]
    fn a_guesser_gets_few_tries_a_day_from_one_address_or_from_many() {
        let one = tries(&mut Throttle::default(), DAY, |_| ("anna".into(), HOME));
        assert!((100..120).contains(&one), "{one}");
        let spray = tries(&mut Throttle::default(), DAY, |number| (format!("n{number}"), HOME));
        assert!((125..145).contains(&spray), "{spray}");
        let many = tries(&mut Throttle::default(), DAY, |number| ("anna".into(), stranger(number)));
        assert!((150..175).contains(&many), "{many}");
    }

    #[test]
    fn a_person_is_not_kept_out_by_their_own_mistakes_or_by_a_few_of_a_stranger() {
        let mut throttle = Throttle::default();
        for _ in 0..3 {
            for _ in 0..FREE_OF_PAIR - 1 {
                throttle.admit("anna", HOME, Time::ZERO).expect("a mistake");
            }
            throttle.admit("anna", HOME, Time::ZERO).expect("the right one");
            throttle.succeeded("anna", HOME);
        }
        for _ in 0..20 {
            let _ = throttle.admit("anna", stranger(1), Time::ZERO);
        }
        throttle.admit("anna", HOME, Time::ZERO).expect("at home");
    }

    #[test]
    fn a_flood_of_names_takes_bounded_room_and_hides_nobody_who_has_failed_often() {
        let mut throttle = Throttle::default();
        while throttle.admit("anna", HOME, Time::ZERO).is_ok() {}
        for number in 0..3 * u32::try_from(TRACKED_MAX).expect("fits") {
            let _ = throttle.admit(&format!("n{number}"), stranger(number), Time::ZERO);
        }
        assert!(throttle.tracked.len() <= TRACKED_MAX, "{}", throttle.tracked.len());
        assert!(throttle.admit("anna", HOME, Time::ZERO).is_err());
    }
}
