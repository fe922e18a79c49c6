//! The backup goes to the manager first: the real job on a simulated chip, and the real receiver.

use rand_core::RngCore;

use super::*;
use crate::flash::{Geometry, SimulatedFlash, WriteRule};
use crate::recovery::flashing::Flashing;
use crate::recovery::machine::{ESCROW_SILENCE_MAX, Permit};
use crate::transfer::Receiver;
use crate::wire::broadcast::Broadcast;
use crate::wire::escrow::BackupOffer;

const STEP: Duration = Duration::from_millis(2);
const COMMIT: Command =
    Command::CommitWithEscrow { campaign: CAMPAIGN, rate_kbit_s: 250, unless_broken: true };

/// A host that was told to flash, its chip, and a manager that receives the backup over a bad
/// network.
struct Keeping {
    bench: Bench,
    now: Time,
    chip: SimulatedFlash,
    old: Vec<u8>,
    flashing: Option<Flashing>,
    offer: Option<BackupOffer>,
    receiver: Option<Receiver>,
    bytes: Option<Vec<u8>>,
    /// Takes no offer and answers no status request.
    is_silent: bool,
    loss: f64,
    rng: ChaCha20Rng,
}

impl Keeping {
    fn begin(new: &[u8], old: Vec<u8>, loss: f64) -> Self {
        let (mut bench, now) = Bench::verified(new);
        bench.command(now, &COMMIT);
        let flashing = match bench.host.poll_action() {
            Some(Action::Flash { image, flash, .. }) => Some(Flashing::new(image, flash)),
            other => panic!("{other:?}"),
        };
        let geometry = Geometry::uniform(CHIP as u64, 4096, 1, WriteRule::ClearBits).unwrap();
        let chip = SimulatedFlash::new(geometry, old.clone());
        let rng = ChaCha20Rng::from_seed([8; 32]);
        let (offer, receiver, bytes) = (None, None, None);
        Self {
            bench,
            now,
            chip,
            old,
            flashing,
            offer,
            receiver,
            bytes,
            is_silent: false,
            loss,
            rng,
        }
    }

    fn is_lost(&mut self) -> bool {
        f64::from(self.rng.next_u32()) < self.loss * f64::from(u32::MAX)
    }

