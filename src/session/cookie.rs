//! Cookies: proof that a datagram comes from the address that it names. Nothing is kept for whoever
//! asked; a cookie is made again to be compared.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;

use super::mac::MacKey;
use crate::random::seed;
use crate::time::Time;
use crate::wire::datagram::{CookieReply, MAC_SIZE};

/// How long cookies are made with one secret. Those of the secret before are good too.
const SECRET_LIFETIME: Duration = Duration::from_secs(120);

/// How long a received cookie is used; whoever gave it would not know it for much longer.
pub(super) const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

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
}
