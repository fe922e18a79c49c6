//! Hosts that are looked at until it is known what became of them.

use firmcast::reason::Reason;

use super::party::{HostEnd, Sight, Sighting};
use crate::model::{Health, Look, RolloutId, Stamp};

/// After how long a host that was not home, or could not tell, is looked at again, in microseconds.
pub const LOOK_AGAIN_US: i64 = 10_000_000;

/// How long a host that was taken over is waited for, in microseconds: longer than any host stays
/// in recovery without a manager, and boots.
pub const HOME_US: i64 = 1_800_000_000;

/// Why a host is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The worker that had it fell silent.
    TakenOver,
    /// Its campaign here broke off, with these words.
    BrokenOff(String),
    /// It was confirmed, and the soak time of its wave is over; the reason that was told last.
    Soaked(Option<String>),
}

/// A host that is looked at.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) rollout: RolloutId,
    pub(super) host: String,
    pub(super) why: Why,
    /// Until when it is waited for; of one that has soaked, others say when the time is over.
    until: Stamp,
    /// When to look again; never for one that is home.
    pub(super) look_at: Stamp,
}

/// What a look comes to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is looked at again.
    Again,
    /// It is home, and does not hold the release.
    Home,
    /// That was its end.
    Ended(HostEnd),
    /// It was confirmed, and this was seen of it now.
    Seen(Look),
}

impl Stray {
    pub(super) fn new(now: Stamp, rollout: RolloutId, host: String, why: Why) -> Self {
        Self { rollout, host, why, until: now.saturating_add(HOME_US), look_at: now }
    }

    pub(super) fn has_soaked(&self) -> bool {
        matches!(self.why, Why::Soaked(_))
    }

    pub(super) fn is_home(&self) -> bool {
        self.look_at == Stamp::MAX
    }

    /// Says what is made of what was seen of it.
    pub(super) fn judge(&mut self, sighting: Sighting, at: Stamp) -> Verdict {
        if let Why::Soaked(told) = &mut self.why {
            let look = look(sighting, at);
            if look.health == Health::Unclear {
                self.look_at = at.saturating_add(LOOK_AGAIN_US);
                if told.as_ref() == Some(&look.reason) {
                    return Verdict::Again;
                }
                *told = Some(look.reason.clone());
            }
            return Verdict::Seen(look);
        }
        match sighting.sight {
            Sight::Holds | Sight::OtherVersion => Verdict::Ended(end(sighting)),
            Sight::Lacks => {
                self.look_at = Stamp::MAX;
                Verdict::Home
            }
            Sight::Away | Sight::Unclear if at < self.until => {
                self.look_at = at.saturating_add(LOOK_AGAIN_US);
                Verdict::Again
            }
            Sight::Away | Sight::Unclear => Verdict::Ended(end(sighting)),
        }
    }
}

/// The end of a host of which no more will be known.
fn end(sighting: Sighting) -> HostEnd {
    let Sighting { sight, reason, detail } = sighting;
    let (reason, flash, detail) = match sight {
        Sight::Holds => (Reason::Confirmed.name().to_owned(), "updated", detail),
        Sight::OtherVersion => (Reason::WrongVersion.name().to_owned(), "updated", detail),
        Sight::Unclear => (not_measured(), "unknown", cannot_tell(&reason, &detail)),
        Sight::Away | Sight::Lacks => (reason, "unknown", detail),
    };
    let confirmed = sight == Sight::Holds;
    HostEnd { confirmed, reason, flash: flash.to_owned(), detail }
}

/// What was seen of a host that was confirmed.
fn look(sighting: Sighting, at: Stamp) -> Look {
    let Sighting { sight, reason, detail } = sighting;
    let named = |reason: Reason| reason.name().to_owned();
    let (health, reason, detail) = match sight {
        Sight::Holds => (Health::Healthy, named(Reason::Confirmed), detail),
        Sight::Lacks => (Health::Sick, named(Reason::WrongDigest), detail),
        Sight::OtherVersion => (Health::Sick, named(Reason::WrongVersion), detail),
        Sight::Away => (Health::Unclear, named(Reason::NoAgentAfterReboot), detail),
        Sight::Unclear => (Health::Unclear, not_measured(), cannot_tell(&reason, &detail)),
    };
    Look { health, at, reason, detail }
}

fn not_measured() -> String {
    Reason::NotMeasured.name().to_owned()
}

fn cannot_tell(reason: &str, detail: &str) -> String {
    format!("it could not be told what its chip holds: {reason}: {detail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sight: Sight, reason: Reason) -> Sighting {
        Sighting { sight, reason: reason.name().to_owned(), detail: "why".to_owned() }
    }

    #[test]
    fn a_host_that_cannot_tell_is_looked_at_again_and_never_taken_for_one_without_the_release() {
        let mut stray = Stray::new(0, 1, "a".to_owned(), Why::TakenOver);
        let refused = || seen(Sight::Unclear, Reason::ShutdownInhibited);
        assert!(matches!(stray.judge(refused(), HOME_US - 1), Verdict::Again));
        assert_eq!(stray.look_at, HOME_US - 1 + LOOK_AGAIN_US);
        let Verdict::Ended(end) = stray.judge(refused(), HOME_US) else { panic!("no end") };
        assert_eq!((end.confirmed, end.reason.as_str()), (false, "not-measured"));
        assert!(end.detail.ends_with("holds: shutdown-inhibited: why"), "{}", end.detail);
        let lacks = seen(Sight::Lacks, Reason::WrongDigest);
        assert!(matches!(stray.judge(lacks, HOME_US), Verdict::Home) && stray.is_home());
    }

    #[test]
    fn of_a_host_that_has_soaked_the_same_doubt_is_told_once() {
        let mut stray = Stray::new(0, 1, "a".to_owned(), Why::Soaked(None));
        let away = || seen(Sight::Away, Reason::HostUnreachable);
        let Verdict::Seen(look) = stray.judge(away(), 5) else { panic!("not told") };
        assert_eq!((look.health, look.reason.as_str()), (Health::Unclear, "no-agent-after-reboot"));
        assert!(matches!(stray.judge(away(), 6), Verdict::Again));
        for (sight, health) in [(Sight::Lacks, Health::Sick), (Sight::Holds, Health::Healthy)] {
            let Verdict::Seen(look) = stray.judge(seen(sight, Reason::WrongDigest), 7) else {
                panic!("not told")
            };
            assert_eq!(look.health, health);
        }
    }
}
