#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

/// Made with Python's hashlib and cryptography from the secret 00 01 .. 1f; append only.
const RELEASE_LINE: &str = "firmcast-release-key A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg= \
    SHA256:E0+Kb95p+s4MJGmzE9ho7kCO27OKLSgzppvRZad/viA";
const MANAGER_LINE: &str = "firmcast-manager-key \
    KD2Ak5J5RY1n7p4SOPQWFOoqEYO4HU9547/TghNNtXwj5G7ehWo+i8JAURNLbIv28S/+TPGjSaSEU6BEuop8GQ== \
    SHA256:VAUzo/bsLk823CYZS6tSHq23Lax/UA2Dvht9ff5DEdc";
const HOST_LINE: &str = "firmcast-host-key j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8= \
    SHA256:1MpX8gPP+3Ryj5NhD8k8EybDApORfXqQs8yZoumZbg4";
const SECRET_DIGITS: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn golden_secret(line: &str) -> String {
    let (word, fingerprint) = (line.split(' ').next().unwrap(), line.split(' ').nth(2).unwrap());
    format!("{word} PRIVATE: keep this file secret\n{SECRET_DIGITS}\n{fingerprint}\n")
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

fn check_golden<S: SecretKey>(line: &str) {
    let secret: S = golden_secret(line).parse().unwrap();
    assert_eq!(*secret.to_text(), golden_secret(line));
    assert_eq!(secret.public().to_string(), line);
    let public: S::Public = format!("{line} rack 7, Ulm\n").parse().unwrap();
    assert_eq!(public, secret.public());
    assert_eq!(public.fingerprint().to_string(), line.split(' ').nth(2).unwrap());
    assert_eq!(public.fingerprint().to_string().parse(), Ok(public.fingerprint()));
    assert!(!format!("{secret:?}").contains(SECRET_DIGITS));
}

#[test]
fn text_forms_match_an_independent_implementation() {
    check_golden::<ReleaseSecretKey>(RELEASE_LINE);
    check_golden::<ManagerSecretKey>(MANAGER_LINE);
    check_golden::<HostSecretKey>(HOST_LINE);
}

#[test]
fn every_truncation_and_every_changed_character_is_an_error() {
    fn check<K: std::str::FromStr<Err = KeyError> + std::fmt::Debug>(text: &str) {
        // X25519 ignores five bits of a secret: changed or not, it is the same key.
        let same = format!("{:?}", text.parse::<K>().unwrap());
        for end in 0..text.len() {
            let ends_before_line_feed = end + 1 == text.len() && text.ends_with('\n');
            assert!(text[..end].parse::<K>().is_err() || ends_before_line_feed, "cut at {end}");
        }
        for at in 0..text.trim_end().len() {
            for bit in 0..7 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                if let Ok(key) = changed.parse::<K>() {
                    assert_eq!(format!("{key:?}"), same, "accepted {changed}");
                }
            }
        }
    }
    check::<ReleasePublicKey>(RELEASE_LINE);
    check::<ManagerPublicKey>(MANAGER_LINE);
    check::<HostPublicKey>(HOST_LINE);
    check::<ReleaseSecretKey>(&golden_secret(RELEASE_LINE));
    check::<ManagerSecretKey>(&golden_secret(MANAGER_LINE));
    check::<HostSecretKey>(&golden_secret(HOST_LINE));
}

#[test]
fn keys_of_another_role_or_kind_are_named_as_such() {
    let wrong = HOST_LINE.parse::<ReleasePublicKey>().unwrap_err();
    assert_eq!(wrong, KeyError::WrongRole { expected: Role::Release, got: Role::Host });
    let wrong = golden_secret(HOST_LINE).parse::<ManagerSecretKey>().unwrap_err();
    assert_eq!(wrong, KeyError::WrongRole { expected: Role::Manager, got: Role::Host });
    assert_eq!(golden_secret(HOST_LINE).parse::<HostPublicKey>(), Err(KeyError::IsPrivate));
    assert_eq!(HOST_LINE.parse::<HostSecretKey>().unwrap_err(), KeyError::IsPublic);
    assert_eq!("ssh-ed25519 AAAA me".parse::<HostPublicKey>(), Err(KeyError::NotAKey));
}

