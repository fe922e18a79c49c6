//! `firmcast-fleet work`: a worker of a site, as a process.

mod campaigns;
mod clock;
pub(super) mod fetcher;
mod programs;
mod rescue;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use firmcast::keys;
use firmcast_fleet::work::crew::{Crew, Exit, Order, ProgramEnd};
use nix::sys::signal::Signal;
use nix::unistd::gethostname;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Place;
use super::firmcast::FirmcastArgs;
use super::shelf::Shelf;
use super::terminal::{remark, say};
use campaigns::{Campaigns, Happening};
use clock::now;
use fetcher::Fetcher;
use programs::Programs;
use rescue::RescueArgs;

/// How long a turn waits for something to happen.
const TURN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Take the hosts of this site: those with the label site=NAME when their rollout was created
    #[arg(long, value_name = "NAME")]
    site: String,
    /// The worker's name, unlike that of any other worker [default: this machine's name, a dash,
    /// the process number]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A public manager key, or its file: whose owner may approve waves that wait for a person; may
    /// be repeated
    #[arg(long = "approver", value_name = "KEY")]
    approvers: Vec<String>,
    /// Have at most N hosts in hand at a time
    #[arg(long, value_name = "N", default_value_t = 1000)]
    hosts_max: usize,
    #[command(flatten)]
    rescue: RescueArgs,
    #[command(flatten)]
    firmcast: FirmcastArgs,
}

impl WorkArgs {
    /// Works until it is told to stop.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let name = self.name.unwrap_or_else(own_name);
        let approvers = self.approvers.iter().map(|key| keys::load_public(key));
        let approvers = approvers.collect::<Result<_, _>>().context("an approver's key")?;
        let mut store = place.store()?;
        let (news, happenings) = channel();
        let shelf = place.shelf();
        shelf.tidy()?;
        let fetcher = Fetcher::new(place.clone(), news.clone())?;
        let rescuer = self.rescue.start(place, &self.site, &name, &self.firmcast)?;
        let campaigns = Campaigns::new(self.firmcast.of(place, "work"), news.clone())?;
        let programs = Programs::new(news, campaigns.deadline());
        let crew = Crew::new(&self.site, &name, self.hosts_max, approvers);
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .context("cannot take signals")?;
        }
        say(&format!("worker {name} works for site {}", self.site));
        let trouble = String::new();
        let mut work = Work { crew, shelf, fetcher, campaigns, programs, happenings, trouble };
        let mut is_stopping = false;
        loop {
            if stop.load(Ordering::Relaxed) && !is_stopping {
                is_stopping = true;
                remark("stops: hosts that are not flashing are let go, the others are waited for");
                work.crew.take_no_more(now());
                work.campaigns.signal_all(Signal::SIGTERM);
                rescuer.stop();
            }
            work.turn(store.as_mut());
            if is_stopping && work.crew.in_hand() == 0 {
                rescuer.wait();
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// A name that no other process of any machine has now.
pub(crate) fn own_name() -> String {
    let machine = gethostname().unwrap_or_default();
    format!("{}-{}", machine.to_string_lossy(), std::process::id())
}

struct Work {
    crew: Crew,
    shelf: Shelf,
    fetcher: Fetcher,
    campaigns: Campaigns,
    programs: Programs,
    happenings: Receiver<Happening>,
    /// What was told last of the store.
    trouble: String,
}

impl Work {
    /// Does what is due, then waits until something happens, but not for long.
    fn turn(&mut self, store: &mut dyn firmcast_fleet::store::Store) {
        let (digests, mut trouble) = match self.shelf.digests() {
            Ok(digests) => (digests, String::new()),
            Err(error) => (BTreeSet::new(), format!("cannot read the bundles here: {error}")),
        };
        self.crew.handle_shelf(digests);
        if let Err(error) = self.crew.turn(store, now()) {
            trouble = format!("{:#}", anyhow::Error::new(error));
        }
        if trouble != self.trouble {
            remark(if trouble.is_empty() { "all answers again" } else { &trouble });
            self.trouble = trouble;
        }
        self.crew.give_up_leases(now());
        self.campaigns.set_deadline(self.crew.leases_end());
        for order in self.crew.take_orders() {
            match order {
                Order::Begin(campaign) => {
                    let number = campaign.number;
                    if let Err(error) = self.campaigns.begin(&campaign) {
                        let words = format!("{error:#}");
                        self.crew.handle_exit(number, &words, Exit::NotBegun, now());
                    }
                }
                Order::Fetch { release } => self.fetcher.order(release),
                Order::Run(program) => {
                    let number = program.number;
                    if let Err(error) = self.programs.begin(program) {
                        let ended = ProgramEnd::Failed(format!("{error:#}"));
                        self.crew.handle_program(number, ended);
                    }
                }
                Order::Stop { number } => self.programs.stop(number),
                Order::Kill { number } => {
                    self.campaigns.kill(number);
                    self.programs.kill(number);
                }
            }
        }
        let mut wait = TURN;
        loop {
            match self.happenings.recv_timeout(wait) {
                Ok(happening) => self.handle(happening),
                // The channel's other side is held here, too.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
            wait = Duration::ZERO;
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Stage { number, host, stage } => {
                self.crew.handle_stage(number, &host, &stage, now());
            }
            Happening::End { number, host, end } => self.crew.handle_end(number, &host, end, now()),
            Happening::Sighting { number, host, sighting } => {
                self.crew.handle_sighting(number, &host, sighting, now());
            }
            Happening::Fetched { release, result } => {
                if let Some(words) = self.crew.handle_fetched(&release, result, now()) {
                    remark(&words);
                }
            }
            Happening::Program { number, ended } => {
                self.programs.forget(number);
                self.crew.handle_program(number, ended);
            }
            Happening::Exit { number, words, exit } => {
                self.campaigns.forget(number);
                self.crew.handle_exit(number, &words, exit, now());
            }
        }
    }
}
