//! A stay in the recovery environment: searches for help and campaigns, until the boot may go on.
//! Sans-IO.
//!
//! ```text
//!  nobody sent the host --> Searching --Enlist--> InCampaign <-- an agent sent the host
//!                             ^   |                |     |
//!                             |   |  failed, in a  |     | any end of what the agent began;
//!                             '---|---- rescue ----'     | verified firmware in a rescue
//!         told, or not helped     v                      v
//!                                Over <------------------'
//! ```
//!
//! The drive rule is the endpoint's ([`crate::session::endpoint`]): after every call the driver
//! sends what [`Stay::poll_transmit`] has, then does what [`Stay::poll_action`] says.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use log::warn;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use crate::image::{Board, KnownGood, VerifiedImage};
use crate::keys::{HostSecretKey, ManagerPublicKey, ReleasePublicKey};
use crate::random;
use crate::reason::{FlashState, Reason};
use crate::recovery::machine::{Action, Mission, Recovery};
use crate::rescue::search::{
    Case, Enlistment, PausedSearch, Search, SearchAction, SearchEnd, SearchSituation,
};
use crate::rescue::seek::{Candidate, Source};
use crate::session::Transmit;
use crate::time::Time;
use crate::wire::answer::{End, Report};
use crate::wire::help::HelpRequest;

#[cfg(test)]
mod tests;

/// How long a manager that has enlisted the host may take to answer it there.
const REACH_TIMEOUT: Duration = Duration::from_secs(60);

