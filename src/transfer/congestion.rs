//! Whether what hosts say asks for another rate: a channel that is full is told from one that loses
//! whatever the rate.

use std::time::Duration;

/// What the way that all hosts share did since this was looked at last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The loss of the active host that loses least, 0 to 1.
    pub(super) loss: f64,
    /// Over how many fragments that was measured.
    pub(super) fragments: u32,
    /// How long the quickest answer took; none when nobody answered.
    pub(super) delay: Option<Duration>,
}

/// What becomes of the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Halve,
    Stay,
    /// By a small part of what it is.
    Creep,
    /// By half of what it is.
    Grow,
    Double,
}

/// How the rate follows what hosts say.
#[derive(Debug)]
pub(super) enum Congestion {
    /// Takes what the operator allows, and makes room where a channel is full by far.
    Usual(Halving),
    /// Leaves to others at least half of a channel that they want.
    Polite(Politeness),
}

impl Congestion {
    pub(super) fn new(is_polite: bool) -> Self {
        match is_polite {
            true => Self::Polite(Politeness::default()),
            false => Self::Usual(Halving::default()),
        }
    }

    /// How often this is to be asked, at most.
    pub(super) fn interval(&self) -> Duration {
        match self {
            Self::Usual(_) => Duration::from_secs(1),
            Self::Polite(_) => Duration::from_millis(100),
        }
    }

    /// Loss that is measured over fewer fragments says nothing about the rate.
    pub(super) fn fragments_min(&self) -> u32 {
        match self {
            Self::Usual(_) => 1024,
            Self::Polite(_) => 32,
        }
    }

    pub(super) fn step(&mut self, sample: Sample) -> Step {
        match self {
            Self::Usual(halving) => halving.step(sample.loss),
            Self::Polite(politeness) => politeness.step(sample),
        }
    }

    /// Hosts were asked, and none has answered (RFC 8085, section 3.1: no answer is a reason to
    /// slow down).
    pub(super) fn step_in_silence(&self) -> Step {
        match self {
            Self::Usual(_) => Step::Stay,
            Self::Polite(_) => Step::Halve,
        }
    }
}

/// Loss that all active hosts have, above which the rate is halved: a way that all share is full.
const LOSS_CONGESTED: f64 = 0.30;

/// Loss below which the rate grows again.
const LOSS_RELAXED: f64 = 0.15;

/// Halving helped when less than this part of the loss is left.
const LOSS_LEFT_MAX: f64 = 0.75;

/// How many measurements the rate stays when halving did not help: that loss is not made by the
/// rate.
const HOLD_MEASUREMENTS: u32 = 16;

/// Halves the rate when much is lost, and takes that back when it did not help.
#[derive(Debug, Default)]
pub(super) struct Halving {
    loss_before: Option<f64>,
    hold: u32,
}

impl Halving {
    fn step(&mut self, loss: f64) -> Step {
        if self.hold > 0 {
            self.hold -= 1;
            return Step::Stay;
        }
        let before = self.loss_before.take();
        if loss < LOSS_RELAXED {
            Step::Grow
        } else if loss <= LOSS_CONGESTED {
            Step::Stay
        } else if before.is_some_and(|before| loss > before * LOSS_LEFT_MAX) {
            self.hold = HOLD_MEASUREMENTS;
            Step::Double
        } else {
            self.loss_before = Some(loss);
            Step::Halve
        }
    }
}

/// A queue that makes answers come so much later than the quickest ever is not ours alone.
const DELAY_RISE_MAX: Duration = Duration::from_millis(3);

/// Loss so far above what the channel loses at any rate is made by the rate ...
const LOSS_RISE_MAX: f64 = 0.003;

/// ... if it is more than chance: so many standard deviations.
const DEVIATIONS: f64 = 4.0;

/// What the channel loses at any rate is averaged over about this many measurements.
const LOSS_MEMORY: f64 = 8.0;

/// What the channel loses at any rate, and over how many fragments that was measured.
#[derive(Clone, Copy, Debug)]
struct BaseLoss {
    loss: f64,
    fragments: f64,
}

impl BaseLoss {
    fn of(sample: &Sample) -> Self {
        Self { loss: sample.loss, fragments: f64::from(sample.fragments.max(1)) }
    }

    /// Whether more was lost than the channel loses at any rate: the test of two proportions.
    fn is_exceeded_by(&self, sample: &Sample) -> bool {
        let measured = Self::of(sample);
        let lost = self.loss * self.fragments + measured.loss * measured.fragments;
        let pooled = lost / (self.fragments + measured.fragments);
        let variance = pooled * (1.0 - pooled) * (1.0 / self.fragments + 1.0 / measured.fragments);
        measured.loss > self.loss + LOSS_RISE_MAX.max(DEVIATIONS * variance.sqrt())
    }

    fn add(&mut self, sample: &Sample) {
        let measured = Self::of(sample);
        let remembered = self.fragments.min(measured.fragments * (LOSS_MEMORY - 1.0));
        self.fragments = remembered + measured.fragments;
        self.loss += (measured.loss - self.loss) * measured.fragments / self.fragments;
    }
}

/// Begins slowly and grows until something gives way; from then on it creeps, and halves when
/// answers come late (as in RFC 6817) or more is lost than at lower rates.
#[derive(Debug, Default)]
pub(super) struct Politeness {
    least_delay: Option<Duration>,
    base_loss: Option<BaseLoss>,
    /// Whether the channel was full once.
    was_full: bool,
    /// What was lost when the rate was halved for loss, until it is known whether that helped.
    loss_before: Option<f64>,
    /// The next measurement is still of the rate before.
    is_settling: bool,
}

impl Politeness {
    fn step(&mut self, sample: Sample) -> Step {
        let is_late = self.is_late(sample.delay);
        if std::mem::take(&mut self.is_settling) {
            return Step::Stay;
        }
        let base_loss = self.base_loss.get_or_insert_with(|| BaseLoss::of(&sample));
        let has_risen = base_loss.is_exceeded_by(&sample);
        let before = self.loss_before.take();
        if has_risen && !is_late && before.is_some_and(|was| sample.loss > was * LOSS_LEFT_MAX) {
            // It did not help, so the rate was not the reason.
            *base_loss = BaseLoss::of(&sample);
            self.is_settling = true;
            return Step::Double;
        }
        if is_late || has_risen {
            self.loss_before = has_risen.then_some(sample.loss);
            (self.was_full, self.is_settling) = (true, true);
            return Step::Halve;
        }
        base_loss.add(&sample);
        if self.was_full { Step::Creep } else { Step::Grow }
    }

    fn is_late(&mut self, delay: Option<Duration>) -> bool {
        let Some(delay) = delay else { return false };
        let least = self.least_delay.map_or(delay, |least| least.min(delay));
        self.least_delay = Some(least);
        delay > least + DELAY_RISE_MAX
    }
}

#[cfg(test)]
mod tests;
