use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::ETAG;
use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::seen::digits;
use crate::model::{Attempt, AttemptState, Call, Event, Host, Rollout, RolloutId, Wave, Worker};
use crate::rollout::selector::Selector;
use crate::store::requests::{Count, Place};
use crate::web::pool::now;
use crate::web::site::Acting;

/// Maximum number of rows of an answer.
pub(super) const ROWS_MAX: usize = 1000;
/// Number of rows of an answer, unless the request says so.
const ROWS_DEFAULT: usize = 100;

/// A page of numbered things.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Only those after this number.
    #[param(minimum = 0, required = false)]
    #[serde(default)]
    after: i64,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page of hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those after this name, in the order of its bytes.
    #[param(required = false, pattern = r"^[^\x00]*$")]
    #[serde(default)]
    after: String,
    /// How many are looked through at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only those for which this holds, in the language of rollout files; 422 says where it is not
    /// understood.
    #[param(example = "site=berlin role!=db", min_length = 1, max_length = 4096)]
    selector: Option<String>,
}

/// A page of attempts: after the one with this wave, position and number.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AfterPlace {
    /// The `next` of the page before.
    #[param(pattern = r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,18}$")]
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page of something.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// What there is.
    items: Vec<T>,
    /// The `after` of the next page; none when this is the last one.
    next: Option<String>,
}

/// A rollout with its waves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutNow {
    /// The rollout.
    rollout: Rollout,
    /// Its waves, in their order.
    waves: Vec<Wave>,
    /// How many attempts are where.
    counts: Vec<CountNow>,
}

/// How many attempts of a wave are in a state at a site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountNow {
    /// The wave, from 0.
    wave: u32,
    /// The site.
    site: String,
    /// The state.
    state: AttemptState,
    /// How many.
    attempts: u64,
    /// How many of them were seen healthy after the soak time.
    healthy: u64,
}

impl From<Count> for CountNow {
    fn from(Count { wave, site, state, attempts, healthy }: Count) -> Self {
        Self { wave, site, state, attempts, healthy }
    }
}

fn after(query: Result<Query<After>, QueryRejection>) -> Result<(i64, usize), Problem> {
    let Query(After { after, limit }) = query.map_err(|error| Problem::bad(error.body_text()))?;
    if after < 0 {
        return Err(Problem::bad(format!("after is {after}, expected 0 or more")));
    }
    Ok((after, rows(limit)?))
}

fn rows(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(ROWS_DEFAULT) {
        limit @ 1..=ROWS_MAX => Ok(limit),
        limit => Err(Problem::bad(format!("limit is {limit}, expected 1 to {ROWS_MAX}"))),
    }
}

