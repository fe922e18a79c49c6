//! The engine's own share of each phase of a job: what is left without the chip's operations.

use std::fmt;
use std::time::{Duration, Instant};

use firmcast::flash::{Flash, Phase};

use super::timed::{Timed, milliseconds};

/// What the engine itself took, by phase, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Own(Vec<(Phase, Duration)>);

impl Own {
    /// Does a step of `phase` and notes what it took beside the chip's operations.
    pub(super) fn step<F: Flash, T>(
        &mut self,
        phase: Phase,
        chip: &mut Timed<F>,
        step: impl FnOnce(&mut Timed<F>) -> T,
    ) -> T {
        let (started, device_before) = (Instant::now(), chip.device_time());
        let result = step(chip);
        let taken = started.elapsed().saturating_sub(chip.device_time() - device_before);
        match self.0.last_mut().filter(|(last, _)| *last == phase) {
            Some((_, sum)) => *sum += taken,
            None => self.0.push((phase, taken)),
        }
        result
    }
}

/// As a JSON object: milliseconds of each phase.
impl fmt::Display for Own {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases: Vec<String> = self
            .0
            .iter()
            .map(|(phase, taken)| format!("\"{phase:?}\":{}", milliseconds(*taken)))
            .collect();
        write!(out, "{{{}}}", phases.join(","))
    }
}
