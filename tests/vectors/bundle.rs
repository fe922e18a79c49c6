//! A small signed bundle whose manifest has every optional part.

use firmcast::image::{
    Bundle, Description, Manifest, Part, PayloadFormat, Region, RegionAction, SignedManifest,
};
use firmcast::keys::{PublicKey as _, SecretKey as _};
use serde_json::{Value, json};

use super::{hex, keys};

const IMAGE_BYTES: u32 = 4096;

/// A bundle whose image covers two parts of a chip.
pub(super) fn vectors_of_parts() -> Value {
    let image: Vec<u8> = (0..IMAGE_BYTES).map(|index| (index * 5 % 241) as u8).collect();
    let part = |name: &str, length_bytes, offset_bytes| Part {
        name: name.into(),
        length_bytes,
        offset_bytes,
    };
    let keep = Region {
        name: "serial".into(),
        offset_bytes: 3000,
        length_bytes: 24,
        action: RegionAction::Preserve,
    };
    let description = Description {
        version: "2.0".into(),
        vendor: "ACME".into(),
        products: vec!["S1".into()],
        regions: vec![keep],
        parts: vec![part("bios", 2560, None), part("loader", 1536, Some(65536))],
        ..Description::default()
    };
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
    let signed = SignedManifest::sign(&manifest, &keys::release()).unwrap();
    let file = Bundle { manifest: &signed, payload: &image }.emit().unwrap();
    json!({
        "keys": "keys.json",
        "image": hex(&image),
        "bundle": hex(&file),
        "manifest": {
            "1": 1,
            "2": 0,
            "3": "ACME",
            "4": ["S1"],
            "6": 0,
            "7": IMAGE_BYTES,
            "8": hex(manifest.payload_digest()),
            "9": IMAGE_BYTES,
            "10": hex(manifest.image_digest()),
            "11": manifest.block_size_bytes(),
            "12": hex(&manifest.block_digests().concat()),
            "13": "2.0",
            "15": [["serial", 3000, 24]],
            "16": hex(manifest.stable_digest()),
            "27": [["bios", 2560], ["loader", 1536, 65536]],
        },
    })
}

pub(super) fn vectors() -> Value {
    let mut image: Vec<u8> = (0..IMAGE_BYTES).map(|index| (index * 7 % 251) as u8).collect();
    let map = flash_map(&[("RO_VPD", 2560, 256), ("SI_ALL", 3840, 256)]);
    image[3072..3072 + map.len()].copy_from_slice(&map);
    put_table(&mut image);
    let manifest = Manifest::describe(description(), &image, PayloadFormat::Raw, &image).unwrap();
    let signed = SignedManifest::sign(&manifest, &keys::release()).unwrap();
    let file = Bundle { manifest: &signed, payload: &image }.emit().unwrap();
    json!({
        "keys": "keys.json",
        "image": hex(&image),
        "bundle": hex(&file),
        "manifest": {
            "1": 1,
            "2": 7,
            "3": "ACME",
            "4": ["S1", "S2"],
            "5": ["1.0"],
            "6": 0,
            "7": IMAGE_BYTES,
            "8": hex(manifest.payload_digest()),
            "9": IMAGE_BYTES,
            "10": hex(manifest.image_digest()),
            "11": manifest.block_size_bytes(),
            "12": hex(&manifest.block_digests().concat()),
            "13": "2.0",
            "14": "2.0 (Ulm)",
            "15": [["variables", 256, 512]],
            "16": hex(manifest.stable_digest()),
            "17": [["event log", 1024, 256]],
            "18": [["counter", 2048, 16]],
            "19": 4080,
            "20": hex(keys::host().public().fingerprint().as_bytes()),
            "21": [[8, "RO_VPD", 2560, 256], [255, "SI_ALL", 3840, 256]],
            "22": 1,
            "24": 1,
            "25": [[2]],
        },
    })
}

/// Returns an FMAP of the image, which its layout is read from.
fn flash_map(areas: &[(&str, u32, u32)]) -> Vec<u8> {
    let name = |text: &str| {
        let mut field = [0; 32];
        field[..text.len()].copy_from_slice(text.as_bytes());
        field
    };
    let mut map = [b"__FMAP__\x01\x00", &[0; 8][..], &IMAGE_BYTES.to_le_bytes()].concat();
    map.extend(name("FLASH"));
    map.extend((areas.len() as u16).to_le_bytes());
    for (text, offset_bytes, length_bytes) in areas {
        map.extend(offset_bytes.to_le_bytes());
        map.extend(length_bytes.to_le_bytes());
        map.extend(name(text));
        map.extend([0; 2]);
    }
    map
}

/// Writes a Firmware Interface Table that names a startup ACM outside the image, of which nothing
/// is known.
fn put_table(image: &mut [u8]) {
    const TABLE: usize = 3328;
    let address = (1u64 << 32) - u64::from(IMAGE_BYTES) + TABLE as u64;
    let header = [b"_FIT_   ", &[2, 0, 0, 0, 0, 1, 0, 0][..]].concat();
    image[TABLE..TABLE + 16].copy_from_slice(&header);
    image[TABLE + 16..TABLE + 32]
        .copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0]);
    image[4032..4040].copy_from_slice(&address.to_le_bytes());
}

fn description() -> Description {
    let region = |name: &str, offset_bytes, length_bytes, action| Region {
        name: name.into(),
        offset_bytes,
        length_bytes,
        action,
    };
    Description {
        version: "2.0".into(),
        security_version: 7,
        vendor: "ACME".into(),
        products: vec!["S1".into(), "S2".into()],
        update_from: vec!["1.0".into()],
        expect_version: Some("2.0 (Ulm)".into()),
        regions: vec![
            region("variables", 256, 512, RegionAction::Preserve),
            region("event log", 1024, 256, RegionAction::Reset),
            region("counter", 2048, 16, RegionAction::Replace),
        ],
        boot_offset_bytes: Some(4080),
        host: Some(keys::host().public().fingerprint()),
        new_layout: true,
        new_boot_guard: true,
        parts: Vec::new(),
    }
}
