use super::*;
use crate::model::{Attempt, Drain, RolloutState, WaveState};
use crate::picture::host::HostPicture;
use crate::picture::mark::Mark;
use crate::picture::samples::{NOON, Sample, attempt, seen};
use crate::picture::seen::{Seen, last_of_each, not_undrained};
use crate::rollout::samples::host;

/// What is said first, and what may be typed.
fn first(sample: &Sample, now: Stamp) -> (String, String) {
    let next = RolloutPicture::new(&seen(sample), now).next.remove(0);
    (next.words, next.command.unwrap_or_default())
}

#[test]
fn what_happens_next_is_said_with_the_time_and_the_command() {
    use WaveState::{AwaitsApproval, Finished, Running, Soaking, Waiting};
    // Berlin opens at 22:00, Austin at 23:00 a day later, Kiel has no window.
    let places = vec![(0, 1, 0), (2, 1, 0), (0, 1, 4)];
    let waits = Sample { state: RolloutState::Scheduled, places, ..Sample::default() };
    let (words, _) = first(&waits, NOON);
    assert_eq!(
        words,
        "1 host at site austin wait for the window: it opens Fri 2026-01-02 23:00 \
         (America/Chicago), in 17 h"
    );
    let ready = Sample { state: RolloutState::Ready, ..Sample::default() };
    assert_eq!(first(&ready, NOON).1, "firmcast-fleet rollout start winter");

    let soaks = Sample { waves: [Soaking, Waiting, Waiting], ..Sample::default() };
    let told = "wave canary soaks until Fri 2026-01-02 12:29 UTC, in 29 min";
    assert_eq!(first(&soaks, NOON).0, told);
    let late = NOON + 1_800_000_000;
    assert!(first(&soaks, late).0.contains("each confirmed host is looked at, until Fri"));

    let asks = Sample { waves: [Finished, AwaitsApproval, Waiting], ..Sample::default() };
    let (words, typed) = first(&asks, NOON);
    assert_eq!(words, "waits for the approval of wave tenth by somebody else than ann");
    assert_eq!(typed, "firmcast-fleet rollout approve --key FILE winter tenth");

    let places = vec![(1, 1, 3), (1, 1, 2), (1, 2, 0), (1, 2, 0), (1, 2, 0), (1, 2, 4)];
    let runs = Sample { waves: [Running, Waiting, Waiting], places, ..Sample::default() };
    let told = "wave canary: 2 in flight, 3 hosts wait; done at about Fri 2026-01-02 12:30 UTC, \
                in 30 min, if each takes 10 min and as many go on at a time";
    assert_eq!(first(&runs, NOON).0, told);
    let silent = RolloutPicture::new(&seen(&runs), NOON + 60_000_000).next;
    assert!(silent.iter().any(|next| next.words.contains("workers of 2 hosts are silent")));

    let reason = "2 of 3 hosts failed in rack \"berlin/r1\"; the limit is 2";
    let places = vec![(1, 1, 3), (1, 1, 5), (1, 1, 6)];
    let paused = Sample { state: RolloutState::Paused, reason, places, ..Sample::default() };
    let picture = RolloutPicture::new(&seen(&paused), NOON);
    let typed: Vec<_> = picture.next.iter().filter_map(|next| next.command.as_deref()).collect();
    let deeds =
        ["resume", "abort", "retry"].map(|deed| format!("firmcast-fleet rollout {deed} winter"));
    assert_eq!(typed, deeds);
    assert!(picture.next[0].words.contains(reason), "{picture:?}");
    assert_eq!(picture.headline.progress.words(), "2 failed, 1 in flight");
    assert_eq!(picture.waves[0].progress, picture.headline.progress);
}

#[test]
fn hosts_that_no_window_is_long_enough_for_are_told_beside_those_that_wait() {
    let places = vec![(0, 1, 0), (0, 1, 0), (0, 1, 0)];
    let mut seen = seen(&Sample { places, ..Sample::default() });
    // Berlin is open for seven hours.
    seen.attempts[1].predicted_s = 7 * 3600 + 60;
    seen.attempts[2].predicted_s = 9 * 3600;
    let next = RolloutPicture::new(&seen, NOON).next;
    let told = "2 hosts at site berlin never begin, h1 among them: no window is long enough for \
                the 7 h 1 min that it may take";
    assert!(next[0].words.starts_with(told), "{next:?}");
    assert!(next[1].words.starts_with("1 host at site berlin wait for the window"), "{next:?}");
    let tried = vec![("winter".to_owned(), seen.attempts[1].clone())];
    let host = HostPicture::new(host("h1", "berlin", "r1", "a"), tried, NOON).that_never_begins();
    assert!(host.advice.starts_with("it never begins: no window of its site"), "{host:?}");
}

