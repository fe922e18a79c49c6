//! What is true in a world of dead hosts: boards, images, keys, bundles. The invariants compare
//! with it; hosts and managers do not see it.

use firmcast::image::{KnownGood, Manifest, SignedManifest};
use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, ReleasePublicKey, ReleaseSecretKey, SecretKey as _,
};
use firmcast::session::PeerKey;
use firmcast_manager::rescue::{BundleId, Shelf, Shelved};

use super::scenario::{Rogue, Scenario};
use crate::chance::Chance;
use crate::division::{Division, Map};
use crate::update::scenario::preserve;
use crate::update::truth::{FLOOR, SECURITY_VERSION, contents, next_image};

/// What the firmware of dead hosts called itself.
pub(crate) const OLD_VERSION: &str = "1.0";

/// A board and its firmware.
#[derive(Debug)]
pub(crate) struct BoardTruth {
    pub(crate) product: String,
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
    pub(crate) division: Division,
    /// The record of the old firmware.
    pub(crate) good: KnownGood,
}

/// A bundle that some manager has.
#[derive(Debug)]
struct Stock {
    shelved: Shelved,
    payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) boards: Vec<BoardTruth>,
    genuine: Vec<Stock>,
    rogue: Vec<Stock>,
    pub(crate) release: ReleasePublicKey,
    /// Those that hosts trust.
    pub(crate) managers: [ManagerSecretKey; 2],
    /// One that nobody trusts.
    pub(crate) impostor: ManagerSecretKey,
    host_key_seed: u64,
}

impl BoardTruth {
    fn new(number: usize, map: Map, chip_bytes: usize, chance: &mut Chance) -> Self {
        let mut old = chance.bytes(chip_bytes);
        let mut new = next_image(chance, &old);
        let division = Division::new(map, preserve(chance, chip_bytes), chip_bytes);
        division.put_map(&mut old, 0);
        division.put_map(&mut new, 1);
        let product = format!("Board {}", number + 1);
        let release = ReleaseSecretKey::generate(chance.rng());
        let earlier = contents(&old, &[&product], FLOOR, &division.before(), &release);
        let good = KnownGood::of_manifest(&manifest(&earlier.manifest));
        let good = KnownGood { bios_version: OLD_VERSION.into(), ..good };
        Self { product, old, new, division, good }
    }

    /// Returns whether a chip holds the new image outside of its preserved regions.
    pub(crate) fn is_new(&self, chip: &[u8]) -> bool {
        self.division.holds(chip, &self.new, 1)
    }

    /// Returns the same for the old image.
    pub(crate) fn is_old(&self, chip: &[u8]) -> bool {
        self.division.holds(chip, &self.old, 0)
    }

    pub(crate) fn images(&self) -> [&[u8]; 2] {
        [&self.old, &self.new]
    }
}

impl Truth {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut chance = Chance::new(scenario.seed, 12);
        let release = ReleaseSecretKey::generate(chance.rng());
        let stranger = ReleaseSecretKey::generate(chance.rng());
        let board =
            |number| BoardTruth::new(number, scenario.map, scenario.chip_bytes, &mut chance);
        let boards: Vec<BoardTruth> = (0..scenario.boards).map(board).collect();
        let genuine = boards.iter().map(|board| Stock::new(board, &board.new, None, &release));
        let genuine: Vec<Stock> = genuine.collect();
        let rogue = boards.iter().map(|board| {
            let mut other = next_image(&mut chance, &board.old);
            board.division.put_map(&mut other, 1);
            let key = match scenario.rogue {
                Some(Rogue::UntrustedRelease) => &stranger,
                _ => &release,
            };
            Stock::new(board, &other, scenario.rogue, key)
        });
        let rogue = rogue.collect();
        Self {
            boards,
            genuine,
            rogue,
            release: release.public(),
            managers: [0, 1].map(|_| ManagerSecretKey::generate(chance.rng())),
            impostor: ManagerSecretKey::generate(chance.rng()),
            host_key_seed: chance.number(),
        }
    }

    /// Returns the key of the host with this number; the same each time.
    pub(crate) fn host_key(&self, host: usize) -> HostSecretKey {
        HostSecretKey::generate(Chance::new(self.host_key_seed, host as u64).rng())
    }

    pub(crate) fn host_peer(&self, host: usize) -> PeerKey {
        *self.host_key(host).public().exchange()
    }

    /// Returns whether the host is in no inventory, when this share of hosts is not.
    pub(crate) fn is_stranger(&self, host: usize, share: f64) -> bool {
        Chance::new(self.host_key_seed ^ 1, host as u64).happens(share)
    }

    pub(crate) fn board_of(&self, host: usize) -> &BoardTruth {
        &self.boards[host % self.boards.len()]
    }

    /// Returns what a manager has on its disk.
    pub(crate) fn shelf(&self, rogue: bool) -> Shelf {
        let stock = self.stock(rogue).iter().map(|stock| stock.shelved.clone());
        Shelf::new(stock.collect(), Vec::new())
    }

    pub(crate) fn payload(&self, rogue: bool, id: &BundleId) -> Option<Vec<u8>> {
        let stock = self.stock(rogue).iter().find(|stock| stock.shelved.id == *id);
        stock.map(|stock| stock.payload.clone())
    }

    fn stock(&self, rogue: bool) -> &[Stock] {
        if rogue { &self.rogue } else { &self.genuine }
    }
}

impl Stock {
    /// A bundle for a board; a rogue's looks like a good one where managers look, and is what it is
    /// where hosts do.
    fn new(board: &BoardTruth, image: &[u8], rogue: Option<Rogue>, key: &ReleaseSecretKey) -> Self {
        let bundle = |product: &str, security_version| {
            contents(image, &[product], security_version, &board.division, key)
        };
        let shown = bundle(&board.product, SECURITY_VERSION);
        let (told, whole) = match rogue {
            Some(Rogue::OtherBoard) => (bundle("Board 9", SECURITY_VERSION), image),
            Some(Rogue::OldSecurityVersion) => (bundle(&board.product, FLOOR - 1), image),
            Some(Rogue::ForgedPayload) => (shown.clone(), &board.old[..]),
            _ => (shown.clone(), image),
        };
        let file = format!("{}.bundle", board.product);
        let mut shelved =
            Shelved::new(file, &told.manifest, true).expect("a manifest that was made here");
        shelved.manifest = manifest(&shown.manifest);
        Self { shelved, payload: board.division.image(whole) }
    }
}

fn manifest(signed: &[u8]) -> Manifest {
    let parsed = SignedManifest::parse(signed).and_then(|parsed| parsed.unverified());
    parsed.expect("a manifest that was made here")
}
