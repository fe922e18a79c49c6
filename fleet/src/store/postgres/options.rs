//! What an operator says of TLS, by the names of libpq: `sslmode`, `sslrootcert`, `sslcert`,
//! `sslkey` (PostgreSQL's manual, "SSL Support"). The driver knows only the first one, and not all
//! of its words.

use std::net::IpAddr;
use std::path::PathBuf;

use ::postgres::Config;
use ::postgres::config::{Host, SslMode};
use percent_encoding::percent_decode_str;

use crate::store::error::StoreError;

/// What is done about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it. Nobody knows whose it is.
    Prefer,
    /// TLS. Nobody knows whose it is.
    Require,
    /// TLS, with a certificate of an authority that is trusted.
    VerifyCa,
    /// The same, for the name that was asked for.
    VerifyFull,
}

/// What an operator says of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// The certificates of the authorities that are trusted; none for those of the system.
    pub(super) root_cert: Option<PathBuf>,
    /// What this program shows the server, which may want to know who it is.
    pub(super) client: Option<ClientFiles>,
}

/// The files of who connects, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientFiles {
    /// The certificate, and those between it and an authority that the server trusts.
    pub(super) cert: PathBuf,
    /// Its private key.
    pub(super) key: PathBuf,
}

/// What was found of TLS in a URL.
#[derive(Default)]
struct Found {
    mode: Option<String>,
    root_cert: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

/// Reads how a database is reached: a URL, or `key=value` pairs.
///
/// # Errors
/// When something in it is not understood.
pub(super) fn read(text: &str) -> Result<(Config, Options), StoreError> {
    let mut found = Found::default();
    let rest = match text.starts_with("postgres://") || text.starts_with("postgresql://") {
        true => found.take_from_url(text),
        false => found.take_from_pairs(text),
    };
    let mut config: Config = rest.parse().map_err(super::failed)?;
    let options = found.options(&config)?;
    config.ssl_mode(match options.mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    });
    Ok((config, options))
}

impl Found {
    /// Keeps what is about TLS, and says whether it was.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root_cert,
            "sslcert" => &mut self.cert,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    /// Returns a URL without what is about TLS.
    fn take_from_url(&mut self, url: &str) -> String {
        // As the driver reads it: what stands before the sign may have a question mark.
        let after_login = url.find('@').unwrap_or(0);
        let Some(at) = url[after_login..].find('?').map(|at| after_login + at) else {
            return url.to_owned();
        };
        let others = url[at + 1..].split('&').filter(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            !self.take(key, &percent_decode_str(value).decode_utf8_lossy())
        });
        let others: Vec<&str> = others.collect();
        let sign = if others.is_empty() { "" } else { "?" };
        format!("{}{sign}{}", &url[..at], others.join("&"))
    }

    /// Returns pairs without those that are about TLS.
    fn take_from_pairs(&mut self, text: &str) -> String {
        let (mut others, mut rest) = (String::new(), text.trim_start());
        while let Some((key, after)) = rest.split_once('=') {
            let after = after.trim_start();
            let (value, bytes) = pair_value(after);
            if !self.take(key.trim(), &value) {
                others += &format!("{}={} ", key.trim(), &after[..bytes]);
            }
            rest = after[bytes..].trim_start();
        }
        // What is no pair is the driver's to refuse.
        others + rest
    }

    fn options(self, config: &Config) -> Result<Options, StoreError> {
        let mode = match self.mode.as_deref() {
            None if is_local(config) => Mode::Prefer,
            None | Some("verify-full") => Mode::VerifyFull,
            Some("verify-ca") => Mode::VerifyCa,
            // As in libpq, where a file with authorities is there.
            Some("require") if self.root_cert.is_some() => Mode::VerifyCa,
            Some("require") => Mode::Require,
            Some("prefer") => Mode::Prefer,
            Some("disable") => Mode::Disable,
            Some(other) => {
                let words = "expected disable, prefer, require, verify-ca or verify-full";
                return Err(bad("sslmode", &format!("is {other:?}, {words}")));
            }
        };
        let root_cert = self.root_cert.filter(|file| file != "system").map(PathBuf::from);
        // There is no TLS on Unix sockets.
        let is_unix = !config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let mode = if is_unix && config.get_hostaddrs().is_empty() { Mode::Disable } else { mode };
        let client = match (self.cert, self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(ClientFiles { cert: cert.into(), key: key.into() }),
            (Some(_), None) => {
                return Err(bad("sslcert", "has no sslkey beside it, the file of its private key"));
            }
            (None, Some(_)) => {
                return Err(bad("sslkey", "has no sslcert beside it, the file of its certificate"));
            }
        };
        Ok(Options { mode, root_cert, client })
    }
}

