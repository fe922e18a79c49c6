//! Cookies: proof that a datagram comes from the address that it names. Nothing is kept for whoever
//! asked; a cookie is made again to be compared.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::mac::MacKey;
use crate::random::seed;
use crate::time::Time;
use crate::wire::datagram::{CookieReply, MAC_SIZE};

/// How long cookies are made with one secret. Those of the secret before are good too.
const SECRET_LIFETIME: Duration = Duration::from_secs(120);

/// How long a received cookie is used; whoever gave it would not know it for much longer.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// Maximum number of received cookies among which the true one is looked for.
pub(super) const KEPT_MAX: usize = 3;

/// A cookie, as it travels.
pub(super) type Cookie = [u8; MAC_SIZE];

const MAC_LABEL: &str = "firmcast cookie mac";

/// Returns the check over `checked` that shows that its sender has received `cookie`.
pub(super) fn mac(cookie: &Cookie, checked: &[u8]) -> [u8; MAC_SIZE] {
    MacKey::new(MAC_LABEL, cookie).compute(checked)
}

/// Returns the reply with `cookie` to what was sent with `mac`.
pub(super) fn reply(
    key: &MacKey,
    receiver: u32,
    cookie: Cookie,
    mac: &[u8; MAC_SIZE],
) -> CookieReply {
    let mut reply = CookieReply { receiver, cookie, mac: [0; MAC_SIZE] };
    reply.mac = key.compute(&reply.checked(mac));
    reply
}

/// Returns whether the owner of `key`, or somebody on the way, replied to what was sent with `mac`.
pub(super) fn is_reply(key: &MacKey, reply: &CookieReply, mac: &[u8; MAC_SIZE]) -> bool {
    key.verify(&reply.checked(mac), &reply.mac)
}

/// The cookies that came in reply to the calls for one peer, of which all but one may be forged.
///
/// They are tried in turn, so a forged one costs one call. While there is no room, a new one may
/// only take the place of the one that was tried last, which the peer has not taken. Which reply to
/// a call gets that place is left to chance: whoever answers first, last, or often, is not sure to
/// keep out the peer.
#[derive(Debug, Default)]
pub(super) struct Received {
    kept: Vec<(Cookie, Time)>,
    /// Index of the one that was tried last.
    tried: usize,
    /// Number of cookies that came since then.
    replies: u32,
}

impl Received {
    /// Keeps a cookie, perhaps. Returns whether it is the only one.
    pub(super) fn hear(&mut self, now: Time, cookie: Cookie, rng: &mut impl RngCore) -> bool {
        self.kept.retain(|(_, until)| now < *until);
        self.replies = self.replies.saturating_add(1);
        let entry = (cookie, now + COOKIE_LIFETIME);
        if let Some(known) = self.kept.iter_mut().find(|(known, _)| *known == cookie) {
            *known = entry;
        } else if self.kept.len() < KEPT_MAX {
            self.kept.push(entry);
            return self.kept.len() == 1;
        } else if rng.next_u32().is_multiple_of(self.replies) {
            self.kept[self.tried % KEPT_MAX] = entry;
        }
        false
    }

    /// Returns the cookie for the next call.
    pub(super) fn next(&mut self, now: Time) -> Option<Cookie> {
        self.kept.retain(|(_, until)| now < *until);
        self.replies = 0;
        self.tried = (self.tried + 1).checked_rem(self.kept.len())?;
        self.kept.get(self.tried).map(|(cookie, _)| *cookie)
    }
}

/// Makes cookies, and knows them again.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    secrets: Option<Secrets>,
}

#[derive(Debug)]
struct Secrets {
    current: MacKey,
    previous: MacKey,
    until: Time,
}

impl CookieJar {
    /// Returns the cookie for `from`.
    pub(super) fn make(&mut self, now: Time, from: SocketAddr, rng: &mut ChaCha20Rng) -> Cookie {
        let mut fresh = || MacKey::new("firmcast cookie", &seed(rng));
        let renewed = match self.secrets.take() {
            Some(secrets) if now < secrets.until => secrets,
            old => {
                let previous = old
                    .filter(|old| now < old.until + SECRET_LIFETIME)
                    .map_or_else(&mut fresh, |old| old.current);
                Secrets { current: fresh(), previous, until: now + SECRET_LIFETIME }
            }
        };
        let cookie = renewed.current.compute(&place(from));
        self.secrets = Some(renewed);
        cookie
    }

    /// Returns whether `mac` over `checked` was made with a cookie of ours for `from`.
    pub(super) fn knows(
        &self,
        now: Time,
        from: SocketAddr,
        checked: &[u8],
        mac: &[u8; MAC_SIZE],
    ) -> bool {
        let Some(secrets) = &self.secrets else { return false };
        let place = place(from);
        let made_with =
            |secret: &MacKey| MacKey::new(MAC_LABEL, &secret.compute(&place)).verify(checked, mac);
        let (is_current, is_previous) =
            (now < secrets.until + SECRET_LIFETIME, now < secrets.until);
        (is_current && made_with(&secrets.current)) || (is_previous && made_with(&secrets.previous))
    }
}

/// The address and port as bytes.
fn place(from: SocketAddr) -> Vec<u8> {
    let mut bytes = match from.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng as _;

    #[test]
    fn a_cookie_is_good_for_its_place_and_time() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut jar = CookieJar::default();
        let from = SocketAddr::from(([192, 0, 2, 1], 9));
        let at = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        assert!(!jar.knows(at(0), from, b"call", &[0; 16]));
        let made = mac(&jar.make(at(0), from, &mut rng), b"call");
        assert!(jar.knows(at(1), from, b"call", &made));
        assert!(!jar.knows(at(1), from, b"another call", &made));
        assert!(!jar.knows(at(1), SocketAddr::from(([192, 0, 2, 1], 8)), b"call", &made));
        assert!(!jar.knows(at(1), SocketAddr::from(([192, 0, 2, 2], 9)), b"call", &made));
        // With the next secret the cookies of the last one are good, with the one after it not.
        jar.make(at(130), from, &mut rng);
        assert!(jar.knows(at(131), from, b"call", &made));
        jar.make(at(260), from, &mut rng);
        assert!(!jar.knows(at(261), from, b"call", &made));
        // Nobody has asked for long.
        let made = mac(&jar.make(at(261), from, &mut rng), b"call");
        assert!(!jar.knows(at(261 + 240), from, b"call", &made));
    }

    #[test]
    fn received_cookies_are_tried_in_turn_and_end() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut received = Received::default();
        assert_eq!(received.next(Time::ZERO), None);
        assert!(received.hear(Time::ZERO, [1; 16], &mut rng));
        assert_eq!(received.next(Time::ZERO), Some([1; 16]));
        let later = Time::ZERO + COOKIE_LIFETIME / 2;
        for number in 2..=100 {
            assert!(!received.hear(later, [number; 16], &mut rng));
            assert!(!received.hear(later, [2; 16], &mut rng));
        }
        // Only the one that was tried may have gone.
        let tried: Vec<_> = (0..2 * KEPT_MAX).filter_map(|_| received.next(later)).collect();
        assert!(tried[..3].contains(&[2; 16]) && tried[..3].contains(&[3; 16]), "{tried:?}");
        assert_eq!(tried[..3], tried[3..]);
        assert_eq!(received.next(later + COOKIE_LIFETIME), None);
        assert!(received.hear(later + COOKIE_LIFETIME, [1; 16], &mut rng));
    }
}
