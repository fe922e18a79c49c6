use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::caller::{Acts, Reads};
use super::problem::Problem;
use super::seen::Seen;
use crate::deeds::{self, BECAUSE_CHARS_MAX, Deed, Order};
use crate::model::RolloutId;
use crate::rollout::approval::{Answer, Question};
use crate::store::Store;
use crate::store::StoreError;
use crate::web::pages::people::split;
use crate::web::pool::now;
use crate::web::site::Acting;

/// A rollout to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRollout {
    /// The rollout's file, as it is.
    file: String,
    /// The digest of the plan that was looked at, SHA-256.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
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
    #[schema(max_length = 256, pattern = r"^[^\x00]*$")]
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
    /// Its signature.
    #[schema(pattern = "^[0-9a-fA-F]{128}$")]
    signature: String,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    /// In words.
    done: String,
}

/// Number of hexadecimal digits of a plan's digest, and of a signature.
const PLAN_DIGITS: usize = 64;
const SIGNATURE_DIGITS: usize = 128;

fn hexadecimal(what: &str, text: &str, digits: usize) -> Result<(), Problem> {
    if text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Problem::content(format!("{what} is not {digits} hexadecimal digits")))
}

fn words(what: &str, text: &str) -> Result<(), Problem> {
    if text.chars().count() <= BECAUSE_CHARS_MAX && !text.contains('\0') {
        return Ok(());
    }
    let detail = format!("{what} has a NUL or more than {BECAUSE_CHARS_MAX} characters");
    Err(Problem::content(detail))
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
    _: Reads,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let text = String::from_utf8(body.to_vec());
    let text = text.map_err(|_| Problem::content("the file is not UTF-8"))?;
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
    Acts(by): Acts,
    body: Result<Json<NewRollout>, JsonRejection>,
) -> Result<(StatusCode, Json<Created>), Problem> {
    let NewRollout { file, plan } = json(body)?;
    hexadecimal("plan", &plan, PLAN_DIGITS)?;
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
        Seen,
    ),
    request_body = Wish, responses(
    (status = 200, body = Outcome),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn act(
    State(site): State<Acting>,
    Acts(by): Acts,
    Seen(revision): Seen,
    id: Result<Path<RolloutId>, PathRejection>,
    body: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Outcome>, Problem> {
    let (id, Wish { deed, because }) = (number(id)?, json(body)?);
    words("because", &because)?;
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
    Acts(by): Acts,
    id: Result<Path<RolloutId>, PathRejection>,
    body: Result<Json<Signed>, JsonRejection>,
) -> Result<Json<Outcome>, Problem> {
    let (id, signed) = (number(id)?, json(body)?);
    let Signed { wave, key, signature } = signed;
    hexadecimal("signature", &signature, SIGNATURE_DIGITS)?;
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
