//! What open pages are told at once.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{Event, EventId, EventKind, RolloutId, Stamp};
use crate::picture::mark::Mark;
use crate::store::{Store, StoreError};
use crate::web::limits::{ATTEMPTS_SHOWN_MAX, CELLS_TOLD_MAX};
use crate::web::link;

/// A server-sent event, and the last of the store's events that it tells of.
#[derive(Debug)]
pub(in crate::web) struct Bulletin {
    pub(in crate::web) last: EventId,
    pub(in crate::web) text: String,
}

/// A cell of a grid that shows something else now.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Cell {
    rollout: RolloutId,
    /// The cell's link, by which the page finds it.
    href: String,
    host: String,
    class: &'static str,
    letter: char,
    words: &'static str,
}

/// The data of a bulletin.
#[derive(Debug, Default, Serialize)]
struct Data {
    /// What it is about. A part of a page that shows one of these is read anew.
    topics: BTreeSet<String>,
    cells: Vec<Cell>,
}

impl Bulletin {
    /// Reads what `events` mean for open pages. The last one is the bulletin's number.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn of(
        store: &mut dyn Store,
        events: &[Event],
        at: Stamp,
    ) -> Result<Option<Self>, StoreError> {
        let Some(last) = events.last() else { return Ok(None) };
        let mut data = Data::default();
        let mut told = BTreeSet::new();
        for event in events {
            data.topics.insert("all".to_owned());
            let Some(rollout) = event.rollout else {
                data.topics.extend(event.host.as_deref().map(link::host));
                continue;
            };
            data.topics.insert(format!("rollout-{rollout}"));
            match &event.host {
                Some(host) => {
                    data.topics.insert(link::host(host));
                    told.insert((rollout, host.as_str()));
                }
                None if event.kind == EventKind::Approved => {}
                // Hosts may have been skipped, or planned again.
                None => {
                    data.topics.insert(format!("grid-{rollout}"));
                }
            }
        }
        for (rollout, host) in told.iter().take(CELLS_TOLD_MAX) {
            data.cells.extend(cell(store, *rollout, host, at)?);
        }
        for (rollout, _) in told.iter().skip(CELLS_TOLD_MAX) {
            data.topics.insert(format!("grid-{rollout}"));
        }
        Ok(Some(Self { last: last.id, text: sent("news", last.id, &data) }))
    }
}

/// The cell of a host as it is now.
fn cell(
    store: &mut dyn Store,
    rollout: RolloutId,
    host: &str,
    at: Stamp,
) -> Result<Option<Cell>, StoreError> {
    let attempts = store.attempts_of(host, ATTEMPTS_SHOWN_MAX)?;
    let last = attempts.iter().find(|attempt| attempt.rollout == rollout);
    Ok(last.map(|attempt| {
        let mark = Mark::of(attempt, at);
        let (class, letter, words) = (mark.class(), mark.letter(), mark.words());
        let (host, href) = (host.to_owned(), link::host(host));
        Cell { rollout, href, host, class, letter, words }
    }))
}

/// Returns a server-sent event. JSON has no line ends, so the data is one line.
pub(in crate::web) fn sent(kind: &str, id: EventId, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {kind}\nid: {id}\ndata: {data}\n\n")
}
