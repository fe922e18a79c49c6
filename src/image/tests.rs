#![allow(clippy::unwrap_used)]

use ciborium::Value;
use proptest::prelude::*;

use super::*;
use crate::keys::{PublicKey as _, ReleasePublicKey, ReleaseSecretKey, SecretKey as _};

/// Secret 00 01 .. 1f.
const KEY: &str = "firmcast-release-key PRIVATE: keep this file secret\n\
    AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\
    SHA256:E0+Kb95p+s4MJGmzE9ho7kCO27OKLSgzppvRZad/viA\n";

/// A bundle file made by Python's cryptography and a CBOR encoder of its own; append only.
const GOLDEN: &str = "\
    894643420d0a1a0a000100000000014a000000000000000e83217097d2845826a20127045820134f8a6fde69fa\
    ce0c2469b313d868ee408edbb38a2d2833a69bd165a77fbe20a058dbb001010207036451454d5504826b537461\
    6e64617264205043627063058163312e300600070e0858201df2f3853d10a305aa52d36fd4a03f5721d7ce7dae\
    f6f7e5e8d51074d31361f1090e0a58201df2f3853d10a305aa52d36fd4a03f5721d7ce7daef6f7e5e8d51074d3\
    1361f10b1a000100000c58201df2f3853d10a305aa52d36fd4a03f5721d7ce7daef6f7e5e8d51074d31361f10d\
    63312e310e69312e312028554c4d290f82836476617273020383636d61630801105820d3a01dbc5f3a5b3d676c\
    a1d7a2a0455989c9ddffcc9b4b128ab5b3928727903c5840627ad82c35cec30dd943984196e58baa8a67d0d3fa\
    8a9a0d8b5c88d99a97f47d91e9653984698012722d3e3773a94bdc95b53622cc1d231c76cb229d967bc5006669\
    726d7761726520696d616765";

const IMAGE: &[u8] = b"firmware image";

fn key() -> ReleaseSecretKey {
    KEY.parse().unwrap()
}

fn trusted() -> Vec<ReleasePublicKey> {
    vec![key().public()]
}

fn golden() -> Vec<u8> {
    let digits = GOLDEN.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn region(name: &str, offset_bytes: u64, length_bytes: u64) -> Region {
    Region { name: name.into(), offset_bytes, length_bytes, action: RegionAction::Preserve }
}

fn description() -> Description {
    Description {
        version: "1.1".into(),
        security_version: 7,
        vendor: "QEMU".into(),
        products: vec!["Standard PC".into(), "pc".into()],
        update_from: vec!["1.0".into()],
        expect_version: Some("1.1 (ULM)".into()),
        regions: vec![region("vars", 2, 3), region("mac", 8, 1)],
        ..Description::default()
    }
}

fn manifest() -> Manifest {
    Manifest::describe(description(), IMAGE, PayloadFormat::Raw, IMAGE).unwrap()
}

fn verify(manifest: &[u8]) -> Result<VerifiedManifest, ManifestError> {
    VerifiedManifest::verify(manifest, &trusted())
}

/// Returns the manifest's map, to be spoilt.
fn entries() -> Vec<(Value, Value)> {
    let value: Value = ciborium::from_reader(&*manifest_cbor::emit(&manifest())).unwrap();
    value.into_map().unwrap()
}

/// Returns what a host says to a map that is well signed.
fn verify_entries(entries: Vec<(Value, Value)>) -> Result<VerifiedManifest, ManifestError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Map(entries), &mut bytes).unwrap();
    verify(&signed::sign_bytes(bytes, &key()).unwrap())
}

