use std::cmp::Reverse;

use super::{MemoryStore, events, foresights, hosts};
use crate::model::{Call, CallNews, CallTurn, Stamp};
use crate::store::requests::{CALL_KEPT_US, CALLS_MAX, kept_call, last_heard, told_call};

/// Keeps who calls a worker, and tells what happened.
pub(super) fn tell(
    store: &mut MemoryStore,
    worker: &str,
    calls: &[Call],
    news: &[CallNews],
    at: Stamp,
) {
    let forgotten = at.saturating_sub(CALL_KEPT_US);
    store.calls.retain(|(of, _), call| of != worker && call.heard_at >= forgotten);
    for call in calls.iter().filter(|call| store.hosts.contains_key(&call.host)) {
        store.calls.insert((worker.to_owned(), call.host.clone()), kept_call(worker, call));
    }
    for CallNews { host, what, detail } in news {
        if !store.hosts.contains_key(host) {
            continue;
        }
        if let CallTurn::Rescued(release) = what {
            hosts::has(store, host, release);
        }
        if what.may_have_changed() {
            foresights::forget(store, host);
        }
        events::append(store, at, None, worker, told_call(what), detail);
        if let Some(event) = store.events.last_mut() {
            event.host = Some(host.clone());
        }
    }
}

pub(super) fn all(store: &MemoryStore, at: Stamp) -> Vec<Call> {
    let forgotten = at.saturating_sub(CALL_KEPT_US);
    let lately = store.calls.values().filter(|call| call.heard_at >= forgotten);
    let mut calls: Vec<&Call> = lately.collect();
    calls.sort_by_key(|call| (Reverse(call.heard_at), &call.host, &call.worker));
    last_heard(calls.into_iter().take(CALLS_MAX).cloned())
}
