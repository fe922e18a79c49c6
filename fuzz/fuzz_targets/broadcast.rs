//! What an insider, who has the group key, and strangers send to a receiver: it ends with the right
//! payload or none.

#![no_main]

use firmcast::time::Time;
use firmcast::transfer::Receiver;
use firmcast::wire::broadcast::{Broadcast, FecScheme, GroupCipher, GroupKey, TransferParameters};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

fuzz_target!(|input: (u32, Vec<(u16, u32, Vec<u8>, bool)>)| {
    let (size, datagrams) = input;
    let parameters = TransferParameters {
        campaign: 1,
        group_key: GroupKey::new([7; 32]),
        payload_size_bytes: 1 + size % (1 << 20),
        fragment_size_bytes: 512,
        fec: if size >> 31 == 0 { FecScheme::Doubled } else { FecScheme::Fitted },
    };
    let cipher = GroupCipher::new(1, &parameters.group_key);
    let Ok(mut receiver) = Receiver::new(&parameters, 0) else { return };
    for (block, number, data, sealed) in &datagrams {
        let _ = Broadcast::parse(data);
        let mut full = data.clone();
        full.resize(512, 0);
        let datagram = match sealed {
            true => cipher.seal_fragment(*block, *number, &full),
            false => data.clone(),
        };
        receiver.handle_datagram(Time::ZERO, &datagram);
        receiver.work(Time::ZERO);
        let (have, need) = receiver.progress();
        assert!(have <= need);
    }
    if receiver.is_complete() {
        let payload = receiver.take_payload().expect("a complete payload can be taken once");
        assert_eq!(payload.bytes.len(), parameters.payload_size_bytes as usize);
        assert_eq!(payload.digest[..], Sha256::digest(&payload.bytes)[..]);
    }
});
