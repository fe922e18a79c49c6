//! Where a manager is, in the form that configuration, BMC and DHCP hold it:
//! `firmcast://HOST[:PORT][/][?key=KEY]`.
//!
//! HOST is a name, an IPv4 address, or an IPv6 address in brackets; PORT is 9848 if it is left out.
//! KEY is the manager's public key in the base64 of key files, percent-encoded where RFC 3986 asks
//! for it, or its fingerprint: it says which of the trusted keys to try, and never adds to the
//! trust.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::wire::MANAGER_PORT;

/// Longest URL, in bytes: what a FRU record can hold.
pub const URL_SIZE_MAX: usize = 254;

/// Maximum length of a host name (RFC 1035 section 2.3.4).
const NAME_SIZE_MAX: usize = 253;

const SCHEME: &str = "firmcast://";

/// Where to ask for help.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ManagerUrl {
    /// Who.
    pub host: UrlHost,
    /// UDP port.
    pub port: u16,
    /// A hint at the key, as it is written.
    pub key: Option<String>,
}

/// A host in a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UrlHost {
    /// An address.
    Address(IpAddr),
    /// A name to look up.
    Name(String),
}

/// Why a text is not the URL of a manager.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than any.
    #[error("{size_bytes} bytes, expected at most {URL_SIZE_MAX}")]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// Another scheme.
    #[error("expected {SCHEME}HOST[:PORT][?key=KEY], e.g. firmcast://192.0.2.1:9848")]
    Scheme,
    /// No host, or none that can be.
    #[error("{0:?} is no host name or address")]
    Host(String),
    /// No port number.
    #[error("{0:?} is no UDP port")]
    Port(String),
    /// Something behind the port that has no meaning.
    #[error("{0:?} has no meaning here, expected /?key=KEY or nothing")]
    Rest(String),
}

impl ManagerUrl {
    /// Returns the URL of an address.
    pub fn of(address: SocketAddr) -> Self {
        Self { host: UrlHost::Address(address.ip()), port: address.port(), key: None }
    }

    /// Returns the address, unless it is a name.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            UrlHost::Address(address) => Some(SocketAddr::new(address, self.port)),
            UrlHost::Name(_) => None,
        }
    }
}

impl FromStr for ManagerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_SIZE_MAX {
            return Err(UrlError::TooLong { size_bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        Ok(Self { host: parse_host(host)?, port, key: parse_rest(rest)? })
    }
}

fn split_port(authority: &str) -> Result<(&str, u16), UrlError> {
    let from = authority.rfind(']').unwrap_or(0);
    let Some(colon) = authority[from..].find(':') else { return Ok((authority, MANAGER_PORT)) };
    let (host, port) = (&authority[..from + colon], &authority[from + colon + 1..]);
    let number = port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+'));
    Ok((host, number.ok_or_else(|| UrlError::Port(port.to_owned()))?))
}

fn parse_host(host: &str) -> Result<UrlHost, UrlError> {
    let wrong = || UrlError::Host(host.to_owned());
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(wrong)?;
        return inner.parse::<Ipv6Addr>().map(|a| UrlHost::Address(a.into())).map_err(|_| wrong());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(UrlHost::Address(address.into()));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() <= NAME_SIZE_MAX && name.split('.').all(is_label) {
        return Ok(UrlHost::Name(name.to_ascii_lowercase()));
    }
    Err(wrong())
}

fn parse_rest(rest: &str) -> Result<Option<String>, UrlError> {
    let wrong = || UrlError::Rest(rest.to_owned());
    match rest.strip_prefix('/').unwrap_or(rest) {
        "" => Ok(None),
        query => {
            let key =
                query.strip_prefix("?key=").filter(|key| !key.is_empty()).ok_or_else(wrong)?;
            decode(key).map(Some).ok_or_else(wrong)
        }
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1); only what can be in a key or a fingerprint
/// remains.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            other => other,
        };
        let allowed =
            byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b':' | b'-' | b'_');
        allowed.then(|| decoded.push(char::from(byte)))?;
    }
    Some(decoded)
}

impl fmt::Display for ManagerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        match &self.host {
            UrlHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            UrlHost::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            UrlHost::Name(name) => f.write_str(name)?,
        }
        write!(f, ":{}", self.port)?;
        let Some(key) = &self.key else { return Ok(()) };
        f.write_str("/?key=")?;
        for character in key.chars() {
            match character {
                '+' | '/' | '=' => write!(f, "%{:02X}", character as u32)?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written) in [
            ("firmcast://192.0.2.1", "firmcast://192.0.2.1:9848"),
            ("firmcast://[2001:db8::1]:7/", "firmcast://[2001:db8::1]:7"),
            ("firmcast://Rescue.example.", "firmcast://rescue.example:9848"),
            ("firmcast://m:1?key=SHA256:a%2Bb", "firmcast://m:1/?key=SHA256:a%2Bb"),
        ] {
            assert_eq!(text.parse::<ManagerUrl>().unwrap().to_string(), written);
        }
        for text in [
            "",
            "http://a",
            "firmcast://",
            "firmcast://:1",
            "firmcast://a:0",
            "firmcast://a:65536",
            "firmcast://a:+1",
            "firmcast://[::1",
            "firmcast://a b",
            "firmcast://a/x",
            "firmcast://a?key=",
            "firmcast://a?key=%zz",
            "firmcast://a?key=%0a",
            "firmcast://a@b",
            "firmcast://a..b",
        ] {
            assert!(text.parse::<ManagerUrl>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_the_same(
            text in "(firmcast://)?[a-z0-9\\[\\]:./?=%_-]{0,60}|\\PC{0,300}",
        ) {
            if let Ok(url) = text.parse::<ManagerUrl>() {
                prop_assert_eq!(url.to_string().parse::<ManagerUrl>(), Ok(url));
            }
        }
    }
}
