//! Test vectors for other implementations: the code makes exactly what docs/vectors holds.
//!
//! `UPDATE_VECTORS=1 cargo test --test vectors` writes the files anew; a changed value is a new
//! version of the protocol. `tests/interop/run` checks the same files with an independent
//! implementation in Python.
//!
//! | file | vectors |
//! | --- | --- |
//! | `vectors/keys.rs` | keys of all roles from fixed secrets |
//! | `vectors/session.rs` | discovery, a handshake and datagrams of its session |
//! | `vectors/cookies.rs` | what a busy host says, and the answer to an old stamp |
//! | `vectors/commands.rs`, `vectors/answers.rs` | a message of each kind, field by field |
//! | `vectors/transfer.rs` | sealed fragments and status requests; the erasure code |
//! | `vectors/bundle.rs` | a small signed bundle |
#![allow(clippy::unwrap_used)]

#[path = "vectors/answers.rs"]
mod answers;
#[path = "vectors/bundle.rs"]
mod bundle;
#[path = "vectors/commands.rs"]
mod commands;
#[path = "vectors/cookies.rs"]
mod cookies;
#[path = "vectors/keys.rs"]
mod keys;
#[path = "vectors/session.rs"]
mod session;
#[path = "vectors/transfer.rs"]
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};

use firmcast::wire::broadcast::FecScheme;
use serde_json::{Value, json};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/vectors").join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares with the file, or writes it when `UPDATE_VECTORS` says so.
#[track_caller]
fn check(name: &str, made: &Value) {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(path(name), format!("{made:#}\n")).unwrap();
    }
    assert_eq!(
        &read(name),
        made,
        "docs/vectors/{name} differs. In a new protocol version, run UPDATE_VECTORS=1 cargo test \
         --test vectors, then tests/interop/run"
    );
}

#[test]
fn keys_are_those_of_the_vectors() {
    check("keys.json", &keys::vectors());
}

#[test]
fn sessions_and_discovery_are_those_of_the_vectors() {
    check("session.json", &session::vectors());
}

#[test]
fn messages_are_those_of_the_vectors() {
    let made = json!({ "commands": commands::vectors(), "answers": answers::vectors() });
    check("messages.json", &made);
}

#[test]
fn sealed_datagrams_are_those_of_the_vectors() {
    check("broadcast.json", &transfer::sealed());
}

#[test]
fn repair_fragments_are_those_of_the_vectors() {
    check("erasure.json", &transfer::erasure());
}

#[test]
fn bundles_are_those_of_the_vectors() {
    check("bundle.json", &bundle::vectors());
    check("bundle-of-parts.json", &bundle::vectors_of_parts());
}

/// What a second implementation computed from docs/PROTOCOL.md alone, and no version changes.
#[test]
fn keys_and_repair_fragments_are_what_another_implementation_made() {
    let independent = read("independent.json");
    for role in ["host", "manager", "release"] {
        for field in ["secret", "public", "fingerprint"] {
            assert_eq!(keys::vectors()[role][field], independent[role][field], "{role} {field}");
        }
    }
    let erasure = independent["erasure"].as_array().unwrap();
    assert_eq!(erasure.len(), 2);
    for block in erasure {
        let number = |field: &str| u32::try_from(block[field].as_u64().unwrap()).unwrap();
        let rule = (number("per source"), number("per byte"), number("per both"));
        let sources = transfer::Sources::new(
            number("sources"),
            number("size") as u16,
            rule,
            FecScheme::Doubled,
        );
        let digests = transfer::repair_digests(&sources);
        for (repair, digest) in block["sha256 of repair"].as_object().unwrap() {
            assert_eq!(json!(digests[repair.parse::<usize>().unwrap()]), *digest, "{repair}");
        }
    }
}
