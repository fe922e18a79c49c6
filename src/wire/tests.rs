//! Golden bytes (append-only), round trips, and hostile bytes for commands and answers.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::answer::{
    Answer, DETAIL_SIZE_MAX, End, Environment, Identity, LEARNED_MAX, Measurement, NAME_SIZE_MAX,
    Phase, Programs, Report,
};
use super::broadcast::{FecScheme, FragmentStatus, GroupKey, Missing, TransferParameters};
use super::codec::DecodeError;
use super::command::Command;
use super::escrow::BackupOffer;
use super::excerpt::{Excerpt, PIECES_MAX, PieceSet};
use super::finding::{self, Acceptance, FINDINGS_MAX, Subject, Verdict};
use super::foresight::Foresight;
use super::help::{Finding, HelpRequest};
use super::{MESSAGE_SIZE_MAX, samples};
use crate::reason::{Condition, Ending, FlashState, Reason};

fn parameters() -> TransferParameters {
    TransferParameters {
        campaign: 7,
        group_key: GroupKey::new([0x66; 32]),
        payload_size_bytes: 0x200000,
        fragment_size_bytes: 1440,
        fec: FecScheme::Doubled,
    }
}

fn pieces() -> PieceSet {
    let mut set = PieceSet::none_of(10).unwrap();
    [0, 7, 9].into_iter().for_each(|piece| set.insert(piece));
    set
}

fn fragment_status() -> FragmentStatus {
    FragmentStatus {
        campaign: 6,
        round: 1,
        missing_total: 2,
        received: 3,
        corrupt: 4,
        duplicate: 5,
        foreign: 6,
        out_of_range: 7,
        missing: Missing::Counts(vec![2]),
    }
}

pub(super) fn commands() -> Vec<(Command, &'static str)> {
    vec![
        (Command::Query, "01"),
        (
            Command::ManifestPart {
                campaign: 0x0102030405060708,
                total_bytes: 4,
                offset_bytes: 2,
                bytes: vec![0xaa, 0xbb],
            },
            "0201020304050607080000000400000002aabb",
        ),
        (
            Command::Begin {
                campaign: 1,
                reach_timeout_s: 300,
                transfer_timeout_s: 120,
                accepted: Acceptance::default(),
                drill: false,
            },
            "030000000000000001012c0078",
        ),
        (
            Command::Begin {
                campaign: 1,
                reach_timeout_s: 300,
                transfer_timeout_s: 120,
                accepted: Acceptance::default(),
                drill: true,
            },
            "0f0000000000000001012c0078",
        ),
        (
            Command::Rehearse { campaign: 9, escrow_rate_kbit_s: NonZeroU32::new(6250) },
            "1000000000000000090000186a",
        ),
        (Command::Rehearse { campaign: 9, escrow_rate_kbit_s: None }, "10000000000000000900000000"),
        (
            Command::Join {
                parameters: parameters(),
                report_interval_ms: 1000,
                group: Some(IpAddr::from([239, 1, 2, 3])),
                excerpt: None,
            },
            "0400000000000000076666666666666666666666666666666666666666666666666666666666666666\
             0020000005a003e804ef010203",
        ),
        (
            Command::Join {
                parameters: parameters(),
                report_interval_ms: 1000,
                group: None,
                excerpt: Some(Excerpt { payload_digest: [0x77; 32], carried: pieces() }),
            },
            "0400000000000000076666666666666666666666666666666666666666666666666666666666666666\
             0020000005a003e800|0001\
             7777777777777777777777777777777777777777777777777777777777777777000a8140",
        ),
        (
            Command::Join {
                parameters: TransferParameters { fec: FecScheme::Fitted, ..parameters() },
                report_interval_ms: 1000,
                group: None,
                excerpt: None,
            },
            "0400000000000000076666666666666666666666666666666666666666666666666666666666666666\
             0020000005a003e800|0100",
        ),
        (Command::Commit { campaign: 2 }, "050000000000000002"),
        (Command::Release { campaign: 3 }, "060000000000000003"),
        (Command::Measure { campaign: 4 }, "070000000000000004"),
        (
            Command::CommitWithEscrow { campaign: 5, rate_kbit_s: 6250, unless_broken: true },
            "0800000000000000050000186a01",
        ),
        (
            Command::BackupStatus(fragment_status()),
            "090000000000000006000000010000000200000003000000040000000500000006000000070000\
             00010002",
        ),
        (
            Command::BackupStored { campaign: 7, digest: [0xab; 32] },
            "0a0000000000000007abababababababababababababababababababababababababababababababab",
        ),
        (Command::Foresee { campaign: 8, accepted: Acceptance::default() }, "0b0000000000000008"),
        (
            Command::Foresee { campaign: 8, accepted: Acceptance::from_bits(0x4600_0000) },
            "0b0000000000000008|0000000046000000",
        ),
        (Command::Enlist { campaign: 8, transfer_timeout_s: 120 }, "0c00000000000000080078"),
        (
            Command::Hold { again_s: 60, reason: Reason::Held, detail: "why".into() },
            "0d003c00d503776879",
        ),
        (Command::NotUnderstood { kind: 0x42 }, "0e42"),
    ]
}

