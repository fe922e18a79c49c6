//! Style and script. They are part of the program: nothing is built, nothing is fetched.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// A file that the pages name.
pub(super) struct Asset {
    /// Where it is.
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// How all pages look.
pub(super) const STYLE: Asset = Asset {
    path: concat!("/assets/page.css?", env!("CARGO_PKG_VERSION")),
    kind: "text/css; charset=utf-8",
    text: include_str!("assets/page.css"),
};

/// What keeps them up to date.
pub(super) const SCRIPT: Asset = Asset {
    path: concat!("/assets/live.js?", env!("CARGO_PKG_VERSION")),
    kind: "text/javascript; charset=utf-8",
    text: include_str!("assets/live.js"),
};

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let cache = "public, max-age=300";
        ([(CONTENT_TYPE, self.kind), (CACHE_CONTROL, cache)], self.text).into_response()
    }
}

pub(super) async fn style() -> Asset {
    STYLE
}

pub(super) async fn script() -> Asset {
    SCRIPT
}
