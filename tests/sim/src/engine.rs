//! What every world has: a virtual clock, a queue of what happens next, a bound of its steps, and a
//! trace of it all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Arguments;
use std::time::Duration;

use firmcast::time::Time;

use crate::trace::Trace;

/// What was violated, in words.
pub(crate) type Violation = String;

/// Maximum number of steps of a world: one with more of them spins.
const STEPS_MAX: u64 = 30_000_000;

/// What one kind of world adds to the engine.
pub(crate) trait Simulated {
    type Happening;

    fn engine(&mut self) -> &mut Engine<Self::Happening>;

    /// Everything is as it must be in the end.
    fn is_finished(&self) -> bool;

    /// Who is not where it must be, for a person.
    fn stragglers(&self) -> String;

    /// Lets one thing happen, and checks the invariants.
    fn happen(&mut self, happening: Self::Happening) -> Result<(), Violation>;

    /// Runs the world to its end, which must come before `limit`. A violation says when it was.
    fn run_until(&mut self, limit: Duration) -> Result<(), Violation> {
        let result = self.steps_until(limit);
        let seconds = self.engine().now.since(Time::ZERO).as_secs_f64();
        result.map_err(|violation| format!("at {seconds:.3} s: {violation}"))
    }

    fn steps_until(&mut self, limit: Duration) -> Result<(), Violation> {
        while !self.is_finished() {
            let Some(happening) = self.engine().next()? else {
                return Err(format!("nothing will happen any more: {}", self.stragglers()));
            };
            if self.engine().now > Time::ZERO + limit {
                return Err(format!("not finished after {limit:?}: {}", self.stragglers()));
            }
            self.happen(happening)?;
        }
        Ok(())
    }
}

/// The clock and the queue of one world. What happens at the same time happens in the order in
/// which it was planned.
pub(crate) struct Engine<H> {
    now: Time,
    steps: u64,
    steps_max: u64,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, H>,
    sequence: u64,
    pub(crate) trace: Trace,
}

impl<H> Engine<H> {
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            now: Time::ZERO,
            steps: 0,
            steps_max: STEPS_MAX,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            trace: Trace::new(verbose),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns how much is planned, datagrams under way among it.
    pub(crate) fn planned(&self) -> usize {
        self.happenings.len()
    }

    /// Plans something for a time; what is late happens now.
    pub(crate) fn at(&mut self, at: Time, happening: H) {
        self.sequence += 1;
        self.queue.push(Reverse((at.max(self.now), self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    pub(crate) fn after(&mut self, span: Duration, happening: H) {
        self.at(self.now + span, happening);
    }

    /// Plans something for a time after the beginning of the world.
    pub(crate) fn after_start(&mut self, span: Duration, happening: H) {
        self.at(Time::ZERO + span, happening);
    }

    /// Prints a line when somebody looks.
    pub(crate) fn line(&self, line: Arguments<'_>) {
        self.trace.line(self.now, line);
    }

    /// Turns the clock to what happens next, and takes it.
    pub(crate) fn next(&mut self) -> Result<Option<H>, Violation> {
        let Some(Reverse((at, sequence))) = self.queue.pop() else { return Ok(None) };
        self.now = at;
        self.steps += 1;
        if self.steps > self.steps_max {
            return Err(format!("more than {} steps: something spins", self.steps_max));
        }
        self.trace.count(at.as_micros());
        Ok(self.happenings.remove(&sequence))
    }
}

/// When somebody wants to be woken; an older wish does not count any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm(Option<Time>);

impl Alarm {
    /// Plans `ring` for the newest wish.
    pub(crate) fn set<H>(&mut self, wish: Option<Time>, engine: &mut Engine<H>, ring: H) {
        let wish = wish.map(|at| at.max(engine.now()));
        if wish != self.0 {
            self.0 = wish;
            if let Some(at) = wish {
                engine.at(at, ring);
            }
        }
    }

    /// Returns whether this ring is that of the newest wish, which it then was.
    pub(crate) fn rings(&mut self, now: Time) -> bool {
        let is_newest = self.0 == Some(now);
        if is_newest {
            self.0 = None;
        }
        is_newest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn engine(steps_max: u64) -> Engine<char> {
        Engine { steps_max, ..Engine::new(false) }
    }

    #[test]
    fn things_happen_in_the_order_of_time_and_then_of_planning() {
        let mut engine = engine(10);
        for (ms, happening) in [(2, 'c'), (1, 'a'), (1, 'b')] {
            engine.after_start(Duration::from_millis(ms), happening);
        }
        let all = std::iter::from_fn(|| engine.next().unwrap()).collect::<String>();
        assert_eq!(all, "abc");
        assert_eq!((engine.now().as_micros(), engine.steps()), (2000, 3));
    }

    #[test]
    fn the_clock_never_turns_back() {
        let mut engine = engine(10);
        engine.after(Duration::from_secs(2), 'a');
        engine.next().unwrap();
        engine.after_start(Duration::from_secs(1), 'b');
        assert_eq!(engine.next().unwrap(), Some('b'));
        assert_eq!(engine.now(), Time::ZERO + Duration::from_secs(2));
    }

    #[test]
    fn a_world_that_spins_is_a_violation() {
        let mut engine = engine(2);
        for _ in 0..3 {
            engine.after(Duration::ZERO, 'a');
        }
        assert!(engine.next().is_ok() && engine.next().is_ok());
        assert!(engine.next().unwrap_err().contains("more than 2 steps"));
    }

    #[test]
    fn only_the_newest_wish_rings() {
        let (mut engine, mut alarm) = (engine(10), Alarm::default());
        let at = |s| Time::ZERO + Duration::from_secs(s);
        alarm.set(Some(at(1)), &mut engine, 'a');
        alarm.set(Some(at(2)), &mut engine, 'b');
        assert!(!alarm.rings(at(1)) && alarm.rings(at(2)) && !alarm.rings(at(2)));
        assert_eq!(engine.planned(), 2);
    }
}
