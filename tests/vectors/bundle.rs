//! A small signed bundle whose manifest has every optional part but the layout.

use firmcast::image::{
    Bundle, Description, Manifest, PayloadFormat, Region, RegionAction, SignedManifest,
};
use firmcast::keys::{PublicKey as _, SecretKey as _};
use serde_json::{Value, json};

use super::{hex, keys};

const IMAGE_BYTES: u32 = 4096;

pub(super) fn vectors() -> Value {
    let image: Vec<u8> = (0..IMAGE_BYTES).map(|index| (index * 7 % 251) as u8).collect();
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
            "22": 1,
        },
    })
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
    }
}
