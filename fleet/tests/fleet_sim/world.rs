//! The clock and the workers.

mod campaigns;
mod faults;
mod programs;

use std::collections::{BTreeMap, BTreeSet};

use firmcast_fleet::model::{Host, RolloutState, Stamp};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::plan::{Given, plan};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::NewRollout;
use firmcast_fleet::work::crew::{Crew, Exit, HostEnd, Order, ProgramEnd, Purpose, Sighting};

use super::chance::{Chance, SECOND};
use super::computer::{CampaignId, Computer, Place};
use super::line::Line;
use super::scenario::{BEGIN, Scenario, release};
use super::watch::{Tally, Watch};
use programs::{Errand, ProgramId};

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
    Program(ProgramId),
    Host(usize, u64),
}

/// What a worker is told between two turns.
enum Happening {
    Stage(u64, String, &'static str),
    End(u64, String, HostEnd),
    Sighting(u64, String, Sighting),
    Exit(u64),
    Fetched(String, Result<(), String>),
    Program(u64, ProgramEnd),
}

struct Worker {
    crew: Option<Crew>,
    /// Which of its processes.
    life: u64,
    skew: i64,
    is_cut: bool,
    /// It was told to stop.
    is_stopping: bool,
    /// The bundles on its machine; they outlive its processes.
    shelf: BTreeSet<String>,
    /// When its process ends all campaigns, by its clock.
    leases_end: Stamp,
    campaigns: BTreeMap<u64, CampaignId>,
    programs: BTreeMap<u64, ProgramId>,
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
    errands: BTreeMap<ProgramId, Errand>,
    last_program: ProgramId,
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
            watch.add(id, &new, *has_windows, &file);
        }
        let computers = hosts.iter().map(|_| Computer {
            place: Place::Home,
            firmware: None,
            refuses: chance.once_in(scenario.bad_every),
            is_worn: chance.once_in(scenario.bad_every),
            is_mute: false,
            is_drained: false,
            is_owed: false,
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
            is_stopping: false,
            shelf: BTreeSet::new(),
            leases_end: Stamp::MAX,
            campaigns: BTreeMap::new(),
            programs: BTreeMap::new(),
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
            errands: BTreeMap::new(),
            last_program: 0,
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
            self.look();
            if self.calm && self.steps.is_multiple_of(64) && self.is_over() {
                break;
            }
        }
        self.watch.look_at_end(self.store);
        self.check_undrained();
        &mut self.watch.tally
    }

    /// Looks at what the store has told since the last look.
    fn look(&mut self) {
        let (begin, verbose) = (self.now, self.verbose);
        self.watch.look(self.store, &self.computers, &|event| {
            if verbose {
                let host = event.host.as_deref().unwrap_or_default();
                let seconds = (begin - BEGIN) as f64 / 1e6;
                let (kind, detail) = (event.kind, &event.detail);
                println!("{seconds:9.3} {:?} {kind:?} {host} {} {detail}", event.rollout, event.by);
            }
        });
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
                    self.kill_programs(worker);
                }
            }
            Due::Fetched(worker, life, number) if self.workers[worker].life == life => {
                self.fetched(worker, number);
            }
            Due::Return(worker) if self.workers[worker].crew.is_none() => self.start_worker(worker),
            Due::Mend(worker) => self.workers[worker].is_cut = false,
            Due::Store => self.store_is_away = false,
            Due::Leg(campaign, host) => self.leg(campaign, host),
            Due::Program(id) => self.end_program(id),
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
                        let exit = if chance.once_in(3) { Exit::CutOff } else { Exit::BrokeOff };
                        crew.handle_exit(number, "it broke off", exit, clock);
                    }
                    Happening::Fetched(release, result) => {
                        crew.handle_fetched(&release, result, clock);
                    }
                    Happening::Program(number, ended) => crew.handle_program(number, ended),
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
        // What the worker took in this turn has to be known before its programs run.
        self.look();
        for order in orders {
            match order {
                Order::Begin(campaign) => self.begin(worker, campaign),
                Order::Fetch { release: digest } => {
                    let number = usize::from(digest == release(1).digest);
                    let (pause, life) = (self.chance.ms(500..20_000), self.workers[worker].life);
                    self.after(pause, Due::Fetched(worker, life, number));
                }
                Order::Run(program) => self.run_program(worker, program),
                Order::Stop { number } => self.stop_program(worker, number),
                Order::Kill { number } => {
                    self.kill_program(worker, number);
                    if let Some(campaign) = self.workers[worker].campaigns.get(&number) {
                        self.end_campaign(*campaign, "its worker says so", true);
                    }
                }
            }
        }
        match self.workers[worker].is_stopping && !is_busy {
            true => self.leave(worker),
            false => self.pause_worker(worker, is_busy),
        }
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
}