#[test]
fn the_bundle_matches_an_independent_implementation() {
    let golden = golden();
    let signed = SignedManifest::sign(&manifest(), &key()).unwrap();
    let bundle = Bundle { manifest: &signed, payload: IMAGE };
    assert_eq!(bundle.emit().unwrap(), golden);
    let parsed = Bundle::parse(&golden).unwrap();
    assert_eq!(parsed, bundle);
    let verified = verify(parsed.manifest).unwrap();
    assert_eq!(*verified, manifest());
    assert_eq!(verified.signer(), key().public().fingerprint());
    assert_eq!(verified.bytes(), parsed.manifest);
    let image = verified.open_payload(parsed.payload).unwrap();
    assert_eq!(image.bytes(), IMAGE);
    assert_eq!(image.manifest().regions(), description().regions);
    // sha256("fiareimage")
    assert_eq!(verified.stable_digest()[..4], [0xd3, 0xa0, 0x1d, 0xbc]);
    assert!(verified.fits_board("QEMU", "pc ") && !verified.fits_board("QEMU", "pc2"));
    assert!(verified.updates_from("1.0") && !verified.updates_from("1.1"));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let golden = golden();
    for end in 0..golden.len() {
        assert!(Bundle::parse(&golden[..end]).is_err(), "cut at {end}");
    }
    assert!(Bundle::parse(&[&golden[..], b"x"].concat()).is_err());
    let parts = Bundle::parse(&golden).unwrap();
    for at in 0..golden.len() {
        for bit in 0..8 {
            let mut changed = golden.clone();
            changed[at] ^= 1 << bit;
            assert!(Bundle::parse(&changed).is_err(), "bit {bit} at {at:#x}");
        }
    }
    // And without the CRC, which a forger would set right:
    for at in 0..parts.manifest.len() {
        assert!(verify(&parts.manifest[..at]).is_err());
        for bit in 0..8 {
            let mut changed = parts.manifest.to_vec();
            changed[at] ^= 1 << bit;
            assert!(verify(&changed).is_err(), "bit {bit} at {at:#x}");
        }
    }
    let verified = verify(parts.manifest).unwrap();
    for at in 0..IMAGE.len() {
        let mut changed = IMAGE.to_vec();
        changed[at] ^= 1;
        let error = verified.open_payload(&changed).unwrap_err();
        assert!(matches!(error, ImageError::PayloadDigest { .. }), "{error}");
        let error = verified.open_payload(&IMAGE[..at]).unwrap_err();
        assert_eq!(error, ImageError::PayloadSize { expected_bytes: 14, got_bytes: at });
    }
}

#[test]
fn only_trusted_keys_are_believed() {
    let other = ReleaseSecretKey::generate(
        &mut <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(1),
    );
    let signed = SignedManifest::sign(&manifest(), &key()).unwrap();
    let signer = key().public().fingerprint();
    let error = VerifiedManifest::verify(&signed, &[other.public()]).unwrap_err();
    assert_eq!(error, ManifestError::UntrustedSigner { signer, trusted: 1 });
    assert!(VerifiedManifest::verify(&signed, &[]).is_err());
    assert!(VerifiedManifest::verify(&signed, &[other.public(), key().public()]).is_ok());
    // Another key's signature under the trusted key's name.
    let mut value = SignedManifest::sign(&manifest(), &other).unwrap();
    let name = other.public().fingerprint();
    let at = value.windows(32).position(|w| w == name.as_bytes()).unwrap();
    value[at..at + 32].copy_from_slice(signer.as_bytes());
    assert_eq!(verify(&value).unwrap_err(), ManifestError::BadSignature { signer });
}

