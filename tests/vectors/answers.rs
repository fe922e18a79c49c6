//! A message of each kind from host to manager, with its fields under their names in
//! docs/PROTOCOL.md.

use firmcast::reason::{Condition, Ending, FlashState, Reason};
use firmcast::wire::answer::{
    Answer, End, Environment, Identity, Measurement, Phase, Programs, Report,
};
use firmcast::wire::escrow::BackupOffer;
use firmcast::wire::finding::{self, Subject, Verdict};
use firmcast::wire::foresight::Foresight;
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use serde_json::{Value, json};

use super::commands::{
    CAMPAIGN, campaign_id, counts_status, numbers_status, parameters, parameters_fields, pieces,
    status_fields,
};
use super::hex;

pub(super) fn vectors() -> Vec<Value> {
    let made = about_the_host().into_iter().chain(about_the_campaign()).chain(about_the_flash());
    let vector = |(name, answer, fields): (&str, Answer, Value)| {
        let bytes = answer.emit();
        assert_eq!(Answer::parse(&bytes).unwrap(), answer, "{name}");
        json!({ "name": name, "message": hex(&bytes), "fields": fields })
    };
    made.map(vector).collect()
}

type Named = (&'static str, Answer, Value);

fn recovering() -> Identity {
    let ending = Ending::new(Reason::ManagerNotReached, FlashState::UNTOUCHED, "no answer");
    Identity {
        environment: Environment::Recovery,
        boot_id: [0x11; 16],
        flash_size_bytes: 0x20_0000,
        obstacle: Reason::FlashLocked,
        security_version_floor: 5,
        host_name: "server7.ulm".into(),
        vendor: "ACME".into(),
        product: "S1".into(),
        bios_version: "1.0".into(),
        flash_name: "bios".into(),
        agent_version: "0.1.0".into(),
        obstacle_detail: "BIOS lock".into(),
        firmware: Condition::Doubtful,
        doubt: "a block differs".into(),
        last_end: Some(End { campaign: CAMPAIGN, ending }),
        findings: Vec::new(),
        learned: Vec::new(),
    }
}

pub(super) fn identity_fields(identity: &Identity) -> Value {
    let end = |end: &End| {
        json!({
            "campaign": format!("{:016x}", end.campaign), "reason": end.ending.reason.code(),
            "flash": end.ending.flash.code(), "detail": end.ending.detail,
        })
    };
    json!({
        "environment": identity.environment as u8, "boot id": hex(&identity.boot_id),
        "flash size": identity.flash_size_bytes, "obstacle": identity.obstacle.code(),
        "floor": identity.security_version_floor, "host": identity.host_name,
        "vendor": identity.vendor, "product": identity.product,
        "BIOS version": identity.bios_version, "flash": identity.flash_name,
        "agent version": identity.agent_version, "obstacle detail": identity.obstacle_detail,
        "condition": identity.firmware as u8, "doubt": identity.doubt,
        "last end": identity.last_end.as_ref().map(end),
    })
}

fn findings() -> Vec<finding::Finding> {
    let finding = |subject, verdict, reason| finding::Finding { subject, verdict, reason };
    vec![
        finding(Subject::SealedDisks, Verdict::Accepted, Reason::DisksSealed),
        finding(Subject::Workloads, Verdict::Told, Reason::None),
    ]
}

fn about_the_host() -> Vec<Named> {
    let identity = Identity { findings: findings(), ..samples::identity() };
    let mut fields = identity_fields(&identity);
    fields["findings"] = json!([[30, 3, 25], [27, 1, 0]]);
    let learned = vec![0x12_0000..0x13_0000, 0x14_0000..0x14_1000];
    let taught = Identity { learned, ..identity.clone() };
    let mut taught_fields = fields.clone();
    taught_fields["learned"] = json!([[0x12_0000, 0x1_0000], [0x14_0000, 0x1000]]);
    let asking = Identity { doubt: String::new(), ..recovering() };
    let asking_fields = identity_fields(&asking);
    let request = HelpRequest {
        wants_image: true,
        finding: Finding::Invalid,
        offset_bytes: 0x8_4000,
        why: "the reset vector is empty".into(),
        identity: asking,
        rescues: None,
    };
    let again = HelpRequest { rescues: Some(3), ..request.clone() };
    let request_fields = json!({
        "wants image": 1, "finding": 1, "offset": 0x8_4000,
        "why": "the reset vector is empty", "identity": asking_fields,
    });
    let mut again_fields = request_fields.clone();
    again_fields["rescues"] = json!(3);
    vec![
        ("identity in the normal OS", Answer::Identity(identity), fields),
        ("identity with learned ranges", Answer::Identity(taught), taught_fields),
        ("identity in recovery", Answer::Identity(recovering()), identity_fields(&recovering())),
        ("help request", Answer::HelpRequest(Box::new(request)), request_fields),
        ("help request after three rescues", Answer::HelpRequest(Box::new(again)), again_fields),
    ]
}

fn about_the_campaign() -> Vec<Named> {
    let id = campaign_id();
    let held = Answer::ManifestHeld { campaign: CAMPAIGN, held_bytes: 1024 };
    let numbers = status_fields(3, 1, &json!([[0, 5, 2], [1, 0, 1]]));
    vec![
        (
            "report without digests",
            Answer::Report(Report {
                campaign: CAMPAIGN,
                phase: Phase::Refused,
                ending: Ending::new(Reason::WrongBoard, FlashState::UNTOUCHED, "for S2"),
                done: 0,
                total: 0,
                digests: None,
                lacking: None,
            }),
            json!({
                "campaign": id, "phase": 2, "reason": 3, "flash": 0, "done": 0, "total": 0,
                "digests": null, "detail": "for S2",
            }),
        ),
        (
            "report with digests",
            Answer::Report(Report {
                campaign: CAMPAIGN,
                phase: Phase::Updated,
                ending: Ending::new(Reason::Updated, FlashState::Updated, ""),
                done: 3,
                total: 4,
                digests: Some(([0x22; 32], [0x33; 32])),
                lacking: None,
            }),
            json!({
                "campaign": id, "phase": 10, "reason": Reason::Updated.code(), "flash": 1,
                "done": 3, "total": 4, "digests": ["22".repeat(32), "33".repeat(32)],
                "detail": "",
            }),
        ),
        (
            "report with lacking pieces",
            Answer::Report(Report {
                campaign: CAMPAIGN,
                phase: Phase::Accepted,
                ending: Ending::new(Reason::None, FlashState::UNTOUCHED, ""),
                done: 0,
                total: 0,
                digests: None,
                lacking: Some(pieces(17, &[3, 16])),
            }),
            json!({
                "campaign": id, "phase": 1, "reason": 0, "flash": 0, "done": 0, "total": 0,
                "digests": null, "detail": "", "lacking": [17, [3, 16]],
            }),
        ),
        ("command not understood", Answer::NotUnderstood { kind: 0x42 }, json!({ "type": 0x42 })),
        ("manifest held", held, json!({ "campaign": id, "held": 1024 })),
        (
            "fragment status with counts",
            Answer::FragmentStatus(counts_status()),
            status_fields(300, 0, &json!([299, 1])),
        ),
        ("fragment status with numbers", Answer::FragmentStatus(numbers_status()), numbers),
    ]
}

fn about_the_flash() -> Vec<Named> {
    let (campaign, id) = (CAMPAIGN, campaign_id());
    vec![
        (
            "measurement",
            Answer::Measurement(Measurement {
                campaign,
                matches: true,
                stable_digest: [0x44; 32],
                boot_id: [0x55; 16],
                bios_version: "2.0".into(),
                bios_vendor: "ACME".into(),
                detail: String::new(),
                programs: None,
            }),
            json!({
                "campaign": id, "matches": 1, "stable digest": "44".repeat(32),
                "boot id": "55".repeat(16), "BIOS version": "2.0", "BIOS vendor": "ACME",
                "detail": "",
            }),
        ),
        (
            "measurement after programs",
            Answer::Measurement(Measurement {
                campaign,
                matches: true,
                stable_digest: [0x44; 32],
                boot_id: [0x55; 16],
                bios_version: "2.0".into(),
                bios_vendor: "ACME".into(),
                detail: String::new(),
                programs: Some(Programs { failed: true, told: "10-undrain 3".into() }),
            }),
            json!({
                "campaign": id, "matches": 1, "stable digest": "44".repeat(32),
                "boot id": "55".repeat(16), "BIOS version": "2.0", "BIOS vendor": "ACME",
                "detail": "", "programs": [1, "10-undrain 3"],
            }),
        ),
        (
            "backup offer",
            Answer::BackupOffer(BackupOffer {
                parameters: parameters(),
                digest: [0x77; 32],
                closed: vec![0x1000..0x2000, 0x8000..0x8001],
            }),
            json!({
                "parameters": parameters_fields(), "digest": "77".repeat(32),
                "closed": [[0x1000, 0x1000], [0x8000, 1]],
            }),
        ),
        (
            "foresight",
            Answer::Foresight(Foresight {
                campaign,
                reason: Reason::None,
                blocks: 512,
                changed_blocks_max: 16,
                typical_ms: 1000,
                longest_ms: u32::MAX,
                detail: "a block differs".into(),
                findings: findings(),
            }),
            json!({
                "campaign": id, "reason": 0, "blocks": 512, "changed blocks": 16,
                "typical time": 1000, "longest time": u32::MAX, "detail": "a block differs",
                "findings": [[30, 3, 25], [27, 1, 0]],
            }),
        ),
    ]
}
