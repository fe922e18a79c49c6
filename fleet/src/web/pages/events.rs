//! What happened, the last first.

use axum::extract::State;
use maud::{Markup, html};

use super::parts::{self, live};
use crate::model::{Event, EventId};
use crate::store::requests::LookBack;
use crate::store::{Store, StoreError};
use crate::web::layout::{Frame, Stays};
use crate::web::limits::EVENTS_SHOWN_MAX;
use crate::web::link;
use crate::web::names::rollout_names;
use crate::web::query::{Asked, Past};
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// The page, or what changes in it. Only the newest events change.
pub(in crate::web) async fn page(
    State(site): State<Site>,
    Asked(query): Asked<Past>,
) -> Result<Markup, Trouble> {
    let (after, rollout) = (site.live.last(), query.rollout.clone());
    let before = query.before.unwrap_or(EventId::MAX);
    let found = site.store.ask(move |store| find(store, &rollout, before)).await?;
    let name = &query.rollout;
    let events = found.ok_or_else(|| Trouble::NotFound { what: format!("rollout {name:?}") })?;
    let list = list(&events, name);
    if query.part.is_some() {
        return Ok(list);
    }
    let newest = query.before.is_none();
    let stays = if newest { Stays::Live(after) } else { Stays::AsItIs };
    let frame = Frame { title: "Events", stays };
    Ok(frame.around(&html! {
        h1 {
            "Events"
            @if !name.is_empty() { " of rollout " a href=(link::rollout(name)) { (name) } }
        }
        @if newest {
            (live("all", &format!("{}&part=list", listed(name)), &list))
        } @else {
            p { a href=(listed(name)) { "The newest events" } }
            (list)
        }
    }))
}

fn find(
    store: &mut dyn Store,
    rollout: &str,
    before: EventId,
) -> Result<Option<Vec<(Event, String)>>, StoreError> {
    let id = match rollout {
        "" => None,
        name => match store.rollout_named(name)? {
            Some(found) => Some(found.rollout.id),
            None => return Ok(None),
        },
    };
    let which = LookBack { before, rollout: id, host: None };
    let events = store.past_events(&which, EVENTS_SHOWN_MAX)?;
    let names = rollout_names(store, events.iter().filter_map(|event| event.rollout))?;
    let named = |event: Event| (names.of(event.rollout), event);
    let named = events.into_iter().map(named).map(|(name, event)| (event, name));
    Ok(Some(named.collect()))
}

fn list(events: &[(Event, String)], rollout: &str) -> Markup {
    html! {
        @if events.is_empty() { p { "Nothing happened yet." } } @else { (parts::events(events)) }
        @if let Some((oldest, _)) = events.last().filter(|_| events.len() == EVENTS_SHOWN_MAX) {
            p { a href={ (listed(rollout)) "&before=" (oldest.id) } { "Older events" } }
        }
    }
}

fn listed(rollout: &str) -> String {
    format!("/events?rollout={}", link::part(rollout))
}