#[test]
fn well_signed_maps_of_another_shape_are_refused() {
    let with = |label: i64, value: Value| {
        let mut map = entries();
        map.retain(|(key, _)| *key != Value::from(label));
        map.push((label.into(), value));
        map.sort_by_key(|(key, _)| i128::from(key.as_integer().unwrap()));
        verify_entries(map).unwrap_err()
    };
    assert_eq!(with(28, 1.into()), ManifestError::Newer { what: "field", value: 28 });
    assert_eq!(with(-1, 1.into()), ManifestError::Newer { what: "field", value: -1 });
    assert_eq!(with(1, 2.into()), ManifestError::Newer { what: "version", value: 2 });
    assert_eq!(with(6, 2.into()), ManifestError::Newer { what: "payload format", value: 2 });
    for label in 1..=27 {
        for value in [Value::Null, Value::Float(1.0), vec![Value::Null].into()] {
            let error = with(label, value);
            assert!(matches!(error, ManifestError::Malformed { .. }), "{label}: {error}");
        }
    }
    assert_eq!(with(5, Value::Array(vec![])), ManifestError::NotDeterministic);
    for (index, _) in entries().iter().enumerate().filter(|(index, _)| ![4, 13, 14].contains(index))
    {
        let mut map = entries();
        map.remove(index);
        let error = verify_entries(map).unwrap_err();
        assert!(
            matches!(error, ManifestError::Missing { label, .. } if usize::from(label) == index + 1)
        );
    }
    let mut swapped = entries();
    swapped.swap(2, 3);
    assert_eq!(verify_entries(swapped).unwrap_err(), ManifestError::NotDeterministic);
    let mut twice = entries();
    twice.insert(0, twice[0].clone());
    assert_eq!(verify_entries(twice).unwrap_err(), ManifestError::NotDeterministic);
    let mut longer = manifest_cbor::emit(&manifest());
    longer.push(0);
    let longer = signed::sign_bytes(longer, &key()).unwrap();
    assert_eq!(verify(&longer).unwrap_err(), ManifestError::NotDeterministic);
}

#[test]
fn every_rule_is_checked_when_made_and_when_read() {
    type Spoil = fn(&mut Manifest);
    let d = |spoil: fn(&mut Description)| {
        let mut manifest = manifest();
        spoil(&mut manifest.description);
        manifest
    };
    let m = |spoil: Spoil| {
        let mut manifest = manifest();
        spoil(&mut manifest);
        manifest
    };
    let bad = [
        d(|d| d.version.clear()),
        d(|d| d.version = "x".repeat(TEXT_MAX + 1)),
        d(|d| d.vendor = "a\x1b[2Jb".into()),
        d(|d| d.vendor = " QEMU".into()),
        d(|d| d.products.clear()),
        d(|d| d.products = vec!["p".into(); PRODUCTS_MAX + 1]),
        d(|d| d.update_from = vec!["p".into(); UPDATE_FROM_MAX + 1]),
        d(|d| d.expect_version = Some("\u{202e}".into())),
        d(|d| d.regions = (0..65).map(|i| region(&i.to_string(), 0, 1)).collect()),
        d(|d| d.regions = vec![region("a", 13, 2)]),
        d(|d| d.regions = vec![region("a", u64::MAX, 2)]),
        d(|d| d.regions = vec![region("a", 3, 0)]),
        d(|d| d.regions = vec![region("a", 3, 2), region("b", 4, 1)]),
        d(|d| d.regions = vec![region("a", 3, 2), region("b", 1, 1)]),
        d(|d| d.regions = vec![region("a", 3, 2), region("a", 5, 1)]),
        d(|d| d.regions = vec![region("a", 0, 4), region("b", 4, 10)]),
        m(|m| m.payload_bytes = 0),
        m(|m| m.payload_bytes = PAYLOAD_MAX as u64 + 1),
        m(|m| m.image_bytes = 0),
        m(|m| m.image_bytes = IMAGE_MAX as u64 + 1),
        m(|m| m.block_bytes = 0),
        m(|m| m.block_bytes = 32 << 10),
        m(|m| m.block_bytes = 65537),
        m(|m| m.block_digests.push([0; 32])),
        m(|m| m.block_digests.clear()),
    ];
    for manifest in bad {
        let error = manifest.check().unwrap_err();
        let signed = signed::sign_bytes(manifest_cbor::emit(&manifest), &key()).unwrap();
        let read = verify(&signed).unwrap_err();
        // An empty list is not written at all.
        let absent = matches!(read, ManifestError::Missing { name: "products", .. });
        // Reading sorts the lists of regions into one, so that another order shows only at the end.
        let reordered = read == ManifestError::NotDeterministic
            && matches!(error, ManifestError::RegionOverlap { .. });
        let same = read == error || absent && manifest.products().is_empty() || reordered;
        assert!(same, "{read}");
    }
}

