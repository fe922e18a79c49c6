//! What happens next in a rollout, when, and what a person may type.

mod sites;
mod undrains;

use serde::Serialize;

use super::mark::Mark;
use super::progress::Progress;
use super::seen::Seen;
use super::wave::WavePicture;
use super::words::{SECOND_US, command, hosts, span, when, work_command};
use crate::model::{Approval, Attempt, AttemptState, RolloutState, Stamp, Wave, WaveState};

/// One thing that happens next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// What, in words; the time stands there, too.
    pub words: String,
    /// When; none when a person or a host decides that.
    pub at: Option<Stamp>,
    /// What a person may type.
    pub command: Option<String>,
}

impl Next {
    fn said(words: impl Into<String>) -> Self {
        Self { words: words.into(), at: None, command: None }
    }

    fn at(self, at: Stamp) -> Self {
        Self { at: Some(at), ..self }
    }

    fn typed(self, command: String) -> Self {
        Self { command: Some(command), ..self }
    }
}

/// Returns what happens next, the most important first; never nothing.
pub(super) fn next(seen: &Seen, waves: &[WavePicture], now: Stamp) -> Vec<Next> {
    let rollout = &seen.found.rollout;
    let name = rollout.name.as_str();
    let progress = sum(waves);
    let typed = |deed: &str| command(&format!("rollout {deed}"), &[name]);
    let because = match rollout.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let mut next = match rollout.state {
        RolloutState::Ready => {
            vec![Next::said("nobody is touched until it is started").typed(typed("start"))]
        }
        RolloutState::Scheduled | RolloutState::Running => course(seen, waves, now),
        RolloutState::Paused => {
            let words = format!("paused{because}; resumed, its limits count failures anew");
            let mut next = vec![Next::said(words).typed(typed("resume"))];
            next.push(Next::said("or it is ended").typed(typed("abort")));
            next
        }
        RolloutState::Finished => vec![Next::said("every host has ended")],
        RolloutState::Error => vec![Next::said(format!(
            "ended{because}; for the hosts that are left, create a rollout with another name"
        ))],
    };
    let moves = !matches!(rollout.state, RolloutState::Scheduled | RolloutState::Running);
    if progress.in_flight > 0 && moves {
        next.push(Next::said(format!("{} in flight go on to their end", progress.in_flight)));
    }
    if rollout.state == RolloutState::Paused {
        next.extend(sites::bundles(seen, now));
    }
    next.extend(undrains::undrains(seen));
    let can_retry = matches!(rollout.state, RolloutState::Finished | RolloutState::Paused);
    if progress.failed > 0 && can_retry {
        let words = format!("{} failed; they are planned again", hosts(progress.failed));
        next.push(Next::said(words).typed(typed("retry")));
    }
    next.extend(silent(seen, now));
    next
}

fn sum(waves: &[WavePicture]) -> Progress {
    let mut sum = Progress::default();
    for Progress { planned, in_flight, confirmed, failed, skipped } in
        waves.iter().map(|wave| wave.progress)
    {
        sum.planned += planned;
        sum.in_flight += in_flight;
        sum.confirmed += confirmed;
        sum.failed += failed;
        sum.skipped += skipped;
    }
    sum
}

/// What is said of a rollout under way: that of its first wave which is not finished.
fn course(seen: &Seen, waves: &[WavePicture], now: Stamp) -> Vec<Next> {
    let unfinished = |(wave, _): &(&Wave, &WavePicture)| wave.state != WaveState::Finished;
    let found = seen.found.waves.iter().zip(waves).find(unfinished);
    let Some((wave, picture)) = found else {
        return vec![Next::said("every wave is over: a worker finishes the rollout")];
    };
    let is_scheduled = seen.found.rollout.state == RolloutState::Scheduled;
    let mut next = sites::bundles(seen, now);
    match wave.state {
        WaveState::AwaitsApproval => next.insert(0, approval(seen, wave)),
        WaveState::Waiting if wave.approval == Approval::Person => {
            next.insert(0, approval(seen, wave));
        }
        WaveState::Soaking => next.insert(0, soak(seen, wave, now)),
        WaveState::Looking => next.insert(0, looks(seen, wave, wave.since, now)),
        WaveState::Waiting | WaveState::Running | WaveState::Finished => {
            next.extend(sites::sites(seen, wave, now));
            next.extend(estimate(seen, wave, picture, now));
            if next.is_empty() {
                next.push(Next::said(match is_scheduled {
                    true => "a worker begins".to_owned(),
                    false => format!("{} of wave {} go on", picture.progress.in_flight, wave.name),
                }));
            }
        }
    }
    next
}

