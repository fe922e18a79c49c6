use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::deeds::{self, Deed, Order};
use crate::model::RolloutId;
use crate::people::{Caller, May};
use crate::rollout::approval::{Answer, Question};
use crate::store::Store;
use crate::store::StoreError;
use crate::web::guard::Peer;
use crate::web::pages::people::split;
use crate::web::pool::now;
use crate::web::site::Acting;

/// A rollout to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRollout {
    /// The rollout's file, as it is.
    file: String,
    /// The digest of the plan that was looked at.
    plan: String,
}

/// A rollout that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Created {
    /// Its number.
    id: RolloutId,
}

/// What is to be done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// What.
    deed: Deed,
    /// Why, for a pause or an abort.
    #[serde(default)]
    because: String,
}

/// Somebody's signed word that a wave may begin, as `rollout sign` writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    /// The wave's name.
    wave: String,
    /// Fingerprint of the manager key.
    key: String,
    /// Its signature, 128 hexadecimal digits.
    signature: String,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    /// In words.
    done: String,
}

/// Returns who calls, if they may do what they want.
fn caller(site: &Acting, headers: &HeaderMap, peer: IpAddr, may: May) -> Result<Caller, Problem> {
    let caller = site.door.shown(headers, peer).program()?;
    let caller = caller.ok_or_else(|| {
        let detail = "send Authorization: Bearer and a token that counts, see firmcast-fleet \
                      people token";
        Problem::new(StatusCode::UNAUTHORIZED, detail)
    })?;
    if caller.may < may {
        let detail = "the token may only read: make one with firmcast-fleet people token --may act";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(caller)
}

fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|error| Problem::new(error.status(), error.body_text()))
}

fn number(id: Result<Path<RolloutId>, PathRejection>) -> Result<RolloutId, Problem> {
    id.map(|Path(id)| id).map_err(|error| Problem::bad(error.body_text()))
}

fn name_of(store: &mut dyn Store, id: RolloutId) -> Result<Option<String>, StoreError> {
    Ok(store.rollout(id)?.map(|found| found.rollout.name))
}

/// Shows what a rollout file would do. Nothing is kept.
#[utoipa::path(post, path = "/api/v1/plans", security(("token" = [])),
    request_body(content = String, content_type = "application/toml"), responses(
    (status = 200, body = Object),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn plan(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    caller(&site, &headers, peer, May::Read)?;
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let text = String::from_utf8(body.to_vec());
    let text = text.map_err(|_| Problem::bad("the file is not UTF-8"))?;
    let draft = site.store.ask(move |store| split(deeds::draft(store, text, now()))).await??;
    let plan = serde_json::to_value(&draft.plan);
    Ok(Json(plan.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?))
}

/// Freezes just the plan that was looked at.
#[utoipa::path(post, path = "/api/v1/rollouts", security(("token" = [])),
    request_body = NewRollout, responses(
    (status = 201, body = Created),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<NewRollout>, JsonRejection>,
) -> Result<(StatusCode, Json<Created>), Problem> {
    let by = caller(&site, &headers, peer, May::Act)?.name;
    let NewRollout { file, plan } = json(body)?;
    let id = site.store.ask(move |store| {
        let at = now();
        let draft = deeds::draft(store, file, at);
        split(draft.and_then(|draft| deeds::create(store, &draft, Some(&plan), (&by, at))))
    });
    Ok((StatusCode::CREATED, Json(Created { id: id.await?? })))
}

/// Starts, pauses, resumes, aborts a rollout, or tries again what failed. With `If-Match` only if
/// the rollout still has that revision: else somebody was faster, and the status is 409.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/deeds", security(("token" = [])),
    params(
        ("id" = i64, Path, description = "The rollout's number"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen"),
    ),
    request_body = Wish, responses(
    (status = 200, body = Outcome),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn act(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    id: Result<Path<RolloutId>, PathRejection>,
    body: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Outcome>, Problem> {
    let by = caller(&site, &headers, peer, May::Act)?.name;
    let (id, Wish { deed, because }) = (number(id)?, json(body)?);
    let revision = seen(&headers)?;
    let done = site.store.ask(move |store| {
        let Some(name) = name_of(store, id)? else { return Ok(None) };
        let order = Order { deed, because: &because, by: &by, at: now(), revision };
        let done = split(deeds::carry_out(store, &name, &order))?;
        Ok(Some(done.map(|done| done.words(&name))))
    });
    let done = done.await?.ok_or_else(|| Problem::no_rollout(id))??;
    Ok(Json(Outcome { done }))
}

/// Keeps a signed approval of a wave. The signature must be of a key that this server knows by
/// `--approver`.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/approvals", security(("token" = [])),
    params(("id" = i64, Path, description = "The rollout's number")),
    request_body = Signed, responses(
    (status = 200, body = Outcome),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn approve(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    id: Result<Path<RolloutId>, PathRejection>,
    body: Result<Json<Signed>, JsonRejection>,
) -> Result<Json<Outcome>, Problem> {
    let by = caller(&site, &headers, peer, May::Act)?.name;
    let (id, signed) = (number(id)?, json(body)?);
    let Signed { wave, key, signature } = signed;
    let words = format!("wave {wave} is approved");
    let door = site.door.clone();
    let done = site.store.ask(move |store| {
        let Some(name) = name_of(store, id)? else { return Ok(None) };
        let done = deeds::approve(store, &name, &wave, (&by, now()), |known, wave| {
            let rollout = &known.rollout;
            let question = Question {
                plan_digest: &rollout.plan_digest,
                wave: &wave.name,
                created_by: &rollout.created_by,
            };
            let answer = Answer { key: &key, signature: &signature, by: &by };
            match question.is_answered(&answer, &door.approvers) {
                true => Ok((key.clone(), signature.clone())),
                false => Err(Unapproved::Signature),
            }
        });
        match done {
            Ok(_) => Ok(Some(Ok(()))),
            Err(Unapproved::Signature) => Ok(Some(Err(Unapproved::Signature))),
            Err(Unapproved::Deed(error)) => {
                Ok(Some(split::<()>(Err(error))?.map_err(Unapproved::Deed)))
            }
        }
    });
    match done.await?.ok_or_else(|| Problem::no_rollout(id))? {
        Ok(()) => Ok(Json(Outcome { done: words })),
        Err(Unapproved::Deed(error)) => Err(error.into()),
        Err(Unapproved::Signature) => {
            let detail = "the signature is not that of an approver's key for this plan and wave: \
                          start firmcast-fleet web with --approver and that key, or sign again";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

/// Why an approval is not kept.
enum Unapproved {
    Signature,
    Deed(deeds::DeedError),
}

impl From<deeds::DeedError> for Unapproved {
    fn from(error: deeds::DeedError) -> Self {
        Self::Deed(error)
    }
}

/// The revision that the caller saw, if it says so.
fn seen(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let mut tags = headers.get_all(IF_MATCH).iter();
    let Some(tag) = tags.next() else { return Ok(None) };
    let text = tag.to_str().unwrap_or_default().trim();
    if text == "*" && tags.next().is_none() {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')?.parse().ok());
    match (number, tags.next()) {
        (Some(number), None) => Ok(Some(number)),
        _ => Err(Problem::bad("If-Match is not one ETag of a rollout, such as \"7\"")),
    }
}
