//! The loop: datagrams, timers, and rounds.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use firmcast::time::Time;
use serde_json::json;

use super::fleet::{Fate, Fleet};
use super::post::{Post, To};
use super::sight::{Sight, record};
use crate::engine::Violation;
use crate::update::host::{Place, VirtualHost};

/// How often it is looked whether there is word on the standard input.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A host that answers at the socket in its place.
struct Seat {
    host: VirtualHost,
    sight: Sight,
    is_silent: bool,
}

impl Seat {
    fn new(fleet: &Fleet, number: usize, fate: Fate, times: u64) -> Self {
        let host = fleet.host(number, fate, times);
        Self { sight: Sight::new(&host), host, is_silent: fate == Fate::Silent }
    }

    /// Ends a step: sends, records, and tells what must never happen.
    fn close(&mut self, place: usize, post: &Post, done: Result<(), Violation>) {
        if let Err(violation) = done {
            record(&self.host, "violation", json!({ "what": violation }));
        }
        // What managers tell it is sealed: that its recovery environment follows no other word than
        // a commit is shown in the simulator.
        if let Place::Recovery(stay) = &self.host.place
            && !self.host.commits.contains(&stay.campaign)
        {
            self.host.commits.push(stay.campaign);
        }
        let transmits = self.host.outbox.take();
        transmits.iter().for_each(|transmit| self.sight.speaks(&self.host, transmit.to));
        self.sight.look(&self.host);
        post.send(place, &transmits);
    }
}

pub(super) struct Drive {
    fleet: Fleet,
    numbers: Range<usize>,
    seats: Vec<Seat>,
    post: Post,
    origin: Instant,
    /// How often somebody has replaced hosts.
    times: u64,
}

impl Drive {
    pub(super) fn new(fleet: Fleet, numbers: Range<usize>, post: Post) -> Self {
        let seat = |number| Seat::new(&fleet, number, fleet.fate(number), 0);
        let seats = numbers.clone().map(seat).collect();
        Self { fleet, numbers, seats, post, origin: Instant::now(), times: 0 }
    }

    /// Plays the hosts until the standard input ends.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let (say, words) = channel();
        std::thread::spawn(move || {
            let lines = std::io::stdin().lines().map_while(Result::ok);
            lines.map_while(|line| say.send(line).ok()).count()
        });
        while self.follow(&words)? {
            while self.receive() {}
            self.pass_time();
            self.post.wait(self.pause()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Does what the standard input says. False at its end.
    fn follow(&mut self, words: &Receiver<String>) -> Result<bool, String> {
        let word = match words.try_recv() {
            Ok(word) => word,
            Err(TryRecvError::Empty) => return Ok(true),
            Err(TryRecvError::Disconnected) => return Ok(false),
        };
        let mended = word.strip_prefix("mend ").and_then(|number| number.parse::<usize>().ok());
        match mended {
            None if word == "round" => self.replace(|_| true, |fate| fate),
            Some(mended) => self.replace(|number| number == mended, |_| Fate::Sound),
            None => return Err(format!("{word:?} is not understood; {}", super::USAGE)),
        }
        Ok(true)
    }

    /// Puts other hosts in the place of some: with the old firmware, at home.
    fn replace(&mut self, which: impl Fn(usize) -> bool, becomes: impl Fn(Fate) -> Fate) {
        self.times += 1;
        for (seat, number) in self.seats.iter_mut().zip(self.numbers.clone()) {
            if which(number) {
                let fate = becomes(self.fleet.fate(number));
                *seat = Seat::new(&self.fleet, number, fate, self.times);
                record(&seat.host, "replaced", json!({}));
            }
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// Hands the hosts what has arrived; says whether there may be more.
    fn receive(&mut self) -> bool {
        let (now, hosts) = (self.now(), self.numbers.len());
        let Self { seats, post, .. } = self;
        let mut give = |place: usize, from: SocketAddr, bytes: &[u8]| {
            let seat = &mut seats[place];
            if !seat.is_silent {
                let done = seat.host.handle_datagram(now, from, bytes);
                seat.close(place, post, done);
            }
        };
        post.receive(|to, from, bytes| match to {
            To::Host(place) => give(place, from, bytes),
            To::All => (0..hosts).for_each(|place| give(place, from, bytes)),
        })
    }

    fn pass_time(&mut self) {
        let now = self.now();
        for (place, seat) in self.seats.iter_mut().enumerate() {
            if seat.host.poll_timeout().is_some_and(|at| at <= now) {
                let done = seat.host.handle_timeout(now);
                seat.close(place, &self.post, done);
            }
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let due = self.seats.iter().filter_map(|seat| seat.host.poll_timeout()).min();
        due.map_or(LOOK_INTERVAL, |at| at.since(self.now()).min(LOOK_INTERVAL))
    }
}