/// A host that nobody sent here: what it knows before it has found a manager.
#[derive(Debug)]
pub struct Patient {
    /// This host's key.
    pub host_key: HostSecretKey,
    /// Managers that are believed.
    pub managers: Vec<ManagerPublicKey>,
    /// Keys of releases that may be flashed.
    pub releases: Vec<ReleasePublicKey>,
    /// What a manifest must fit.
    pub board: Board,
    /// What is asked or told.
    pub request: HelpRequest,
    /// What this stay has done to the chip, and what its contents are known to be, or taken for.
    pub flash: FlashState,
    /// How long help is looked for before the boot goes on; none: for ever.
    pub patience: Option<Duration>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum StayAction {
    /// Look up a place that may know managers; then [`Stay::found`].
    LookUp(Source),
    /// Receive what is sent to this multicast group.
    JoinGroup(IpAddr),
    /// Read this range of the chip twice, and tell the campaign ([`Stay::recovery`]) what was read.
    ReadPiece {
        /// Number of the piece of the image that should be there.
        piece: usize,
        /// Where, in bytes.
        range: Range<u64>,
    },
    /// Write this image, and tell the campaign ([`Stay::recovery`]) how it goes.
    Flash {
        /// The image.
        image: VerifiedImage,
        /// What this stay has done to the chip so far, and what its contents were like.
        flash: FlashState,
        /// Nothing may be changed.
        drill: bool,
    },
    /// The stay is over.
    Conclude(Conclusion),
}

/// What a stay came to. A reboot is safe.
#[derive(Debug)]
pub enum Conclusion {
    /// The campaign is over that an agent sent the host for.
    Returned(End),
    /// The firmware was repaired and verified.
    Repaired {
        /// How the campaign ended.
        end: End,
        /// Whether anything had to be changed.
        changed: bool,
        /// What stands in flash now.
        known_good: Option<Box<KnownGood>>,
    },
    /// No campaign: the host boots on as it came.
    Unchanged(SearchEnd),
}

/// Where the host stands, for its display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation<'a> {
    /// Looking for a manager, or asking it.
    Searching(SearchSituation<'a>),
    /// In a campaign.
    InCampaign(&'a Report),
    /// The stay is over.
    Over,
}

/// One stay in the recovery environment.
#[derive(Debug)]
pub enum Stay {
    /// Looks for a manager and asks it for help.
    Searching(Box<Searching>),
    /// Takes part in a campaign.
    InCampaign(Box<InCampaign>),
    /// Nothing more is to be done.
    Over,
}

/// The search of a host that nobody sent here.
#[derive(Debug)]
pub struct Searching {
    search: Search,
    accepts: Accepts,
}

/// A campaign, and what comes after it.
#[derive(Debug)]
pub struct InCampaign {
    recovery: Recovery,
    /// None when an agent sent the host: any end of the campaign is the end of the stay.
    search: Option<(PausedSearch, Accepts)>,
}

/// What a campaign of a rescue may write here, and over what.
#[derive(Debug)]
struct Accepts {
    releases: Vec<ReleasePublicKey>,
    board: Board,
    /// What this stay has done to the chip so far.
    flash: FlashState,
    /// Makes the seeds of the campaigns.
    rng: ChaCha20Rng,
}

impl Stay {
    /// The stay of a host that its agent sent here for a campaign.
    pub fn sent(recovery: Recovery) -> Self {
        Self::InCampaign(Box::new(InCampaign { recovery, search: None }))
    }

    /// The stay of a host that nobody sent here: it looks for a manager. `seed` must come from the
    /// system's random source and be used once.
    pub fn by_itself(now: Time, patient: Patient, seed: [u8; 32]) -> Self {
        let Patient { host_key, managers, releases, board, request, flash, patience } = patient;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let case = Case { host_key, managers, request, patience };
        let search = Search::new(now, case, random::seed(&mut rng));
        let accepts = Accepts { releases, board, flash, rng };
        Self::Searching(Box::new(Searching { search, accepts }))
    }

    /// The campaign that the host takes part in.
    pub fn recovery(&mut self) -> Option<&mut Recovery> {
        match self {
            Self::InCampaign(campaign) => Some(&mut campaign.recovery),
            _ => None,
        }
    }

    /// Where the host stands, for its display.
    pub fn situation(&self) -> Situation<'_> {
        match self {
            Self::Searching(searching) => Situation::Searching(searching.search.situation()),
            Self::InCampaign(campaign) => Situation::InCampaign(campaign.recovery.report()),
            Self::Over => Situation::Over,
        }
    }

    /// Takes the addresses that a place knows, or why it says nothing.
    pub fn found(&mut self, now: Time, source: Source, found: Result<Vec<Candidate>, String>) {
        if let Self::Searching(searching) = self {
            searching.search.found(now, source, found);
        }
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        match self {
            Self::Searching(searching) => {
                if let Some(enlistment) = searching.search.handle_datagram(now, from, datagram) {
                    self.enlist(now, enlistment);
                }
            }
            Self::InCampaign(campaign) => campaign.recovery.handle_datagram(now, from, datagram),
            Self::Over => {}
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        match self {
            Self::Searching(searching) => searching.search.handle_timeout(now),
            Self::InCampaign(campaign) => campaign.recovery.handle_timeout(now),
            Self::Over => {}
        }
    }

    /// When [`Stay::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Self::Searching(searching) => searching.search.poll_timeout(),
            Self::InCampaign(campaign) => campaign.recovery.poll_timeout(),
            Self::Over => None,
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        match self {
            Self::Searching(searching) => searching.search.poll_transmit(),
            Self::InCampaign(campaign) => campaign.recovery.poll_transmit(),
            Self::Over => None,
        }
    }

    /// What the driver has to do next.
    pub fn poll_action(&mut self, now: Time) -> Option<StayAction> {
        let conclusion = match self {
            Self::Searching(searching) => match searching.search.poll_action()? {
                SearchAction::LookUp(source) => return Some(StayAction::LookUp(source)),
                SearchAction::End(end) => {
                    *self = Self::Over;
                    Conclusion::Unchanged(end)
                }
            },
            Self::InCampaign(campaign) => match campaign.recovery.poll_action()? {
                Action::JoinGroup(group) => return Some(StayAction::JoinGroup(group)),
                Action::ReadPiece { piece, range } => {
                    return Some(StayAction::ReadPiece { piece, range });
                }
                Action::Flash { image, flash, drill } => {
                    return Some(StayAction::Flash { image, flash, drill });
                }
                Action::Leave(end) => self.leave(now, end)?,
            },
            Self::Over => return None,
        };
        Some(StayAction::Conclude(conclusion))
    }

    /// The search rests while the host is in the campaign.
    fn enlist(&mut self, now: Time, enlistment: Enlistment) {
        if let Self::Searching(searching) = std::mem::replace(self, Self::Over) {
            let Searching { search, mut accepts } = *searching;
            let search = search.pause();
            let mission = accepts.mission(search.case(), enlistment);
            let recovery = Recovery::new(now, mission, random::seed(&mut accepts.rng));
            let search = Some((search, accepts));
            *self = Self::InCampaign(Box::new(InCampaign { recovery, search }));
        }
    }

    /// The campaign is over for this host. Returns what the stay came to, unless the host searches
    /// on.
    fn leave(&mut self, now: Time, end: End) -> Option<Conclusion> {
        let Self::InCampaign(campaign) = std::mem::replace(self, Self::Over) else { return None };
        let InCampaign { recovery, search } = *campaign;
        let Some((search, mut accepts)) = search else { return Some(Conclusion::Returned(end)) };
        if end.ending.flash == FlashState::Updated {
            let changed = end.ending.reason != Reason::AlreadyCurrent;
            return Some(Conclusion::Repaired {
                end,
                changed,
                known_good: recovery.known_good().map(Box::new),
            });
        }
        warn!("this attempt ended: {}", end.ending);
        if !end.ending.flash.reboot_is_safe() {
            accepts.flash = end.ending.flash;
        }
        let search = search.resume(now, end);
        *self = Self::Searching(Box::new(Searching { search, accepts }));
        None
    }
}

impl Accepts {
    /// The host's part in the campaign that a manager has enlisted it for.
    fn mission(&self, case: &Case, enlistment: Enlistment) -> Mission {
        let Enlistment { campaign, manager, manager_address, transfer_timeout } = enlistment;
        let mut identity = case.request.identity.clone();
        identity.last_end = None;
        Mission {
            campaign,
            manager,
            manager_address,
            host_key: case.host_key.clone(),
            releases: self.releases.clone(),
            identity,
            board: self.board.clone(),
            reach_timeout: REACH_TIMEOUT,
            transfer_timeout,
            rescue: true,
            drill: false,
            flash: self.flash,
        }
    }
}
