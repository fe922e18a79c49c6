//! What a seed stands for: how many hosts, which network, what goes wrong and until when.

use std::ops::Range;
use std::time::Duration;

use firmcast_manager::campaign::Delivery;

use crate::chance::Chance;
use crate::chip::BLOCK_BYTES;
use crate::division::{Division, Map};
use crate::network::{Conditions, LinkFaults};

/// How bad it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// A network that loses, doubles and reorders a little, and nothing else: every host must be
    /// confirmed at once.
    Fair,
    /// All faults, until they end.
    Stormy,
}

/// Who else gives instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rogue {
    /// A trusted manager brings a bundle that no trusted release key signed.
    UntrustedRelease,
    /// A trusted manager sends other bytes than the signed ones.
    ForgedPayload,
    /// A trusted manager brings a bundle for another board.
    OtherBoard,
    /// A trusted manager brings an old bundle with a genuine signature.
    OldSecurityVersion,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) hosts: usize,
    pub(crate) chip_bytes: usize,
    /// How chips are divided, and what of them bundles cover.
    pub(crate) division: Division,
    pub(crate) delivery: Delivery,
    pub(crate) rate_mbit: u32,
    pub(crate) is_polite: bool,
    pub(crate) fragment_size_bytes: u16,
    pub(crate) link: LinkFaults,
    /// Share of hosts whose link is worse by far.
    pub(crate) bad_links: f64,
    pub(crate) partitions: usize,
    /// When all faults end.
    pub(crate) faults_end: Duration,
    pub(crate) rogue: Option<Rogue>,
    /// Mean time between deaths of the manager; none when it does not die.
    pub(crate) manager_life: Option<Duration>,
    /// How many restarts of hosts are spread over the time of faults.
    pub(crate) restarts: usize,
    /// That something is wrong with the chip in a flash job.
    pub(crate) flash_faults: f64,
    /// That the power fails in a flash job.
    pub(crate) power_cuts: f64,
    /// That a host says little more when it starts after its power failed, and then nothing until
    /// the faults end.
    pub(crate) silences: f64,
    /// That a campaign is only a drill: the first one, and others while there are faults.
    pub(crate) drills: f64,
    /// That the operator loses patience with a campaign.
    pub(crate) interrupt: f64,
    /// Pause between datagrams of somebody who replays and forges.
    pub(crate) adversary: Option<Duration>,
    pub(crate) recovery_boot: Range<Duration>,
    pub(crate) os_boot: Range<Duration>,
    /// How much longer boots may take while there are faults: longer than managers wait.
    pub(crate) slow_boot: Duration,
    /// Whether hosts give their backup to the manager first.
    pub(crate) escrow: bool,
    /// That the manager's disk does not take a backup.
    pub(crate) disk_faults: f64,
    /// Time that one step of a flash job takes.
    pub(crate) flash_step: Duration,
    /// Whether the recovery environment can leave word for the agent.
    pub(crate) mailbox: bool,
    /// Share of hosts that hold the new image already.
    pub(crate) current: f64,
    /// Share of hosts that may not read all of what bundles preserve.
    pub(crate) closed: f64,
    /// That somebody else writes to what bundles preserve in a flash job.
    pub(crate) foreign: f64,
}

