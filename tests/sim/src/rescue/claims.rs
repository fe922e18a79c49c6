//! What is said of a dead host's chip, by the host and by managers, beside what the chip holds.

use std::collections::BTreeMap;

use firmcast::reason::{Condition, FlashState};
use firmcast::time::Time;
use firmcast_manager::news::HostResult;

use super::computer::Computer;
use crate::engine::Violation;

/// What a stay in the recovery environment began with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    /// Tells its contents from others.
    print: u64,
    condition: Condition,
    changes: (u64, u64),
}

impl Beginning {
    pub(crate) fn of(computer: &Computer) -> Self {
        let changes = crate::chip::changes(&computer.flash);
        Self { print: computer.print(), condition: computer.condition(), changes }
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    /// Whether nothing was changed since.
    pub(crate) fn is_untouched(&self, computer: &Computer) -> bool {
        self.changes == crate::chip::changes(&computer.flash)
    }

    /// Checks what the host says of its chip after a flash job that went by `before`. `reads_fail`:
    /// the chip could fail in it.
    pub(crate) fn check(
        &self,
        computer: &Computer,
        before: FlashState,
        flash: FlashState,
        reads_fail: bool,
    ) -> Result<(), Violation> {
        let is_same = computer.print() == self.print;
        let is_true = match flash {
            FlashState::Updated => computer.is_repaired(),
            FlashState::Untouched(condition) => {
                self.is_untouched(computer) && condition == self.condition
            }
            FlashState::Restored(condition) => is_same && condition == self.condition,
            FlashState::Mixed => !computer.is_repaired() && !is_same,
            FlashState::Unknown => reads_fail || before == FlashState::Unknown,
        };
        match is_true {
            true => Ok(()),
            false => Err(format!(
                "it says {flash:?} after {before:?}, but: repaired {}, as before {is_same}, {:?} \
                before",
                computer.is_repaired(),
                self.condition
            )),
        }
    }
}

/// One campaign, as its manager enlisted the host.
#[derive(Debug)]
struct Enlisted {
    since: Time,
    print: u64,
    condition: Condition,
    /// The manager told the host to write, or to give its backup and write then.
    is_told: bool,
    /// What the host said of its own chip in reports of this campaign, other than all old or all
    /// new.
    said: Vec<FlashState>,
}

/// What the campaigns may know of one host.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    enlisted: BTreeMap<u64, Enlisted>,
    /// The campaigns in which the chip was changed, and when that was last.
    changed_in: BTreeMap<u64, Time>,
    /// When something else has damaged it again.
    relapsed: Option<Time>,
}

impl Claims {
    /// A campaign enlists the host, of which the contents are in this condition.
    pub(crate) fn enlist(
        &mut self,
        now: Time,
        campaign: u64,
        computer: &Computer,
        condition: Condition,
    ) {
        let print = computer.print();
        let enlisted = Enlisted { since: now, print, condition, is_told: false, said: Vec::new() };
        self.enlisted.insert(campaign, enlisted);
    }

    /// The manager tells the host to write.
    pub(crate) fn tell(&mut self, campaign: u64) {
        if let Some(enlisted) = self.enlisted.get_mut(&campaign) {
            enlisted.is_told = true;
        }
    }

    /// The host reports this in a campaign.
    pub(crate) fn report(&mut self, campaign: u64, flash: FlashState) {
        if let Some(enlisted) = self.enlisted.get_mut(&campaign)
            && flash.is_unfinished()
            && !enlisted.said.contains(&flash)
        {
            enlisted.said.push(flash);
        }
    }

    /// The chip was changed in a campaign.
    pub(crate) fn changed(&mut self, now: Time, campaign: u64) {
        self.changed_in.insert(campaign, now);
    }

    /// Something that is no campaign has damaged the chip.
    pub(crate) fn relapsed(&mut self, now: Time) {
        self.relapsed = Some(now);
    }

    /// Checks what a manager says at the end of an attempt. What nobody could know, and nothing
    /// else, it calls unknown.
    pub(crate) fn check(
        &self,
        campaign: u64,
        result: &HostResult,
        computer: &Computer,
    ) -> Result<(), Violation> {
        let enlisted = self.enlisted.get(&campaign).ok_or("it was never enlisted")?;
        let since = enlisted.since;
        // What a campaign has seen is over.
        if self.relapsed.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let changed_here = self.changed_in.get(&campaign).is_some_and(|at| *at >= since);
        // A campaign speaks of its own work, not of what others do at the same time.
        let others = |(other, at): (&u64, &Time)| *other != campaign && *at >= since;
        let changed_by_others = self.changed_in.iter().any(others);
        let is_same = enlisted.print == computer.print();
        let is_as_before =
            |condition| changed_by_others || is_same && condition == enlisted.condition;
        let flash = stated(result)?;
        let is_true = match flash {
            FlashState::Updated => computer.is_repaired(),
            FlashState::Untouched(condition) => !changed_here && is_as_before(condition),
            FlashState::Restored(condition) => is_as_before(condition),
            FlashState::Mixed => !computer.is_repaired() && enlisted.said.contains(&flash),
            FlashState::Unknown => enlisted.is_told || enlisted.said.contains(&flash),
        };
        // The machine has started from what only looks wrong.
        let is_safe = || {
            let is_doubtful = flash.condition() == Some(Condition::Doubtful);
            changed_by_others || is_doubtful || computer.starts()
        };
        let is_well = is_true && (!result.reboot_safe || is_safe());
        match is_well && result.reboot_safe == flash.reboot_is_safe() {
            true => Ok(()),
            false => Err(format!(
                "{result:?}, but repaired: {}, as before: {is_same}, by others: \
                {changed_by_others}, and {enlisted:?}",
                computer.is_repaired()
            )),
        }
    }
}

/// The state that a result names.
fn stated(result: &HostResult) -> Result<FlashState, Violation> {
    let condition = result.condition.as_deref().unwrap_or(Condition::Whole.name());
    let names = |state: &FlashState| {
        state.name() == result.flash
            && state.condition().is_none_or(|stated| stated.name() == condition)
    };
    FlashState::ALL.into_iter().find(names).ok_or_else(|| format!("{result:?} names no state"))
}
