//! Many things go wrong at once, in job after job; then nothing does, and the update must succeed.

use firmcast::flash::{Asked, Fault, Outcome, SimulatedFlash};

use super::every::stays_on_chip;
use super::log::Log;
use super::subject::Subject;
use super::totals::Totals;
use super::trial::{Bundle, Trial, Trust};
use crate::chance::Chance;
use crate::engine::Violation;

/// Storms over each subject.
const STORMS: u64 = 6;
/// Jobs in a storm.
const JOBS_MAX: u64 = 5;

/// Lets storms pass over a subject.
pub(crate) fn storms(
    subject: &Subject,
    log: &mut Log,
    totals: &mut Totals,
) -> Result<(), Violation> {
    for number in 0..STORMS {
        let chance = Chance::new(subject.seed, 2 << 32 | number);
        let mut storm = Storm::new(subject, chance);
        totals.storms += 1;
        log.begin(format!(
            "storm {number}: {:?} with probability {}",
            storm.kinds, storm.probability
        ));
        storm.blow(log, totals)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Storm<'a> {
    subject: &'a Subject,
    chip: SimulatedFlash,
    chance: Chance,
    kinds: Vec<Fault>,
    /// Of a fault at an operation.
    probability: f64,
}

impl<'a> Storm<'a> {
    fn new(subject: &'a Subject, mut chance: Chance) -> Self {
        let mut all = [&Fault::CUTS[..], &Fault::OTHERS[..]].concat();
        if chance.happens(0.5) {
            all.retain(|fault| !stays_on_chip(*fault));
        }
        // Each storm has a few kinds, so that a frequent one does not end all jobs before the
        // others had a chance.
        let kinds = (0..chance.within(1..5)).map(|_| *chance.pick(&all)).collect();
        let probability = *chance.pick(&[0.01, 0.03, 0.1, 0.4]);
        Self { subject, chip: subject.chip.clone(), chance, kinds, probability }
    }

    fn blow(&mut self, log: &mut Log, totals: &mut Totals) -> Result<(), Violation> {
        let mut safe = true;
        for _ in 0..self.chance.within(1..JOBS_MAX + 1) {
            let bundle = *self.chance.pick(&[Bundle::New, Bundle::New, Bundle::Old]);
            let trial = self.trial(bundle, !safe);
            self.break_chip(log, totals);
            let ended = trial.run(&mut self.chip, log, totals)?;
            safe = ended.reboot_is_safe
                && self.chip.is_powered()
                && (safe || ended.outcome == Outcome::Updated);
            self.chip.clear_faults();
            self.chip.power_on();
        }
        match self.kinds.iter().copied().any(stays_on_chip) {
            true => Ok(()),
            false => {
                let calm = Trial {
                    trust: Trust::Full,
                    errors_last: false,
                    ..self.trial(Bundle::New, true)
                };
                calm.must_update(&mut self.chip, log, totals).map(drop)
            }
        }
    }

    fn trial(&self, bundle: Bundle, rescue: bool) -> Trial<'a> {
        let lies = |fault: &Fault| {
            [Asked::Read, Asked::Erase].map(|asked| super::every::trust(asked, *fault))
        };
        let trust = self.kinds.iter().flat_map(lies).max().unwrap_or(Trust::Full);
        Trial { subject: self.subject, bundle, rescue, trust, errors_last: true }
    }

    fn break_chip(&mut self, log: &mut Log, totals: &mut Totals) {
        let first = self.chip.operations();
        for operation in first..first + 100 * self.subject.blocks.len() as u64 {
            if self.chance.happens(self.probability) {
                let fault = *self.chance.pick(&self.kinds);
                self.chip.inject(operation, fault);
                log.line(format_args!("   {fault:?} is to come at operation {operation}"));
                totals.storm_faults += 1;
            }
        }
    }
}
