//! The routes. Each is one line; what it shows is a file in `pages/`.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use super::door::Door;
use super::guard::{Names, guard};
use super::limits::BODY_BYTES_MAX;
use super::pages::{calls, events, host, live, metrics, rollout, rollouts};
use super::site::Site;
use super::{acting, assets, trouble};

/// Returns all pages, for requests that are addressed to one of the names.
pub fn router(site: Site, names: Names, door: Arc<Door>) -> Router {
    let acting = acting::routes(site.store.clone(), door);
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
        .with_state(site)
        .merge(acting)
        .fallback(trouble::no_page)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(names, guard))
}
