//! The programs that drain simulated hosts and undrain them.

use firmcast_fleet::work::crew::{Program, ProgramEnd};

use super::{Due, Happening, World};

/// Number of a program among all of a world.
pub(super) type ProgramId = u64;

/// How long a program may take that was told to end, in milliseconds.
const GRACE_MS: u64 = 10_000;

/// A program that runs.
pub(super) struct Errand {
    worker: usize,
    number: u64,
    host: usize,
    drains: bool,
    ended: ProgramEnd,
}

impl World<'_> {
    /// A worker has a program run: it ends well, fails, or takes too long.
    pub(super) fn run_program(&mut self, worker: usize, program: Program) {
        let Program { number, argv, within_s } = program;
        let [_, task, host, ..] = argv.as_slice() else { panic!("{argv:?}") };
        let (host, drains) = (self.watch.index(host), task == "drain");
        assert!(self.watch.is_in_flight(host), "{argv:?} for a host that nobody has");
        let other = self.errands.values().find(|errand| errand.host == host);
        assert!(other.is_none(), "two programs run for host {host}");
        self.last_program += 1;
        let id = self.last_program;
        let within_ms = u64::from(within_s) * 1000;
        let (ended, takes_us) = match self.chance.within(0..8) {
            0 => (ProgramEnd::Failed("no".to_owned()), self.chance.ms(100..within_ms)),
            1 => {
                let takes_us = self.chance.ms(within_ms..within_ms + GRACE_MS);
                (ProgramEnd::Failed("too late".to_owned()), takes_us)
            }
            _ => (ProgramEnd::Done, self.chance.ms(100..within_ms)),
        };
        self.say(|| format!("worker {worker} runs {argv:?}, which comes to {ended:?}"));
        if drains {
            self.computers[host].is_owed = true;
        }
        self.errands.insert(id, Errand { worker, number, host, drains, ended });
        self.workers[worker].programs.insert(number, id);
        self.after(takes_us, Due::Program(id));
    }

    /// A program is told to end; it may be done just then.
    pub(super) fn stop_program(&mut self, worker: usize, number: u64) {
        let Some(id) = self.workers[worker].programs.get(&number).copied() else { return };
        let is_done = self.chance.once_in(4);
        if let Some(errand) = self.errands.get_mut(&id)
            && !is_done
        {
            errand.ended = ProgramEnd::CutOff;
        }
        let takes_us = self.chance.ms(0..GRACE_MS);
        self.after(takes_us, Due::Program(id));
    }

    /// A program has come to its end.
    pub(super) fn end_program(&mut self, id: ProgramId) {
        let Some(Errand { worker, number, host, drains, ended }) = self.errands.remove(&id) else {
            return;
        };
        self.say(|| format!("host {host}: drain {drains} has ended: {ended:?}"));
        self.workers[worker].programs.remove(&number);
        let computer = &mut self.computers[host];
        match &ended {
            ProgramEnd::Done => computer.is_drained = drains,
            // It may have done half of it.
            _ if drains => computer.is_drained = false,
            _ => {}
        }
        if !drains && ended != ProgramEnd::CutOff {
            computer.is_owed = false;
        }
        if matches!(ended, ProgramEnd::Failed(_)) {
            self.watch.failed_programs.insert((host, drains));
        }
        let tally = &mut self.watch.tally;
        *match (drains, ended == ProgramEnd::Done) {
            (true, true) => &mut tally.drained,
            (true, false) => &mut tally.not_drained,
            (false, true) => &mut tally.undrained,
            (false, false) => &mut tally.not_undrained,
        } += 1;
        self.tell(worker, Happening::Program(number, ended));
    }

    /// All programs of a worker end as if the power failed, wherever they are.
    pub(super) fn kill_programs(&mut self, worker: usize) {
        for number in self.workers[worker].programs.clone().into_keys() {
            self.kill_program(worker, number);
        }
    }

    /// A program ends as if the power failed.
    pub(super) fn kill_program(&mut self, worker: usize, number: u64) {
        let Some(id) = self.workers[worker].programs.remove(&number) else { return };
        let Some(errand) = self.errands.remove(&id) else { return };
        if self.chance.once_in(2) {
            self.computers[errand.host].is_drained = errand.drains;
        }
        self.say(|| format!("the program for host {} dies", errand.host));
        self.tell(worker, Happening::Program(number, ProgramEnd::CutOff));
    }

    /// A campaign that writes begins with a host: it was drained, and no program runs for it.
    pub(super) fn check_drained(&self, host: usize) {
        if self.watch.drains(host) {
            let computer = &self.computers[host];
            assert!(computer.is_drained && computer.is_owed, "host {host} was not drained");
        }
        let runs = self.errands.values().any(|errand| errand.host == host);
        assert!(!runs, "a program runs for host {host}, which is in a campaign");
    }

    /// All has ended: whoever was drained was undrained, or that failed and was told.
    pub(super) fn check_undrained(&self) {
        assert!(self.errands.is_empty(), "programs run still");
        for (host, computer) in self.computers.iter().enumerate() {
            let is_settled = self.watch.is_settled(host, computer);
            assert!(is_settled, "host {host} was forgotten: {computer:?}");
        }
    }
}
