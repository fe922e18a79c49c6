//! Who calls. It is known before a byte of the body is read.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::people::{Caller, May};
use crate::web::guard::Peer;
use crate::web::site::Acting;

/// Somebody whose token may read.
#[derive(Debug)]
pub(super) struct Reads;

/// The name of somebody whose token may act.
#[derive(Debug)]
pub(super) struct Acts(pub(super) String);

impl FromRequestParts<Acting> for Reads {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Acting) -> Result<Self, Problem> {
        caller(parts, site).map(|_| Self)
    }
}

impl FromRequestParts<Acting> for Acts {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Acting) -> Result<Self, Problem> {
        let caller = caller(parts, site)?;
        if caller.may < May::Act {
            let detail =
                "the token may only read: make one with firmcast-fleet people token --may act";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Self(caller.name))
    }
}

fn caller(parts: &Parts, site: &Acting) -> Result<Caller, Problem> {
    let caller = match parts.extensions.get::<Peer>() {
        Some(Peer(peer)) => site.door.shown(&parts.headers, *peer).program()?,
        None => None,
    };
    caller.ok_or_else(|| {
        let detail = "send Authorization: Bearer and a token that counts, see firmcast-fleet \
                      people token";
        Problem::new(StatusCode::UNAUTHORIZED, detail)
    })
}