/// Share of stormy worlds in which hosts come back from a power cut to fall silent.
const SILENT_RETURNS: f64 = 0.25;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Scenario {
    /// Most seeds have few hosts, some a hundred, a few a thousand.
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 0);
        let weather = if seed.is_multiple_of(4) { Weather::Fair } else { Weather::Stormy };
        let hosts = match seed % 100 {
            88 => 1000,
            49 => 300,
            6 | 33 | 57 | 84 => 100,
            _ => chance.within(2..21) as usize,
        };
        let chip_bytes = match hosts {
            0..=20 => *chance.pick(&[64, 128, 256, 512]) * 1024,
            _ => 32 * 1024,
        };
        let stormy = weather == Weather::Stormy;
        let mut scenario = Self {
            seed,
            weather,
            hosts,
            chip_bytes,
            division: Division::new(Map::draw(seed), preserve(&mut chance, chip_bytes), chip_bytes),
            delivery: *chance.pick(&[
                Delivery::Broadcast,
                Delivery::Broadcast,
                Delivery::Group([239, 1, 2, 3].into()),
                Delivery::Unicast,
            ]),
            rate_mbit: *chance.pick(&[2, 10, 100, 1000]),
            is_polite: seed % 4 == 3,
            fragment_size_bytes: *chance.pick(&[512, 1024, 1440]),
            link: LinkFaults {
                loss: *chance.pick(&[0.0, 0.01, 0.05]),
                duplication: *chance.pick(&[0.0, 0.02]),
                reorder: *chance.pick(&[0.0, 0.05]),
                reorder_max: Duration::from_millis(20),
                jitter_max: Duration::from_millis(*chance.pick(&[1, 5])),
                ..LinkFaults::default()
            },
            bad_links: 0.0,
            partitions: 0,
            faults_end: Duration::ZERO,
            rogue: None,
            manager_life: None,
            restarts: 0,
            flash_faults: 0.0,
            power_cuts: 0.0,
            silences: 0.0,
            drills: 0.0,
            interrupt: 0.0,
            adversary: chance
                .happens(0.7)
                .then(|| Duration::from_millis(*chance.pick(&[500, 500, 15]))),
            recovery_boot: seconds(5)..seconds(*chance.pick(&[20, 50])),
            os_boot: seconds(20)..seconds(*chance.pick(&[40, 120])),
            slow_boot: Duration::ZERO,
            escrow: seed % 5 < 2,
            disk_faults: 0.0,
            flash_step: Duration::from_millis(*chance.pick(&[50, 400, 2000])),
            mailbox: chance.happens(0.5),
            current: *chance.pick(&[0.0, 0.0, 0.2]),
            closed: 0.0,
            foreign: 0.0,
        };
        if hosts > 20 && scenario.delivery == Delivery::Unicast {
            scenario.delivery = Delivery::Broadcast;
        }
        if stormy {
            scenario.blow(&mut chance);
        }
        scenario.closed = *chance.pick(&[0.0, 0.5, 1.0]);
        scenario.drills = *chance.pick(&[0.0, 0.3, 0.6]);
        scenario.foreign = *chance.pick(&[0.0, 0.5]);
        scenario
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

    fn blow(&mut self, chance: &mut Chance) {
        self.faults_end = chance.span(seconds(60)..seconds(900));
        self.link = LinkFaults {
            loss: *chance.pick(&[0.0, 0.02, 0.1, 0.3]),
            burst: *chance.pick(&[0.0, 0.001, 0.02]),
            burst_max: chance.span(seconds(1)..seconds(8)),
            corruption: *chance.pick(&[0.0, 0.01, 0.1]),
            duplication: *chance.pick(&[0.0, 0.05, 0.3]),
            reorder: *chance.pick(&[0.0, 0.05, 0.3]),
            reorder_max: *chance.pick(&[Duration::from_millis(50), seconds(2)]),
            jitter_max: Duration::from_millis(*chance.pick(&[1, 10, 100])),
        };
        self.bad_links = *chance.pick(&[0.0, 0.1]);
        self.partitions = *chance.pick(&[0, 0, 1, 3]);
        self.rogue = *chance.pick(&[
            None,
            None,
            None,
            Some(Rogue::UntrustedRelease),
            Some(Rogue::ForgedPayload),
            Some(Rogue::ForgedPayload),
            Some(Rogue::OtherBoard),
            Some(Rogue::OldSecurityVersion),
        ]);
        self.manager_life = *chance.pick(&[None, Some(seconds(40)), Some(seconds(200))]);
        self.restarts = *chance.pick(&[0, 1, self.hosts / 2, self.hosts * 2]);
        self.flash_faults = *chance.pick(&[0.0, 0.2, 0.7]);
        self.interrupt = *chance.pick(&[0.0, 0.0, 0.3]);
        self.slow_boot = seconds(*chance.pick(&[1, 1, 100, 400]));
        self.disk_faults = 0.1;
        self.power_cuts = *chance.pick(&[0.0, 0.2, 0.7]);
        self.silences = *chance.pick(&[0.0, 0.5]);
        if chance.happens(SILENT_RETURNS) {
            self.return_silently();
        }
    }

    /// The power fails while hosts write; those that come back say a few words to a manager that
    /// waits for them, and no more.
    fn return_silently(&mut self) {
        self.faults_end = self.faults_end.max(seconds(900));
        (self.manager_life, self.rogue, self.interrupt) = (None, None, 0.0);
        (self.power_cuts, self.silences) = (0.7, 0.9);
        self.slow_boot = seconds(1);
        self.partitions = 0;
        self.link.loss = self.link.loss.min(0.02);
    }
}

/// None, one or two regions of whole blocks: others are refused.
pub(crate) fn preserve(chance: &mut Chance, chip_bytes: usize) -> Vec<Range<usize>> {
    let quarter = chip_bytes / BLOCK_BYTES / 4;
    let mut region = |first: usize| {
        let first = first + chance.within(0..quarter as u64) as usize;
        let end = first + 1 + chance.within(0..quarter as u64) as usize;
        first * BLOCK_BYTES..end * BLOCK_BYTES
    };
    let regions = [region(0), region(2 * quarter)];
    let count = chance.within(0..3) as usize;
    regions[..count].to_vec()
}