fn approval(seen: &Seen, wave: &Wave) -> Next {
    let rollout = &seen.found.rollout;
    let of_wave = seen.approvals.iter().filter(|approval| approval.wave == wave.number);
    let by: Vec<&str> = of_wave.map(|approval| approval.by.as_str()).collect();
    if by.is_empty() {
        let words = format!(
            "waits for the approval of wave {} by somebody else than {}",
            wave.name, rollout.created_by
        );
        let typed = command("rollout approve --key FILE", &[&rollout.name, &wave.name]);
        return Next::said(words).typed(typed);
    }
    Next::said(format!(
        "wave {} was approved by {}; a worker checks that: does each know the key by --approver?",
        wave.name,
        by.join(", ")
    ))
}

fn soak(seen: &Seen, wave: &Wave, now: Stamp) -> Next {
    let until = wave.since.saturating_add(i64::from(wave.soak_s) * SECOND_US);
    match until > now {
        true => {
            Next::said(format!("wave {} soaks until {}", wave.name, when(until, now))).at(until)
        }
        false => looks(seen, wave, until, now),
    }
}

/// Confirmed hosts are looked at from a moment on.
fn looks(seen: &Seen, wave: &Wave, from: Stamp, now: Stamp) -> Next {
    let within_s = seen.file.as_ref().map_or(0, |file| file.healthy_within_s);
    let late = from.saturating_add(i64::from(within_s) * SECOND_US);
    let words = format!(
        "wave {} has soaked: each confirmed host is looked at, until {} at the latest",
        wave.name,
        when(late, now)
    );
    Next::said(words).at(late)
}

/// When a wave is over, if it goes on as it does now: as many at a time, each for as long as those
/// that were confirmed took. Windows and failures may make it later.
fn estimate(seen: &Seen, wave: &Wave, picture: &WavePicture, now: Stamp) -> Option<Next> {
    let Progress { planned, in_flight, .. } = picture.progress;
    if in_flight == 0 {
        return None;
    }
    let each_us = each_us(seen);
    let turns = i64::try_from((planned + in_flight).div_ceil(in_flight)).unwrap_or(i64::MAX);
    let done = now.saturating_add(turns.saturating_mul(each_us));
    let waiting = match planned {
        0 => String::new(),
        planned => format!(", {} wait", hosts(planned)),
    };
    let words = format!(
        "wave {}: {in_flight} in flight{waiting}; done at about {}, if each takes {} and as many \
         go on at a time",
        wave.name,
        when(done, now),
        span(each_us)
    );
    Some(Next::said(words).at(done))
}

/// How long a host takes: the mean of those that were confirmed, else of what was predicted.
fn each_us(seen: &Seen) -> i64 {
    let mean = |spans: &mut dyn Iterator<Item = i64>| {
        let (sum, count) =
            spans.fold((0_i64, 0_i64), |(sum, count), us| (sum.saturating_add(us), count + 1));
        sum.checked_div(count)
    };
    let confirmed = seen.attempts.iter().filter(|attempt| attempt.state == AttemptState::Confirmed);
    let mut took = confirmed
        .filter_map(|attempt| Some(attempt.ended_at?.saturating_sub(attempt.started_at?).max(0)));
    let mut predicted =
        seen.attempts.iter().map(|attempt| i64::from(attempt.predicted_s) * SECOND_US);
    mean(&mut took).or_else(|| mean(&mut predicted)).unwrap_or_default()
}

/// Hosts that no worker speaks for.
fn silent(seen: &Seen, now: Stamp) -> Option<Next> {
    let is_silent = |attempt: &&Attempt| Mark::of(attempt, now) == Mark::Silent;
    let mut silent = seen.attempts.iter().filter(is_silent);
    let first = silent.next()?;
    let count = silent.count() as u64 + 1;
    let words = format!(
        "the workers of {} are silent: any worker of their site takes them over, for example at {}",
        hosts(count),
        first.site
    );
    let next = Next::said(words);
    Some(match seen.has_worker(&first.site, now) {
        true => next,
        false => next.typed(work_command(&first.site)),
    })
}
