//! Any stream of UEFI's own compression: what comes out has the stated size, and within the room.

#![no_main]

use firmcast::image::validity::unpack::tiano::{Variant, unpack};
use libfuzzer_sys::fuzz_target;

const ROOM_BYTES: usize = 1 << 20;

fuzz_target!(|packed: &[u8]| {
    for variant in [Variant::Efi, Variant::Tiano] {
        if let Ok(bytes) = unpack(packed, variant, ROOM_BYTES) {
            let stated = u32::from_le_bytes([packed[4], packed[5], packed[6], packed[7]]);
            assert!(bytes.len() <= ROOM_BYTES && bytes.len() == stated as usize);
        }
    }
});
