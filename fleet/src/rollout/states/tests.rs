use proptest::prelude::*;

use super::*;

const S: Stamp = 1_000_000;

fn wave(state: WaveState, since: Stamp, soak_s: u32, attempts: (u64, u64, u64)) -> WaveView {
    let (planned, in_flight, ended) = attempts;
    WaveView {
        state,
        since,
        approval: Approval::Automatic,
        is_approved: false,
        soak_s,
        attempts: Attempts { planned, in_flight, ended },
        unseen: 0,
    }
}

fn running(waves: &[WaveView]) -> View<'_> {
    let state = RolloutState::Running;
    View { state, waves, healthy_within_s: 600, opens_at: None }
}

#[test]
fn a_wave_is_over_when_each_host_was_looked_at_or_the_time_for_that_is_over() {
    let mut waves =
        [wave(WaveState::Soaking, 0, 1800, (0, 0, 5)), wave(WaveState::Waiting, 0, 0, (1, 0, 0))];
    let until = |at: Stamp| Steps { changes: Vec::new(), look_at: Some(at) };
    assert_eq!(steer(&running(&waves), 1799 * S), until(1800 * S));
    let looks = Change::Wave { number: 0, from: WaveState::Soaking, to: WaveState::Looking };
    let go_on = [
        Change::Wave { number: 0, from: WaveState::Looking, to: WaveState::Finished },
        Change::Wave { number: 1, from: WaveState::Waiting, to: WaveState::Running },
    ];
    // However late it is seen that the soak time is over, there is time for looks.
    waves[0].unseen = 2;
    let steps = steer(&running(&waves), 9000 * S);
    assert_eq!((&steps.changes[..], steps.look_at), (&[looks.clone()][..], Some(9600 * S)));
    waves[0].unseen = 0;
    let all = [&[looks][..], &go_on].concat();
    assert_eq!(steer(&running(&waves), 1800 * S).changes, all);
    (waves[0].state, waves[0].unseen) = (WaveState::Looking, 1);
    assert_eq!(steer(&running(&waves), 599 * S), until(600 * S));
    assert_eq!(steer(&running(&waves), 600 * S).changes, go_on);
    waves[0].attempts.planned = 1;
    assert_eq!(steer(&running(&waves), 600 * S), Steps::default());
}

#[test]
fn a_scheduled_rollout_waits_for_its_window_and_for_approval_at_once() {
    let mut waves = [wave(WaveState::Waiting, 0, 0, (1, 0, 0))];
    waves[0].approval = Approval::Person;
    let scheduled = |opens_at| View { state: RolloutState::Scheduled, opens_at, ..running(&waves) };
    let asks = Change::Wave { number: 0, from: WaveState::Waiting, to: WaveState::AwaitsApproval };
    let steps = steer(&scheduled(Some(9)), 8);
    assert_eq!(steps, Steps { changes: vec![asks.clone()], look_at: Some(9) });
    let runs = Change::Rollout {
        from: RolloutState::Scheduled,
        to: RolloutState::Running,
        reason: String::new(),
    };
    assert_eq!(steer(&scheduled(Some(9)), 9).changes, [runs, asks]);
    // Without hosts there is no window, and nothing to do.
    let ends = steer(&View { waves: &[], ..scheduled(None) }, 0).changes;
    let states = ends.iter().map(|change| match change {
        Change::Rollout { to, .. } => *to,
        Change::Wave { .. } => panic!("no wave"),
    });
    assert_eq!(states.collect::<Vec<_>>(), [RolloutState::Running, RolloutState::Finished]);
}

/// A rollout that makes the changes that it is told.
struct Fleet {
    state: RolloutState,
    waves: Vec<WaveView>,
    opens_at: Stamp,
    now: Stamp,
    /// When each wave was last seen to have ended its hosts.
    ended_at: Vec<Stamp>,
    begun_at: Vec<Option<Stamp>>,
}

impl Fleet {
    fn steer(&self) -> Steps {
        let opens_at = Some(self.opens_at.max(self.now));
        let (state, waves) = (self.state, &self.waves);
        steer(&View { state, waves, healthy_within_s: 60, opens_at }, self.now)
    }

