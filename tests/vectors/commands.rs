//! A message of each kind from manager to host, with its fields under their names in
//! docs/PROTOCOL.md.

use std::net::IpAddr;
use std::num::NonZeroU32;

use firmcast::reason::Reason;
use firmcast::wire::broadcast::{
    FecScheme, FragmentRange, FragmentStatus, GroupKey, Missing, TransferParameters,
};
use firmcast::wire::command::Command;
use firmcast::wire::excerpt::{Excerpt, PieceSet};
use firmcast::wire::finding::Acceptance;
use serde_json::{Value, json};

use super::hex;

pub(super) const CAMPAIGN: u64 = 0x0102_0304_0506_0708;

pub(super) fn vectors() -> Vec<Value> {
    let made = about_the_campaign().into_iter().chain(about_the_transfer()).chain(about_help());
    let vector = |(name, command, fields): (&str, Command, Value)| {
        let bytes = command.emit();
        assert_eq!(Command::parse(&bytes).unwrap(), command, "{name}");
        json!({ "name": name, "message": hex(&bytes), "fields": fields })
    };
    made.map(vector).collect()
}

type Named = (&'static str, Command, Value);

fn about_the_campaign() -> Vec<Named> {
    let (campaign, id, accepted) = (CAMPAIGN, campaign_id(), Acceptance::default());
    let begin = |drill| Command::Begin {
        campaign,
        reach_timeout_s: 300,
        transfer_timeout_s: 120,
        accepted,
        drill,
    };
    vec![
        ("query", Command::Query, json!({})),
        (
            "manifest part",
            Command::ManifestPart {
                campaign,
                total_bytes: 2000,
                offset_bytes: 1024,
                bytes: vec![0xaa, 0xbb, 0xcc],
            },
            json!({ "campaign": id, "total": 2000, "offset": 1024, "bytes": "aabbcc" }),
        ),
        (
            "begin",
            begin(false),
            json!({ "campaign": id, "reach timeout": 300, "transfer timeout": 120 }),
        ),
        (
            "begin a drill",
            begin(true),
            json!({ "campaign": id, "reach timeout": 300, "transfer timeout": 120 }),
        ),
        (
            "rehearse",
            Command::Rehearse { campaign, escrow_rate_kbit_s: NonZeroU32::new(6250) },
            json!({ "campaign": id, "rate": 6250 }),
        ),
        ("commit", Command::Commit { campaign }, json!({ "campaign": id })),
        ("release", Command::Release { campaign }, json!({ "campaign": id })),
        ("measure", Command::Measure { campaign }, json!({ "campaign": id })),
        (
            "foresee",
            Command::Foresee { campaign, accepted: Acceptance::from_bits(1 << 30) },
            json!({ "campaign": id, "accepted": 1 << 30 }),
        ),
        (
            "commit with escrow",
            Command::CommitWithEscrow { campaign, rate_kbit_s: 6250, unless_broken: true },
            json!({ "campaign": id, "rate": 6250, "unless broken": 1 }),
        ),
        (
            "backup stored",
            Command::BackupStored { campaign, digest: [0xab; 32] },
            json!({ "campaign": id, "digest": "ab".repeat(32) }),
        ),
    ]
}

fn about_the_transfer() -> Vec<Named> {
    vec![
        join("join by broadcast", None, 0, ""),
        join_for_excerpt(),
        join("join in an IPv4 group", Some(IpAddr::from([239, 1, 2, 3])), 4, "ef010203"),
        join(
            "join in an IPv6 group",
            Some(IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x1234])),
            6,
            "ff020000000000000000000000001234",
        ),
        ("backup status", Command::BackupStatus(numbers_status()), numbers_status_fields()),
    ]
}

fn about_help() -> Vec<Named> {
    let enlist = Command::Enlist { campaign: CAMPAIGN, transfer_timeout_s: 120 };
    let hold = Command::Hold { again_s: 60, reason: Reason::Held, detail: "für später".into() };
    vec![
        ("enlist", enlist, json!({ "campaign": campaign_id(), "transfer timeout": 120 })),
        (
            "hold",
            hold,
            json!({ "again": 60, "reason": Reason::Held.code(), "detail": "für später" }),
        ),
        ("answer not understood", Command::NotUnderstood { kind: 0x42 }, json!({ "type": 0x42 })),
    ]
}

pub(super) fn campaign_id() -> String {
    format!("{CAMPAIGN:016x}")
}

pub(super) fn parameters() -> TransferParameters {
    TransferParameters {
        campaign: CAMPAIGN,
        group_key: GroupKey::new([0x66; 32]),
        payload_size_bytes: 0x20_0000,
        fragment_size_bytes: 1440,
        fec: FecScheme::Doubled,
    }
}

pub(super) fn parameters_fields() -> Value {
    json!({
        "campaign": campaign_id(), "group key": "66".repeat(32),
        "payload size": 0x20_0000, "fragment size": 1440,
    })
}

fn join(name: &'static str, group: Option<IpAddr>, family: u8, address: &str) -> Named {
    let command =
        Command::Join { parameters: parameters(), report_interval_ms: 1000, group, excerpt: None };
    let fields = json!({
        "parameters": parameters_fields(), "report interval": 1000, "family": family,
        "group": address,
    });
    (name, command, fields)
}

fn join_for_excerpt() -> Named {
    let parameters = TransferParameters { fec: FecScheme::Fitted, ..parameters() };
    let excerpt = Excerpt { payload_digest: [0x77; 32], carried: pieces(10, &[0, 7, 9]) };
    let command =
        Command::Join { parameters, report_interval_ms: 1000, group: None, excerpt: Some(excerpt) };
    let fields = json!({
        "parameters": parameters_fields(), "report interval": 1000, "family": 0, "group": "",
        "FEC scheme": 1,
        "excerpt": { "payload digest": "77".repeat(32), "pieces": [10, [0, 7, 9]] },
    });
    ("join for an excerpt", command, fields)
}

pub(super) fn pieces(count: usize, chosen: &[usize]) -> PieceSet {
    let mut pieces = PieceSet::none_of(count).unwrap();
    chosen.iter().for_each(|piece| pieces.insert(*piece));
    pieces
}

pub(super) fn numbers_status() -> FragmentStatus {
    let missing = Missing::Numbers(vec![
        FragmentRange { block: 0, first: 5, count: 2 },
        FragmentRange { block: 1, first: 0, count: 1 },
    ]);
    FragmentStatus { missing_total: 3, missing, ..counts_status() }
}

pub(super) fn counts_status() -> FragmentStatus {
    FragmentStatus {
        campaign: CAMPAIGN,
        round: 1,
        missing_total: 300,
        received: 3,
        corrupt: 4,
        duplicate: 5,
        foreign: 6,
        out_of_range: 7,
        missing: Missing::Counts(vec![299, 1]),
    }
}

fn numbers_status_fields() -> Value {
    status_fields(3, 1, &json!([[0, 5, 2], [1, 0, 1]]))
}

pub(super) fn status_fields(missing: u32, form: u8, entries: &Value) -> Value {
    json!({
        "campaign": campaign_id(), "round": 1, "missing": missing, "useful": 3, "corrupt": 4,
        "duplicate": 5, "foreign": 6, "out of range": 7, "form": form, "entries": entries,
    })
}
