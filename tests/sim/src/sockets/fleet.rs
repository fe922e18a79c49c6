//! The hosts of a seed, and the files that their managers need.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use firmcast::image::Bundle;
use firmcast::keys::{self, SecretKey as _};

use crate::chance::Chance;
use crate::division::{Division, Map};
use crate::update::host::VirtualHost;
use crate::update::scenario::{Scenario, preserve};
use crate::update::truth::Truth;

const CHIP_BYTES: usize = 64 * 1024;

/// Pause between two steps of a flash job: it takes some seconds, in which a manager may die.
const FLASH_STEP: Duration = Duration::from_millis(400);

/// Share of the hosts whose chips fail in every flash job, and of those that never answer.
const BROKEN: f64 = 0.03;
const SILENT: f64 = 0.02;

/// Longer than any run.
const FOR_GOOD: Duration = Duration::from_secs(7 * 86_400);

/// What a host is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is wrong with it: it must be confirmed.
    Sound,
    /// Its chip fails.
    Broken,
    /// It never answers.
    Silent,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Broken => "broken",
            Self::Silent => "silent",
        }
    }
}

pub(super) struct Fleet {
    seed: u64,
    truth: Rc<Truth>,
    sound: Rc<Scenario>,
    broken: Rc<Scenario>,
}

impl Fleet {
    pub(super) fn of(seed: u64) -> Self {
        let sound = Rc::new(scenario(seed));
        let (faults_end, flash_faults) = (FOR_GOOD, 1.0);
        let broken = Rc::new(Scenario { faults_end, flash_faults, ..(*sound).clone() });
        Self { seed, truth: Rc::new(Truth::new(&sound)), sound, broken }
    }

    pub(super) fn fate(&self, host: usize) -> Fate {
        let mut chance = Chance::new(self.seed, 400_000 + host as u64);
        if chance.happens(BROKEN) {
            Fate::Broken
        } else if chance.happens(SILENT) {
            Fate::Silent
        } else {
            Fate::Sound
        }
    }

    /// The host with the old firmware and this fate, after what was done to it `times` times.
    pub(super) fn host(&self, number: usize, fate: Fate, times: u64) -> VirtualHost {
        let scenario = if fate == Fate::Broken { &self.broken } else { &self.sound };
        let mut host = VirtualHost::new(number, scenario.clone(), self.truth.clone(), false);
        host.computer.skip_boots(times);
        host
    }

    /// Writes the bundle, two managers' keys, and a line for each host: number, what it is made
    /// for, key.
    pub(super) fn write(&self, hosts: usize, folder: &Path) -> Result<(), String> {
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
        };
        let genuine = &self.truth.genuine;
        let bundle = Bundle { manifest: &genuine.manifest, payload: &genuine.payload };
        put("bundle.fcb", &bundle.emit().map_err(|error| error.to_string())?)?;
        for (number, key) in self.truth.managers.iter().enumerate() {
            let path = folder.join(format!("manager{number}.key"));
            keys::create_pair(&path, key, None).map_err(|error| error.to_string())?;
        }
        let line = |host| {
            let key = self.truth.host_key(host).public();
            format!("{host}\t{}\t{key}\n", self.fate(host).name())
        };
        put("hosts.txt", (0..hosts).map(line).collect::<String>().as_bytes())
    }
}

fn scenario(seed: u64) -> Scenario {
    // In every third world the old firmware looks wrong; not here.
    let seed = 3 * seed + 1;
    let mut chance = Chance::new(seed, 1);
    let kept = preserve(&mut chance, CHIP_BYTES);
    Scenario {
        chip_bytes: CHIP_BYTES,
        division: Division::new(Map::None, kept, CHIP_BYTES),
        rogue: None,
        faults_end: Duration::ZERO,
        flash_faults: 0.0,
        power_cuts: 0.0,
        foreign: 0.0,
        closed: 0.0,
        current: 0.0,
        slow_boot: Duration::from_secs(1),
        recovery_boot: Duration::from_secs(1)..Duration::from_secs(4),
        os_boot: Duration::from_secs(2)..Duration::from_secs(6),
        flash_step: FLASH_STEP,
        ..Scenario::of(seed)
    }
}
