//! What is true in a simulated world: images, keys, bundles. The invariants compare with it; hosts
//! and managers do not see it.

use firmcast::image::validity::{Verdict, validate};
use firmcast::image::{Description, Manifest, PayloadFormat, SignedManifest};
use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, ReleasePublicKey, ReleaseSecretKey, SecretKey as _,
};
use firmcast_manager::campaign::{Contents, Pieces};

use crate::chance::Chance;
use crate::chip::BLOCK_BYTES;
use crate::division::Division;
use crate::update::scenario::{Rogue, Scenario};

pub(crate) const VENDOR: &str = "Simulated";
pub(crate) const PRODUCT: &str = "Board 1";
/// What hosts have at the start, and what the campaign's bundle has.
pub(crate) const FLOOR: u64 = 5;
pub(crate) const SECURITY_VERSION: u64 = 7;

/// Of so many seeds, one has old firmware that starts, but looks wrong.
const DOUBTFUL_EVERY: u64 = 3;

/// The smallest piece of an image that has a digest of its own.
const PIECE_BYTES: usize = 0x1_0000;

/// What a chip holds outside of its preserved regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Old,
    New,
    /// Anything else.
    Other,
}

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
    pub(crate) division: Division,
    pub(crate) genuine: Contents,
    pub(crate) rogue: Option<Contents>,
    pub(crate) release: ReleasePublicKey,
    /// The operator's, and the other one that hosts trust.
    pub(crate) managers: [ManagerSecretKey; 2],
    host_key_seed: u64,
}

impl Truth {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut chance = Chance::new(scenario.seed, 2);
        let release = ReleaseSecretKey::generate(chance.rng());
        let stranger = ReleaseSecretKey::generate(chance.rng());
        let mut old = chance.bytes(scenario.chip_bytes);
        let mut new = next_image(&mut chance, &old);
        let division = scenario.division.clone();
        division.put_map(&mut old, 0);
        division.put_map(&mut new, 1);
        if scenario.seed.is_multiple_of(DOUBTFUL_EVERY) {
            make_doubtful(&mut old, &division.reserved());
        }
        let bundle = |image: &[u8], product: &str, security_version, key| {
            let products = &["Board 0", product];
            contents(image, products, security_version, &division, key)
        };
        let genuine = bundle(&new, PRODUCT, SECURITY_VERSION, &release);
        let mut other = next_image(&mut chance, &old);
        division.put_map(&mut other, 1);
        let rogue = scenario.rogue.map(|rogue| match rogue {
            Rogue::UntrustedRelease => bundle(&other, PRODUCT, SECURITY_VERSION, &stranger),
            Rogue::ForgedPayload => {
                let payload = division.image(&other);
                let piece_bytes = genuine.pieces.as_ref().map(|pieces| pieces.piece_bytes);
                let image = payload.clone();
                let pieces = piece_bytes.map(|piece_bytes| Pieces { image, piece_bytes });
                Contents { payload, pieces, ..genuine.clone() }
            }
            Rogue::OtherBoard => bundle(&other, "Board 2", SECURITY_VERSION, &release),
            Rogue::OldSecurityVersion => bundle(&other, PRODUCT, FLOOR - 1, &release),
        });
        Self {
            old,
            new,
            genuine,
            rogue,
            release: release.public(),
            managers: [0, 1].map(|_| ManagerSecretKey::generate(chance.rng())),
            host_key_seed: chance.number(),
            division,
        }
    }

    /// The key of the host with this number; the same each time.
    pub(crate) fn host_key(&self, host: usize) -> HostSecretKey {
        HostSecretKey::generate(Chance::new(self.host_key_seed, host as u64).rng())
    }

    /// What a chip with these contents holds outside of its preserved regions.
    pub(crate) fn holds(&self, contents: &[u8]) -> Holds {
        if self.division.holds(contents, &self.new, 1) {
            Holds::New
        } else if self.division.holds(contents, &self.old, 0) {
            Holds::Old
        } else {
            Holds::Other
        }
    }

    /// The bytes outside of the preserved regions.
    pub(crate) fn outside(&self, contents: &[u8]) -> Vec<u8> {
        let mut outside = contents.to_vec();
        for region in &self.division.preserve {
            outside[region.clone()].fill(0);
        }
        outside
    }

    pub(crate) fn images(&self) -> [&[u8]; 2] {
        [&self.old, &self.new]
    }
}

/// An image of which some pieces are as before, and of the others a part of the blocks; some are
/// erased.
pub(crate) fn next_image(chance: &mut Chance, old: &[u8]) -> Vec<u8> {
    let mut image = old.to_vec();
    let blocks = old.len() / BLOCK_BYTES;
    let stays: Vec<bool> =
        (0..old.len().div_ceil(PIECE_BYTES)).map(|_| chance.within(0..4) > 0).collect();
    for (index, block) in image.chunks_mut(BLOCK_BYTES).enumerate() {
        let piece_stays = stays[index * BLOCK_BYTES / PIECE_BYTES] && index < blocks - 1;
        match chance.within(0..8) {
            _ if piece_stays => {}
            // The last block always differs and is never preserved, so that old and new are never
            // the same.
            0 | 1 if index < blocks - 1 => {}
            2 => block.fill(0xFF),
            3 => block.iter_mut().for_each(|byte| *byte &= 0x5F),
            _ => block.copy_from_slice(&chance.bytes(block.len())),
        }
    }
    image
}

/// A bundle as a campaign takes it.
pub(crate) fn contents(
    image: &[u8],
    products: &[&str],
    security_version: u64,
    division: &Division,
    key: &ReleaseSecretKey,
) -> Contents {
    let expect_version = (division.preserve.len() != 1).then(|| "2.0".to_owned());
    let mut description = Description {
        version: "2.0".into(),
        security_version,
        vendor: VENDOR.into(),
        products: products.iter().map(|product| (*product).to_owned()).collect(),
        expect_version: expect_version.clone(),
        ..Description::default()
    };
    division.describe(&mut description);
    let image = division.image(image);
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image)
        .expect("a description by the rules");
    Contents {
        manifest: SignedManifest::sign(&manifest, key).expect("a manifest by the rules"),
        image_size_bytes: image.len(),
        pieces: Some(Pieces { image: image.clone(), piece_bytes: manifest.block_size_bytes() }),
        payload: image,
        // Only sometimes: the digest alone must tell, too.
        expect_version,
        is_part: !manifest.parts().is_empty(),
        stable_digest: *manifest.stable_digest(),
    }
}

/// Puts the header of a firmware volume with a wrong checksum somewhere outside of the preserved
/// regions.
fn make_doubtful(old: &mut [u8], preserve: &[std::ops::Range<usize>]) {
    let is_free =
        |at: &usize| preserve.iter().all(|kept| *at + BLOCK_BYTES <= kept.start || kept.end <= *at);
    let Some(at) = (0..old.len()).step_by(BLOCK_BYTES).find(is_free) else { return };
    let header = &mut old[at..at + 72];
    header.fill(0);
    header[32..40].copy_from_slice(&(BLOCK_BYTES as u64).to_le_bytes());
    header[40..44].copy_from_slice(b"_FVH");
    header[48..50].copy_from_slice(&72u16.to_le_bytes());
    header[55] = 2;
    debug_assert!(matches!(validate(old), Verdict::Invalid { .. }));
}
