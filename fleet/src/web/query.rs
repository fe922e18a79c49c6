//! What may stand behind the `?` of a page's address.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::trouble::Trouble;

/// What stands there, or a page that says what is wrong with it.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        let bad = |error| Trouble::Bad { problem: format!("{error}") };
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(bad)
    }
}

/// For pages about nothing in particular.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    part: Option<String>,
}

impl Whole {
    /// Whether only what changes is asked for, without the frame.
    pub(super) fn is_part(&self) -> bool {
        self.part.is_some()
    }
}

/// For pages about something that has a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// Its name.
    pub(super) name: String,
    /// Only this part of the page, without the frame.
    pub(super) part: Option<String>,
    /// Only hosts of this site; empty for all.
    #[serde(default)]
    pub(super) site: String,
    /// Only hosts with this mark; empty for all.
    #[serde(default)]
    pub(super) mark: String,
}

/// For the page of events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    /// Only events before this one.
    pub(super) before: Option<i64>,
    /// Only events about the rollout of this name.
    #[serde(default)]
    pub(super) rollout: String,
    /// Only what changes, without the frame.
    pub(super) part: Option<String>,
}
