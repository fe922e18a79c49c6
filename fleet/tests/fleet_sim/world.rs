//! The clock, the workers, their campaigns, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use firmcast::reason::Reason;
use firmcast_fleet::model::{Host, RolloutState, Stamp};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::plan::{Given, plan};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::NewRollout;
use firmcast_fleet::work::crew::{Campaign, Crew, HostEnd, Order, Purpose, Sight, Sighting};

use super::chance::{Chance, SECOND};
use super::computer::{CampaignId, Computer, Place};
use super::line::Line;
use super::people;
use super::scenario::{BEGIN, Scenario, release};
use super::watch::{Tally, Watch};

/// How long everything may take when no fault comes any more.
const CALM_MAX: i64 = 12 * 3600 * SECOND;
/// How long a campaign waits for a host that boots.
const BOOT_WAIT: i64 = 200 * SECOND;
/// How far the clock of a worker may be off, in milliseconds.
const SKEW_MS_MAX: u64 = 172_800_000;
/// How often a worker's process looks whether its leases hold, in milliseconds.
const LEASES_LOOK_MS: u64 = 250;

/// What is due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Fault,
    Person,
    /// The worker, its life, when the turn began.
    Turn(usize, u64, Stamp),
    Leases(usize, u64),
    Return(usize),
    /// The worker, its life, which release it fetched.
    Fetched(usize, u64, usize),
    Mend(usize),
    Store,
    Leg(CampaignId, usize),
    Host(usize, u64),
}

/// What a worker is told between two turns.
enum Happening {
    Stage(u64, String, &'static str),
    End(u64, String, HostEnd),
    Sighting(u64, String, Sighting),
    Exit(u64),
    Fetched(String, Result<(), String>),
}

struct Worker {
    crew: Option<Crew>,
    /// Which of its processes.
    life: u64,
    skew: i64,
    is_cut: bool,
    /// The bundles on its machine; they outlive its processes.
    shelf: BTreeSet<String>,
    /// When its process ends all campaigns, by its clock.
    leases_end: Stamp,
    campaigns: BTreeMap<u64, CampaignId>,
    inbox: Vec<Happening>,
}

/// How far a campaign is with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Knock,
    Receive,
    Commit,
    Await(Stamp),
}

struct Running {
    worker: usize,
    number: u64,
    purpose: Purpose,
    release: usize,
    /// The hosts that have not ended.
    legs: BTreeMap<usize, Leg>,
}

/// What live bytes were seen where a worker died.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) hosts: usize,
    pub(crate) bytes: usize,
}

