//! Links to what has a name. Names stand in the query: browsers shorten paths with `.` and `..`,
//! which hosts may be named.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped: all but the unreserved characters of RFC 3986, section 2.3.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a text as a part of a query.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, &ESCAPED).to_string()
}

/// Returns the link to a host.
pub(super) fn host(name: &str) -> String {
    format!("/host?name={}", part(name))
}

/// Returns the link to a rollout.
pub(super) fn rollout(name: &str) -> String {
    format!("/rollout?name={}", part(name))
}

/// Returns the link to what may be done with a rollout.
pub(super) fn act(name: &str) -> String {
    format!("/act?rollout={}", part(name))
}

/// Returns the link to the login that leads back to a rollout.
pub(super) fn login(name: &str) -> String {
    format!("/login?rollout={}", part(name))
}
