//! What goes wrong, and what people do.

use firmcast_fleet::work::crew::Crew;

use super::super::computer::Place;
use super::super::people;
use super::{Dropped, Due, World};

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
        match self.chance.within(0..13) {
            0..3 => {
                self.kill_worker(worker);
                let pause = self.chance.ms(500..60_000);
                self.after(pause, Due::Return(worker));
            }
            3 => {
                self.say(|| "the store is away".to_owned());
                self.store_is_away = true;
                let pause = self.chance.ms(1000..180_000);
                self.after(pause, Due::Store);
            }
            4 | 5 => {
                self.say(|| format!("worker {worker} is cut off"));
                self.workers[worker].is_cut = true;
                let pause = self.chance.ms(1000..100_000);
                self.after(pause, Due::Mend(worker));
            }
            6 | 7 => {
                let host = self.chance.index(self.computers.len());
                self.say(|| format!("host {host} dies"));
                self.go(host, Place::Dead);
            }
            8 => {
                let running = self.campaigns.keys().copied().collect::<Vec<_>>();
                if !running.is_empty() {
                    let campaign = running[self.chance.index(running.len())];
                    self.end_campaign(campaign, "it breaks off", true);
                }
            }
            9 => {
                let host = self.chance.index(self.computers.len());
                self.computers[host].refuses ^= true;
            }
            10 | 11 => {
                let host = self.chance.index(self.computers.len());
                self.computers[host].is_mute ^= true;
            }
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

    /// kill -9: its campaigns end with it.
    pub(super) fn kill_worker(&mut self, worker: usize) {
        let Some(crew) = self.workers[worker].crew.take() else { return };
        self.end_campaigns(worker, "its worker dies");
        self.kill_programs(worker);
        self.workers[worker].life += 1;
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
