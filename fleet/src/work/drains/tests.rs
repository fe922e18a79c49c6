use super::guest::CUT_OFF;
use super::*;
use crate::model::{AttemptState, DRAINING, Drain};

const FILE: &str = r#"
name = "winter"
release = "2.0"
hosts = "all"

[[wave]]
name = "all"
rest = true

[limits]
in-flight = []
failures = []

[drain]
run = ["/lb", "drain", "{host}"]
within = "40 s"

[undrain]
run = ["/lb", "undrain", "{host}", "{outcome}"]
within = "20 s"
"#;

/// Hosts that are drained, and the programs that run for them, by number.
struct Hall {
    drains: Drains,
    script: Script,
    last_number: u64,
}

impl Hall {
    /// The hosts host1, host2 and so on wait to be drained, in one batch.
    fn with(hosts: i64) -> Self {
        let script = Script::new(FILE, "winter".to_owned(), "2.0".to_owned());
        let mut hall = Self { drains: Drains::default(), script, last_number: 0 };
        hall.drains.wait(1, (1..=hosts).map(|id| (format!("host{id}"), id)).collect());
        hall
    }

    /// Starts all programs that are due: returns each with its deadline in seconds.
    fn start(&mut self) -> Vec<(String, u32)> {
        let due = [self.drains.next_drains(), self.drains.next_undrains()].concat();
        let mut started = Vec::new();
        for Due { attempt, .. } in due {
            self.last_number += 1;
            let program = self.drains.start(attempt, &self.script, "site", self.last_number);
            started.extend(program.map(|program| (program.argv.join(" "), program.within_s)));
        }
        started
    }

    /// Who is reported now, and forgotten.
    fn leave(&mut self) -> Vec<Left> {
        let left = self.drains.left();
        left.iter().for_each(|left| self.drains.forget(left.attempt));
        left
    }
}

fn failed(words: &str) -> ProgramEnd {
    ProgramEnd::Failed(words.to_owned())
}

fn end(reason: &str, flash: &str) -> HostEnd {
    let (confirmed, detail) = (reason == "confirmed", "why".to_owned());
    HostEnd { confirmed, reason: reason.to_owned(), flash: flash.to_owned(), detail }
}

/// A host in flight whose drain programs are so far, and what it came to.
fn attempt(drain: Drain, stage: &str, end: Option<HostEnd>) -> Attempt {
    let (reason, flash, detail) =
        end.map_or_else(Default::default, |end| (Some(end.reason), Some(end.flash), end.detail));
    Attempt {
        id: 1,
        rollout: 1,
        wave: 0,
        position: 0,
        host: "host1".to_owned(),
        site: "site".to_owned(),
        predicted_s: 600,
        retry: 0,
        state: AttemptState::InFlight,
        stage: Some(stage.to_owned()),
        worker: Some("worker".to_owned()),
        lease_until: Some(0),
        reason,
        flash,
        detail,
        started_at: Some(0),
        ended_at: None,
        drain,
        look: None,
    }
}

#[test]
fn those_of_a_batch_that_were_drained_in_time_leave_together_and_the_others_are_not_touched() {
    let mut hall = Hall::with(3);
    let started = hall.start();
    assert_eq!(started[0], ("/lb drain host1".to_owned(), 40), "its deadline");
    assert_eq!((started.len(), hall.start()), (3, Vec::new()));
    hall.drains.finish(1, ProgramEnd::Done);
    hall.drains.finish(2, failed("took longer than 40 s"));
    assert_eq!(hall.start(), [("/lb undrain host2 untouched".to_owned(), 20)]);
    assert_eq!(hall.drains.complete(), [], "the third still drains");
    hall.drains.finish(3, ProgramEnd::Done);
    let together = hall.drains.complete();
    let hosts = [("host1".to_owned(), 1), ("host3".to_owned(), 3)].into();
    assert_eq!(together, [Batch { rollout: 1, hosts }]);
    hall.drains.leave(&together[0]);
    assert_eq!(hall.drains.complete(), []);

    hall.drains.finish(4, failed("status 1"));
    let fate = Fate::Ended(HostEnd {
        detail: "took longer than 40 s".to_owned(),
        ..end("drain-failed", "untouched")
    });
    let failure = Some("status 1".to_owned());
    assert_eq!(hall.leave(), [Left { attempt: 2, fate, failure }]);
    assert_eq!(hall.drains.end(1, end("confirmed", "updated")), None, "it is undrained first");
    assert_eq!(hall.start(), [("/lb undrain host1 confirmed".to_owned(), 20)]);
    assert_eq!(hall.drains.end(2, end("x", "y")), Some(end("x", "y")), "it is gone");
}

