//! The thread that follows the store's events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::sleep;

use super::bulletin::Bulletin;
use super::feed::Live;
use crate::model::{Event, EventId};
use crate::store::requests::{LookBack, PAGE_MAX};
use crate::store::{Store, StoreError};
use crate::web::limits::{BULLETIN_PAUSE, FOLLOW_RETRY, FOLLOW_WAIT};
use crate::web::pool::{OpenStore, now};

impl Live {
    /// Starts following the store. The thread ends when nobody has a copy of this any more.
    pub fn follow(open: &OpenStore) -> Self {
        let (live, open) = (Self::default(), Arc::clone(open));
        let mine = live.clone();
        std::thread::spawn(move || {
            let mut from = None;
            while mine.is_used() {
                // A panic is told as the store's failing is: open pages show what they know last.
                let followed = AssertUnwindSafe(|| follow(&mine, &open, &mut from));
                if !matches!(catch_unwind(followed), Ok(Ok(()))) {
                    mine.tell_away(Some(now()));
                    sleep(FOLLOW_RETRY);
                }
            }
        });
        live
    }
}

/// Follows until the store fails, or nobody listens. `from` is the last event that was told.
fn follow(live: &Live, open: &OpenStore, from: &mut Option<EventId>) -> Result<(), StoreError> {
    let mut store = open()?;
    let store = store.as_mut();
    let mut last = match *from {
        Some(last) => last,
        None => {
            let last = last_event(store)?;
            live.begin(last);
            last
        }
    };
    while live.is_used() {
        let events = store.events(last, PAGE_MAX)?;
        live.tell_away(None);
        let Some(bulletin) = Bulletin::of(store, &events, now())? else {
            *from = Some(last);
            store.wait(FOLLOW_WAIT)?;
            continue;
        };
        last = bulletin.last;
        *from = Some(last);
        live.tell(bulletin);
        // What happens meanwhile is told at once.
        sleep(BULLETIN_PAUSE);
    }
    Ok(())
}

fn last_event(store: &mut dyn Store) -> Result<EventId, StoreError> {
    let last = store.past_events(&LookBack::ALL, 1)?;
    Ok(last.first().map_or(0, |event: &Event| event.id))
}