pub(crate) struct World<'a> {
    scenario: Scenario,
    chance: Chance,
    store: &'a mut dyn Store,
    now: Stamp,
    calm: bool,
    store_is_away: bool,
    verbose: bool,
    workers: Vec<Worker>,
    computers: Vec<Computer>,
    campaigns: BTreeMap<CampaignId, Running>,
    last_campaign: CampaignId,
    queue: BTreeSet<(Stamp, u64, Due)>,
    last_due: u64,
    watch: Watch,
    /// Bytes that are allocated now.
    allocated: fn() -> usize,
    pub(crate) largest: Dropped,
    pub(crate) steps: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        scenario: Scenario,
        store: &'a mut dyn Store,
        verbose: bool,
        allocated: fn() -> usize,
    ) -> Self {
        let mut chance = Chance::new(scenario.seed, 2);
        let hosts: Vec<_> = (0..scenario.hosts).map(|index| scenario.host(index)).collect();
        store.put_hosts(&hosts).unwrap();
        let mut watch = Watch::new(&hosts);
        for number in 0..2 {
            store.add_release(&release(number)).unwrap();
        }
        for (number, (text, has_windows)) in scenario.rollouts.iter().enumerate() {
            let file = RolloutFile::parse(text).unwrap();
            let predicted = |host: &Host| scenario.prediction(host);
            let given = Given {
                file: &file,
                release: &release(number),
                hosts: &hosts,
                predicted: &predicted,
                now: BEGIN,
            };
            let new = NewRollout::of(text, &file, &plan(&given).unwrap(), "ann".to_owned(), BEGIN);
            let id = store.create_rollout(&new).unwrap();
            watch.add(id, &new, *has_windows, file.healthy_within_s);
        }
        let computers = hosts.iter().map(|_| Computer {
            place: Place::Home,
            firmware: None,
            refuses: chance.once_in(scenario.bad_every),
            is_worn: chance.once_in(scenario.bad_every),
            is_mute: false,
            timer: 0,
        });
        let computers = computers.collect();
        let worker = |_| Worker {
            crew: None,
            life: 0,
            // Some clocks are days off.
            skew: match chance.once_in(2) {
                true => chance.ms(0..scenario.skew_ms),
                false => chance.ms(0..SKEW_MS_MAX) - chance.ms(0..SKEW_MS_MAX),
            },
            is_cut: false,
            shelf: BTreeSet::new(),
            leases_end: Stamp::MAX,
            campaigns: BTreeMap::new(),
            inbox: Vec::new(),
        };
        let workers = (0..scenario.workers).map(worker).collect();
        let mut world = Self {
            chance: Chance::new(scenario.seed, 3),
            store,
            now: BEGIN,
            calm: false,
            store_is_away: false,
            verbose,
            workers,
            computers,
            campaigns: BTreeMap::new(),
            last_campaign: 0,
            queue: BTreeSet::new(),
            last_due: 0,
            watch,
            allocated,
            largest: Dropped::default(),
            steps: 0,
            scenario,
        };
        (0..world.workers.len()).for_each(|worker| world.start_worker(worker));
        world.after(SECOND, Due::Person);
        world.after(5 * SECOND, Due::Fault);
        world
    }

    /// Runs until everything has ended.
    pub(crate) fn run(&mut self) -> &mut Tally {
        while let Some((at, _, due)) = self.queue.pop_first() {
            self.now = at;
            self.steps += 1;
            if !self.calm && at > BEGIN + self.scenario.faults_s * SECOND {
                self.grow_calm();
            }
            let most = BEGIN + self.scenario.faults_s * SECOND + CALM_MAX;
            assert!(at < most, "not finished: {}", self.states());
            self.step(due);
            let (begin, verbose) = (self.now, self.verbose);
            self.watch.look(self.store, &self.computers, &|event| {
                if verbose {
                    let host = event.host.as_deref().unwrap_or_default();
                    let seconds = (begin - BEGIN) as f64 / 1e6;
                    let (kind, detail) = (event.kind, &event.detail);
                    println!(
                        "{seconds:9.3} {:?} {kind:?} {host} {} {detail}",
                        event.rollout, event.by
                    );
                }
            });
            if self.calm && self.steps.is_multiple_of(64) && self.is_over() {
                break;
            }
        }
        self.watch.look_at_end(self.store);
        &mut self.watch.tally
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Fault => self.fail(),
            Due::Person => self.person(),
            Due::Turn(worker, life, began) if self.workers[worker].life == life => {
                self.turn(worker, began);
            }
            Due::Leases(worker, life) if self.workers[worker].life == life => {
                if self.workers[worker].leases_end <= self.clock(worker) {
                    self.end_campaigns(worker, "its leases end");
                }
            }
            Due::Fetched(worker, life, number) if self.workers[worker].life == life => {
                self.fetched(worker, number);
            }
            Due::Return(worker) if self.workers[worker].crew.is_none() => self.start_worker(worker),
            Due::Mend(worker) => self.workers[worker].is_cut = false,
            Due::Store => self.store_is_away = false,
            Due::Leg(campaign, host) => self.leg(campaign, host),
            Due::Host(host, timer) if self.computers[host].timer == timer => {
                if let Some(place) = self.computers[host].next() {
                    self.go(host, place);
                }
            }
            Due::Turn(..) | Due::Leases(..) | Due::Return(_) | Due::Fetched(..) | Due::Host(..) => {
            }
        }
    }

    fn after(&mut self, us: i64, due: Due) {
        self.last_due += 1;
        self.queue.insert((self.now + us, self.last_due, due));
    }

    fn say(&self, words: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:9.3} . {}", (self.now - BEGIN) as f64 / 1e6, words());
        }
    }

    fn clock(&self, worker: usize) -> Stamp {
        self.now + self.workers[worker].skew
    }

    fn states(&mut self) -> String {
        let rollouts = self.store.rollouts(0, 100).unwrap();
        let states = rollouts.iter().map(|rollout| {
            let counts = self.store.counts(rollout.id).unwrap();
            format!("{:?} {counts:?}", rollout.state)
        });
        states.collect::<Vec<_>>().join("; ")
    }

    fn is_over(&mut self) -> bool {
        let rollouts = self.store.rollouts(0, 100).unwrap();
        let is_over = |state| matches!(state, RolloutState::Finished | RolloutState::Error);
        rollouts.iter().all(|rollout| is_over(rollout.state)) && self.watch.nobody_in_flight()
    }

    /// No fault comes any more: all that is away returns.
    fn grow_calm(&mut self) {
        self.say(|| "no further faults".to_owned());
        (self.calm, self.store_is_away) = (true, false);
        for worker in 0..self.workers.len() {
            self.workers[worker].is_cut = false;
            if self.workers[worker].crew.is_none() {
                self.start_worker(worker);
            }
        }
    }

    fn person(&mut self) {
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
    fn fail(&mut self) {
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

    fn start_worker(&mut self, worker: usize) {
        self.say(|| format!("worker {worker} starts"));
        let (site, max) = (self.scenario.site(worker), self.scenario.hosts_max);
        let crew = Crew::new(&site, &format!("worker{worker}"), max, Vec::new());
        self.workers[worker].crew = Some(crew);
        self.workers[worker].life += 1;
        let pause = self.chance.ms(1..1000);
        self.after(pause, Due::Turn(worker, self.workers[worker].life, self.now + pause));
    }

    /// kill -9: its campaigns end with it.
    fn kill_worker(&mut self, worker: usize) {
        let Some(crew) = self.workers[worker].crew.take() else { return };
        self.end_campaigns(worker, "its worker dies");
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

    fn end_campaigns(&mut self, worker: usize, why: &str) {
        for campaign in self.workers[worker].campaigns.clone().into_values() {
            self.end_campaign(campaign, why, true);
        }
    }

    /// A campaign ends at once; its hosts before the commit go home by themselves.
    fn end_campaign(&mut self, campaign: CampaignId, why: &str, is_told: bool) {
        let Some(running) = self.campaigns.remove(&campaign) else { return };
        self.say(|| format!("campaign {campaign} ends: {why}"));
        let Running { worker, number, legs, .. } = running;
        self.workers[worker].campaigns.remove(&number);
        for host in legs.into_keys() {
            if self.computers[host].place == Place::Recovery(Some(campaign)) {
                self.go(host, Place::Recovery(None));
            }
        }
        if is_told {
            self.tell(worker, Happening::Exit(number));
        }
    }

    fn go(&mut self, host: usize, place: Place) {
        let next = self.computers[host].go(place, self.now, &mut self.chance);
        self.say(|| format!("host {host} is {:?}", self.computers[host]));
        if let Some(at) = next {
            self.after(at - self.now, Due::Host(host, self.computers[host].timer));
        }
    }

    fn tell(&mut self, worker: usize, happening: Happening) {
        self.workers[worker].inbox.push(happening);
    }

    /// A turn, which may have begun earlier: then the store answered late.
    fn turn(&mut self, worker: usize, began: Stamp) {
        let clock = self.clock(worker);
        let Self { workers, store, chance, scenario, .. } = self;
        let Worker { crew, is_cut, inbox, skew, shelf, .. } = &mut workers[worker];
        let Some(crew) = crew else { return };
        if began == self.now {
            for happening in std::mem::take(inbox) {
                match happening {
                    Happening::Stage(number, host, stage) => {
                        crew.handle_stage(number, &host, stage, clock);
                    }
                    Happening::End(number, host, end) => {
                        crew.handle_end(number, &host, end, clock);
                    }
                    Happening::Sighting(number, host, sighting) => {
                        crew.handle_sighting(number, &host, sighting, clock);
                    }
                    Happening::Exit(number) => {
                        crew.handle_exit(number, "it broke off", true, clock);
                    }
                    Happening::Fetched(release, result) => {
                        crew.handle_fetched(&release, result, clock);
                    }
                }
            }
            if !self.calm && chance.once_in(40) {
                let late = chance.ms(500..12_000);
                let life = workers[worker].life;
                self.after(late, Due::Turn(worker, life, began));
                return;
            }
        }
        // The store told its time early in a slow turn, or late.
        let told = if chance.once_in(2) { began } else { self.now };
        let mut line = Line {
            now: told,
            store: &mut **store,
            chance,
            is_cut: *is_cut || self.store_is_away,
            breaks_every: scenario.breaks_every.filter(|_| !self.calm),
            people: (!self.calm).then_some((scenario.rollouts.len(), self.now)),
        };
        crew.handle_shelf(shelf.clone());
        let turned = crew.turn(&mut line, began + *skew);
        let trouble = turned.as_ref().err().map(ToString::to_string);
        crew.give_up_leases(clock);
        let orders = crew.take_orders();
        let (leases_end, is_busy) = (crew.leases_end(), crew.in_hand() > 0);
        if let Some(trouble) = trouble {
            self.say(|| format!("worker {worker}: {trouble}"));
        }
        self.set_leases_end(worker, leases_end);
        for order in orders {
            match order {
                Order::Begin(campaign) => self.begin(worker, campaign),
                Order::Fetch { release: digest } => {
                    let number = usize::from(digest == release(1).digest);
                    let (pause, life) = (self.chance.ms(500..20_000), self.workers[worker].life);
                    self.after(pause, Due::Fetched(worker, life, number));
                }
                Order::Kill { number } => {
                    if let Some(campaign) = self.workers[worker].campaigns.get(&number) {
                        self.end_campaign(*campaign, "its worker says so", true);
                    }
                }
            }
        }
        self.pause_worker(worker, is_busy);
    }

    fn pause_worker(&mut self, worker: usize, is_busy: bool) {
        let turn_ms = self.scenario.turn_ms;
        let pause = self.chance.ms(if is_busy { turn_ms / 2..turn_ms } else { 2000..8000 });
        self.after(pause, Due::Turn(worker, self.workers[worker].life, self.now + pause));
    }

    /// A bundle has crossed to a worker's machine, or broke off on the way.
    fn fetched(&mut self, worker: usize, number: usize) {
        let is_away = self.store_is_away || self.workers[worker].is_cut;
        let broke_off = is_away || (!self.calm && self.chance.once_in(4));
        let digest = release(number).digest;
        self.say(|| format!("worker {worker} fetched release {number}: {}", !broke_off));
        let result = match broke_off {
            true => Err("the line is cut".to_owned()),
            false => {
                self.workers[worker].shelf.insert(digest.clone());
                Ok(())
            }
        };
        self.tell(worker, Happening::Fetched(digest, result));
    }

    fn set_leases_end(&mut self, worker: usize, at: Stamp) {
        if self.workers[worker].leases_end == at {
            return;
        }
        self.workers[worker].leases_end = at;
        if at < Stamp::MAX {
            let look = self.chance.ms(0..LEASES_LOOK_MS);
            let pause = (at - self.clock(worker)).max(0) + look;
            self.after(pause, Due::Leases(worker, self.workers[worker].life));
        }
    }

    fn begin(&mut self, worker: usize, campaign: Campaign) {
        let Campaign { number, purpose, release: digest, hosts } = campaign;
        assert!(self.workers[worker].shelf.contains(&digest), "its bundle is not there");
        self.last_campaign += 1;
        let id = self.last_campaign;
        let mut legs = BTreeMap::new();
        for host in &hosts {
            let index = self.watch.index(&host.name);
            legs.insert(index, Leg::Knock);
            let pause = self.chance.ms(100..4000);
            self.after(pause, Due::Leg(id, index));
            let other = self
                .campaigns
                .values()
                .find(|other| other.purpose == Purpose::Update && other.legs.contains_key(&index));
            let is_twice = purpose == Purpose::Update && other.is_some();
            assert!(!is_twice, "host {index} is in two campaigns that write");
        }
        self.say(|| format!("worker {worker} begins campaign {id}: {purpose:?} {:?}", legs.keys()));
        let release = usize::from(digest == release(1).digest);
        self.campaigns.insert(id, Running { worker, number, purpose, release, legs });
        self.workers[worker].campaigns.insert(number, id);
    }

    /// A campaign goes on with a host.
    fn leg(&mut self, campaign: CampaignId, host: usize) {
        let Some(running) = self.campaigns.get(&campaign) else { return };
        let Some(leg) = running.legs.get(&host).copied() else { return };
        let (purpose, release) = (running.purpose, running.release);
        let Computer { place, firmware, refuses, is_mute, .. } = self.computers[host];
        let is_mine = place == Place::Recovery(Some(campaign));
        let away = if matches!(place, Place::Recovery(_)) {
            Reason::Busy
        } else {
            Reason::HostUnreachable
        };
        match (leg, purpose) {
            (Leg::Knock, Purpose::Look) => {
                let reason = match place {
                    Place::Home if is_mute => Reason::NotMeasured,
                    Place::Home if firmware == Some(release) => Reason::Confirmed,
                    Place::Home => Reason::WrongDigest,
                    _ => away,
                };
                self.see(campaign, host, reason);
            }
            (Leg::Knock, _) if place != Place::Home => self.end(campaign, host, away, false),
            (Leg::Knock, _) if firmware == Some(release) => {
                self.end(campaign, host, Reason::Confirmed, true);
            }
            (Leg::Knock, _) if refuses => self.end(campaign, host, Reason::FlashLocked, false),
            (Leg::Knock, _) => {
                self.go(host, Place::Recovery(Some(campaign)));
                self.pass(campaign, host, Leg::Receive, "recovery");
            }
            (Leg::Receive, _) if is_mine => self.pass(campaign, host, Leg::Commit, "receiving"),
            (Leg::Commit, _) if is_mine => {
                self.go(host, Place::Flashing(release));
                self.pass(campaign, host, Leg::Await(self.now + BOOT_WAIT), "commit");
            }
            (Leg::Receive | Leg::Commit, _) => {
                self.end(campaign, host, Reason::HostUnreachable, false);
            }
            (Leg::Await(_), _) if place == Place::Home && firmware == Some(release) => {
                self.end(campaign, host, Reason::Confirmed, true);
            }
            (Leg::Await(_), _) if place == Place::Home => {
                self.end(campaign, host, Reason::FlashLocked, false);
            }
            (Leg::Await(until), _) if self.now > until => {
                self.end(campaign, host, Reason::HostUnreachable, false);
            }
            (Leg::Await(_), _) => self.after(5 * SECOND, Due::Leg(campaign, host)),
        }
    }

    fn pass(&mut self, campaign: CampaignId, host: usize, leg: Leg, stage: &'static str) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.insert(host, leg);
        let (worker, number) = (running.worker, running.number);
        let name = self.scenario.host(host).name;
        self.tell(worker, Happening::Stage(number, name, stage));
        let pause = self.chance.ms(2000..30_000);
        self.after(pause, Due::Leg(campaign, host));
    }

    /// A campaign that looks says what it saw.
    fn see(&mut self, campaign: CampaignId, host: usize, reason: Reason) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.remove(&host);
        let (worker, number, release) = (running.worker, running.number, running.release);
        let is_last = running.legs.is_empty();
        let (sight, reason) = (Sight::of_reason(reason.name()), reason.name().to_owned());
        self.watch.measured.insert(host);
        self.watch.seen.insert((host, release), sight);
        self.say(|| format!("campaign {campaign} sees host {host}: {reason}"));
        let name = self.scenario.host(host).name;
        let sighting = Sighting { sight, reason, detail: String::new() };
        self.tell(worker, Happening::Sighting(number, name, sighting));
        if is_last {
            self.end_campaign(campaign, "all its hosts were seen", true);
        }
    }

    /// A campaign says how a host ended; after the last one it is over.
    fn end(&mut self, campaign: CampaignId, host: usize, reason: Reason, confirmed: bool) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.remove(&host);
        let (worker, number) = (running.worker, running.number);
        let is_last = running.legs.is_empty();
        if self.computers[host].place == Place::Recovery(Some(campaign)) {
            self.go(host, Place::Recovery(None));
        }
        self.watch.measured.insert(host);
        let end = HostEnd {
            confirmed,
            reason: reason.name().to_owned(),
            flash: "simulated".to_owned(),
            detail: String::new(),
        };
        self.say(|| format!("campaign {campaign} says of host {host}: {}", end.reason));
        let name = self.scenario.host(host).name;
        self.tell(worker, Happening::End(number, name, end));
        if is_last {
            self.end_campaign(campaign, "all its hosts have ended", true);
        }
    }
}