#[test]
fn what_the_end_of_leases_cuts_off_is_no_failure_and_the_host_may_be_drained_anew() {
    let mut hall = Hall::with(1);
    hall.start();
    hall.drains.finish(1, ProgramEnd::CutOff);
    assert_eq!(hall.drains.end_of(1), None, "it has not ended");
    for _ in 0..2 {
        let undrain = "/lb undrain host1 untouched".to_owned();
        assert_eq!(hall.start(), [(undrain, 20)]);
        assert_eq!(hall.leave(), []);
        hall.drains.finish(hall.last_number, ProgramEnd::CutOff);
    }
    hall.start();
    hall.drains.finish(hall.last_number, ProgramEnd::Done);
    let back = Left { attempt: 1, fate: Fate::Back(CUT_OFF), failure: None };
    assert_eq!(hall.leave(), [back]);

    hall.drains.wait(1, [("host1".to_owned(), 1)].into());
    assert_eq!(hall.drains.recall(Some(2), HALTED), (vec![], vec![]), "another rollout");
    assert_eq!(hall.drains.recall(Some(1), HALTED), (vec![1], vec![]), "nothing was started anew");
    hall.drains.wait(1, [("host1".to_owned(), 1)].into());
    assert_eq!(hall.start(), [("/lb drain host1".to_owned(), 40)]);
}

#[test]
fn who_is_called_back_is_undrained_whatever_drain_came_to_and_the_others_go_on() {
    for ended in [ProgramEnd::Done, ProgramEnd::CutOff, failed("told to end")] {
        let mut hall = Hall::with(2);
        hall.start();
        hall.drains.finish(2, ProgramEnd::Done);
        assert_eq!(hall.drains.recall(None, STOPPED), (vec![], vec![1]));
        assert_eq!(hall.drains.recall(None, HALTED), (vec![], vec![]), "it is told once");
        hall.drains.finish(1, ended);
        assert_eq!(hall.start().len(), 2);
        [3, 4].into_iter().for_each(|number| hall.drains.finish(number, ProgramEnd::Done));
        assert!(hall.leave().iter().all(|left| left.fate == Fate::Back(STOPPED)));
    }
    let mut hall = Hall::with(1);
    hall.start();
    hall.drains.finish(1, ProgramEnd::Done);
    hall.drains.leave(&hall.drains.complete()[0]);
    assert_eq!(hall.drains.recall(None, STOPPED), (vec![], vec![]));
    assert_eq!(hall.start(), [], "its campaign has it");
    assert!(!hall.drains.send_back(1), "it may have been touched");
}

#[test]
fn a_host_that_was_taken_over_is_undrained_as_far_as_that_is_due() {
    let confirmed = || Some(end("confirmed", "updated"));
    let over = |attempt: &Attempt| {
        let mut hall = Hall::with(0);
        (hall.drains.take_over(attempt), hall)
    };
    for drain in [Drain::Undrained, Drain::UndrainFailed] {
        let (taken, mut hall) = over(&attempt(drain, "undraining", confirmed()));
        assert_eq!((taken, hall.start()), (Taken::Report(confirmed().expect("one")), vec![]));
    }
    let (taken, mut hall) = over(&attempt(Drain::Undraining, "undraining", confirmed()));
    assert_eq!(taken, Taken::Undrain);
    assert_eq!(hall.start(), [("/lb undrain host1 confirmed".to_owned(), 20)]);
    hall.drains.finish(1, ProgramEnd::Done);
    let fate = Fate::Ended(confirmed().expect("one"));
    assert_eq!(hall.leave(), [Left { attempt: 1, fate, failure: None }]);

    let (taken, mut hall) = over(&attempt(Drain::Started, "flashing", None));
    assert_eq!((taken, hall.start()), (Taken::Look, vec![]));
    assert!(!hall.drains.send_back(1), "a campaign had it");
    hall.drains.end(1, end("host-unreachable", "unknown"));
    assert_eq!(hall.start(), [("/lb undrain host1 failed".to_owned(), 20)]);

    let (_, mut hall) = over(&attempt(Drain::Started, DRAINING, None));
    assert!(hall.drains.send_back(1), "no campaign had it");
    assert_eq!(hall.start(), [("/lb undrain host1 untouched".to_owned(), 20)]);
    let (_, mut hall) = over(&attempt(Drain::Started, DRAINING, None));
    hall.drains.wait(1, [("host1".to_owned(), 1)].into());
    assert_eq!(hall.drains.recall(None, HALTED), (vec![], vec![]), "drain was started before");
    assert_eq!(hall.start(), [("/lb undrain host1 untouched".to_owned(), 20)]);
    let (taken, hall) = over(&attempt(Drain::NotStarted, "connect", None));
    assert_eq!((taken, hall.drains.attempts().count()), (Taken::Look, 0));
}

#[test]
fn no_more_programs_run_at_a_time_than_the_limits_say() {
    let mut hall = Hall::with(40);
    assert_eq!((hall.drains.room(), hall.start().len()), (0, DRAINS_AT_ONCE_MAX));
    assert_eq!((hall.start().len(), hall.drains.are_busy()), (0, true));
    (1..=32).for_each(|number| hall.drains.finish(number, failed("no")));
    // The other eight are drained, and those that were refused are undrained.
    assert_eq!(hall.start().len(), 8 + UNDRAINS_AT_ONCE_MAX);
    assert_eq!((hall.drains.room(), hall.start().len()), (DRAINS_AT_ONCE_MAX - 8, 0));
    let kept = |attempt| attempt % 2 == 0;
    assert_eq!(hall.drains.retain(kept).len(), 20, "programs of hosts whose leases are lost");
    assert_eq!(hall.drains.attempts().count(), 20);
}
