//! The BMC's own watchdog timer (IPMI v2.0, section 27): it resets the host unless it is fed.

use super::BmcError;
use super::commands::too_short;
use super::completion::NO_SUCH_COMMAND;
use super::message::{Ipmi, Request, ask};

const NETFN_APP: u8 = 0x06;
const GET: &str = "Get Watchdog Timer";

/// Bit 6 of the first byte: the timer runs.
const RUNS: u8 = 0x40;
/// Bit 7 of the first byte: an expiry is not logged.
const DO_NOT_LOG: u8 = 0x80;
/// Timer use "SMS/OS" (section 27.6).
const USE_OS: u8 = 4;
/// What the timer counts in.
const TICKS_PER_SECOND: u16 = 10;

/// What the BMC says of its timer (section 27.7).
///
/// | byte | field                                                            |
/// | ---- | ---------------------------------------------------------------- |
/// | 0    | bit 7: do not log; bit 6: runs; bits 2-0: who uses it            |
/// | 1    | bits 6-4: interrupt before it; bits 2-0: what it does in the end |
/// | 2    | seconds from that interrupt to the end                           |
/// | 3    | for which uses it has expired                                    |
/// | 4-5  | begin of the countdown, in 100 ms, least significant first       |
/// | 6-7  | what is left of it                                               |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerState {
    /// Whether it counts down.
    pub is_running: bool,
    timer_use: u8,
    actions: u8,
    pretimeout_s: u8,
    initial: u16,
    left: u16,
}

impl TimerState {
    /// Parses the data of an answer to Get Watchdog Timer; what is longer is ignored.
    ///
    /// # Errors
    /// [`BmcError::Garbled`].
    pub fn parse(data: &[u8]) -> Result<Self, BmcError> {
        let [timer_use, actions, pretimeout_s, _, begin @ ..] = data else {
            return Err(too_short(GET, 8, data));
        };
        let [i0, i1, l0, l1, ..] = *begin else { return Err(too_short(GET, 8, data)) };
        Ok(Self {
            is_running: timer_use & RUNS != 0,
            timer_use: timer_use & 7,
            actions: *actions,
            pretimeout_s: *pretimeout_s,
            initial: u16::from_le_bytes([i0, i1]),
            left: u16::from_le_bytes([l0, l1]),
        })
    }

    /// Seconds from a feed to the end.
    pub fn timeout_s(&self) -> u16 {
        self.initial / TICKS_PER_SECOND
    }

    /// Seconds that are left.
    pub fn left_s(&self) -> u16 {
        self.left / TICKS_PER_SECOND
    }

    /// What happens to the host in the end.
    pub fn action(&self) -> &'static str {
        match self.actions & 7 {
            0 => "nothing",
            1 => "reset",
            2 => "power down",
            3 => "power cycle",
            _ => "an unknown action",
        }
    }
}

impl std::fmt::Display for TimerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_running {
            true => {
                let (timeout_s, left_s, action) = (self.timeout_s(), self.left_s(), self.action());
                write!(f, "runs, {left_s} of {timeout_s} s left, then {action}")
            }
            false => f.write_str("does not run"),
        }
    }
}

/// Asks for the timer; none where this BMC has no such command.
///
/// # Errors
/// The BMC does not answer, or its answer makes no sense.
pub(super) fn state(ipmi: &mut dyn Ipmi) -> Result<Option<TimerState>, BmcError> {
    answer(ipmi)?.map(|data| TimerState::parse(&data)).transpose()
}

