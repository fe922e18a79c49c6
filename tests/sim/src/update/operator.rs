//! Managers: the operator's, which is started again and again until all hosts are confirmed, and a
//! rogue's.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::SecretKey as _;
use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::time::Time;
use firmcast::wire::finding::Acceptance;
use firmcast_manager::campaign::{Campaign, Config, Contents, Deadlines, Outcome, Purpose, Target};

use crate::chance::Chance;
use crate::engine::{Alarm, Violation};
use crate::update::host::VirtualHost;
use crate::update::scenario::{Rogue, Scenario};
use crate::update::truth::{Holds, Truth};

/// Unix time in microseconds at which virtual time begins.
const EPOCH_US: u64 = 1_700_000_000_000_000;
const PORT: u16 = 40_000;

/// One run of the manager's program.
pub(crate) struct Manager {
    pub(crate) campaign: Campaign,
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) is_rogue: bool,
    /// A release key that hosts trust signed its manifest, whatever bytes it sends.
    manifest_is_genuine: bool,
    /// Which virtual hosts its hosts are.
    pub(crate) purpose: Purpose,
    pub(crate) targets: Vec<usize>,
    /// What their chips held when it started.
    held: Vec<u64>,
    /// When its next wake is planned.
    pub(crate) wake: Alarm,
    origin: Time,
}

impl Manager {
    /// A manager that starts now, for these hosts.
    pub(crate) fn start(
        now: Time,
        scenario: &Scenario,
        truth: &Truth,
        chance: &mut Chance,
        (is_rogue, purpose): (bool, Purpose),
        hosts: &[VirtualHost],
        targets: Vec<usize>,
    ) -> Result<Self, Violation> {
        let number = chance.number();
        let which = usize::from(is_rogue && chance.happens(0.5));
        let genuine = || truth.genuine.clone();
        let contents: Contents =
            if is_rogue { truth.rogue.clone().unwrap_or_else(genuine) } else { genuine() };
        let config = Config {
            campaign: number,
            delivery: scenario.delivery,
            rate_mbit: scenario.rate_mbit,
            is_polite: scenario.is_polite,
            fragment_size_bytes: scenario.fragment_size_bytes,
            escrow: scenario.escrow,
            accepted: Acceptance::default(),
            purpose,
            deadlines: Deadlines::default(),
            exchange_secret: *truth.managers[which].exchange(),
            stamp: EPOCH_US + now.as_micros(),
            seed: chance.seed(),
        };
        let target = |host: &usize| Target {
            name: format!("host{host}"),
            key: Some(*truth.host_key(*host).public().exchange()),
            address: hosts[*host].address,
        };
        let campaign =
            Campaign::new(Time::ZERO, &config, contents, targets.iter().map(target).collect())
                .map_err(|error| format!("the campaign cannot start: {error}"))?;
        // Like a program with a fixed port, or one with any free port.
        let port = if is_rogue { PORT - 1 } else { PORT + chance.within(0..3) as u16 };
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let held = targets.iter().map(|host| hosts[*host].computer.print()).collect();
        Ok(Self {
            campaign,
            number,
            address,
            is_rogue,
            manifest_is_genuine: !is_rogue || scenario.rogue == Some(Rogue::ForgedPayload),
            purpose,
            targets,
            held,
            wake: Alarm::default(),
            origin: now,
        })
    }

    /// Its own clock.
    pub(crate) fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.origin)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.campaign.poll_timeout().map(|at| self.origin + at.since(Time::ZERO))
    }
}

/// Returns what a manager says of a host at the end is true of its chip. What nobody could know,
/// and nothing else, it calls unknown.
pub(crate) fn check_outcome(
    manager: &Manager,
    index: usize,
    host: &mut VirtualHost,
    outcome: &Outcome,
) -> Result<(), Violation> {
    let (number, holds) = (manager.number, host.computer.holds());
    let Ending { reason, flash, .. } = &outcome.ending;
    if *reason == Reason::None {
        return Err(format!("it ended without a reason: {outcome:?}"));
    }
    let changed_here = host.changed_in.contains_key(&number);
    // A campaign speaks of its own work, not of what others do at the same time.
    let others = |(campaign, at): (&u64, &Time)| *campaign != number && *at >= manager.origin;
    let changed_by_others = host.changed_in.iter().any(others);
    let is_same = host.computer.print() == manager.held[index];
    let holds_old = |condition| changed_by_others || is_same && host.computer.may_be(condition);
    let is_safe = || changed_by_others || host.computer.starts();
    let is_true = match flash {
        FlashState::Updated => holds == Holds::New,
        FlashState::Untouched(condition) => !changed_here && holds_old(*condition),
        FlashState::Restored(condition) => holds_old(*condition),
        FlashState::Mixed => holds != Holds::New && !is_same,
        FlashState::Unknown => {
            let was_heard = manager.campaign.hosts()[index].identity().is_some();
            // One that holds the image already verifies it without a backup, and may get lost then.
            let may_verify =
                || *reason == Reason::LostWhileFlashing && host.escrows.contains(&number);
            !was_heard || host.commits.contains(&number) || may_verify()
        }
    };
    let is_confirmed = || match manager.purpose {
        Purpose::Drill => *reason == Reason::Drilled && host.came_home_from(number),
        Purpose::Update | Purpose::DryRun | Purpose::Look => {
            let is_new = host.computer.runs_new() && *flash == FlashState::Updated;
            // A host that holds the signed image already needs none of a rogue's bytes.
            let is_harmless = !manager.is_rogue || manager.manifest_is_genuine && !changed_here;
            *reason == Reason::Confirmed && is_harmless && is_new
        }
    };
    let is_well = is_true
        && (!flash.reboot_is_safe() || is_safe())
        && (!outcome.is_confirmed() || is_confirmed());
    if matches!(flash, FlashState::Untouched(_)) {
        host.ended_untouched.push(number);
    }
    match is_well {
        true => Ok(()),
        false => Err(format!("{outcome:?}, but it is {} and holds {holds:?}", host.describe())),
    }
}

/// Returns how long an operator waits before the next try.
pub(crate) fn pause(chance: &mut Chance) -> Duration {
    chance.span(Duration::from_secs(1)..Duration::from_secs(*chance.clone().pick(&[10, 180])))
}
