//! What holds for every request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::trouble::Trouble;

/// What the browser may do with a page: nothing that the page did not bring itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What each answer tells the browser.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The address at which a connection came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub(super) SocketAddr);

/// Who connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// How long the answer may take until it begins, what the client sends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within(pub(super) Duration);

/// The names that the page answers to, besides the address that it listens at.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<[String]>);

impl Names {
    /// Returns these names.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| plain(name)).collect())
    }

    /// Says whether a request is meant for this server. Another site whose name is made to lead
    /// here (DNS rebinding) has its own name in the browser's address, and so in `Host`. The port
    /// does not count: a tunnel may have another one.
    fn addressed(&self, request: &Request, local: IpAddr) -> bool {
        let Some(named) = host(request.headers()) else { return false };
        let target = request.uri().authority();
        target.is_none_or(|target| self.includes(target.host(), local))
            && self.includes(named.host(), local)
    }

    fn includes(&self, host: &str, local: IpAddr) -> bool {
        let host = plain(host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => {
                address.is_loopback() || address == local.to_canonical() || self.has(&host)
            }
            Err(_) => {
                (host == "localhost" && local.to_canonical().is_loopback()) || self.has(&host)
            }
        }
    }

    fn has(&self, host: &str) -> bool {
        self.0.iter().any(|name| name == host)
    }
}

/// The one `Host` of a request.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?;
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let alone = hosts.next().is_none() && !host.as_bytes().contains(&b'@');
    alone.then_some(authority)
}

/// Returns a name as it is compared.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Lets a request through that is meant for this server, for as long as it may take.
pub(super) async fn guard(
    State(names): State<Names>,
    Extension(Local(local)): Extension<Local>,
    Extension(Within(within)): Extension<Within>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match names.addressed(&request, local.ip()) {
        true => match tokio::time::timeout(within, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Trouble::Late.into_response(),
        },
        false => Trouble::OtherHost.into_response(),
    };
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
