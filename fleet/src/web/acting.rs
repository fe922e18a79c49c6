//! What changes something, or needs to know who asks.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::api;
use super::door::Door;
use super::pages::people;
use super::pool::StorePool;
use super::site::Acting;

/// Returns the forms and the API.
pub(super) fn routes(store: StorePool, door: Arc<Door>) -> Router {
    let acting = Acting { store, door };
    Router::new()
        .route("/login", get(people::login_form).post(people::login))
        .route("/logout", axum::routing::post(people::logout))
        .route("/act", get(people::act_form).post(people::act))
        .merge(api::routes())
        .with_state(acting)
}