#[test]
fn where_no_worker_runs_that_is_said_and_elsewhere_it_is_a_limit() {
    let places = vec![(4, 1, 0), (1, 1, 2)];
    let alone = Sample { places: places.clone(), workers: vec![1], ..Sample::default() };
    let next = &RolloutPicture::new(&seen(&alone), NOON).next[0];
    let typed = next.command.as_deref();
    assert_eq!(typed, Some("firmcast-fleet work --key FILE --site=$'-\\x1b\\''"), "{next:?}");
    assert!(next.words.contains("no worker runs there"), "{next:?}");
    let there = seen(&Sample { places, ..Sample::default() });
    let next = &RolloutPicture::new(&there, NOON).next[0];
    assert!(next.words.contains("a limit is full") && next.command.is_none(), "{next:?}");
    // What was seen a minute ago is gone.
    let next = &RolloutPicture::new(&there, NOON + 60_000_000).next[0];
    assert!(next.words.contains("no worker runs there"), "{next:?}");
}

#[test]
fn a_site_whose_workers_all_lack_the_bundle_waits_for_it_and_says_why() {
    let places = vec![(1, 1, 0), (1, 1, 0), (1, 1, 4)];
    let mut seen = seen(&Sample { places, ..Sample::default() });
    let release = seen.found.rollout.release.clone();
    let kiel = seen.workers.iter_mut().find(|worker| worker.site == "kiel").expect("a worker");
    kiel.waits_for = "bundle 00ff: it is not in the store".to_owned();
    kiel.lacking = vec!["0a".to_owned(), release];
    let told = "2 hosts at site kiel wait for the bundle: worker worker of kiel waits for bundle \
                00ff: it is not in the store";
    let words = |seen: &Seen| -> Vec<String> {
        RolloutPicture::new(seen, NOON).next.into_iter().map(|next| next.words).collect()
    };
    assert_eq!(words(&seen), [told], "and no limit is blamed");
    seen.found.rollout.state = RolloutState::Paused;
    assert_eq!(words(&seen).last().map(String::as_str), Some(told));
    seen.found.rollout.state = RolloutState::Running;
    // Another worker there has it.
    let mut other = seen.workers.iter().find(|worker| worker.site == "kiel").cloned();
    other.as_mut().expect("a worker").lacking.clear();
    seen.workers.extend(other);
    assert!(words(&seen)[0].contains("a limit is full"), "{seen:?}");
}

#[test]
fn hosts_that_may_get_no_load_are_named_with_the_program_that_undrains_them() {
    let tried = |retry: u32, state, drain| {
        let id = i64::from(retry) + 1;
        Attempt { id, retry, drain, ..attempt(0, 1, state) }
    };
    let (confirmed, planned, failed) = (4, 0, 5);
    let first = tried(0, failed, Drain::UndrainFailed);
    let of = |attempts: &[Attempt]| not_undrained(attempts).len();
    assert_eq!(of(&[first.clone(), tried(1, planned, Drain::NotStarted)]), 1);
    assert_eq!(of(&[first.clone(), tried(1, failed, Drain::Started)]), 0, "undrain is due");
    assert_eq!(of(&[first, tried(1, confirmed, Drain::Undrained)]), 0);

    let places = vec![(1, 1, confirmed)];
    let mut seen = seen(&Sample { state: RolloutState::Finished, places, ..Sample::default() });
    let file = seen.file.as_mut().expect("the example");
    file.undrain.as_mut().expect("there").run =
        ["balancer", "undrain", "{host}", "{version}", "{outcome}"].map(str::to_owned).to_vec();
    seen.not_undrained = vec![tried(1, confirmed, Drain::UndrainFailed); 25];
    let next = RolloutPicture::new(&seen, NOON).next;
    let told = "undrain failed for h0, which may get no load; on the machine of worker w1";
    assert_eq!(next[1].words, told);
    assert_eq!(next[1].command.as_deref(), Some("balancer undrain h0 2.1.0 confirmed"));
    assert!(next.last().expect("more").words.contains("5 hosts more"), "{next:?}");
}

#[test]
fn of_a_host_that_was_tried_again_the_last_try_counts() {
    let failed = attempt(0, 0, 5);
    let again = Attempt { id: 7, retry: 1, ..attempt(0, 0, 4) };
    let other = attempt(1, 0, 5);
    let last = last_of_each([failed.clone(), again.clone(), other.clone()]);
    assert_eq!(last, [again.clone(), other]);

    let tried = |attempts: &[&Attempt]| {
        let tried = attempts.iter().map(|each| ("winter".to_owned(), (*each).clone()));
        HostPicture::new(host("h0", "berlin", "r1", "a"), tried.collect(), NOON)
    };
    let mixed = tried(&[&failed]);
    assert_eq!((mixed.mark, mixed.flash.reset_is_safe), (Some(Mark::Unsafe), Some(false)));
    assert_eq!(mixed.flash.reset, "not safe: leave the host on");
    assert!(mixed.advice.starts_with("see the detail for the failing block"), "{mixed:?}");
    assert_eq!(mixed.command.as_deref(), Some("firmcast-fleet rollout retry winter"));

    let well = tried(&[&again, &failed]);
    assert_eq!((well.mark, well.flash.reset_is_safe), (Some(Mark::Confirmed), Some(true)));
    assert_eq!((well.advice.as_str(), well.command), ("", None));
    // It may be written again at this moment.
    let begun = tried(&[&attempt(0, 0, 1), &again]);
    assert_eq!(begun.flash.reset_is_safe, Some(false), "{begun:?}");
}
