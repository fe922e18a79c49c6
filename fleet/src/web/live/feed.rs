//! What was told lately, and who listens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bulletin::Bulletin;
use crate::model::{EventId, Stamp};
use crate::web::limits::{BEHIND_MAX, BULLETINS_KEPT_MAX, STREAMS_MAX};

/// What streams pass on.
#[derive(Clone, Debug)]
pub(in crate::web) enum Message {
    /// Something happened.
    News(Arc<Bulletin>),
    /// What happened before this event is not told: pages are to be read anew.
    Reset(EventId),
    /// The store cannot be read since then; none when it can be again.
    Away(Option<Stamp>),
    /// The program ends.
    End,
}

/// The source of all streams.
#[derive(Clone, Debug)]
pub struct Live {
    feed: Sender<Message>,
    told: Arc<Mutex<Told>>,
    streams: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Told {
    /// The last event that was there before all that is kept.
    before: EventId,
    kept: VecDeque<Arc<Bulletin>>,
    away_since: Option<Stamp>,
}

/// Where a stream begins.
#[derive(Debug)]
pub(in crate::web) struct Listener {
    /// What the browser has missed; none when that is not kept any more.
    pub(in crate::web) missed: Option<Vec<Arc<Bulletin>>>,
    /// The last event that it knows with that.
    pub(in crate::web) last: EventId,
    /// Since when the store cannot be read.
    pub(in crate::web) away_since: Option<Stamp>,
    /// What comes from now on.
    pub(in crate::web) feed: Receiver<Message>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Live {
    fn default() -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { feed: channel(BEHIND_MAX).0, told: Arc::default(), streams }
    }
}

impl Live {
    /// The last event that was told.
    pub fn last(&self) -> EventId {
        let told = self.told();
        told.kept.back().map_or(told.before, |bulletin| bulletin.last)
    }

    /// Ends all streams.
    pub fn end(&self) {
        let _ = self.feed.send(Message::End);
    }

    /// Lets somebody listen who knows of all events up to `after`; none when too many do already.
    pub(in crate::web) fn listen(&self, after: EventId) -> Option<Listener> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        // Held, so that nothing is told between what was missed and what comes.
        let told = self.told();
        let last = told.kept.back().map_or(told.before, |bulletin| bulletin.last);
        let missed = told.kept.iter().filter(|bulletin| bulletin.last > after);
        let is_kept = (told.before..=last).contains(&after);
        let missed = is_kept.then(|| missed.map(Arc::clone).collect());
        let (away_since, feed) = (told.away_since, self.feed.subscribe());
        Some(Listener { missed, last, away_since, feed, _permit: permit })
    }

    /// Begins behind an event.
    pub(super) fn begin(&self, last: EventId) {
        let mut told = self.told();
        *told = Told { before: last, away_since: told.away_since, ..Told::default() };
        let _ = self.feed.send(Message::Reset(last));
    }

    pub(super) fn tell(&self, bulletin: Bulletin) {
        let bulletin = Arc::new(bulletin);
        let mut told = self.told();
        told.kept.push_back(Arc::clone(&bulletin));
        if told.kept.len() > BULLETINS_KEPT_MAX
            && let Some(oldest) = told.kept.pop_front()
        {
            told.before = oldest.last;
        }
        // Nobody listens, or somebody.
        let _ = self.feed.send(Message::News(bulletin));
    }

    /// Tells whether the store can be read, if that has changed.
    pub(super) fn tell_away(&self, since: Option<Stamp>) {
        let mut told = self.told();
        if told.away_since.is_some() != since.is_some() {
            told.away_since = since;
            let _ = self.feed.send(Message::Away(since));
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody else has a copy of this.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.told) > 1
    }
}
