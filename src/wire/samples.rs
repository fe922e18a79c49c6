//! Messages for the tests of every crate of the workspace.
//!
//! A test names the fields that it is about and takes the others from here, so that a new field is
//! entered in one place: `Identity { product: "S1".into(), ..samples::identity() }`. No program
//! uses this room, and the linker drops it.

use super::answer::{DETAIL_SIZE_MAX, End, Environment, Identity, NAME_SIZE_MAX};
use super::finding::{FINDINGS_MAX, Finding, Subject, Verdict};
use crate::reason::{Condition, Ending, FlashState, Reason};

/// Returns the identity of a healthy host that runs its normal operating system.
pub fn identity() -> Identity {
    Identity {
        environment: Environment::NormalOs,
        boot_id: [1; 16],
        flash_size_bytes: 1 << 20,
        obstacle: Reason::None,
        security_version_floor: 0,
        host_name: "host".into(),
        vendor: "V".into(),
        product: "P".into(),
        bios_version: "1".into(),
        flash_name: "bios".into(),
        agent_version: "0".into(),
        obstacle_detail: String::new(),
        firmware: Condition::Whole,
        doubt: String::new(),
        last_end: None,
        findings: Vec::new(),
        learned: Vec::new(),
    }
}

/// Returns the identity that takes the most bytes on the wire: every text has its maximum length.
pub fn longest_identity() -> Identity {
    let name = "n".repeat(NAME_SIZE_MAX);
    let detail = "d".repeat(DETAIL_SIZE_MAX);
    let (subject, verdict) = (Subject::Flash, Verdict::NotOk);
    let finding = Finding { subject, verdict, reason: Reason::FlashLocked };
    Identity {
        environment: Environment::NormalOs,
        boot_id: [1; 16],
        flash_size_bytes: 2 << 20,
        obstacle: Reason::FlashLocked,
        security_version_floor: 3,
        host_name: name.clone(),
        vendor: name.clone(),
        product: name.clone(),
        bios_version: name.clone(),
        flash_name: name.clone(),
        agent_version: name,
        obstacle_detail: detail.clone(),
        firmware: Condition::Doubtful,
        doubt: detail.clone(),
        last_end: Some(End {
            campaign: 7,
            ending: Ending::new(Reason::ManagerNotReached, FlashState::UNTOUCHED, detail),
        }),
        findings: vec![finding; FINDINGS_MAX],
        learned: Vec::new(),
    }
}
