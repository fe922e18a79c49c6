use axum::Json;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::deeds::DeedError;
use crate::people::RegisterError;
use crate::rollout::file;
use crate::store::StoreError;
use crate::web::trouble::Trouble;

/// Why something was not done, after RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The status once more.
    status: u16,
    /// What the status means.
    title: String,
    /// What is wrong, and what to do.
    detail: String,
    /// What is wrong in a rollout file, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    problems: Vec<Line>,
}

/// One thing that is wrong in a rollout file.
#[derive(Debug, Serialize, ToSchema)]
struct Line {
    /// The line, from 1.
    line: usize,
    /// The key; empty when the file is not TOML.
    key: String,
    /// What is wrong, and what would be right.
    reason: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl ToString) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let (status, detail) = (status.as_u16(), detail.to_string());
        Self { status, title, detail, problems: Vec::new() }
    }

    /// What is in the body, or what a parameter says in a language of its own, makes no sense.
    pub(super) fn content(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// What the address or a header says makes no sense.
    pub(super) fn bad(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Nothing of this number.
    pub(super) fn no_rollout(id: i64) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no rollout of number {id}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotFound { what } => {
                Self::new(StatusCode::NOT_FOUND, format!("there is no {what}"))
            }
            Trouble::Bad { problem } => Self::bad(problem),
            Trouble::Away { error, .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, error),
            Trouble::Refused {
                error: error @ (StoreError::Text { .. } | StoreError::TooMuch { .. }),
            } => Self::bad(error),
            Trouble::Refused { error } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error),
            Trouble::Busy | Trouble::Late | Trouble::OtherHost => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too much is asked at once, or the store is slow: try again",
            ),
            Trouble::Fault => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "a fault of this program: send its log, which says where, to those who make it",
            ),
        }
    }
}

impl From<DeedError> for Problem {
    fn from(error: DeedError) -> Self {
        let status = match &error {
            DeedError::NoRollout { .. } | DeedError::NoWave { .. } => StatusCode::NOT_FOUND,
            DeedError::OwnRollout { .. } => StatusCode::FORBIDDEN,
            DeedError::File(_)
            | DeedError::Plan(_)
            | DeedError::NoRelease { .. }
            | DeedError::SeveralReleases { .. }
            | DeedError::Store(StoreError::Text { .. } | StoreError::TooMuch { .. }) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::CONFLICT,
        };
        let problems = match &error {
            DeedError::File(error) => error.problems.iter().map(Line::from).collect(),
            _ => Vec::new(),
        };
        Self { problems, ..Self::new(status, error) }
    }
}

impl From<&file::Problem> for Line {
    fn from(file::Problem { line, key, reason }: &file::Problem) -> Self {
        Self { line: *line, key: key.clone(), reason: reason.clone() }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

/// Answers for a method that a path does not have.
pub(super) async fn no_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "see /api/openapi.json for what there is")
}
