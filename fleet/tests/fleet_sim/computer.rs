//! A simulated host. Up to the commit its campaign moves it; from there it goes on by itself.

use firmcast_fleet::model::Stamp;

use super::chance::Chance;

/// Number of a campaign among all of a world.
pub(crate) type CampaignId = u64;

/// How long a host stays in recovery without its manager at most, in milliseconds.
const ALONE_MS: u64 = 300_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Home,
    /// Before the commit; who has it, unless that died.
    Recovery(Option<CampaignId>),
    /// Beyond the commit, until the firmware of this rollout is written.
    Flashing(usize),
    Booting,
    Dead,
}

#[derive(Debug)]
pub(crate) struct Computer {
    pub(crate) place: Place,
    /// The release that it holds, 0 or 1; none at first.
    pub(crate) firmware: Option<usize>,
    pub(crate) refuses: bool,
    /// Its chip refuses to be written: it keeps what it holds.
    pub(crate) is_worn: bool,
    /// It answers, and cannot tell what its chip holds.
    pub(crate) is_mute: bool,
    /// It gets no load.
    pub(crate) is_drained: bool,
    /// `drain` was begun for it, and no `undrain` has come to its end since.
    pub(crate) is_owed: bool,
    /// Timers of earlier places are void.
    pub(crate) timer: u64,
}

impl Computer {
    /// Moves it, and returns when it goes on by itself.
    pub(crate) fn go(&mut self, place: Place, now: Stamp, chance: &mut Chance) -> Option<Stamp> {
        if self.place == Place::Dead {
            return None;
        }
        self.place = place;
        self.timer += 1;
        match place {
            Place::Home | Place::Dead | Place::Recovery(Some(_)) => None,
            Place::Recovery(None) => Some(now + chance.ms(0..ALONE_MS)),
            Place::Flashing(_) => Some(now + chance.ms(5000..30_000)),
            // Some boot for longer than campaigns wait.
            Place::Booting if chance.once_in(30) => Some(now + chance.ms(60_000..400_000)),
            Place::Booting => Some(now + chance.ms(10_000..40_000)),
        }
    }

    /// Its timer has come: where it goes by itself.
    pub(crate) fn next(&mut self) -> Option<Place> {
        match self.place {
            Place::Recovery(None) | Place::Booting => Some(Place::Home),
            Place::Flashing(release) => {
                if !self.is_worn {
                    self.firmware = Some(release);
                }
                Some(Place::Booting)
            }
            _ => None,
        }
    }
}
