//! What a seed stands for: how many dead hosts, what killed them, who answers them, and what goes
//! wrong until when.

use std::ops::Range;
use std::time::Duration;

use firmcast::wire::help::RESCUES_IN_VAIN;
use firmcast_manager::campaign::Delivery;

use crate::chance::Chance;
use crate::division::Map;
use crate::network::{Conditions, LinkFaults};

/// Hosts of the worlds in which a power failure kills everybody at once.
pub(crate) const POWER_FAILURE_HOSTS: usize = 1000;

/// Managers that bring nothing good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rogue {
    /// Its manager key is trusted by nobody.
    UntrustedManager,
    /// No trusted release key signed its bundles.
    UntrustedRelease,
    /// Sends other bytes than the signed ones.
    ForgedPayload,
    /// Brings another board's bundle.
    OtherBoard,
    /// Brings a bundle below the hosts' floor.
    OldSecurityVersion,
    /// Has a trusted key and takes calls, and then says nothing.
    Mute,
}

impl Rogue {
    const ALL: [Self; 6] = [
        Self::UntrustedManager,
        Self::UntrustedRelease,
        Self::ForgedPayload,
        Self::OtherBoard,
        Self::OldSecurityVersion,
        Self::Mute,
    ];
}

/// One world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) hosts: usize,
    pub(crate) chip_bytes: usize,
    /// Within this time from the start hosts lose their firmware, each for itself; all at once when
    /// none.
    pub(crate) deaths: Option<Duration>,
    pub(crate) boards: usize,
    /// What tells how chips are divided, and what of them bundles cover.
    pub(crate) map: Map,
    pub(crate) delivery: Delivery,
    pub(crate) rate_mbit: u32,
    pub(crate) is_polite: bool,
    pub(crate) fragment_size_bytes: u16,
    pub(crate) link: LinkFaults,
    pub(crate) bad_links: f64,
    pub(crate) partitions: usize,
    /// When all faults end; nothing fails at all when zero.
    pub(crate) faults_end: Duration,
    pub(crate) rogue: Option<Rogue>,
    /// The rogue is there for good, beside a good manager.
    pub(crate) rogue_stays: bool,
    /// Every place names the rogue before the good managers.
    pub(crate) rogue_first: bool,
    /// How often a host may fail before a manager leaves it alone.
    pub(crate) attempts_max: u32,
    /// A second good manager, with the other trusted key.
    pub(crate) second_manager: bool,
    /// The first good manager hangs while its first host receives: it still takes calls, and says
    /// nothing any more, for good.
    pub(crate) hangs: bool,
    /// Mean time between deaths of a manager; none when it does not die.
    pub(crate) manager_life: Option<Duration>,
    /// Power cuts of hosts, spread over the time of faults.
    pub(crate) power_cuts: usize,
    /// That a host says little more when it starts after its power failed, and then nothing until
    /// the faults end.
    pub(crate) silences: f64,
    /// That something is wrong with the chip in a flash job.
    pub(crate) flash_faults: f64,
    /// That a place that may know a manager says nothing, or something wrong.
    pub(crate) bad_places: f64,
    /// Whether places name keys, right and wrong ones.
    pub(crate) names_keys: bool,
    pub(crate) lookup_max: Duration,
    /// Pause between datagrams of somebody who replays and forges.
    pub(crate) adversary: Option<Duration>,
    pub(crate) boot: Range<Duration>,
    /// Time that one step of a flash job takes.
    pub(crate) flash_step: Duration,
    pub(crate) escrow: bool,
    /// That the manager's disk does not take a backup, or does not give a payload at once.
    pub(crate) disk_faults: f64,
    /// Share of hosts that are not in the inventory, and whether the policy helps them.
    pub(crate) strangers: f64,
    pub(crate) helps_strangers: bool,
    /// Until the faults end, the policy holds the hosts of the second board.
    pub(crate) holds_second_board: bool,
    /// Shares of hosts that are forced to take a bundle, that know nothing of their firmware, and
    /// that only tell so.
    pub(crate) forced: f64,
    pub(crate) blind: f64,
    pub(crate) telling: f64,
    /// Share of the other hosts of whose firmware only the record says that it is damaged.
    pub(crate) doubtful: f64,
    /// Share of hosts that may not read all of what bundles preserve.
    pub(crate) closed: f64,
    /// Share of hosts that a rescue does not help: they ask again at their next boot.
    pub(crate) relapsing: f64,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Scenario {
    /// Most seeds have few hosts, some a few dozen, and a few are a power failure.
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 10);
        if seed % 100 == 77 {
            return Self::power_failure(seed, POWER_FAILURE_HOSTS, 32 * 1024, 0.01);
        }
        let hosts = match seed % 20 {
            6 => 60,
            13 => 30,
            _ => chance.within(1..13) as usize,
        };
        let mut scenario = Self::fair(seed, hosts, &mut chance);
        if !seed.is_multiple_of(4) {
            scenario.blow(&mut chance);
        }
        scenario.closed = *chance.pick(&[0.0, 0.5, 1.0]);
        // A manager that parks earlier than a host gives up is not what these worlds are about.
        if scenario.attempts_max > RESCUES_IN_VAIN as u32 {
            scenario.relapsing = *Chance::new(seed, 11).pick(&[0.0, 0.0, 0.5, 1.0]);
        }
        scenario
    }

    /// Many hosts, dead at once, which come up one every 40 ms in the mean, and one manager.
    pub(crate) fn power_failure(seed: u64, hosts: usize, chip_bytes: usize, loss: f64) -> Self {
        let mut chance = Chance::new(seed, 10);
        Self {
            chip_bytes,
            deaths: None,
            boards: 1,
            map: Map::None,
            delivery: Delivery::Broadcast,
            rate_mbit: 100,
            is_polite: false,
            fragment_size_bytes: 1440,
            link: LinkFaults { loss, jitter_max: millis(1), ..LinkFaults::default() },
            adversary: Some(millis(100)),
            second_manager: false,
            escrow: false,
            strangers: 0.0,
            helps_strangers: false,
            forced: 0.0,
            blind: 0.0,
            telling: 0.0,
            doubtful: 0.0,
            bad_places: 0.0,
            names_keys: false,
            lookup_max: seconds(5),
            flash_step: millis(400),
            boot: seconds(20)..seconds(20) + millis(40) * hosts as u32,
            ..Self::fair(seed, hosts, &mut chance)
        }
    }

    fn fair(seed: u64, hosts: usize, chance: &mut Chance) -> Self {
        Self {
            seed,
            hosts,
            chip_bytes: match hosts {
                0..=12 => *chance.pick(&[64, 128, 256]) * 1024,
                _ => 32 * 1024,
            },
            deaths: *chance.pick(&[None, Some(seconds(10)), Some(seconds(200))]),
            boards: *chance.pick(&[1, 2]),
            map: Map::draw(seed),
            delivery: *chance.pick(&[
                Delivery::Broadcast,
                Delivery::Broadcast,
                Delivery::Group([239, 1, 2, 3].into()),
                Delivery::Unicast,
            ]),
            rate_mbit: *chance.pick(&[2, 10, 100]),
            is_polite: seed % 4 == 3,
            fragment_size_bytes: *chance.pick(&[512, 1024, 1440]),
            link: LinkFaults {
                loss: *chance.pick(&[0.0, 0.01, 0.05]),
                duplication: *chance.pick(&[0.0, 0.02]),
                reorder: *chance.pick(&[0.0, 0.05]),
                reorder_max: millis(20),
                jitter_max: millis(*chance.pick(&[1, 5])),
                ..LinkFaults::default()
            },
            bad_links: 0.0,
            partitions: 0,
            faults_end: Duration::ZERO,
            rogue: None,
            rogue_stays: false,
            rogue_first: false,
            attempts_max: 5,
            second_manager: chance.happens(0.3),
            hangs: false,
            manager_life: None,
            power_cuts: 0,
            silences: 0.0,
            flash_faults: 0.0,
            bad_places: *chance.pick(&[0.0, 0.5, 0.9]),
            names_keys: true,
            lookup_max: seconds(*chance.pick(&[1, 10])),
            adversary: chance.happens(0.7).then(|| millis(*chance.pick(&[500, 500, 15]))),
            boot: seconds(5)..seconds(*chance.pick(&[10, 60])),
            flash_step: millis(*chance.pick(&[50, 400, 2000])),
            escrow: chance.happens(0.3),
            disk_faults: 0.0,
            strangers: *chance.pick(&[0.0, 0.0, 0.3, 1.0]),
            helps_strangers: chance.happens(0.5),
            holds_second_board: false,
            forced: *chance.pick(&[0.0, 0.3]),
            blind: *chance.pick(&[0.0, 0.2]),
            telling: *chance.pick(&[0.0, 0.2]),
            doubtful: *chance.pick(&[0.0, 0.0, 0.3]),
            closed: 0.0,
            relapsing: 0.0,
        }
    }

    fn blow(&mut self, chance: &mut Chance) {
        self.faults_end = chance.span(seconds(60)..seconds(900));
        self.link = LinkFaults {
            loss: *chance.pick(&[0.0, 0.02, 0.1, 0.3]),
            burst: *chance.pick(&[0.0, 0.001, 0.02]),
            burst_max: chance.span(seconds(1)..seconds(8)),
            corruption: *chance.pick(&[0.0, 0.01, 0.1]),
            duplication: *chance.pick(&[0.0, 0.05, 0.3]),
            reorder: *chance.pick(&[0.0, 0.05, 0.3]),
            reorder_max: *chance.pick(&[millis(50), seconds(2)]),
            jitter_max: millis(*chance.pick(&[1, 10, 100])),
        };
        self.bad_links = *chance.pick(&[0.0, 0.1]);
        self.partitions = *chance.pick(&[0, 0, 1, 3]);
        self.rogue = chance.happens(0.5).then(|| *chance.pick(&Rogue::ALL));
        self.manager_life = *chance.pick(&[None, Some(seconds(40)), Some(seconds(200))]);
        self.power_cuts = *chance.pick(&[0, 1, self.hosts, self.hosts * 3]);
        self.flash_faults = *chance.pick(&[0.0, 0.2, 0.7]);
        self.lookup_max = seconds(*chance.pick(&[1, 10, 60]));
        self.disk_faults = 0.1;
        self.holds_second_board = chance.happens(0.3);
        self.rogue_stays = chance.happens(0.3);
        self.rogue_first = chance.happens(0.5);
        self.attempts_max = *chance.pick(&[2, 3, 5]);
        self.hangs = self.second_manager && chance.happens(0.5);
        self.silences = *chance.pick(&[0.0, 0.5]);
    }

    pub(crate) fn conditions(&self) -> Conditions {
        Conditions {
            hosts: self.hosts,
            link: self.link,
            bad_links: self.bad_links,
            partitions: self.partitions,
            faults_end: self.faults_end,
        }
    }
}
