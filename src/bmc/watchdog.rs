//! This computer's BMC and its watchdog timer: looked at, fed, stopped.

use std::io;

use super::BmcError;
use super::device::Device;
use super::timer::{self, TimerState};
use crate::helper;

/// How long one of these calls takes at most: a BMC answers within some 10 ms, or hangs.
const LIMIT_MS: u64 = 5_000;

/// Asks for the timer; none where there is no BMC, or one without a timer.
///
/// # Errors
/// The BMC does not answer, or its answer makes no sense.
pub fn timer() -> Result<Option<TimerState>, BmcError> {
    match Device::open(LIMIT_MS) {
        Ok(mut device) => timer::state(&mut device),
        Err(BmcError::NoDevice { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether there is a BMC to ask.
pub fn is_there() -> bool {
    !matches!(Device::open(LIMIT_MS), Err(BmcError::NoDevice { .. }))
}

/// Lets the timer begin anew.
///
/// # Errors
/// The BMC does not answer, or refuses.
pub fn feed_timer() -> Result<(), BmcError> {
    timer::feed(&mut Device::open(LIMIT_MS)?)
}

/// Gives the timer this time, and lets it begin anew.
///
/// # Errors
/// As [`feed_timer`].
pub fn set_timer(state: &TimerState, timeout_s: u16) -> Result<(), BmcError> {
    timer::set_timeout(&mut Device::open(LIMIT_MS)?, state, timeout_s)
}

/// Stops the timer, if there is one.
///
/// # Errors
/// It runs on, or the BMC does not tell.
pub fn stop_timer() -> Result<(), BmcError> {
    match Device::open(LIMIT_MS) {
        Ok(mut device) => timer::stop(&mut device),
        Err(BmcError::NoDevice { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks the [`helper`] for the timer, or does so by itself where there is none.
///
/// # Errors
/// Why nobody knows, in words.
pub fn timer_by_helper() -> Result<Timer, String> {
    match helper::ask("bmc-timer", &[]) {
        Some(Ok(answer)) => Timer::parse(&answer.text),
        Some(Err(error)) => Err(error.to_string()),
        None => Timer::parse(&timer_answer().map_err(|error| error.to_string())?),
    }
}

/// Answers the question `bmc-timer`: `none`, `no-timer`, or the bytes of the BMC's answer in
/// hexadecimal, which the asking process reads itself.
///
/// # Errors
/// The BMC does not answer.
pub fn timer_answer() -> io::Result<String> {
    let answer = match Device::open(LIMIT_MS) {
        Ok(mut device) => timer::answer(&mut device),
        Err(BmcError::NoDevice { .. }) => return Ok("none".into()),
        Err(error) => Err(error),
    };
    match answer.map_err(|error| io::Error::other(error.in_full()))? {
        None => Ok("no-timer".into()),
        Some(data) => {
            Ok(data.iter().take(ANSWER_BYTES).map(|byte| format!("{byte:02x}")).collect())
        }
    }
}

/// What is passed on of an answer.
const ANSWER_BYTES: usize = 8;

/// The BMC's timer as the operating system sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No BMC is shown.
    NoBmc,
    /// The BMC has no timer.
    None,
    /// The timer.
    State(TimerState),
}

impl Timer {
    /// Parses what the helper has answered.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::NoBmc),
            "no-timer" => return Ok(Self::None),
            _ => {}
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte =
            |at: usize| u8::from_str_radix(text.get(at..at + 2).filter(|_| is_hex)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        let bytes = bytes.ok_or("the helper's answer is not understood")?;
        TimerState::parse(&bytes).map(Self::State).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_helper_says_is_understood_or_told() {
        assert_eq!(Timer::parse("none"), Ok(Timer::NoBmc));
        assert_eq!(Timer::parse("no-timer"), Ok(Timer::None));
        let Ok(Timer::State(state)) = Timer::parse("44010000b0040b02") else { panic!() };
        assert_eq!(state.to_string(), "runs, 52 of 120 s left, then reset");
        for text in ["", "44", "4", "44010000b0040b0", "zz010000b0040b02", "ää", "+1010000b0040b02"]
        {
            assert!(Timer::parse(text).is_err(), "{text}");
        }
    }
}
