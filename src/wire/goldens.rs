//! What follows from the protocol and its version: sealed golden datagrams, and seeds of fuzz
//! targets.
//!
//! `UPDATE_GOLDENS=1 cargo test --lib wire::goldens` writes the sealed ones anew;
//! `tests/goldens/check` computes them from docs/PROTOCOL.md, without this library. `make fuzz` has
//! the seeds written.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use super::broadcast::{GroupCipher, GroupKey, StatusRequest};
use super::datagram::{Initiation, Transport};
use super::tests::{answers, commands};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns what tests/goldens/sealed must hold: a line of hex for each datagram.
fn sealed() -> String {
    let cipher = GroupCipher::new(0x0102_0304_0506_0708, &GroupKey::new([7; 32]));
    let request = StatusRequest {
        round: 9,
        answer_window_ms: 50,
        sent_fragments: 1000,
        repeat_complete: true,
    };
    let fragment = cipher.seal_fragment(2, 0x10, b"firmware");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}\n{}\n", hex(&fragment), hex(&cipher.seal_status_request(&request)))
}

/// Returns the path of each seed below fuzz/corpus, and what it must hold.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let initiation =
        Initiation { sender: 0, noise: [0; 104], mac: [0; 16], cookie_mac: None }.emit();
    let transport = Transport { receiver: 0, counter: 0, sealed: vec![0; 28] }.emit();
    let commands = commands().into_iter().map(|(command, _)| command.emit());
    let answers = answers().into_iter().map(|(answer, _)| answer.emit());
    let mut seeds = vec![
        ("idle_port/initiation".to_owned(), initiation.clone()),
        ("messages/initiation".to_owned(), initiation),
        ("messages/transport".to_owned(), transport),
    ];
    seeds
        .extend(commands.chain(answers).map(|bytes| (format!("messages/{:02x}", bytes[0]), bytes)));
    seeds
}

#[test]
fn sealed_datagrams_stay_what_they_are() {
    let file = Path::new(ROOT).join("tests/goldens/sealed");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&file, sealed()).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        sealed(),
        "a new protocol version? Run UPDATE_GOLDENS=1 cargo test --lib wire::goldens, then \
         tests/goldens/check"
    );
}

#[test]
fn every_kind_of_message_is_a_seed() {
    let seeds = seeds();
    for kind in (0x01..=0x0d).chain(0x81..=0x88) {
        let path = format!("messages/{kind:02x}");
        assert!(seeds.iter().any(|(seed, _)| *seed == path), "{path}: add a golden message");
    }
    if std::env::var_os("WRITE_FUZZ_SEEDS").is_some() {
        for (path, bytes) in seeds {
            let file = Path::new(ROOT).join("fuzz/corpus").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }
}