fn page<T>(items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Json<Page<T>> {
    let is_full = items.len() >= limit;
    let next = items.last().filter(|_| is_full).map(key);
    Json(Page { items, next })
}

/// Lists rollouts, in the order in which they were created.
#[utoipa::path(get, path = "/api/v1/rollouts", params(After), responses(
    (status = 200, body = Page<Rollout>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn rollouts(
    State(site): State<Acting>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Page<Rollout>>, Problem> {
    let (after, limit) = after(query)?;
    let items = site.store.ask(move |store| store.rollouts(after, limit)).await?;
    Ok(page(items, limit, |rollout| rollout.id.to_string()))
}

/// Shows a rollout with its waves. `ETag` has its revision, for `If-Match` of a deed.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}",
    params(("id" = i64, Path, description = "The rollout's number")), responses(
    (status = 200, body = RolloutNow),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn rollout(
    State(site): State<Acting>,
    id: Result<Path<RolloutId>, PathRejection>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<RolloutNow>), Problem> {
    let Path(id) = id.map_err(|error| Problem::bad(error.body_text()))?;
    let found = site.store.ask(move |store| match store.rollout(id)? {
        Some(found) => Ok(Some((found, store.counts(id)?))),
        None => Ok(None),
    });
    let (found, counts) = found.await?.ok_or_else(|| Problem::no_rollout(id))?;
    let tag = HeaderValue::try_from(format!("\"{}\"", found.rollout.revision));
    let tag = tag.unwrap_or(HeaderValue::from_static("\"\""));
    let counts = counts.into_iter().map(CountNow::from).collect();
    let now = RolloutNow { rollout: found.rollout, waves: found.waves, counts };
    Ok(([(ETAG, tag)], Json(now)))
}

/// Lists the attempts of a rollout, by wave and position.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/attempts",
    params(("id" = i64, Path, description = "The rollout's number"), AfterPlace), responses(
    (status = 200, body = Page<Attempt>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn attempts(
    State(site): State<Acting>,
    id: Result<Path<RolloutId>, PathRejection>,
    query: Result<Query<AfterPlace>, QueryRejection>,
) -> Result<Json<Page<Attempt>>, Problem> {
    let Path(id) = id.map_err(|error| Problem::bad(error.body_text()))?;
    let Query(asked) = query.map_err(|error| Problem::bad(error.body_text()))?;
    let limit = rows(asked.limit)?;
    let after = asked.after.as_deref().map(place).transpose()?;
    let items = site.store.ask(move |store| match store.rollout(id)? {
        Some(_) => Ok(Some(store.attempts(id, after, limit)?)),
        None => Ok(None),
    });
    let items = items.await?.ok_or_else(|| Problem::no_rollout(id))?;
    Ok(page(items, limit, |attempt| {
        format!("{}.{}.{}", attempt.wave, attempt.position, attempt.id)
    }))
}

fn place(text: &str) -> Result<Place, Problem> {
    let parts: Vec<Option<i64>> = text.split('.').map(digits).collect();
    if let [Some(wave), Some(position), Some(id)] = parts[..]
        && let (Ok(wave), Ok(position)) = (u32::try_from(wave), u32::try_from(position))
    {
        return Ok(Place { wave, position, id });
    }
    Err(Problem::bad("after is not the next of a page of attempts"))
}

/// Lists hosts by name. With a selector a page may have fewer, or none, and still a next one.
#[utoipa::path(get, path = "/api/v1/hosts", params(Which), responses(
    (status = 200, body = Page<Host>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn hosts(
    State(site): State<Acting>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Page<Host>>, Problem> {
    let Query(asked) = query.map_err(|error| Problem::bad(error.body_text()))?;
    let limit = rows(asked.limit)?;
    let selector = asked.selector.as_deref().map(Selector::parse).transpose();
    let selector = selector.map_err(|error| Problem::content(format!("selector: {error}")))?;
    let items = site.store.ask(move |store| store.hosts(&asked.after, limit)).await?;
    let Json(mut page) = page(items, limit, |host| host.name.clone());
    page.items.retain(|host| selector.as_ref().is_none_or(|selector| selector.matches(host)));
    Ok(Json(page))
}

/// Lists the workers that were seen within a day, by name, with the bundles that they wait for.
#[utoipa::path(get, path = "/api/v1/workers", responses(
    (status = 200, body = Vec<Worker>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn workers(State(site): State<Acting>) -> Result<Json<Vec<Worker>>, Problem> {
    Ok(Json(site.store.ask(|store| store.workers()).await?))
}

/// Lists the dead hosts that call for help, by name, each as the worker knows it that heard it
/// last.
#[utoipa::path(get, path = "/api/v1/calls", responses(
    (status = 200, body = Vec<Call>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn calls(State(site): State<Acting>) -> Result<Json<Vec<Call>>, Problem> {
    Ok(Json(site.store.ask(|store| store.calls(now())).await?))
}

/// Lists what happened.
#[utoipa::path(get, path = "/api/v1/events", params(After), responses(
    (status = 200, body = Page<Event>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(site): State<Acting>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Page<Event>>, Problem> {
    let (after, limit) = after(query)?;
    let items = site.store.ask(move |store| store.events(after, limit)).await?;
    Ok(page(items, limit, |event| event.id.to_string()))
}
