//! What goes wrong, and what people do.

use firmcast::reason::Reason;
use firmcast_fleet::work::crew::{Crew, Purpose};

use super::super::computer::Place;
use super::super::people;
use super::{Dropped, Due, Leg, Worker, World};

impl World<'_> {
    /// No fault comes any more: all that is away returns.
    pub(super) fn grow_calm(&mut self) {
        self.say(|| "no further faults".to_owned());
        (self.calm, self.store_is_away) = (true, false);
        for worker in 0..self.workers.len() {
            self.workers[worker].is_cut = false;
            if self.workers[worker].crew.is_none() {
                self.start_worker(worker);
            }
        }
    }

    pub(super) fn person(&mut self) {
        let (rollouts, at) = (self.scenario.rollouts.len(), self.now);
        let interval = if self.calm { 20_000..60_000 } else { 2000..40_000 };
        if self.calm {
            (1..=rollouts).for_each(|id| people::go_on(self.store, id as i64, at));
        } else {
            people::act(self.store, &mut self.chance, rollouts, at);
        }
        let pause = self.chance.ms(interval);
        self.after(pause, Due::Person);
    }

    /// Something goes wrong.
    pub(super) fn fail(&mut self) {
        if self.calm {
            return;
        }
        let worker = self.chance.index(self.workers.len());
        match self.chance.within(0..15) {
            0..3 => self.leave(worker),
            3 | 4 => {
                self.say(|| "the store is away".to_owned());
                self.store_is_away = true;
                let pause = self.absence_us();
                self.after(pause, Due::Store);
            }
            5 | 6 => {
                self.say(|| format!("worker {worker} is cut off"));
                self.workers[worker].is_cut = true;
                let pause = self.absence_us();
                self.after(pause, Due::Mend(worker));
            }
            7 | 8 => {
                let host = self.chance.index(self.computers.len());
                self.say(|| format!("host {host} dies"));
                self.go(host, Place::Dead);
            }
            9 => {
                let running = self.campaigns.keys().copied().collect::<Vec<_>>();
                if !running.is_empty() {
                    let campaign = running[self.chance.index(running.len())];
                    self.end_campaign(campaign, "it breaks off", true);
                }
            }
            10 => {
                let host = self.chance.index(self.computers.len());
                self.computers[host].refuses ^= true;
            }
            11 | 12 => {
                let host = self.chance.index(self.computers.len());
                self.computers[host].is_mute ^= true;
            }
            13 => self.stop_worker(worker),
            // Somebody else writes to its chip.
            _ => {
                let host = self.chance.index(self.computers.len());
                self.say(|| format!("host {host} loses its firmware"));
                self.computers[host].firmware = None;
            }
        }
        let pause = self.chance.ms(2000..60_000);
        self.after(pause, Due::Fault);
    }

    pub(super) fn start_worker(&mut self, worker: usize) {
        self.say(|| format!("worker {worker} starts"));
        let (site, max) = (self.scenario.site(worker), self.scenario.hosts_max);
        let crew = Crew::new(&site, &format!("worker{worker}"), max, Vec::new());
        self.workers[worker].crew = Some(crew);
        self.workers[worker].life += 1;
        let pause = self.chance.ms(1..1000);
        self.after(pause, Due::Turn(worker, self.workers[worker].life, self.now + pause));
    }

    /// How long the store is away, or a site is cut off: often about as long as leases hold.
    fn absence_us(&mut self) -> i64 {
        let range = if self.chance.once_in(2) { 4000..9000 } else { 1000..180_000 };
        self.chance.ms(range)
    }

    /// A worker is told to stop: its campaigns let go the hosts that are not flashing.
    fn stop_worker(&mut self, worker: usize) {
        let clock = self.clock(worker);
        let Worker { crew: Some(crew), is_stopping: false, .. } = &mut self.workers[worker] else {
            return;
        };
        crew.take_no_more(clock);
        self.workers[worker].is_stopping = true;
        self.say(|| format!("worker {worker} is told to stop"));
        for campaign in self.workers[worker].campaigns.clone().into_values() {
            let running = &self.campaigns[&campaign];
            if running.purpose == Purpose::Look {
                self.end_campaign(campaign, "its worker stops", true);
                continue;
            }
            let legs = running.legs.iter().filter(|(_, leg)| !matches!(leg, Leg::Await(_)));
            for host in legs.map(|(host, _)| *host).collect::<Vec<_>>() {
                self.end(campaign, host, Reason::Interrupted, false);
            }
        }
    }

    /// A worker is gone, and comes back.
    pub(super) fn leave(&mut self, worker: usize) {
        self.kill_worker(worker);
        let pause = self.chance.ms(500..60_000);
        self.after(pause, Due::Return(worker));
    }

    /// kill -9: its campaigns end with it.
    pub(super) fn kill_worker(&mut self, worker: usize) {
        let Some(crew) = self.workers[worker].crew.take() else { return };
        self.end_campaigns(worker, "its worker dies");
        self.kill_programs(worker);
        self.workers[worker].life += 1;
        self.workers[worker].is_stopping = false;
        self.workers[worker].inbox.clear();
        let (hosts, before) = (crew.in_hand(), (self.allocated)());
        drop(crew);
        let bytes = before.saturating_sub((self.allocated)());
        self.say(|| format!("worker {worker} dies with {hosts} hosts, {bytes} bytes"));
        if hosts > self.largest.hosts {
            self.largest = Dropped { hosts, bytes };
        }
    }
}
