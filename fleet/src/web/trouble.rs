//! Why a page cannot be shown, in words that say what to do.

use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::layout::{Frame, Stays, time};
use crate::model::Stamp;
use crate::store::StoreError;

/// Seconds after which a browser asks again by itself.
const RETRY_S: u32 = 5;

/// Why a page cannot be shown.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing of this name.
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The request makes no sense.
    Bad {
        /// What is wrong with it.
        problem: String,
    },
    /// Addressed to a name that is not this server's.
    OtherHost,
    /// The store cannot be reached.
    Away {
        /// What it said.
        error: StoreError,
        /// When it answered last.
        answered_at: Option<Stamp>,
    },
    /// The store refused.
    Refused {
        /// What it said.
        error: StoreError,
    },
    /// Too many ask at once.
    Busy,
    /// The answer took too long.
    Late,
    /// This program is wrong: what makes the page panicked.
    Fault,
}

impl Trouble {
    /// Returns the trouble that an error of the store means for who looks.
    pub(super) fn of(error: StoreError, answered_at: Option<Stamp>) -> Self {
        match error {
            StoreError::Gone { .. } | StoreError::Busy { .. } | StoreError::Full { .. } => {
                Self::Away { error, answered_at }
            }
            StoreError::Text { what, problem } => {
                Self::Bad { problem: format!("{what} {problem}") }
            }
            StoreError::Unknown { what, name } => Self::NotFound { what: format!("{what} {name}") },
            error => Self::Refused { error },
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Bad { .. } => StatusCode::BAD_REQUEST,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::Away { .. } | Self::Busy | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { .. } | Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "Not found",
            Self::Bad { .. } => "Not understood",
            Self::OtherHost => "Not the name of this page",
            Self::Away { .. } => "The store is away",
            Self::Refused { .. } => "The store refused",
            Self::Busy | Self::Late => "Too much at once",
            Self::Fault => "A fault of this program",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NotFound { what } => {
                format!("There is no {what}. Begin with the list of rollouts.")
            }
            Self::Bad { problem } => format!("{problem}. Begin with the list of rollouts."),
            Self::OtherHost => "The address in the browser has another name than this page \
                                answers to. Use the address that it listens at, or start \
                                firmcast-fleet web with --name and that name."
                .to_owned(),
            Self::Away { error, .. } | Self::Refused { error } => sentence(&error.to_string()),
            Self::Busy => "Too many people look at once, or the store is slow. This page tries \
                           again by itself."
                .to_owned(),
            Self::Late => "The store takes too long to answer, or what was sent came too slowly. \
                           This page tries again by itself; look at the load of the store's \
                           machine."
                .to_owned(),
            Self::Fault => "This page cannot be made; others can. If something was to be changed, \
                            look whether it was. Send the program's log, which says where it went \
                            wrong, to those who make it."
                .to_owned(),
        }
    }
}

/// Returns a message as a sentence.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = self.status();
        let passes = status == StatusCode::SERVICE_UNAVAILABLE;
        let stays = if passes { Stays::Reloaded(RETRY_S) } else { Stays::AsItIs };
        let frame = Frame { title: self.title(), stays };
        let page = frame.around(&html! {
            h1 { (self.title()) }
            p { (self.remedy()) }
            @if let Self::Away { answered_at: Some(at), .. } = self {
                p { "The store answered last at " (time(at)) "." }
            }
        });
        let mut response = (status, page).into_response();
        if passes {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_S));
        }
        response
    }
}

/// Answers for a path that is no page's.
pub(super) async fn no_page(uri: Uri) -> Trouble {
    Trouble::NotFound { what: format!("page {}", uri.path()) }
}