/// The value that a text begins with, and how many bytes it has there.
fn pair_value(text: &str) -> (String, usize) {
    let is_quoted = text.starts_with('\'');
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, letter) in text.char_indices().skip(usize::from(is_quoted)) {
        match letter {
            _ if is_escaped => {
                (value, is_escaped) = (value + letter.encode_utf8(&mut [0; 4]), false)
            }
            '\\' => is_escaped = true,
            '\'' if is_quoted => return (value, at + 1),
            letter if !is_quoted && letter.is_whitespace() => return (value, at),
            letter => value.push(letter),
        }
    }
    (value, text.len())
}

/// Says whether nothing leaves this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>().ok();
            name == "localhost" || address.is_some_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    match addresses.is_empty() {
        true => config.get_hosts().iter().all(is_loopback),
        false => addresses.iter().all(IpAddr::is_loopback),
    }
}

fn bad(what: &str, problem: &str) -> StoreError {
    StoreError::Text { what: what.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> Mode {
        read(text).expect("understood").1.mode
    }

    #[test]
    fn what_leaves_the_machine_is_verified_unless_the_operator_says_otherwise() {
        assert_eq!(mode("postgres://fleet@db.example/fleet"), Mode::VerifyFull);
        assert_eq!(mode("postgres://fleet@127.0.0.1,db.example/fleet"), Mode::VerifyFull);
        assert_eq!(mode("host=localhost hostaddr=192.0.2.1 user=f"), Mode::VerifyFull);
        assert_eq!(mode("postgres://fleet@db.example/fleet?sslmode=disable"), Mode::Disable);
        assert_eq!(mode("postgres://fleet@db.example/fleet?sslmode=require"), Mode::Require);
        for local in ["localhost", "127.0.0.1", "[::1]:5433"] {
            assert_eq!(mode(&format!("postgres://fleet@{local}/fleet")), Mode::Prefer);
        }
        for socket in ["postgres:///fleet?host=/run/postgresql&", "host=/run/postgresql "] {
            assert_eq!(mode(&format!("{socket}user=f")), Mode::Disable);
            assert_eq!(mode(&format!("{socket}sslmode=verify-full")), Mode::Disable);
        }
        for wrong in ["sslmode=allow", "sslcert=a", "sslkey=a", "sslpassword=a", "sslmode"] {
            assert!(read(&format!("postgres://f@db/f?{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_about_tls_is_taken_out() {
        let url = "postgres://f:a?b@db/f?sslrootcert=%2Fetc%2Fca%20x.pem&sslmode=require\
                   &sslcert=me.crt&sslkey=%2Fme.key&connect_timeout=3";
        let pairs = r"host=db user=f password='a b\'c' sslrootcert = '/etc/ca x.pem'
                      sslkey=/me.key sslcert=me.crt sslmode=require connect_timeout=3";
        for (text, password) in [(url, "a?b"), (pairs, "a b'c")] {
            let (config, options) = read(text).expect("understood");
            assert_eq!(options.mode, Mode::VerifyCa, "as libpq with a file of authorities");
            assert_eq!(options.root_cert, Some("/etc/ca x.pem".into()));
            let files = ClientFiles { cert: "me.crt".into(), key: "/me.key".into() };
            assert_eq!(options.client, Some(files));
            assert_eq!(config.get_password(), Some(password.as_bytes()));
            assert_eq!(config.get_user(), Some("f"));
            assert_eq!(config.get_connect_timeout().map(|time| time.as_secs()), Some(3));
        }
        let system = read("postgres://f@db/f?sslrootcert=system").expect("understood");
        assert_eq!((system.1.mode, system.1.root_cert), (Mode::VerifyFull, None));
    }
}
