//! What Prometheus reads.

use std::time::Instant;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::metrics::{Look, MEDIA_TYPE, page as text};
use crate::web::limits::METRICS_TIME;
use crate::web::pool::now;
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// Answers also when the store does not: that is what is to be told then.
pub(in crate::web) async fn page(State(site): State<Site>) -> Result<impl IntoResponse, Trouble> {
    let (at, begun) = (now(), Instant::now());
    let asked = site.store.ask(move |store| store.survey(at));
    let survey = match tokio::time::timeout(METRICS_TIME, asked).await {
        Ok(Ok(survey)) => Some(survey),
        // Too many look at once, or we are wrong: this says nothing about the store.
        Ok(Err(trouble @ (Trouble::Busy | Trouble::Fault))) => return Err(trouble),
        Ok(Err(_)) | Err(_) => None,
    };
    let took_s = begun.elapsed().as_secs_f64();
    let version = env!("CARGO_PKG_VERSION");
    let look = Look { version, at, took_s, survey: survey.as_ref() };
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], text(&look)))
}
