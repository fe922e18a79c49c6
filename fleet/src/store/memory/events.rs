use super::MemoryStore;
use crate::model::{Attempt, Event, EventId, EventKind, RolloutId, Stamp};
use crate::store::requests::LookBack;
use crate::store::text;

/// Appends an event.
pub(super) fn append(
    store: &mut MemoryStore,
    at: Stamp,
    rollout: Option<RolloutId>,
    by: &str,
    kind: EventKind,
    detail: &str,
) {
    let (by, detail) = (by.to_owned(), text::detail(detail));
    let id = super::next_id(store.events.len());
    store.events.push(Event { id, at, rollout, host: None, by, kind, detail });
}

/// Appends an event about an attempt.
pub(super) fn about(
    store: &mut MemoryStore,
    attempt: &Attempt,
    kind: EventKind,
    by: &str,
    at: Stamp,
    detail: &str,
) {
    append(store, at, Some(attempt.rollout), by, kind, detail);
    if let Some(event) = store.events.last_mut() {
        event.host = Some(attempt.host.clone());
    }
}

pub(super) fn after(store: &MemoryStore, after: EventId, limit: usize) -> Vec<Event> {
    let before = usize::try_from(after).unwrap_or(0);
    store.events.iter().skip(before).take(limit).cloned().collect()
}

pub(super) fn before(store: &MemoryStore, which: &LookBack<'_>, limit: usize) -> Vec<Event> {
    let is_wanted = |event: &&Event| {
        event.id < which.before
            && which.rollout.is_none_or(|rollout| event.rollout == Some(rollout))
            && which.host.is_none_or(|host| event.host.as_deref() == Some(host))
    };
    store.events.iter().rev().filter(is_wanted).take(limit).cloned().collect()
}