#[test]
fn a_public_key_in_the_place_of_a_private_one_is_told_whoever_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.key");
    let key = HostSecretKey::generate(&mut ChaCha20Rng::seed_from_u64(1));
    create_pair(&path, &key, None).unwrap();
    let load = |path: &std::path::Path| load_secret::<HostSecretKey>(path).unwrap_err();
    let source = KeyError::IsPublic;
    assert!(
        matches!(load(&public_path(&path)), KeyFileError::Key { source: s, .. } if s == source)
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load(&path), KeyFileError::Exposed { .. }));
}

#[test]
fn points_of_small_order_are_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        let line = text::public_line(Role::Host, &weak);
        assert_eq!(line.parse::<HostPublicKey>(), Err(KeyError::WeakKey));
        let line = text::public_line(Role::Release, &weak);
        assert_eq!(line.parse::<ReleasePublicKey>(), Err(KeyError::WeakKey));
    }
}

#[test]
fn signatures_hold_for_their_message_only() {
    let release = ReleaseSecretKey::generate(&mut rng());
    let signature = release.sign(b"bundle");
    assert!(release.public().verify(b"bundle", &signature));
    assert!(!release.public().verify(b"bundlf", &signature));
    let manager = ManagerSecretKey::generate(&mut rng());
    let signature = manager.sign_discovery(b"who is there");
    assert!(manager.public().verify_discovery(b"who is there", &signature));
    assert!(!manager.public().verify_discovery(b"who is here", &signature));
    let approval = manager.sign_approval(b"who is there");
    assert!(manager.public().verify_approval(b"who is there", &approval));
    assert!(!manager.public().verify_approval(b"who is there", &signature), "not an approval");
    assert!(!manager.public().verify_discovery(b"who is there", &approval));
}

#[test]
fn pairs_are_made_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.key");
    let key = HostSecretKey::generate(&mut rng());
    create_pair(&path, &key, Some("rack 7")).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(path.clone()), 0o600);
    assert_eq!(mode(public_path(&path)), 0o644);
    let loaded: HostSecretKey = load_secret(&path).unwrap();
    assert_eq!(loaded.exchange(), key.exchange());
    let public: HostPublicKey = load_public(public_path(&path).to_str().unwrap()).unwrap();
    assert_eq!(public, key.public());
    assert_eq!(load_public::<HostPublicKey>(&public.to_string()).unwrap(), public);

    let other = HostSecretKey::generate(&mut ChaCha20Rng::seed_from_u64(2));
    assert!(matches!(create_pair(&path, &other, None), Err(KeyFileError::Exists { .. })));
    fs::remove_file(public_path(&path)).unwrap();
    assert!(matches!(create_pair(&path, &other, None), Err(KeyFileError::Exists { .. })));
    assert!(!public_path(&path).exists(), "a failed attempt left its public key behind");
    assert_eq!(*fs::read_to_string(&path).unwrap(), *key.to_text());
}

#[test]
fn exposed_oversized_and_special_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.key");
    create_pair(&path, &HostSecretKey::generate(&mut rng()), None).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o610] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = load_secret::<HostSecretKey>(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    let large = dir.path().join("large");
    fs::write(&large, vec![b'a'; KEY_FILE_MAX + 1]).unwrap();
    for special in [large.to_str().unwrap(), "/dev/zero", dir.path().to_str().unwrap()] {
        let error = load_public::<HostPublicKey>(special).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAKeyFile { .. }), "{error}");
    }
    let dangling = dir.path().join("dangling");
    symlink(dir.path().join("target"), &dangling).unwrap();
    let key = HostSecretKey::generate(&mut rng());
    assert!(matches!(create_pair(&dangling, &key, None), Err(KeyFileError::Exists { .. })));
}

proptest! {
    #[test]
    fn parsing_any_text_never_panics(
        text in "(firmcast-(release|manager|host)-key )?\\PC*\n?\\PC*",
    ) {
        let _ = text.parse::<ReleasePublicKey>();
        let _ = text.parse::<ManagerPublicKey>();
        let _ = text.parse::<HostPublicKey>();
        let _ = text.parse::<HostSecretKey>();
    }
}
