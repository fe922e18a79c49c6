//! The routes. Each is one line; what it shows is a file in `pages/`.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use super::guard::{Names, guard};
use super::limits::BODY_BYTES_MAX;
use super::pages::{calls, events, host, live, metrics, rollout, rollouts};
use super::site::Site;
use super::{assets, trouble};

/// Returns all pages, for requests that are addressed to one of the names.
pub fn router(site: Site, names: Names) -> Router {
    Router::new()
        .route("/", get(rollouts::page))
        .route("/rollout", get(rollout::page))
        .route("/host", get(host::page))
        .route("/events", get(events::page))
        .route("/calls", get(calls::page))
        .route("/live", get(live::page))
        .route("/metrics", get(metrics::page))
        .route("/assets/page.css", get(assets::style))
        .route("/assets/live.js", get(assets::script))
        .fallback(trouble::no_page)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(names, guard))
        .with_state(site)
}
