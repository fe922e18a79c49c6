//! The files whose bytes follow from the protocol and its version: sealed golden datagrams, and seeds of fuzz targets.
//!
//! `UPDATE_GOLDENS=1 cargo test --lib wire::goldens` writes them anew. `tests/goldens/check` computes the sealed ones
//! from docs/PROTOCOL.md, without this library.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use super::broadcast::{GroupCipher, GroupKey, StatusRequest};
use super::datagram::{Initiation, Transport};
use super::message_tests::{answers, commands};

/// Returns the path of each file in the repository, and what it must hold.
fn files() -> Vec<(String, Vec<u8>)> {
    let cipher = GroupCipher::new(0x0102_0304_0506_0708, &GroupKey::new([7; 32]));
    let request = StatusRequest {
        round: 9,
        answer_window_ms: 50,
        sent_fragments: 1000,
        repeat_complete: true,
    };
    let initiation = Initiation { sender: 0, noise: [0; 104], mac: [0; 16] }.emit();
    let transport = Transport { receiver: 0, counter: 0, sealed: vec![0; 28] }.emit();
    let mut files = vec![
        ("tests/goldens/fragment".to_owned(), cipher.seal_fragment(2, 0x10, b"firmware")),
        ("tests/goldens/status-request".to_owned(), cipher.seal_status_request(&request)),
        ("fuzz/corpus/idle_port/initiation".to_owned(), initiation.clone()),
        ("fuzz/corpus/messages/initiation".to_owned(), initiation),
        ("fuzz/corpus/messages/transport".to_owned(), transport),
    ];
    let commands = commands().into_iter().map(|(command, _)| command.emit());
    let answers = answers().into_iter().map(|(answer, _)| answer.emit());
    files.extend(
        commands
            .chain(answers)
            .map(|bytes| (format!("fuzz/corpus/messages/{:02x}", bytes[0]), bytes)),
    );
    files
}

#[test]
fn files_that_follow_from_the_protocol_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, bytes) in files() {
        let file = root.join(&path);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        assert!(
            fs::read(&file).is_ok_and(|held| held == bytes),
            "{path} is not what the code makes; if the protocol changed on purpose (docs/PROTOCOL.md, Versions), run \
             UPDATE_GOLDENS=1 cargo test --lib wire::goldens, then tests/goldens/check"
        );
    }
}

#[test]
fn every_seed_of_the_messages_comes_from_here() {
    let folder = "fuzz/corpus/messages";
    let made: Vec<String> = files().into_iter().map(|(path, _)| path).collect();
    for seed in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
        let path = format!("{folder}/{}", seed.unwrap().file_name().display());
        assert!(made.contains(&path), "{path} is of no message: remove it");
    }
}