fn findings() -> Vec<finding::Finding> {
    let (subject, verdict) = (Subject::SealedDisks, Verdict::NotOk);
    vec![finding::Finding { subject, verdict, reason: Reason::DisksSealed }]
}

pub(super) fn answers() -> Vec<(Answer, String)> {
    let end = End {
        campaign: 7,
        ending: Ending::new(Reason::ManagerNotReached, FlashState::UNTOUCHED, "why"),
    };
    let identity = Identity {
        environment: Environment::Recovery,
        boot_id: [0x11; 16],
        flash_size_bytes: 0x200000,
        obstacle: Reason::FlashLocked,
        security_version_floor: 5,
        host_name: "h".into(),
        vendor: "v".into(),
        product: "p".into(),
        bios_version: "b".into(),
        flash_name: "f".into(),
        agent_version: "a".into(),
        obstacle_detail: "o".into(),
        firmware: Condition::Doubtful,
        doubt: "w".into(),
        last_end: Some(end),
        findings: findings(),
        learned: std::iter::once(0x12_0000..0x12_1000).collect(),
    };
    let report = Report {
        campaign: 7,
        phase: Phase::Updated,
        ending: Ending::new(Reason::Updated, FlashState::Updated, ""),
        done: 3,
        total: 4,
        digests: Some(([0x22; 32], [0x33; 32])),
        lacking: None,
    };
    let measurement = Measurement {
        campaign: 7,
        matches: true,
        stable_digest: [0x44; 32],
        boot_id: [0x55; 16],
        bios_version: "b".into(),
        bios_vendor: "v".into(),
        detail: String::new(),
        programs: None,
    };
    let programs = Programs { failed: true, told: "p".into() };
    let after_programs = Measurement { programs: Some(programs), ..measurement.clone() };
    let offer = BackupOffer {
        parameters: parameters(),
        digest: [0x77; 32],
        closed: vec![0x1000..0x2000, 0x8000..0x8001],
    };
    let foresight = Foresight {
        campaign: 7,
        reason: Reason::FlashLocked,
        blocks: 512,
        changed_blocks_max: 16,
        typical_ms: 1000,
        longest_ms: 5000,
        detail: "d".into(),
        findings: findings(),
    };
    let request = HelpRequest {
        wants_image: true,
        finding: Finding::Invalid,
        offset_bytes: 0x84000,
        why: "why".into(),
        identity: Identity {
            last_end: None,
            doubt: String::new(),
            findings: Vec::new(),
            learned: Vec::new(),
            ..identity.clone()
        },
        rescues: Some(3),
    };
    let (x11, x22, x33) = ("11".repeat(16), "22".repeat(32), "33".repeat(32));
    vec![
        (
            Answer::Identity(identity),
            format!(
                "8101{x11}0000000000200000000800000000000000050168017601700162016601\
                 61016f01 0177 0100000000000000070067000377 6879|011e040019|\
                 010012000000001000"
            )
            .replace(' ', ""),
        ),
        (
            Answer::Report(report.clone()),
            format!("8200000000000000070a006401000000030000000401{x22}{x33}00"),
        ),
        (
            Answer::Report(Report { lacking: Some(pieces()), ..report.clone() }),
            format!("8200000000000000070a006401000000030000000401{x22}{x33}00|01000a8140"),
        ),
        (Answer::ManifestHeld { campaign: 7, held_bytes: 9 }, "83000000000000000700000009".into()),
        (
            Answer::FragmentStatus(fragment_status()),
            "840000000000000006000000010000000200000003000000040000000500000006000000070000\
             00010002"
                .into(),
        ),
        (
            Answer::Measurement(measurement),
            format!("85000000000000000701{}{}01620176 00", "44".repeat(32), "55".repeat(16))
                .replace(' ', ""),
        ),
        (
            Answer::Measurement(after_programs),
            format!("85000000000000000701{}{}01620176 00|010170", "44".repeat(32), "55".repeat(16))
                .replace(' ', ""),
        ),
        (
            Answer::Foresight(foresight),
            "8700000000000000070008000002000000001000000 3e8000013880164|011e040019"
                .replace(' ', ""),
        ),
        (
            Answer::BackupOffer(offer),
            format!(
                "860000000000000007{}0020000005a0{}0200001000000010000000800000000001",
                "66".repeat(32),
                "77".repeat(32)
            ),
        ),
        (
            Answer::HelpRequest(Box::new(request)),
            format!(
                "8801010000000000084000037768790 1{x11}00000000002000000008000000000000000501680176\
                 01700162016601 61016f01 00 00|03"
            )
            .replace(' ', ""),
        ),
        (Answer::NotUnderstood { kind: 0x42 }, "8942".into()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Messages whose last field is missing where there is nothing to say.
const LATER: [u8; 8] = [0x03, 0x04, 0x0b, 0x0f, 0x81, 0x82, 0x85, 0x87];

fn check<M: Debug + PartialEq>(
    message: &M,
    bytes: &[u8],
    golden: &str,
    parse: impl Fn(&[u8]) -> Result<M, DecodeError>,
) {
    assert_eq!(hex(bytes), golden.replace('|', ""), "{message:?}");
    assert_eq!(parse(bytes).as_ref(), Ok(message));
    let bars = golden.match_indices('|').enumerate();
    let older: Vec<usize> = bars.map(|(before, (digits, _))| (digits - before) / 2).collect();
    for length in 0..bytes.len() {
        // A shorter manifest part is another manifest part, and what older versions have ends
        // where the bars stand; everything else must be refused.
        if (bytes[0] != 0x02 || length < 18) && !older.contains(&length) {
            assert!(parse(&bytes[..length]).is_err(), "{message:?} cut to {length}");
        }
    }
    // What follows could be a field of this version that is missing.
    if bytes[0] != 0x02 && (!older.is_empty() || !LATER.contains(&bytes[0])) {
        // Fields of a newer version.
        assert_eq!(parse(&[bytes, &[7; 9]].concat()).as_ref(), Ok(message));
    }
}

#[test]
fn golden_bytes_and_every_truncation() {
    for (command, golden) in commands() {
        check(&command, &command.emit(), golden, Command::parse);
    }
    for (answer, golden) in answers() {
        check(&answer, &answer.emit(), &golden, Answer::parse);
    }
}

#[test]
fn an_older_manager_is_sent_nothing_that_it_does_not_know() {
    for (answer, golden) in answers() {
        let (known, _) = golden.split_once('|').unwrap_or((golden.as_str(), ""));
        for version in [None, Some(2)] {
            assert_eq!(hex(&answer.clone().for_version(version).emit()), known, "{answer:?}");
        }
        assert_eq!(answer.clone().for_version(Some(4)), answer);
    }
}

/// Answers with every text at its maximum length and every optional part there.
fn longest_answers() -> Vec<Answer> {
    let name = "n".repeat(NAME_SIZE_MAX);
    let detail = "d".repeat(DETAIL_SIZE_MAX);
    let identity = samples::longest_identity();
    vec![
        Answer::Identity(Identity { learned: vec![0..4096; LEARNED_MAX], ..identity.clone() }),
        Answer::Report(Report {
            campaign: 7,
            phase: Phase::Failed,
            ending: Ending::new(Reason::WriteFailed, FlashState::Mixed, &detail),
            done: 3,
            total: 4,
            digests: Some(([0x22; 32], [0x33; 32])),
            lacking: PieceSet::all_of(PIECES_MAX),
        }),
        Answer::Measurement(Measurement {
            campaign: 7,
            matches: true,
            stable_digest: [0x44; 32],
            boot_id: [0x55; 16],
            bios_version: name.clone(),
            bios_vendor: name,
            detail: detail.clone(),
            programs: Some(Programs { failed: true, told: detail.clone() }),
        }),
        Answer::Foresight(Foresight {
            campaign: 7,
            reason: Reason::FlashLocked,
            blocks: 512,
            changed_blocks_max: 16,
            typical_ms: 1000,
            longest_ms: 5000,
            detail: detail.clone(),
            findings: vec![findings()[0]; FINDINGS_MAX],
        }),
        Answer::HelpRequest(Box::new(HelpRequest {
            wants_image: true,
            finding: Finding::Invalid,
            offset_bytes: 0x84000,
            why: detail,
            identity,
            rescues: Some(3),
        })),
    ]
}

#[test]
fn the_longest_answers_fit_a_message() {
    for answer in longest_answers() {
        let bytes = answer.emit();
        assert!(bytes.len() <= MESSAGE_SIZE_MAX, "{} bytes of {:02x}", bytes.len(), bytes[0]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_mean_something(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(command) = Command::parse(&bytes) {
            prop_assert!(bytes.starts_with(&command.emit()));
        }
        if let Ok(answer) = Answer::parse(&bytes) {
            prop_assert!(Answer::parse(&answer.emit()).is_ok());
        }
    }
}

/// What a newer host says of itself: nothing of it vanishes, and none of it is taken for safe.
#[test]
fn codes_of_a_newer_version_are_kept_and_are_nothing_safe() {
    let ending = Ending::new(Reason::Other(999), FlashState::Updated, "why");
    let report = Report {
        campaign: 1,
        phase: Phase::Other(77),
        ending,
        done: 0,
        total: 0,
        digests: None,
        lacking: None,
    };
    let mut bytes = Answer::Report(report.clone()).emit();
    assert_eq!(Answer::parse(&bytes), Ok(Answer::Report(report)));
    // Type, campaign, phase, reason: then comes the flash state.
    bytes[1 + 8 + 1 + 2] = 99;
    let Ok(Answer::Report(read)) = Answer::parse(&bytes) else { panic!("{bytes:?}") };
    assert_eq!(read.ending.flash, FlashState::Unknown);
    assert!(!read.ending.flash.reboot_is_safe());
    assert_eq!(read.ending.detail, "flash state 99 of a newer version; why");
    assert_eq!(Command::parse(&[0x7f, 1]), Err(DecodeError::UnknownType(0x7f)));
}

#[test]
fn an_upload_without_a_rate_is_refused() {
    let commit = Command::CommitWithEscrow { campaign: 1, rate_kbit_s: 0, unless_broken: false };
    assert!(Command::parse(&commit.emit()).is_err());
}

#[test]
fn manifest_parts_outside_their_bounds_are_refused() {
    let part = |total_bytes, offset_bytes, size| {
        let bytes = vec![0; size];
        Command::parse(
            &Command::ManifestPart { campaign: 1, total_bytes, offset_bytes, bytes }.emit(),
        )
    };
    assert!(part(2000, 976, 1024).is_ok());
    for (total, offset, size) in
        [(2000, 977, 1024), (2000, 0, 1025), (2000, 0, 0), (65537, 0, 1), (10, u32::MAX, 1)]
    {
        assert!(part(total, offset, size).is_err(), "{total} {offset} {size}");
    }
}
