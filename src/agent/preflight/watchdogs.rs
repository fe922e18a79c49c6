//! What would reset this machine while its flash is written: all watchdogs, and whether recovery
//! can deal with them.

use std::path::Path;

use super::Purpose;
use crate::agent::check::{Checklist, Subject};
use crate::bmc::watchdog::{Timer, timer_by_helper};
use crate::host::watchdogs::{FED_TIMEOUT_MIN_S, Watchdog, Watchdogs};
use crate::reason::Reason;

const NAME: Subject = Subject::Watchdogs;

/// Lists them. The BMC is not asked for a manager that only looks around: one that hangs takes
/// seconds.
pub(super) fn watchdogs(list: &mut Checklist, root: &Path, purpose: Purpose<'_>) {
    let timer = match purpose {
        Purpose::Query => None,
        Purpose::Check | Purpose::Order(_) => Some(timer_by_helper()),
    };
    tell(list, &Watchdogs::of(root), timer);
}

/// What was found, sorted by what follows from it.
#[derive(Default)]
struct Sorted {
    in_the_way: Vec<String>,
    unknown: Vec<String>,
    running: Vec<String>,
    idle: Vec<String>,
}

fn tell(list: &mut Checklist, found: &Watchdogs, timer: Option<Result<Timer, String>>) {
    let mut sorted = Sorted::default();
    found.shown.iter().for_each(|watchdog| sorted.add(watchdog));
    if found.has_old && !found.is_old_of_bmc {
        let why = "/dev/watchdog has a driver that shows nothing in sysfs; recovery feeds it";
        sorted.unknown.push(why.into());
    }
    sorted.add_bmc(timer, found.is_old_of_bmc);
    let Sorted { in_the_way, unknown, running, idle } = &mut sorted;
    let lines = [in_the_way, unknown, running, idle].map(std::mem::take);
    let [is_bad, is_unknown, is_told, _] = [0, 1, 2, 3].map(|kind: usize| !lines[kind].is_empty());
    let detail = lines.concat().join("; ");
    match (is_bad, is_unknown, is_told) {
        (true, ..) => {
            list.not_ok(NAME, Reason::WatchdogRuns, detail, Reason::WatchdogRuns.advice());
        }
        (_, true, _) => list.unknown(NAME, detail),
        (_, _, true) => list.told(NAME, detail, ""),
        _ if detail.is_empty() => list.ok(NAME, "none"),
        _ => list.ok(NAME, detail),
    }
}

impl Sorted {
    fn add(&mut self, watchdog: &Watchdog) {
        let left = watchdog.left_s.or(watchdog.timeout_s);
        let left = left.map_or_else(String::new, |seconds| format!(", {seconds} s left"));
        match (watchdog.is_active, watchdog.is_nowayout) {
            (Some(false), Some(false)) => self.idle.push(format!("{watchdog} does not run")),
            (Some(true), Some(false)) => {
                self.running.push(format!("{watchdog} runs{left}: recovery stops it"));
            }
            (None, Some(false)) => {
                self.unknown.push(format!("{watchdog} may run: recovery stops it"));
            }
            (_, None) => {
                let what = "may not let itself be stopped: recovery feeds it";
                self.unknown.push(format!("{watchdog} {what}"));
            }
            (is_active, Some(true)) => match watchdog.max_timeout_s {
                Some(longest) if longest < FED_TIMEOUT_MIN_S => self.in_the_way.push(format!(
                    "{watchdog} cannot be stopped, and its longest time is {longest} s, less than \
                    {FED_TIMEOUT_MIN_S} s"
                )),
                _ => {
                    let does = if is_active == Some(false) { "does not run" } else { "runs" };
                    let what = "cannot be stopped: recovery feeds it";
                    self.running.push(format!("{watchdog} {does}{left}, {what}"));
                }
            },
        }
    }

