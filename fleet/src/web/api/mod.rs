//! The same as the page, for programs: JSON under `/api/v1`, described by `/api/openapi.json`.
//! Looking needs nothing; plans need a token that may read, changes one that may act. Sessions of
//! browsers count for nothing here, so no other site can use them.
//!
//! | file | what it does |
//! | --- | --- |
//! | `caller.rs` | who calls, by their token |
//! | `looking.rs` | rollouts, attempts, hosts, workers, calls for help, events |
//! | `acting.rs` | plans, new rollouts, deeds, approvals |
//! | `seen.rs` | the revision that the caller saw |
//! | `problem.rs` | why something was not done (RFC 9457) |

mod acting;
mod caller;
mod looking;
mod problem;
mod seen;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::limits::ROLLOUT_BODY_BYTES_MAX;
use super::site::Acting;
use crate::rollout::file::FILE_BYTES_MAX;

#[derive(OpenApi)]
#[openapi(
    info(title = "firmcast-fleet", description = "Rollouts of firmware over fleets"),
    paths(
        looking::rollouts,
        looking::rollout,
        looking::attempts,
        looking::hosts,
        looking::workers,
        looking::calls,
        looking::events,
        acting::plan,
        acting::create,
        acting::act,
        acting::approve,
    ),
    modifiers(&Bearer)
)]
struct Description;

/// How a program shows who it is.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Returns the routes of the API.
pub(super) fn routes() -> Router<Acting> {
    let plan_max = DefaultBodyLimit::max(FILE_BYTES_MAX);
    let create_max = DefaultBodyLimit::max(ROLLOUT_BODY_BYTES_MAX);
    Router::new()
        .route("/api/openapi.json", get(async || Json(Description::openapi())))
        .route("/api/v1/rollouts", get(looking::rollouts).post(acting::create).layer(create_max))
        .route("/api/v1/rollouts/{id}", get(looking::rollout))
        .route("/api/v1/rollouts/{id}/attempts", get(looking::attempts))
        .route("/api/v1/rollouts/{id}/deeds", post(acting::act))
        .route("/api/v1/rollouts/{id}/approvals", post(acting::approve))
        .route("/api/v1/hosts", get(looking::hosts))
        .route("/api/v1/workers", get(looking::workers))
        .route("/api/v1/calls", get(looking::calls))
        .route("/api/v1/events", get(looking::events))
        .route("/api/v1/plans", post(acting::plan).layer(plan_max))
        .method_not_allowed_fallback(problem::no_method)
}
