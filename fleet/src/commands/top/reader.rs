//! Reads what is shown from the store, on a thread of its own: keys never wait for the store.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firmcast_fleet::deeds::{self, Order};
use firmcast_fleet::model::{EventId, RolloutState, Stamp};
use firmcast_fleet::picture::gather::{self, Racks};
use firmcast_fleet::store::requests::LookBack;
use firmcast_fleet::store::{Store, StoreError};
use firmcast_fleet::top::desk::{Deed, Picture, Place, Wish};

use crate::commands::now;
use crate::commands::people::who;

/// How long the store is waited for at a time; also how long a wish may wait.
const WAIT: Duration = Duration::from_millis(100);

/// After how long it is read again though nothing happened: leases are renewed without events.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// How much longer than a reading took the next one is waited for: others need the store, too.
const PAUSE_FACTOR: u32 = 4;

/// After how long a store that is away is asked again.
const AWAY_WAIT: Duration = Duration::from_secs(1);

/// How old what is known of racks may be.
const RACKS_AGE: Duration = Duration::from_secs(60);

/// What the reader tells.
pub(super) enum Told {
    /// What there is at a place, and when that was read.
    Picture(Place, Picture, Stamp),
    /// The store does not answer, and why.
    Trouble(String),
    /// What became of a deed.
    Done(String),
}

/// The thread.
pub(super) struct Reader {
    wishes: Sender<Wish>,
    pub(super) told: Receiver<Told>,
}

impl Reader {
    pub(super) fn start(store: Box<dyn Store>) -> anyhow::Result<Self> {
        let ((wishes, wished), (tell, told)) = (channel(), channel());
        thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                let place = Place::Rollouts;
                let racks = (Racks::new(), None);
                Work { store, tell, place, racks, last: None, is_away: false }.run(&wished);
            })
            .context("cannot start a thread")?;
        Ok(Self { wishes, told })
    }

    /// Asks for something. If the thread has ended, that is seen when it is listened to.
    pub(super) fn ask(&self, wish: Wish) {
        let _ = self.wishes.send(wish);
    }
}

struct Work {
    store: Box<dyn Store>,
    tell: Sender<Told>,
    place: Place,
    racks: (Racks, Option<Instant>),
    /// The last event that what was read has in it.
    last: Option<EventId>,
    is_away: bool,
}

impl Work {
    /// Works until nobody listens any more.
    fn run(mut self, wishes: &Receiver<Wish>) {
        let (mut read_at, mut took, mut is_due) = (Instant::now(), Duration::ZERO, true);
        loop {
            loop {
                match wishes.try_recv() {
                    Ok(Wish::Read(place)) => (self.place, is_due) = (place, true),
                    Ok(Wish::Do(deed)) => {
                        let words = self.carry_out(&deed);
                        if self.tell.send(Told::Done(words)).is_err() {
                            return;
                        }
                        is_due = true;
                    }
                    Ok(Wish::Quit) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
            }
            is_due |= read_at.elapsed() >= READ_AGAIN.max(took * PAUSE_FACTOR);
            let may = read_at.elapsed() >= took * PAUSE_FACTOR;
            if is_due || may && self.has_news() {
                let began = Instant::now();
                if !self.read() {
                    return;
                }
                (read_at, took, is_due) = (Instant::now(), began.elapsed(), false);
            }
            if self.store.wait(WAIT).is_err() || self.is_away {
                // Whatever it is, the next reading says it.
                thread::sleep(AWAY_WAIT);
                is_due = true;
            }
        }
    }

    /// Whether anything happened since it was read last. An error is told by the reading.
    fn has_news(&mut self) -> bool {
        self.store
            .past_events(&LookBack::ALL, 1)
            .map_or(true, |events| events.first().map(|event| event.id) != self.last)
    }

    /// Reads, and tells; says whether anybody listens.
    fn read(&mut self) -> bool {
        let at = now();
        let told = match self.picture(at) {
            Ok(picture) => Told::Picture(self.place.clone(), picture, at),
            Err(error) => Told::Trouble(format!("{:#}", anyhow::Error::new(error))),
        };
        self.is_away = matches!(told, Told::Trouble(_));
        self.tell.send(told).is_ok()
    }

    fn picture(&mut self, at: Stamp) -> Result<Picture, StoreError> {
        let store = self.store.as_mut();
        // First: what comes while it is read is news.
        self.last = store.past_events(&LookBack::ALL, 1)?.first().map(|event| event.id);
        Ok(match &self.place {
            Place::Rollouts => {
                Picture::Rollouts(gather::overview(store)?, gather::calling(store, at)?)
            }
            Place::Rollout(name) => {
                let (racks, known_at) = &mut self.racks;
                if known_at.is_none_or(|at| at.elapsed() > RACKS_AGE) {
                    (*racks, *known_at) = (gather::racks(store)?, Some(Instant::now()));
                }
                let seen = gather::rollout(store, name, racks, at)?;
                seen.map_or(Picture::Missing, |seen| Picture::Rollout(Box::new(seen)))
            }
            Place::Host(name) => gather::host(store, name, at)?
                .map_or(Picture::Missing, |(host, events)| Picture::Host(Box::new(host), events)),
        })
    }

    fn carry_out(&mut self, wanted: &Deed) -> String {
        let deed = match wanted.to {
            RolloutState::Paused => deeds::Deed::Pause,
            _ => deeds::Deed::Resume,
        };
        let (by, at, revision) = (who(), now(), Some(wanted.revision));
        let order = Order { deed, because: "", by: &by, at, revision };
        match deeds::carry_out(self.store.as_mut(), &wanted.name, &order) {
            Ok(done) => done.words(&wanted.name),
            Err(error) => format!("not done: {:#}", anyhow::Error::new(error)),
        }
    }
}