#[test]
fn the_largest_manifest_fits() {
    let text = |i: usize| format!("{i:>0$}", TEXT_MAX).replace(' ', "x");
    let image = vec![0xff; IMAGE_MAX];
    let description = Description {
        version: text(0),
        security_version: u64::MAX,
        vendor: text(0),
        products: (0..PRODUCTS_MAX).map(text).collect(),
        update_from: (0..UPDATE_FROM_MAX).map(text).collect(),
        expect_version: Some(text(0)),
        regions: (0..REGIONS_MAX).map(|i| region(&text(i), (1 << 27) + i as u64, 1)).collect(),
        boot_offset_bytes: Some(IMAGE_MAX as u64 - 1),
        host: Some(key().public().fingerprint()),
        new_layout: true,
        new_boot_guard: true,
        parts: (0..PARTS_MAX).map(|i| part(&text(i), (IMAGE_MAX / PARTS_MAX) as u64)).collect(),
    };
    let manifest =
        Manifest::describe(description, &image, PayloadFormat::Raw, &image[..1]).unwrap();
    assert_eq!(manifest.block_digests().len(), BLOCKS_MAX);
    let signed = SignedManifest::sign(&manifest, &key()).unwrap();
    assert_eq!(*verify(&signed).unwrap(), manifest);
    let error = SignedManifest::parse(&vec![0; MANIFEST_MAX + 1]).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { .. }));
}

fn part(name: &str, length_bytes: u64) -> Part {
    Part { name: name.to_owned(), length_bytes, offset_bytes: None }
}

/// Returns what a host says to a well-signed bundle for `image` that carries `payload`.
fn open(image: &[u8], payload: &[u8]) -> Result<VerifiedImage, ImageError> {
    let description = Description { regions: vec![], ..description() };
    let manifest = Manifest::describe(description, image, PayloadFormat::Zstd, payload).unwrap();
    verify(&SignedManifest::sign(&manifest, &key()).unwrap()).unwrap().open_payload(payload)
}

#[test]
fn compressed_images_come_back_or_fail_clearly() {
    let mut image = vec![0xff; 3 << 20];
    image
        .iter_mut()
        .step_by(7)
        .zip(0u32..)
        .for_each(|(byte, i)| *byte = (i.wrapping_mul(i) >> 5) as u8);
    let payload = zstd::bulk::compress(&image, 19).unwrap();
    assert!(payload.len() < image.len());
    assert_eq!(open(&image, &payload).unwrap().bytes(), image);
    let streamed = zstd::stream::encode_all(&*image, 3).unwrap();
    assert_eq!(open(&image, &streamed).unwrap().bytes(), image);

    for (payload, image) in [(&payload, &image[1..]), (&streamed, &image[1..])] {
        let error = open(image, payload).unwrap_err();
        assert!(matches!(error, ImageError::ImageSize { .. }), "{error}");
    }
    let error = open(&[&image[..], b"x"].concat(), &payload).unwrap_err();
    assert!(matches!(error, ImageError::ImageSize { .. }), "{error}");
    for end in [1, 5, 6, 20, payload.len() / 2, payload.len() - 1] {
        let error = open(&image, &payload[..end]).unwrap_err();
        assert!(matches!(error, ImageError::Decompress { .. }), "{error}");
    }
    let longer = [&payload[..], &payload[..]].concat();
    assert!(matches!(open(&image, &longer), Err(ImageError::Decompress { .. })));
    let mut other = image.clone();
    other[0x2_1234] ^= 1;
    assert_eq!(
        open(&other, &payload).unwrap_err(),
        ImageError::BlockDigest { offset_bytes: 0x2_0000 }
    );
    // A frame that wants a window of 2 GiB.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(matches!(open(&image, &wide), Err(ImageError::Decompress { .. })));
}

