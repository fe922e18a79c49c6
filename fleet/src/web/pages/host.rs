//! One host: its firmware, what became of it, what to do.

use axum::extract::State;
use maud::{Markup, html};

use super::parts::{self, live, typed};
use crate::model::{Call, Event, RolloutId, Stamp};
use crate::picture::call;
use crate::picture::gather::never_begins;
use crate::picture::host::{AttemptPicture, HostPicture};
use crate::store::requests::LookBack;
use crate::store::{Store, StoreError};
use crate::web::layout::{Frame, Stays, time};
use crate::web::limits::{ATTEMPTS_SHOWN_MAX, EVENTS_SHOWN_MAX};
use crate::web::link;
use crate::web::names::rollout_names;
use crate::web::pool::now;
use crate::web::query::{Asked, Named};
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// What the page shows.
struct Found {
    picture: HostPicture,
    events: Vec<(Event, String)>,
    /// What is known of it where it is dead and calls for help.
    call: Option<Call>,
}

/// The page, or what changes in it.
pub(in crate::web) async fn page(
    State(site): State<Site>,
    Asked(query): Asked<Named>,
) -> Result<Markup, Trouble> {
    let (after, name) = (site.live.last(), query.name.clone());
    let found = site.store.ask(move |store| find(store, &name, now())).await?;
    let name = &query.name;
    let found = found.ok_or_else(|| Trouble::NotFound { what: format!("host {name:?}") })?;
    let part = shown(&found);
    if query.part.is_some() {
        return Ok(part);
    }
    let (title, link) = (format!("Host {name}"), link::host(name));
    let frame = Frame { title: &title, stays: Stays::Live(after) };
    Ok(frame.around(&html! {
        h1 { "Host " (name) }
        (live(&link, &format!("{link}&part=all"), &part))
    }))
}

fn find(store: &mut dyn Store, name: &str, now: Stamp) -> Result<Option<Found>, StoreError> {
    let Some(host) = store.host(name)? else { return Ok(None) };
    let attempts = store.attempts_of(name, ATTEMPTS_SHOWN_MAX)?;
    let never_begins = match attempts.first() {
        Some(last) => never_begins(store, last, now)?,
        None => false,
    };
    let call = store.calls(now)?.into_iter().find(|call| call.host == name);
    let of_host = LookBack { host: Some(name), ..LookBack::ALL };
    let events = store.past_events(&of_host, EVENTS_SHOWN_MAX)?;
    let named: Vec<RolloutId> = attempts.iter().map(|attempt| attempt.rollout).collect();
    let named = named.into_iter().chain(events.iter().filter_map(|event| event.rollout));
    let names = rollout_names(store, named)?;
    let tried = attempts.into_iter().map(|attempt| (names.of(Some(attempt.rollout)), attempt));
    let picture = HostPicture::new(host, tried.collect(), now);
    let picture = if never_begins { picture.that_never_begins() } else { picture };
    let events = events.into_iter().map(|event| (names.of(event.rollout), event));
    let events = events.map(|(name, event)| (event, name)).collect();
    Ok(Some(Found { picture, events, call }))
}

fn shown(found: &Found) -> Markup {
    let Found { picture, events, call } = found;
    let HostPicture { host, flash, .. } = picture;
    let safe = match flash.reset_is_safe {
        Some(true) => "safe",
        Some(false) => "not-safe",
        None => "unknown",
    };
    html! {
        section aria-labelledby="now" {
            h2 #now { "Now" }
            dl {
                dt { "Stands" }
                dd { @match picture.mark {
                    Some(mark) => { (parts::mark(mark)) }
                    None => { "in no rollout" }
                } }
                @if let Some(call) = call {
                    dt { "Calls for help" }
                    dd { (call::found(call)) "; " (call::does(call)) "; " (call::to_do(call).0) }
                }
                dt { "Its flash holds" } dd { (flash.holds) }
                dt { "Reset" } dd { strong.(safe) { (flash.reset) } }
                @if !picture.advice.is_empty() { dt { "What to do" } dd { (picture.advice) } }
                @if let Some(command) = &picture.command {
                    dt { "Type" } dd { (typed(command)) }
                }
            }
        }
        section aria-labelledby="host" {
            h2 #host { "The host" }
            dl {
                dt { "Firmware" } dd { (or_unknown(&host.bios_version)) }
                dt { "Board" } dd { (host.vendor) " " (host.product) }
                dt { "Agent" } dd { (or_unknown(&host.agent_version)) }
                dt { "Security version at least" } dd { (host.security_version_floor) }
                dt { "Addresses" }
                dd { @for address in &host.addresses { (address) " " } }
                dt { "Key" } dd { code { (host.key) } }
                @for (label, value) in &host.labels { dt { (label) } dd { (value) } }
            }
        }
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            @if picture.attempts.is_empty() { p { "None." } }
            @else { (attempts(&picture.attempts)) }
        }
        section aria-labelledby="events" {
            h2 #events { "Events" }
            @if events.is_empty() { p { "None." } } @else { (parts::events(events)) }
        }
    }
}

fn attempts(attempts: &[AttemptPicture]) -> Markup {
    html! {
        table {
            thead { tr {
                @for head in ["Rollout", "Stands", "Why", "Flash", "Worker", "Began", "Ended"] {
                    th scope="col" { (head) }
                }
            } }
            tbody { @for each in attempts { tr {
                th scope="row" {
                    a href=(link::rollout(&each.rollout)) { (each.rollout) }
                    @if each.attempt.retry > 0 { ", retry " (each.attempt.retry) }
                }
                td { (parts::mark(each.mark)) }
                td {
                    (each.means)
                    @if !each.attempt.detail.is_empty() { " (" (each.attempt.detail) ")" }
                }
                td { (each.holds) }
                td { (each.attempt.worker.as_deref().unwrap_or_default()) }
                td { @if let Some(at) = each.attempt.started_at { (time(at)) } }
                td { @if let Some(at) = each.attempt.ended_at { (time(at)) } }
            } } }
        }
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
