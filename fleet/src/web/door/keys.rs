use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};

use super::{Door, Front};
use crate::people::{Caller, May, Origin, RegisterError, Secret, Way, form_token, is_name, unhex};
use crate::web::pool::now;

/// Names of the cookie: with TLS in front, browsers take it over TLS and from this host only.
const COOKIE_PLAIN: &str = "firmcast-fleet";
const COOKIE_TLS: &str = "__Host-firmcast-fleet";

/// What a request shows of who made it.
#[derive(Debug)]
pub(in crate::web) struct Shown<'a> {
    pub(super) door: &'a Door,
    pub(super) headers: &'a HeaderMap,
    /// Who connected.
    pub(super) peer: IpAddr,
}

impl Door {
    /// Returns what a request shows.
    pub(in crate::web) fn shown<'a>(&'a self, headers: &'a HeaderMap, peer: IpAddr) -> Shown<'a> {
        Shown { door: self, headers, peer }
    }

    pub(super) fn cookie_name(&self) -> &'static str {
        if self.front.is_some() { COOKIE_TLS } else { COOKIE_PLAIN }
    }
}

impl Shown<'_> {
    /// Whose token the request carries, for the API.
    pub(in crate::web) fn program(&self) -> Result<Option<Caller>, RegisterError> {
        let mut given = self.headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return Ok(None) };
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let Some(token) = token else { return Ok(None) };
        Ok(self.door.register.read()?.bearer(token, now()))
    }

    /// Who looks at the page, as far as they may act.
    pub(in crate::web) fn person(&self) -> Result<Option<Caller>, RegisterError> {
        if let Some(name) = self.proxied() {
            return Ok(Some(Caller { name, may: May::Act, way: Way::Proxy }));
        }
        let Some(secret) = self.session() else { return Ok(None) };
        let roster = self.door.register.read()?;
        Ok(self.door.sessions().caller(&secret, &roster, self.door.now()))
    }

    /// The token that a form of this person must carry.
    pub(in crate::web) fn form_token(&self) -> String {
        let holder = match (self.proxied(), self.session()) {
            (Some(name), _) => format!("proxy {name}"),
            (None, Some(secret)) => format!("session {}", crate::people::hex(&secret)),
            (None, None) => "nobody".to_owned(),
        };
        form_token(&self.door.process, &holder)
    }

    /// Whether the page itself sent this form, for this person.
    pub(in crate::web) fn is_own_form(&self, token: &str) -> bool {
        // Compared by what is made of both, so that the time tells nothing of the token.
        let made = |token: &str| form_token(&self.door.process, token);
        self.is_own() && made(token) == made(&self.form_token())
    }

    /// Whether the page itself made this request.
    pub(super) fn is_own(&self) -> bool {
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        let site = self.headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        Origin { site, origin: text(ORIGIN), host: text(HOST) }.is_own()
    }

    /// The address that tries of passwords count for.
    pub(super) fn address(&self) -> IpAddr {
        let forwarded = self.headers.get_all("x-forwarded-for").iter().next_back();
        let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        let told = last.and_then(|text| text.trim().parse().ok());
        match self.front() {
            Some(_) => told.unwrap_or(self.peer),
            None => self.peer,
        }
    }

    /// The secret of the session that the browser shows; none when it shows several.
    pub(super) fn session(&self) -> Option<Secret> {
        let name = self.door.cookie_name();
        let lines = self.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut ours = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
        let value = ours.next()?;
        if ours.next().is_some() { None } else { unhex(value) }
    }

    /// Who the proxy says that it is. Others may send the header, too: they are not believed.
    fn proxied(&self) -> Option<String> {
        let header = self.front()?.user_header.as_ref()?;
        let mut given = self.headers.get_all(header).iter();
        let (value, None) = (given.next()?, given.next()) else { return None };
        let name = value.to_str().ok().filter(|name| is_name(name))?;
        Some(name.to_owned())
    }

    fn front(&self) -> Option<&Front> {
        let peer = self.peer.to_canonical();
        self.door.front.as_ref().filter(|front| front.proxies.contains(&peer))
    }
}