    /// Does what is to be done now, and holds it against the rules.
    fn step(&mut self) -> Result<Steps, TestCaseError> {
        let steps = self.steer();
        for change in &steps.changes {
            match change {
                Change::Rollout { from, to, .. } => {
                    prop_assert_eq!(self.state, *from);
                    let is_done = self.waves.iter().all(|wave| wave.attempts.is_empty());
                    let may_run = self.opens_at <= self.now || is_done;
                    prop_assert!(*to != RolloutState::Running || may_run);
                    self.state = *to;
                }
                Change::Wave { number, from, to } => self.change(*number as usize, *from, *to)?,
            }
        }
        let again = self.steer();
        prop_assert_eq!(&again.changes, &[]);
        prop_assert!(again.look_at.is_none_or(|at| at > self.now));
        Ok(again)
    }

    fn change(
        &mut self,
        number: usize,
        from: WaveState,
        to: WaveState,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.waves[number].state, from);
        prop_assert!(to > from, "{:?} to {:?}", from, to);
        let wave = self.waves[number];
        match to {
            WaveState::Running => {
                prop_assert!(wave.approval == Approval::Automatic || wave.is_approved);
                for (before, ended_at) in self.waves.iter().zip(&self.ended_at).take(number) {
                    prop_assert_eq!(before.state, WaveState::Finished);
                    let is_empty = before.attempts.is_empty();
                    let soak = if is_empty { 0 } else { i64::from(before.soak_s) * S };
                    prop_assert!(self.now >= ended_at + soak);
                }
                self.begun_at[number] = Some(self.now);
            }
            WaveState::Soaking => {
                prop_assert!(!wave.attempts.are_open());
                self.ended_at[number] = self.now;
            }
            _ => {}
        }
        (self.waves[number].state, self.waves[number].since) = (to, self.now);
        Ok(())
    }

    /// Something that happens meanwhile.
    fn happen(&mut self, what: u8, wave: usize) {
        let runs = self.state == RolloutState::Running;
        let wave = &mut self.waves[wave];
        let attempts = &mut wave.attempts;
        match what {
            0 if runs && wave.state == WaveState::Running && attempts.planned > 0 => {
                (attempts.planned, attempts.in_flight) =
                    (attempts.planned - 1, attempts.in_flight + 1);
            }
            1 if attempts.in_flight > 0 => {
                (attempts.in_flight, attempts.ended) = (attempts.in_flight - 1, attempts.ended + 1);
            }
            2 => wave.is_approved = true,
            3 => wave.unseen = 1,
            4 => wave.unseen = 0,
            5 if runs => self.state = RolloutState::Paused,
            6 => self.resume(),
            _ => self.now += 7 * S,
        }
    }

    fn resume(&mut self) {
        if self.state == RolloutState::Paused {
            self.state = RolloutState::Running;
        }
    }

    /// From now on all goes well, and people do what is asked of them.
    fn go_well(&mut self) {
        self.resume();
        for wave in &mut self.waves {
            wave.is_approved = true;
            let attempts = &mut wave.attempts;
            if self.state == RolloutState::Running && wave.state == WaveState::Running {
                attempts.ended += attempts.planned + attempts.in_flight;
                (attempts.planned, attempts.in_flight) = (0, 0);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_comes_to_its_end_in_order(
        plans in prop::collection::vec((0..3u64, 0..40u32, any::<bool>()), 0..5),
        opens_at in 0..50i64,
        happens in prop::collection::vec((0..10u8, any::<prop::sample::Index>()), 0..60),
    ) {
        let mut fleet = Fleet {
            state: RolloutState::Scheduled,
            waves: plans.iter().map(|&(hosts, soak_s, is_automatic)| WaveView {
                approval: if is_automatic { Approval::Automatic } else { Approval::Person },
                ..wave(WaveState::Waiting, 0, soak_s, (hosts, 0, 0))
            }).collect(),
            opens_at: opens_at * S,
            now: 0,
            ended_at: vec![0; plans.len()],
            begun_at: vec![None; plans.len()],
        };
        for (what, which) in happens {
            fleet.step()?;
            if !plans.is_empty() {
                fleet.happen(what, which.index(plans.len()));
            }
        }
        // A wave needs a step to run, one to soak, one for the looks, and one for who is late.
        let steps_max = 4 * plans.len() + 4;
        for _ in 0..steps_max {
            let steps = fleet.step()?;
            if fleet.state == RolloutState::Finished {
                break;
            }
            fleet.go_well();
            fleet.now = steps.look_at.unwrap_or(fleet.now).max(fleet.now);
        }
        prop_assert_eq!(fleet.state, RolloutState::Finished);
        let begun: Vec<_> = fleet.begun_at.iter().flatten().collect();
        prop_assert_eq!(begun.len(), plans.len());
        prop_assert!(begun.is_sorted());
    }
}