/// The data of the BMC's answer; none where it has no such command.
pub(super) fn answer(ipmi: &mut dyn Ipmi) -> Result<Option<Vec<u8>>, BmcError> {
    match ask(ipmi, &request(GET, 0x25, vec![])) {
        Ok(data) => Ok(Some(data)),
        Err(BmcError::Refused { code: NO_SUCH_COMMAND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets a timer that runs begin anew.
///
/// # Errors
/// The BMC does not answer, or refuses.
pub(super) fn feed(ipmi: &mut dyn Ipmi) -> Result<(), BmcError> {
    ask(ipmi, &request("Reset Watchdog Timer", 0x22, vec![])).map(drop)
}

/// Gives a timer that runs this time, and lets it begin anew.
///
/// # Errors
/// As [`feed`].
pub(super) fn set_timeout(
    ipmi: &mut dyn Ipmi,
    state: &TimerState,
    timeout_s: u16,
) -> Result<(), BmcError> {
    let [low, high] = timeout_s.saturating_mul(TICKS_PER_SECOND).to_le_bytes();
    let TimerState { timer_use, actions, pretimeout_s, .. } = *state;
    set(ipmi, vec![timer_use, actions, pretimeout_s, 0, low, high])?;
    feed(ipmi)
}

/// Stops the timer, and asks whether it does not run any more. A BMC without such a timer has
/// none to stop.
///
/// # Errors
/// It runs on, or the BMC does not tell.
pub(super) fn stop(ipmi: &mut dyn Ipmi) -> Result<(), BmcError> {
    let before = match state(ipmi) {
        Ok(None) => return Ok(()),
        Ok(Some(state)) if !state.is_running => return Ok(()),
        Ok(Some(state)) => Some(state),
        // Whatever it said: a stop does no harm.
        Err(error) if error.is_about_one_request() => None,
        Err(error) => return Err(error),
    };
    let [low, high] = before.map_or(u16::MAX, |state| state.initial).to_le_bytes();
    // A Set without bit 6 stops the timer; the action "nothing" is for one that ignores that.
    set(ipmi, vec![DO_NOT_LOG | USE_OS, 0, 0, 0, low, high])?;
    match state(ipmi)? {
        Some(state) if state.is_running => Err(BmcError::TimerRuns),
        _ => Ok(()),
    }
}

/// Set Watchdog Timer (section 27.6): the first six bytes as in the table above, but bit 6 of the
/// first one lets a timer that runs run on.
fn set(ipmi: &mut dyn Ipmi, data: Vec<u8>) -> Result<(), BmcError> {
    ask(ipmi, &request("Set Watchdog Timer", 0x24, data)).map(drop)
}

fn request(name: &'static str, command: u8, data: Vec<u8>) -> Request {
    Request { name, netfn: NETFN_APP, command, data }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bmc::Response;

    /// A BMC with this timer, which may ignore stops.
    struct Bmc {
        timer: Option<[u8; 8]>,
        ignores_stops: bool,
        garbles: bool,
        asked: Vec<(u8, Vec<u8>)>,
    }

    impl Bmc {
        fn new(timer: Option<[u8; 8]>) -> Self {
            Self { timer, ignores_stops: false, garbles: false, asked: Vec::new() }
        }
    }

    impl Ipmi for Bmc {
        fn request(&mut self, request: &Request) -> Result<Response, BmcError> {
            assert_eq!(request.netfn, 6);
            self.asked.push((request.command, request.data.clone()));
            let Some(timer) = &mut self.timer else {
                return Ok(Response { code: 0xc1, data: vec![] });
            };
            let mut data = vec![];
            match (request.command, request.data.as_slice()) {
                (0x25, []) if std::mem::take(&mut self.garbles) => data = vec![1, 2],
                (0x25, []) => data = timer.to_vec(),
                (0x24, [timer_use, actions, pre, _, low, high]) => {
                    let running = if self.ignores_stops { timer[0] & RUNS } else { 0 };
                    *timer = [timer_use | running, *actions, *pre, 0, *low, *high, *low, *high];
                }
                (0x22, []) => {
                    timer[0] |= RUNS;
                    timer.copy_within(4..6, 6);
                }
                other => panic!("{other:?}"),
            }
            Ok(Response { code: 0, data })
        }

        fn pause(&mut self, _: u64) {}
    }

    /// As the kernel's ipmi_watchdog leaves it at a kexec: 120 s, then reset.
    const KEXEC: [u8; 8] = [0x44, 0x01, 0, 0, 0xb0, 0x04, 0x0b, 0x02];

    #[test]
    fn the_answer_is_read_by_the_specification() {
        let state = TimerState::parse(&KEXEC).unwrap();
        assert_eq!((state.is_running, state.timeout_s(), state.left_s()), (true, 120, 52));
        assert_eq!(state.to_string(), "runs, 52 of 120 s left, then reset");
        assert!(TimerState::parse(&[&KEXEC[..], &[9]].concat()).is_ok());
        for length in 0..8 {
            let error = TimerState::parse(&KEXEC[..length]).unwrap_err();
            assert!(error.to_string().contains("expected at least 8"), "{error}");
        }
    }

    #[test]
    fn a_timer_that_runs_is_stopped_and_asked_again() {
        let mut bmc = Bmc::new(Some(KEXEC));
        stop(&mut bmc).unwrap();
        assert!(!state(&mut bmc).unwrap().unwrap().is_running);
        assert_eq!(bmc.asked[1], (0x24, vec![0x84, 0, 0, 0, 0xb0, 0x04]));
        // One that does not run is left alone; a BMC without one is fine.
        let count = bmc.asked.len();
        stop(&mut bmc).unwrap();
        assert_eq!(bmc.asked.len(), count + 1);
        stop(&mut Bmc::new(None)).unwrap();
    }

    #[test]
    fn one_that_runs_on_is_told_and_nonsense_is_no_pass() {
        let mut bmc = Bmc { ignores_stops: true, ..Bmc::new(Some(KEXEC)) };
        assert!(matches!(stop(&mut bmc), Err(BmcError::TimerRuns)));
        let mut bmc = Bmc { garbles: true, ignores_stops: true, ..Bmc::new(Some(KEXEC)) };
        assert!(matches!(stop(&mut bmc), Err(BmcError::TimerRuns)));
        let mut bmc = Bmc { garbles: true, ..Bmc::new(Some(KEXEC)) };
        stop(&mut bmc).unwrap();
        assert_eq!(bmc.timer.unwrap()[0] & RUNS, 0);
    }

    #[test]
    fn a_fed_timer_begins_anew_and_a_short_one_gets_time() {
        let mut bmc = Bmc::new(Some(KEXEC));
        feed(&mut bmc).unwrap();
        let fed = state(&mut bmc).unwrap().unwrap();
        assert_eq!((fed.left_s(), fed.is_running), (120, true));
        set_timeout(&mut bmc, &fed, 300).unwrap();
        let set = state(&mut bmc).unwrap().unwrap();
        assert_eq!((set.left_s(), set.is_running, set.action()), (300, true, "reset"));
        assert_eq!(set.timer_use, 4);
    }
}
