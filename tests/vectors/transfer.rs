//! Sealed broadcast datagrams, and repair fragments of small blocks.

use std::collections::BTreeMap;

use firmcast::time::Time;
use firmcast::transfer::{Geometry, HostId, Sender, SenderConfig};
use firmcast::wire::broadcast::{
    Broadcast, BroadcastKind, FecScheme, FragmentStatus, GroupCipher, GroupKey, Missing,
    StatusRequest, TransferParameters,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::hex;

const CAMPAIGN: u64 = 0x5566_7788_1122_3344;

fn group_key() -> [u8; 32] {
    core::array::from_fn(|index| index as u8)
}

pub(super) fn sealed() -> Value {
    let cipher = GroupCipher::new(CAMPAIGN, &GroupKey::new(group_key()));
    let request = StatusRequest {
        round: 7,
        answer_window_ms: 2000,
        sent_fragments: 364,
        repeat_complete: true,
    };
    let data = [0x55; 512];
    json!({
        "form": firmcast::wire::PROTOCOL_VERSION,
        "campaign": format!("{CAMPAIGN:016x}"),
        "group key": hex(&group_key()),
        "fragment": {
            "block": 1, "number": 2, "data": hex(&data),
            "datagram": hex(&cipher.seal_fragment(1, 2, &data)),
        },
        "status request": {
            "round": 7, "answer window in ms": 2000, "sent": 364, "flags": 1,
            "datagram": hex(&cipher.seal_status_request(&request)),
        },
    })
}

/// The source fragments of a transfer of one block.
pub(super) struct Sources {
    count: u32,
    size: u16,
    rule: (u32, u32, u32),
    fec: FecScheme,
}

impl Sources {
    /// Byte `k` of fragment `i` is `i * per_source + k * per_byte + i * k * per_both`, modulo 256.
    pub(super) fn new(count: u32, size: u16, rule: (u32, u32, u32), fec: FecScheme) -> Self {
        Self { count, size, rule, fec }
    }

    fn payload(&self) -> Vec<u8> {
        let (per_source, per_byte, per_both) = self.rule;
        let byte = |i: u32, k: u32| (i * per_source + k * per_byte + i * k * per_both) as u8;
        (0..self.count).flat_map(|i| (0..u32::from(self.size)).map(move |k| byte(i, k))).collect()
    }
}

/// Returns SHA-256 of each repair fragment.
pub(super) fn repair_digests(sources: &Sources) -> Vec<String> {
    repairs(sources).iter().map(|data| hex(&Sha256::digest(data))).collect()
}

/// Returns all repair fragments, as a sender sends them to a host that asks for more and more.
fn repairs(sources: &Sources) -> Vec<Vec<u8>> {
    let parameters = TransferParameters {
        campaign: CAMPAIGN,
        group_key: GroupKey::new(group_key()),
        payload_size_bytes: sources.count * u32::from(sources.size),
        fragment_size_bytes: sources.size,
        fec: sources.fec,
    };
    let cipher = GroupCipher::new(CAMPAIGN, &parameters.group_key);
    let config = SenderConfig { rate_cap_bits_per_s: 1_000_000_000, is_polite: false };
    let mut sender = Sender::new(sources.payload(), &parameters, config).unwrap();
    let (host, mut now) = (HostId(0), Time::ZERO);
    sender.add_host(now, host).unwrap();
    sender.start(now);
    let count = sources.count;
    let wanted = Geometry::new(&parameters).unwrap().repair_count(0);
    let mut made = BTreeMap::new();
    while made.len() < wanted as usize {
        // It helps nobody who always lacks everything, and says so.
        if sender.is_done() {
            sender.add_host(now, host).unwrap();
        }
        now = sender.poll_timeout().unwrap().max(now);
        let Some(datagram) = sender.poll_transmit(now) else { continue };
        let sealed = Broadcast::parse(&datagram).unwrap();
        match sealed.kind {
            BroadcastKind::Fragment { number, .. } if number >= count => {
                let mut data = vec![0; sealed.data_size()];
                cipher.open(&sealed, &mut data).unwrap();
                made.insert(number - count, data);
            }
            BroadcastKind::Fragment { .. } => {}
            BroadcastKind::StatusRequest { round } => {
                sender.handle_status(now, host, &lacks(round, count)).unwrap();
            }
        }
    }
    made.into_values().collect()
}

/// Returns the answer of a host that lacks `count` fragments, whichever they are.
fn lacks(round: u32, count: u32) -> FragmentStatus {
    FragmentStatus {
        campaign: CAMPAIGN,
        round,
        missing_total: count,
        received: 0,
        corrupt: 0,
        duplicate: 0,
        foreign: 0,
        out_of_range: 0,
        missing: Missing::Counts(vec![count as u16]),
    }
}

/// By which rule the bytes of the sources are made here.
const RULE: (u32, u32, u32) = (7, 3, 1);

/// Blocks on both sides of each limit, two of them with fragments whose last piece is short, and
/// one that is too large for as many repair fragments; then blocks with fewer of them by the other
/// rule.
pub(super) fn erasure() -> Value {
    let doubled = [(1, 512), (3, 512), (6, 1444), (16, 576), (17, 530), (33, 512)];
    let fitted = [(6, 512), (90, 512), (180, 530)];
    let mut blocks: Vec<Value> = Vec::new();
    blocks.extend(doubled.map(|shape| small(shape, FecScheme::Doubled)));
    blocks.push(described(&Sources::new(33_000, 512, RULE, FecScheme::Doubled), Some(16_383)));
    blocks.extend(fitted.map(|shape| small(shape, FecScheme::Fitted)));
    let mut transfers = vec![cut(98_306, FecScheme::Doubled)];
    // Two blocks; three, the last of one fragment; three full ones but for the last; five, the last
    // two smaller; as many as there may be.
    let counts = [14_564, 18_433, 30_001, 46_605, 200_001];
    transfers.extend(counts.map(|count| cut(count, FecScheme::Fitted)));
    json!({ "blocks": blocks, "transfers": transfers })
}

/// The blocks of a transfer, and where fragments at both ends of blocks lie: as a sender sends them
/// when nobody has said yet that any is lost.
fn cut(count: u32, fec: FecScheme) -> Value {
    const SIZE: u16 = 512;
    let parameters = TransferParameters {
        campaign: CAMPAIGN,
        group_key: GroupKey::new(group_key()),
        payload_size_bytes: count * u32::from(SIZE) - 3,
        fragment_size_bytes: SIZE,
        fec,
    };
    let geometry = Geometry::new(&parameters).unwrap();
    let counts: Vec<_> = (0..geometry.block_count())
        .map(|block| (geometry.source_count(block), geometry.repair_count(block)))
        .collect();
    let ends = counts.iter().flat_map(|(sources, _)| [0, 1, sources - 1, *sources]);
    let ends: Vec<u32> = ends.collect();
    let mut places = Vec::new();
    for (index, (block, number)) in (0..).zip(first_pass(&parameters)) {
        if ends.contains(&number) || index + 1 == count {
            places.push((index, block, number));
        }
    }
    json!({
        "payload size": parameters.payload_size_bytes,
        "fragment size": SIZE,
        "FEC scheme": u8::from(fec == FecScheme::Fitted),
        "source and repair fragments": counts,
        "source fragments by index, block and number": places,
    })
}

/// Block and number of each source fragment, in the order of the payload.
fn first_pass(parameters: &TransferParameters) -> Vec<(u16, u32)> {
    let payload = vec![0; parameters.payload_size_bytes as usize];
    let config = SenderConfig { rate_cap_bits_per_s: 1_000_000_000, is_polite: false };
    let mut sender = Sender::new(payload, parameters, config).unwrap();
    let mut now = Time::ZERO;
    sender.add_host(now, HostId(0)).unwrap();
    sender.start(now);
    let mut places = Vec::new();
    while places.len() < sender.source_fragments() as usize {
        now = sender.poll_timeout().unwrap().max(now);
        let datagram = sender.poll_transmit(now);
        let sealed = datagram.as_ref().map(|datagram| Broadcast::parse(datagram).unwrap());
        if let Some(BroadcastKind::Fragment { block, number }) = sealed.map(|sealed| sealed.kind) {
            places.push((block, number));
        }
    }
    places
}

fn small((count, size): (u32, u16), fec: FecScheme) -> Value {
    let sources = Sources::new(count, size, RULE, fec);
    let mut block = described(&sources, None);
    block["first repair"] = json!(hex(&repairs(&sources)[0]));
    block
}

/// All repair fragments, or one of them.
fn described(sources: &Sources, number: Option<u32>) -> Value {
    let digests = repair_digests(sources);
    let numbers = number.map_or(0..digests.len() as u32, |number| number..number + 1);
    let named = |number: u32| (number.to_string(), json!(digests[number as usize]));
    json!({
        "sources": sources.count,
        "size": sources.size,
        "FEC scheme": u8::from(sources.fec == FecScheme::Fitted),
        "per source": RULE.0, "per byte": RULE.1, "per both": RULE.2,
        "sha256 of repair": numbers.map(named).collect::<serde_json::Map<_, _>>(),
    })
}