    fn add_bmc(&mut self, timer: Option<Result<Timer, String>>, has_driver: bool) {
        match timer {
            None if has_driver => {
                self.running
                    .push("the BMC's has a driver (ipmi_watchdog): recovery stops it".into());
            }
            None | Some(Ok(Timer::None)) => {}
            Some(Ok(Timer::NoBmc)) if has_driver => {
                self.unknown.push("the BMC's has a driver, but no /dev/ipmi0 to ask".into());
            }
            Some(Ok(Timer::NoBmc)) => {}
            Some(Ok(Timer::State(state))) if state.is_running => {
                self.running.push(format!("the BMC's {state}: recovery stops it"));
            }
            Some(Ok(Timer::State(state))) => self.idle.push(format!("the BMC's {state}")),
            Some(Err(why)) => {
                let then = "recovery asks again, and refuses if it may run on";
                self.unknown.push(format!("the BMC's cannot be asked ({why}); {then}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::check::Verdict;

    fn watchdog(is_active: bool, is_nowayout: bool, max_timeout_s: Option<u32>) -> Watchdog {
        Watchdog {
            name: "watchdog1".into(),
            identity: "odd".into(),
            is_active: Some(is_active),
            is_nowayout: Some(is_nowayout),
            timeout_s: Some(30),
            max_timeout_s,
            left_s: Some(17),
        }
    }

    fn told(found: &Watchdogs, timer: Option<Result<Timer, String>>) -> (Verdict, String) {
        let mut list = Checklist::default();
        tell(&mut list, found, timer);
        let check = list.checks()[0].clone();
        assert_eq!(check.reason == Reason::WatchdogRuns, check.verdict == Verdict::NotOk);
        (check.verdict, check.detail)
    }

    fn shown(shown: &[Watchdog]) -> Watchdogs {
        Watchdogs { shown: shown.to_vec(), ..Watchdogs::default() }
    }

    #[test]
    fn each_is_listed_with_what_recovery_does_about_it() {
        let none = Some(Ok(Timer::NoBmc));
        assert_eq!(told(&shown(&[]), none.clone()), (Verdict::Ok, "none".into()));
        for (one, verdict, detail) in [
            (watchdog(false, false, None), Verdict::Ok, "watchdog1 (odd) does not run"),
            (
                watchdog(true, false, Some(5)),
                Verdict::Told,
                "watchdog1 (odd) runs, 17 s left: recovery stops it",
            ),
            (
                watchdog(true, true, Some(2046)),
                Verdict::Told,
                "watchdog1 (odd) runs, 17 s left, cannot be stopped: recovery feeds it",
            ),
            (
                watchdog(true, true, Some(19)),
                Verdict::NotOk,
                "watchdog1 (odd) cannot be stopped, and its longest time is 19 s, less than 20 s",
            ),
        ] {
            assert_eq!(told(&shown(&[one]), none.clone()), (verdict, detail.into()));
        }
        // The worst decides, and all are told.
        let both = [watchdog(true, false, None), watchdog(true, true, Some(1))];
        let (verdict, detail) = told(&shown(&both), none);
        assert_eq!((verdict, detail.matches("watchdog1").count()), (Verdict::NotOk, 2));
    }

    #[test]
    fn what_is_not_understood_is_unknown_and_named() {
        let mut odd = watchdog(true, false, None);
        odd.is_active = None;
        let mut older = watchdog(true, true, Some(2));
        older.is_nowayout = None;
        for one in [odd, older] {
            let (verdict, detail) = told(&shown(&[one]), Some(Ok(Timer::NoBmc)));
            assert_eq!(verdict, Verdict::Unknown);
            assert!(detail.contains("watchdog1 (odd) may"), "{detail}");
        }
        let old = Watchdogs { has_old: true, ..Watchdogs::default() };
        assert_eq!(told(&old, None).0, Verdict::Unknown);
        let (verdict, detail) = told(&shown(&[]), Some(Err("it hangs".into())));
        assert_eq!(verdict, Verdict::Unknown);
        assert!(detail.contains("the BMC's cannot be asked (it hangs)"), "{detail}");
    }

    #[test]
    fn the_bmcs_is_told_when_it_runs() {
        let state = |text| Some(Timer::parse(text));
        let running = "44010000b0040b02";
        assert_eq!(
            told(&shown(&[]), state(running)),
            (
                Verdict::Told,
                "the BMC's runs, 52 of 120 s left, then reset: recovery stops it".into()
            )
        );
        assert_eq!(
            told(&shown(&[]), state("04010000b0040b02")),
            (Verdict::Ok, "the BMC's does not run".into())
        );
        let driver = Watchdogs { has_old: true, is_old_of_bmc: true, ..Watchdogs::default() };
        assert_eq!(told(&driver, None).0, Verdict::Told);
        assert_eq!(told(&driver, Some(Ok(Timer::NoBmc))).0, Verdict::Unknown);
    }
}