    /// One turn of the loops on both sides.
    fn turn(&mut self) {
        self.now += STEP;
        let now = self.now;
        self.bench.host.handle_timeout(now);
        if let Some(flashing) = &mut self.flashing
            && !flashing.step(now, &mut self.chip, &mut self.bench.host, || Ok(()))
        {
            self.flashing = None;
        }
        while let Some(transmit) = self.bench.host.poll_transmit() {
            assert_eq!(transmit.to, manager_address());
            if !self.is_lost() {
                self.take(&transmit.bytes);
            }
        }
        let status = self.receiver.as_mut().and_then(|receiver| receiver.poll_status(now));
        if let Some(status) = status.filter(|_| !self.is_silent) {
            self.tell(&Command::BackupStatus(status));
        }
        while let Some(transmit) = self.bench.manager.poll_transmit() {
            if !self.is_lost() {
                self.bench.host.handle_datagram(now, manager_address(), &transmit.bytes);
            }
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = self.now;
        if Broadcast::parse(datagram).is_ok() {
            let receiver = self.receiver.as_mut().expect("an offer comes first");
            receiver.handle_datagram(now, datagram);
            if receiver.is_complete() && self.bytes.is_none() {
                self.bytes = Some(receiver.take_payload().unwrap().bytes);
            }
            return;
        }
        let event = self.bench.manager.handle_datagram(now, host_address(), datagram);
        let Some(SessionEvent::Message { bytes, .. }) = event else { return };
        match Answer::parse(&bytes).unwrap() {
            Answer::Report(report) => self.bench.reports.push(report),
            Answer::BackupOffer(offer) if !self.is_silent => {
                assert!(self.offer.as_ref().is_none_or(|known| *known == offer));
                let receiver = self
                    .receiver
                    .get_or_insert_with(|| Receiver::new(&offer.parameters, 5).unwrap());
                let status = Command::BackupStatus(receiver.first_status());
                self.offer = Some(offer);
                self.tell(&status);
            }
            _ => {}
        }
    }

    fn tell(&mut self, command: &Command) {
        self.bench.manager.send(self.now, &self.bench.host_key, &command.emit());
    }

    fn run(&mut self, span: Duration, until: impl Fn(&Self) -> bool) {
        let end = self.now + span;
        while self.now < end && !until(self) {
            self.turn();
        }
    }

    /// Fragments that the host knows to have arrived.
    fn uploaded(&self) -> u32 {
        let report = self.bench.host.report();
        if report.phase == Phase::Escrow { report.done } else { 0 }
    }

    fn stored(&self) -> Command {
        let digest = self.offer.as_ref().unwrap().digest;
        Command::BackupStored { campaign: CAMPAIGN, digest }
    }

    fn expect_untouched(&self) {
        assert_eq!((self.chip.erases(), self.chip.bytes_written()), (0, 0));
        assert_eq!(self.chip.contents(), self.old);
    }

    fn expect_failed(&self, reason: Reason, detail: &str) {
        let report = self.bench.host.report();
        let end = (report.phase, report.ending.reason, report.ending.flash);
        assert_eq!(end, (Phase::Failed, reason, FlashState::UNTOUCHED), "{report:?}");
        assert!(report.ending.detail.contains(detail), "{report:?}");
        assert!(self.flashing.is_none());
        self.expect_untouched();
    }

    /// Nothing is uploaded any more.
    fn expect_quiet(&mut self) {
        self.bench.host.handle_timeout(self.now + SECOND);
        while let Some(transmit) = self.bench.host.poll_transmit() {
            assert!(Broadcast::parse(&transmit.bytes).is_err());
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_changed_before_the_manager_keeps_this_very_backup() {
    let mut keeping = Keeping::begin(&image(1), image(2), 0.2);
    keeping.run(20 * SECOND, |keeping| keeping.bytes.is_some());
    assert_eq!(keeping.bytes, Some(image(2)));
    keeping.expect_untouched();
    let phase = |keeping: &Keeping| keeping.bench.host.report().phase;
    assert_eq!(phase(&keeping), Phase::Escrow);

    let another = Command::BackupStored { campaign: CAMPAIGN, digest: [1; 32] };
    for _ in 0..100 {
        keeping.tell(&another);
        keeping.tell(&Command::Commit { campaign: CAMPAIGN });
        keeping.tell(&COMMIT);
        keeping.turn();
        keeping.expect_untouched();
    }
    assert_eq!(phase(&keeping), Phase::Escrow);

    for _ in 0..10 {
        let stored = keeping.stored();
        keeping.tell(&stored);
        keeping.turn();
    }
    keeping.tell(&Command::Release { campaign: CAMPAIGN });
    keeping.run(20 * SECOND, |keeping| keeping.flashing.is_none());
    assert_eq!((phase(&keeping), keeping.chip.contents()), (Phase::Updated, &image(1)[..]));
    let report = keeping.bench.host.report();
    assert_eq!(report.digests.unwrap().0, keeping.offer.unwrap().digest);
}

#[test]
fn a_manager_that_falls_silent_or_never_stores_leaves_the_chip_as_it_is() {
    let whole = |keeping: &Keeping| keeping.bytes.is_some();
    let half = |keeping: &Keeping| keeping.uploaded() > 30;
    type When<'a> = &'a dyn Fn(&Keeping) -> bool;
    let silences: [(When<'_>, &str); 3] = [
        (&|_| true, "did not take"),
        (&half, "fragments of the backup were uploaded"),
        (&whole, "did not store"),
    ];
    for (when, detail) in silences {
        let mut keeping = Keeping::begin(&image(1), image(2), 0.0);
        keeping.run(20 * SECOND, when);
        // It says that it has all, but not that it is stored.
        if !whole(&keeping) {
            keeping.is_silent = true;
        }
        let silent_from = keeping.now;
        keeping.run(3 * ESCROW_SILENCE_MAX, |keeping| keeping.flashing.is_none());
        let patience = keeping.now.since(silent_from);
        assert!(patience <= ESCROW_SILENCE_MAX + 2 * SECOND, "{patience:?}");
        assert!(patience >= ESCROW_SILENCE_MAX - 2 * SECOND, "{patience:?}");
        keeping.expect_failed(Reason::EscrowFailed, detail);
        keeping.expect_quiet();
        keeping.bench.host.handle_timeout(keeping.now + RELEASE_WAIT);
        keeping.bench.expect_reboot(Reason::EscrowFailed, FlashState::UNTOUCHED);
    }
}

#[test]
fn a_release_while_the_backup_is_uploaded_lets_the_host_go_for_good() {
    let mut keeping = Keeping::begin(&image(1), image(2), 0.0);
    keeping.run(20 * SECOND, |keeping| keeping.uploaded() > 20);
    keeping.tell(&Command::Release { campaign: CAMPAIGN });
    let stored = keeping.stored();
    keeping.turn();
    keeping.tell(&stored);
    keeping.run(SECOND, |keeping| keeping.flashing.is_none());
    keeping.expect_failed(Reason::Released, "");
    keeping.tell(&stored);
    keeping.run(SECOND, |_| false);
    keeping.expect_untouched();
}

#[test]
fn a_chip_that_needs_no_change_needs_no_upload_and_a_mixed_one_is_rescued_without() {
    let mut keeping = Keeping::begin(&image(1), image(1), 0.0);
    keeping.run(20 * SECOND, |keeping| keeping.flashing.is_none());
    assert_eq!(keeping.bench.host.report().ending.reason, Reason::AlreadyCurrent);
    assert!(keeping.offer.is_none());
    keeping.expect_untouched();

    let mut keeping = Keeping::begin(&image(1), image(2), 0.0);
    let mixed = FlashEnd {
        ending: Ending::new(Reason::WriteFailed, FlashState::Mixed, "block 3"),
        digests: None,
    };
    let now = keeping.now;
    keeping.bench.host.flash_ended(now, mixed);
    keeping.bench.command(now, &COMMIT);
    let action = keeping.bench.host.poll_action();
    let Some(Action::Flash { image: new, flash, .. }) = action else { panic!("{action:?}") };
    keeping.flashing = Some(Flashing::new(new, flash));
    keeping.run(20 * SECOND, |keeping| keeping.flashing.is_none());
    let report = keeping.bench.host.report();
    assert_eq!((report.phase, keeping.chip.contents()), (Phase::Updated, &image(1)[..]));
    assert!(report.ending.detail.contains("no backup was stored"), "{report:?}");
    assert!(keeping.offer.is_none());
}

#[test]
fn that_a_change_came_without_a_backup_is_still_said_when_a_later_commit_ends_it() {
    let mut keeping = Keeping::begin(&image(1), image(2), 0.0);
    let mixed = || FlashEnd {
        ending: Ending::new(Reason::WriteFailed, FlashState::Mixed, "block 3"),
        digests: None,
    };
    let now = keeping.now;
    keeping.bench.host.flash_ended(now, mixed());
    keeping.bench.command(now, &COMMIT);
    assert!(matches!(keeping.bench.host.poll_action(), Some(Action::Flash { .. })));
    assert_eq!(keeping.bench.host.may_change(now, None), Permit::Given);
    keeping.bench.host.flash_ended(now, mixed());
    keeping.bench.command(now, &Command::Commit { campaign: CAMPAIGN });
    let action = keeping.bench.host.poll_action();
    let Some(Action::Flash { image: new, flash, .. }) = action else { panic!("{action:?}") };
    keeping.flashing = Some(Flashing::new(new, flash));
    keeping.run(20 * SECOND, |keeping| keeping.flashing.is_none());
    let report = keeping.bench.host.report();
    assert_eq!(report.phase, Phase::Updated);
    assert!(report.ending.detail.contains("no backup was stored"), "{report:?}");
}

#[test]
fn escrow_is_skipped_only_when_the_commit_says_so() {
    let mut keeping = Keeping::begin(&image(1), image(2), 0.0);
    let mixed = FlashEnd {
        ending: Ending::new(Reason::WriteFailed, FlashState::Mixed, "block 3"),
        digests: None,
    };
    let now = keeping.now;
    keeping.bench.host.flash_ended(now, mixed);
    let commit =
        Command::CommitWithEscrow { campaign: CAMPAIGN, rate_kbit_s: 250, unless_broken: false };
    keeping.bench.command(now, &commit);
    let action = keeping.bench.host.poll_action();
    let Some(Action::Flash { image: new, flash, .. }) = action else { panic!("{action:?}") };
    keeping.flashing = Some(Flashing::new(new, flash));
    keeping.run(20 * SECOND, |keeping| keeping.offer.is_some());
    assert!(keeping.offer.is_some(), "even what is mixed is kept first");
    keeping.expect_untouched();
}