#[test]
fn known_formats_are_recognised() {
    let blank = vec![0xff; 4096];
    assert_eq!(FirmwareFormat::recognise(&blank), None);
    assert_eq!(FirmwareFormat::recognise(&[]), None);
    let with = |offset: usize, bytes: &[u8]| {
        let mut image = blank.clone();
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        FirmwareFormat::recognise(&image)
    };
    assert_eq!(with(0x10, &[0x5a, 0xa5, 0xf0, 0x0f]), Some(FirmwareFormat::IntelDescriptor));
    assert_eq!(with(0x200, b"__FMAP__"), Some(FirmwareFormat::Coreboot));
    assert_eq!(with(0x240, b"LARCHIVE"), Some(FirmwareFormat::Coreboot));
    assert_eq!(with(4080, &[0xea, 0x5b, 0xe0, 0, 0xf0]), Some(FirmwareFormat::LegacyBios));
    let mut volume = [0u8; 72];
    volume[33] = 2; // 512 bytes
    volume[40..44].copy_from_slice(b"_FVH");
    volume[48] = 72;
    let (words, _) = volume.as_chunks::<2>();
    let sum = words.iter().fold(0u16, |s, w| s.wrapping_add(u16::from_le_bytes(*w)));
    volume[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    assert_eq!(with(0x400, &volume), Some(FirmwareFormat::UefiVolume));
    assert_eq!(with(0x0, &volume), Some(FirmwareFormat::UefiVolume));
    assert_eq!(with(4024, &volume), None, "longer than the image");
    volume[50] ^= 1;
    assert_eq!(with(0x400, &volume), None, "wrong checksum");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Bundle::parse(&bytes);
        let _ = SignedManifest::parse(&bytes);
        let _ = manifest_cbor::parse(&bytes);
        let _ = FirmwareFormat::recognise(&bytes);
        let signed = signed::sign_bytes(bytes, &key()).unwrap();
        prop_assert!(verify(&signed).is_err());
    }

    #[test]
    fn the_stable_digest_does_not_depend_on_chunks_or_preserved_bytes(
        contents in prop::collection::vec(any::<u8>(), 1..200),
        preserved in prop::collection::vec(any::<bool>(), 200),
        chunk_bytes in 1usize..50,
        change in any::<u8>(),
    ) {
        let kept: Vec<usize> = (0..contents.len()).filter(|&at| !preserved[at]).collect();
        prop_assume!(!kept.is_empty());
        let mut regions: Vec<Region> = Vec::new();
        for at in (0..contents.len()).filter(|&at| preserved[at]) {
            match regions.last_mut() {
                Some(r) if r.offset_bytes + r.length_bytes == at as u64 => r.length_bytes += 1,
                _ => regions.push(region(&at.to_string(), at as u64, 1)),
            }
        }
        regions.truncate(REGIONS_MAX);
        let description = Description { regions: regions.clone(), ..description() };
        let manifest =
            Manifest::describe(description, &contents, PayloadFormat::Raw, &contents).unwrap();
        let inside = |at: usize| {
            let mut ranges =
                regions.iter().map(|r| r.offset_bytes..r.offset_bytes + r.length_bytes);
            ranges.any(|range| range.contains(&(at as u64)))
        };
        let outside: Vec<u8> =
            (0..contents.len()).filter(|&at| !inside(at)).map(|at| contents[at]).collect();
        let mut chip = contents.clone();
        (0..chip.len()).filter(|&at| inside(at)).for_each(|at| chip[at] ^= change);
        chip.extend([change; 9]);
        let mut hasher = manifest.stable_hasher();
        chip.chunks(chunk_bytes).for_each(|chunk| hasher.update(chunk));
        prop_assert_eq!(hasher.finish(), sha256(&outside));
    }
}
