//! Keys of all roles, from secrets that count up.

use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, PublicKey as _, ReleaseSecretKey, SecretKey,
};
use rand_core::{CryptoRng, Error, RngCore};
use serde_json::{Value, json};

use super::hex;

/// A source of randomness that counts up from its first byte.
struct Counting(u8);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0;
            self.0 += 1;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Counting {}

pub(super) fn host() -> HostSecretKey {
    HostSecretKey::generate(&mut Counting(0x00))
}

pub(super) fn manager() -> ManagerSecretKey {
    ManagerSecretKey::generate(&mut Counting(0x20))
}

pub(super) fn release() -> ReleaseSecretKey {
    ReleaseSecretKey::generate(&mut Counting(0x40))
}

pub(super) fn vectors() -> Value {
    let release_public = release().public().to_string();
    json!({
        "host": role(&host(), 0x00, hex(host().public().exchange())),
        "manager": role(&manager(), 0x20, hex(&manager().public().to_bytes())),
        "release": role(&release(), 0x40, hex(&key_bytes(&release_public))),
    })
}

fn role<S: SecretKey>(key: &S, first: u8, public: String) -> Value {
    let secret: Vec<u8> = (first..first + 32).collect();
    json!({
        "secret": hex(&secret),
        "secret file": *key.to_text(),
        "public": public,
        "public file": key.public().to_string(),
        "fingerprint": key.public().fingerprint().to_string(),
    })
}

/// Returns the bytes of a key from its text form.
fn key_bytes(line: &str) -> Vec<u8> {
    use base64::Engine as _;
    let digits = line.split(' ').nth(1).unwrap();
    base64::engine::general_purpose::STANDARD.decode(digits).unwrap()
}
