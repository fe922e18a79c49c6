//! The forms: logging in and out, and what is done with a rollout.

use axum::Extension;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;

use crate::deeds::{self, BECAUSE_CHARS_MAX, Deed, DeedError, Order};
use crate::model::{Approval, Rollout, WaveState};
use crate::picture::words::command;
use crate::store::requests::RolloutWaves;
use crate::store::{StoreError, word};
use crate::web::door::{Refused, Shown};
use crate::web::guard::Peer;
use crate::web::layout::framed;
use crate::web::link;
use crate::web::pool::now;
use crate::web::site::Acting;
use crate::web::trouble::Trouble;

/// What is done, as the forms name it.
const DEEDS: [(Deed, &str); 5] = [
    (Deed::Start, "Start"),
    (Deed::Pause, "Pause"),
    (Deed::Resume, "Resume"),
    (Deed::Abort, "Abort"),
    (Deed::Retry, "Retry what failed"),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Back {
    /// The rollout to come back to; empty for the list.
    #[serde(default)]
    rollout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Login {
    name: String,
    password: String,
    #[serde(default)]
    rollout: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Act {
    rollout: String,
    deed: Deed,
    revision: i64,
    #[serde(default)]
    because: String,
    token: String,
    /// For an abort: that it is meant.
    #[serde(default)]
    sure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Logout {
    token: String,
}

/// The form to log in.
pub(in crate::web) async fn login_form(
    back: Result<Query<Back>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(back) = back.map_err(|error| bad(&error))?;
    Ok(login_page(&back.rollout, None))
}

/// Logs somebody in.
pub(in crate::web) async fn login(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(login) = form.map_err(|error| bad(&error))?;
    let shown = site.door.shown(&headers, peer);
    let refused = match site.door.log_in(&shown, &login.name, login.password).await {
        Ok(cookie) => return Ok(([(SET_COOKIE, cookie)], see(&login.rollout)).into_response()),
        Err(refused) => refused,
    };
    let status = match refused {
        Refused::NotOwn | Refused::Wrong => StatusCode::FORBIDDEN,
        Refused::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        Refused::Register(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Ok((status, login_page(&login.rollout, Some(&refused.to_string()))).into_response())
}

/// Logs somebody out.
pub(in crate::web) async fn logout(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Logout>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(form) = form.map_err(|error| bad(&error))?;
    let shown = site.door.shown(&headers, peer);
    if !shown.is_own_form(&form.token) {
        return Ok(not_own());
    }
    Ok(([(SET_COOKIE, site.door.log_out(&shown))], see("")).into_response())
}

/// What may be done with a rollout.
pub(in crate::web) async fn act_form(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    back: Result<Query<Back>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(Back { rollout: name }) = back.map_err(|error| bad(&error))?;
    let shown = site.door.shown(&headers, peer);
    let wanted = name.clone();
    let found = site.store.ask(move |store| store.rollout_named(&wanted)).await?;
    let found = found.ok_or_else(|| Trouble::NotFound { what: format!("rollout {name:?}") })?;
    let who = person(&shown);
    Ok(framed(
        &format!("Rollout {name}: act"),
        &html! {
            h1 { "Rollout " (name) }
            (standing(&found.rollout))
            @match who {
                Some(who) => {
                    p { "You are " strong { (who) } ". What you do is recorded with that name." }
                    (choices(&found.rollout, &shown.form_token()))
                    form method="post" action="/logout" {
                        input type="hidden" name="token" value=(shown.form_token());
                        button { "Log out" }
                    }
                }
                None => p { a href=(link::login(&name)) { "Log in to act" } },
            }
            (approvals(&found))
            p { a href=(link::rollout(&name)) { "Back to the rollout" } }
        },
    ))
}

/// Does something with a rollout.
pub(in crate::web) async fn act(
    State(site): State<Acting>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Act>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(form) = form.map_err(|error| bad(&error))?;
    let shown = site.door.shown(&headers, peer);
    let Some(by) = person(&shown) else {
        let page = login_page(&form.rollout, Some("log in first; nothing was changed"));
        return Ok((StatusCode::FORBIDDEN, page).into_response());
    };
    if !shown.is_own_form(&form.token) {
        return Ok(not_own());
    }
    if form.because.chars().count() > BECAUSE_CHARS_MAX {
        let problem = format!("The words have more than {BECAUSE_CHARS_MAX} letters: take fewer");
        return Err(Trouble::Bad { problem });
    }
    if form.deed == Deed::Abort && !form.sure {
        return Ok(confirmation(&form).into_response());
    }
    let name = form.rollout.clone();
    let done = site.store.ask(move |store| {
        let Act { deed, because, revision, .. } = &form;
        let revision = Some(*revision);
        let order = Order { deed: *deed, because, by: &by, at: now(), revision };
        split(deeds::carry_out(store, &form.rollout, &order))
    });
    match done.await? {
        Ok(_) => Ok(see(&name).into_response()),
        Err(error) => Ok(conflict(&name, &error)),
    }
}

/// Leaves what the store says to the pool, which knows when it answered last. That somebody was
/// faster is for the person.
pub(in crate::web) fn split<T>(
    done: Result<T, DeedError>,
) -> Result<Result<T, DeedError>, StoreError> {
    match done {
        Err(DeedError::Store(error))
            if !matches!(
                error,
                StoreError::RolloutMoved { .. }
                    | StoreError::WaveMoved { .. }
                    | StoreError::NameTaken { .. }
                    | StoreError::Text { .. }
                    | StoreError::TooMuch { .. }
            ) =>
        {
            Err(error)
        }
        done => Ok(done),
    }
}

fn person(shown: &Shown<'_>) -> Option<String> {
    // Who cannot be known is nobody.
    shown.person().ok().flatten().map(|caller| caller.name)
}

fn standing(rollout: &Rollout) -> Markup {
    html! { p {
        "It is " strong { (word(&rollout.state)) }
        @if !rollout.reason.is_empty() { ": " (rollout.reason) }
    } }
}

fn choices(rollout: &Rollout, token: &str) -> Markup {
    html! { @for (deed, label) in DEEDS.iter().filter(|(deed, _)| deed.is_for(rollout.state)) {
        form method="post" action="/act" {
            (hidden(&rollout.name, *deed, rollout.revision, token))
            @if matches!(deed, Deed::Pause | Deed::Abort) {
                label { "Why: " input name="because" maxlength=(BECAUSE_CHARS_MAX); }
            }
            button { (label) }
        }
    } }
}

fn hidden(name: &str, deed: Deed, revision: i64, token: &str) -> Markup {
    html! {
        input type="hidden" name="rollout" value=(name);
        input type="hidden" name="deed" value=(word(&deed));
        input type="hidden" name="revision" value=(revision);
        input type="hidden" name="token" value=(token);
    }
}

/// The page has no key, so it cannot sign: it says what to type.
fn approvals(found: &RolloutWaves) -> Markup {
    let is_open = |state| matches!(state, WaveState::Waiting | WaveState::AwaitsApproval);
    let waves = found.waves.iter();
    let waves: Vec<_> =
        waves.filter(|wave| wave.approval == Approval::Person && is_open(wave.state)).collect();
    html! { @if !waves.is_empty() {
        h2 { "Approvals" }
        p { "A wave that waits for a person needs the signature of a manager key, which is on your \
             own machine. Type there, unless you created the rollout:" }
        ul { @for wave in waves { li {
            code { (command("rollout approve --key FILE", &[&found.rollout.name, &wave.name])) }
        } } }
    } }
}

fn confirmation(form: &Act) -> Markup {
    framed(
        "Abort?",
        &html! {
            h1 { "Abort rollout " (form.rollout) "?" }
            p { "Hosts that have not begun are skipped, for good: a rollout that was aborted does \
                 not go on. Hosts that have begun go on to their end." }
            form method="post" action="/act" {
                (hidden(&form.rollout, form.deed, form.revision, &form.token))
                input type="hidden" name="because" value=(form.because);
                input type="hidden" name="sure" value="true";
                button { "Abort it" }
            }
            p { a href=(link::act(&form.rollout)) { "Leave it as it is" } }
        },
    )
}

fn login_page(rollout: &str, problem: Option<&str>) -> Markup {
    framed(
        "Log in",
        &html! {
            h1 { "Log in" }
            @if let Some(problem) = problem { p role="alert" { (problem) } }
            form method="post" action="/login" {
                input type="hidden" name="rollout" value=(rollout);
                p { label { "Name " input name="name" autocomplete="username" required; } }
                p { label {
                    "Password "
                    input type="password" name="password" autocomplete="current-password" required;
                } }
                button { "Log in" }
            }
            p { "People are added with " code { "firmcast-fleet people add NAME" } "." }
        },
    )
}

fn conflict(name: &str, error: &DeedError) -> Response {
    let status = match error {
        DeedError::NoRollout { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    let page = framed(
        "Nothing was changed",
        &html! {
            h1 { "Nothing was changed" }
            p { (error) }
            p { a href=(link::act(name)) { "Look at it again" } }
        },
    );
    (status, page).into_response()
}

fn not_own() -> Response {
    let page = framed(
        "Nothing was changed",
        &html! {
            h1 { "Nothing was changed" }
            p { "The form is not of this session: another site may have sent it, or the session \
                 is over. Open the page itself, and begin there." }
        },
    );
    (StatusCode::FORBIDDEN, page).into_response()
}

/// Sends the browser to what may be done with a rollout, or to the list.
fn see(rollout: &str) -> (StatusCode, [(axum::http::HeaderName, HeaderValue); 1]) {
    let path = match rollout {
        "" => "/".to_owned(),
        name => link::act(name),
    };
    let value = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, value)])
}

fn bad(error: &impl std::fmt::Display) -> Trouble {
    Trouble::Bad { problem: error.to_string() }
}
