//! Fetches bundles out of the store, in a thread of its own: leases are renewed meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use firmcast_fleet::store::requests::chunks;
use firmcast_fleet::store::{Store, StoreError};

use super::campaigns::Happening;
use crate::commands::Place;
use crate::commands::shelf::Shelf;

/// How often a chunk is asked for while the store is away or busy, before the fetch is given up.
const CHUNK_TRIES_MAX: u32 = 5;

/// Pause before a chunk is asked for again.
const CHUNK_PAUSE: Duration = Duration::from_secs(2);

/// Who fetches bundles, one after the other.
pub(super) struct Fetcher {
    orders: Sender<String>,
}

impl Fetcher {
    /// Waits for orders. What comes of each is told as [`Happening::Fetched`].
    pub(super) fn new(place: Place, news: Sender<Happening>) -> anyhow::Result<Self> {
        let (orders, ordered) = channel();
        thread::Builder::new()
            .name("bundles".into())
            .spawn(move || work(&place, &ordered, &news))
            .context("cannot start a thread")?;
        Ok(Self { orders })
    }

    /// Has a bundle fetched.
    pub(super) fn order(&self, release: String) {
        // The thread ends with this value only.
        let _ = self.orders.send(release);
    }
}

fn work(place: &Place, orders: &Receiver<String>, news: &Sender<Happening>) {
    for release in orders {
        let result = fetch(place, &release).map_err(|error| format!("{error:#}"));
        if news.send(Happening::Fetched { release, result }).is_err() {
            return;
        }
    }
}

/// Brings a bundle onto the shelf. Somebody else may do that just now: it is waited for.
pub(crate) fn fetch(place: &Place, release: &str) -> anyhow::Result<()> {
    let shelf: Shelf = place.shelf();
    let keeper = shelf.hold()?;
    if shelf.has(release) {
        return Ok(());
    }
    let mut store = place.store()?;
    let Some(known) = store.release(release)? else {
        bail!("there is no such release any more");
    };
    if !store.has_bundle(release)? {
        bail!("it is not in the store; run firmcast-fleet release add with its file, anywhere");
    }
    let count = chunks(known.size_bytes)?;
    keeper.write(release, |write| {
        for number in 0..count {
            write(&chunk(store.as_mut(), release, number)?)?;
        }
        Ok(())
    })
}

fn chunk(store: &mut dyn Store, release: &str, number: u32) -> anyhow::Result<Vec<u8>> {
    for tried in 1.. {
        match store.chunk(release, number) {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => break,
            Err(StoreError::Gone { .. } | StoreError::Busy { .. }) if tried < CHUNK_TRIES_MAX => {
                thread::sleep(CHUNK_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("it was removed from the store meanwhile")
}
