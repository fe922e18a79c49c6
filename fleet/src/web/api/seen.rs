//! The revision that a caller saw, which `If-Match` says (RFC 9110, section 13.1.1).

use axum::extract::FromRequestParts;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::problem::Problem;

/// What `If-Match` may say: as [`digits`] reads it, also without quotes, which shells take away.
const PATTERN: &str = "^(\\*|[0-9]{1,18}|\"[0-9]{1,18}\")$";

/// Maximum number of digits of a number within a text.
const DIGITS_MAX: usize = 18;

/// The revision that the caller saw, if it says so.
#[derive(Debug)]
pub(super) struct Seen(pub(super) Option<i64>);

impl<S: Sync> FromRequestParts<S> for Seen {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut tags = parts.headers.get_all(IF_MATCH).iter();
        let Some(tag) = tags.next() else { return Ok(Self(None)) };
        let text = tag.to_str().unwrap_or_default().trim();
        let bare = text.strip_prefix('"').map_or(Some(text), |rest| rest.strip_suffix('"'));
        let number = bare.and_then(digits);
        match (text, number, tags.next()) {
            ("*", None, None) => Ok(Self(None)),
            (_, Some(number), None) => Ok(Self(Some(number))),
            _ => Err(Problem::bad("If-Match is not one ETag of a rollout, such as \"7\"")),
        }
    }
}

impl IntoParams for Seen {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("The ETag that was seen"))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

/// Returns the number that 1 to 18 digits say, and nothing but these.
pub(super) fn digits(text: &str) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.len() <= DIGITS_MAX { text.parse().ok() } else { None }
}
