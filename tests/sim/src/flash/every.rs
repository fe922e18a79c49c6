//! Every operation of a plan goes wrong once, in every way.

use firmcast::flash::{Asked, Fault, Flash as _, Outcome, SimulatedFlash};

use super::foreign;
use super::log::Log;
use super::preview;
use super::subject::{Refusal, Subject, range};
use super::totals::Totals;
use super::trial::{Bundle, Ended, Trial, Trust};
use crate::chance::Chance;
use crate::engine::Violation;

/// How often the recovery from a power cut is cut again.
const CUTS_AGAIN_MAX: u64 = 3;

/// One subject in hand.
#[derive(Debug)]
pub(crate) struct Every<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) log: &'a mut Log,
    pub(crate) totals: &'a mut Totals,
}

impl<'a> Every<'a> {
    /// Without a fault, then with each.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.totals.plans += 1;
        preview::check(self.subject, &self.update(Trust::Full), self.log)?;
        self.log.begin("no fault".into());
        let mut chip = self.subject.chip.clone();
        if let Some(refusal) = self.subject.refusal {
            self.totals.refused_plans += 1;
            let ended = self.update(Trust::Full).run(&mut chip, self.log, self.totals)?;
            return check_refusal(refusal, &ended);
        }
        let ended = self.update(Trust::Full).must_update(&mut chip, self.log, self.totals)?;
        self.totals.plan_operations += ended.operations;
        let history = chip.history().to_vec();
        self.check_nothing_left(chip)?;
        foreign::writes(self.subject, ended.operations, self.log, self.totals)?;
        for (operation, asked) in history.iter().enumerate() {
            for cut in self.chosen(&Fault::CUTS, operation, *asked) {
                self.cut(operation as u64, cut)?;
            }
            for fault in self.chosen(&Fault::OTHERS, operation, *asked) {
                self.go_wrong(operation as u64, *asked, fault)?;
            }
        }
        Ok(())
    }

    /// Returns all of the faults that apply to an operation, or one of them on a large chip.
    fn chosen(&self, faults: &[Fault], operation: usize, asked: Asked) -> Vec<Fault> {
        let rule = self.subject.chip.geometry().rule();
        let applies = |fault: &Fault| fault.applies_to(asked, rule);
        let mut faults: Vec<Fault> = faults.iter().copied().filter(applies).collect();
        if self.subject.large {
            let one = (operation + self.subject.seed as usize) % faults.len();
            faults = vec![faults[one]];
        }
        faults
    }

    /// After an update, the same update has nothing to do.
    fn check_nothing_left(&mut self, mut chip: SimulatedFlash) -> Result<(), Violation> {
        let before = (chip.erases(), chip.bytes_written());
        self.update(Trust::Full).must_update(&mut chip, self.log, self.totals)?;
        match (chip.erases(), chip.bytes_written()) == before {
            true => Ok(()),
            false => Err("a second update of the same erases or writes".into()),
        }
    }

    /// The power is cut; then new starts must finish the update, or restore the old image, even if
    /// they are cut again.
    fn cut(&mut self, operation: u64, cut: Fault) -> Result<(), Violation> {
        self.totals.fault(cut);
        self.log.begin(format!("{cut:?} at operation {operation}"));
        let mut chip = self.subject.chip.clone();
        chip.inject(operation, cut);
        self.update(Trust::Full).run(&mut chip, self.log, self.totals)?;
        if chip.is_powered() {
            return Err("the power was not cut".into());
        }
        chip.clear_faults();
        chip.power_on();
        let mut recovery = 0;
        for bundle in [Bundle::New, Bundle::Old] {
            self.log.begin(format!("{cut:?} at operation {operation}, then {bundle:?}"));
            let mut chip = chip.clone();
            let rescue = self.rescue(bundle, Trust::Full);
            recovery = rescue.must_update(&mut chip, self.log, self.totals)?.operations;
        }
        self.cut_again(chip, (operation, cut), recovery)
    }

    fn cut_again(
        &mut self,
        mut chip: SimulatedFlash,
        (operation, cut): (u64, Fault),
        recovery: u64,
    ) -> Result<(), Violation> {
        let purpose = 1 << 32 | operation << 4 | cut as u64;
        let mut chance = Chance::new(self.subject.seed, purpose);
        let mut trial = format!("{cut:?} at operation {operation}");
        for _ in 0..chance.within(1..CUTS_AGAIN_MAX + 1) {
            let (at, cut) = (chance.within(0..recovery), *chance.pick(&Fault::CUTS));
            let bundle = *chance.pick(&[Bundle::New, Bundle::Old]);
            trial += &format!(", then {bundle:?} with {cut:?} at its {at}");
            self.log.begin(trial.clone());
            chip.inject(chip.operations() + at, cut);
            self.rescue(bundle, Trust::Full).run(&mut chip, self.log, self.totals)?;
            self.totals.cuts_again += u64::from(!chip.is_powered());
            chip.clear_faults();
            chip.power_on();
        }
        let bundle = *chance.pick(&[Bundle::New, Bundle::Old]);
        self.log.begin(format!("{trial}, then {bundle:?}"));
        self.rescue(bundle, Trust::Full).must_update(&mut chip, self.log, self.totals).map(drop)
    }

    /// Something else than the power goes wrong.
    fn go_wrong(&mut self, operation: u64, asked: Asked, fault: Fault) -> Result<(), Violation> {
        self.totals.fault(fault);
        self.log.begin(format!("{fault:?} at operation {operation}"));
        let mut chip = self.subject.chip.clone();
        chip.inject(operation, fault);
        let trust = trust(asked, fault);
        let ended = self.update(trust).run(&mut chip, self.log, self.totals)?;
        let fine = matches!(ended.outcome, Outcome::Updated | Outcome::Unchanged);
        if goes_away(fault) && trust != Trust::LyingReads && !fine {
            return Err(format!("one fault that goes away, and it ends {:?}", ended.outcome));
        }
        if stays_on_chip(fault) {
            check_only_spoilt(&chip, &ended.outcome)?;
        }
        if stays_on_chip(fault) && !self.is_mendable(&chip) {
            return Ok(());
        }
        chip.clear_faults();
        self.log.begin(format!("{fault:?} at operation {operation}, then a rescue"));
        self.rescue(Bundle::New, Trust::Full)
            .must_update(&mut chip, self.log, self.totals)
            .map(drop)
    }

    /// Returns whether all blocks that have to change can be: a page that lost its contents is one
    /// of those, or is to be left alone.
    fn is_mendable(&self, chip: &SimulatedFlash) -> bool {
        let subject = self.subject;
        subject.blocks.iter().all(|block| {
            let bytes = range(*block);
            let kept = subject.preserved.iter().any(|p| p.start < bytes.end && bytes.start < p.end);
            match chip.stored(*block) {
                None if kept => subject.preserved.contains(&bytes),
                None => chip.takes_contents(*block),
                stored => chip.takes_contents(*block) || stored == Some(&subject.target[bytes]),
            }
        })
    }

    fn update(&self, trust: Trust) -> Trial<'a> {
        let (subject, bundle) = (self.subject, Bundle::New);
        Trial { subject, bundle, rescue: false, trust, errors_last: false }
    }

    fn rescue(&self, bundle: Bundle, trust: Trust) -> Trial<'a> {
        Trial { subject: self.subject, bundle, rescue: true, trust, errors_last: false }
    }
}

/// Returns what the engine may believe when this happens.
pub(crate) fn trust(asked: Asked, fault: Fault) -> Trust {
    match (fault, asked) {
        (Fault::WrongByte | Fault::NotDone | Fault::StuckBits, Asked::Erase | Asked::Write) => {
            Trust::LyingChanges
        }
        // Whether it worked is asked afterwards.
        (Fault::NotDone, Asked::Unlock | Asked::Protect) => Trust::Full,
        (Fault::WrongByte | Fault::NotDone | Fault::ShortRead | Fault::ShortReads, _) => {
            Trust::LyingReads
        }
        _ => Trust::Full,
    }
}

/// Returns whether the next attempt finds a chip as good as new.
fn goes_away(fault: Fault) -> bool {
    !stays_on_chip(fault) && fault != Fault::ShortReads
}

/// Returns whether a block is spoilt for good, or what it held is lost.
pub(crate) fn stays_on_chip(fault: Fault) -> bool {
    matches!(fault, Fault::WearOut | Fault::StuckBits | Fault::Lock | Fault::Decay)
}

/// One bad block is no excuse for another: all that can be restored are.
fn check_only_spoilt(chip: &SimulatedFlash, outcome: &Outcome) -> Result<(), Violation> {
    let Outcome::Mixed { blocks } = outcome else { return Ok(()) };
    let mixed = |offset| {
        blocks.iter().any(|b| (b.offset_bytes..b.offset_bytes + b.length_bytes).contains(&offset))
    };
    let mut needless = chip.geometry().blocks().filter(|block| mixed(block.offset_bytes()));
    match needless.find(|block| chip.takes_contents(*block) && chip.stored(*block).is_some()) {
        Some(block) => {
            Err(format!("the good block at {:#x} was not restored", block.offset_bytes()))
        }
        None => Ok(()),
    }
}

fn check_refusal(refusal: Refusal, ended: &Ended) -> Result<(), Violation> {
    let sentence = match refusal {
        Refusal::SharedBlock => "preserved region",
        Refusal::Locked => "is locked",
    };
    let refused = ended.outcome == Outcome::Unchanged && ended.reboot_is_safe;
    match refused && ended.error.contains(sentence) {
        true => Ok(()),
        false => Err(format!(
            "expected a refusal for {refusal:?}, got {:?}: {}",
            ended.outcome, ended.error
        )),
    }
}
