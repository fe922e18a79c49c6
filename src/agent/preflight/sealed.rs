//! Whether disks are unlocked by the TPM for the present firmware only: after the update they would
//! ask for a passphrase, and nobody stands at the machine.

use std::io;

use crate::agent::check::{Checklist, Subject};
use crate::agent::local_machine::LocalMachine;
use crate::disks::Found;
use crate::reason::Reason;

const NAME: Subject = Subject::SealedDisks;

/// Looks at the headers of encrypted disks, and at /etc/crypttab.
pub(super) fn sealed_disks(list: &mut Checklist, machine: &LocalMachine) {
    tell(list, Found::look(&machine.root));
}

/// What is to be done after an update, where disks were sealed to the firmware before it.
pub(in crate::agent) fn disks_to_bind(machine: &LocalMachine) -> Option<String> {
    let sealed = Found::look(&machine.root).ok()?.sealed;
    (!sealed.is_empty()).then(|| {
        let disks = sealed.join("; ");
        format!(
            "bind these disks to the new firmware (clevis luks regen -d DEVICE -s SLOT, or \
             systemd-cryptenroll --wipe-slot=tpm2 --tpm2-device=auto DEVICE): {disks}"
        )
    })
}

fn tell(list: &mut Checklist, found: io::Result<Found>) {
    match found {
        Err(error) => list.unknown(NAME, format_args!("encrypted disks are not seen: {error}")),
        Ok(Found { sealed, unknown, .. }) if !sealed.is_empty() => {
            let all: Vec<String> = sealed.into_iter().chain(unknown).collect();
            let (reason, advice) = (Reason::DisksSealed, Reason::DisksSealed.advice());
            list.not_ok(NAME, reason, all.join("; "), advice);
        }
        Ok(Found { unknown, .. }) if !unknown.is_empty() => {
            list.unknown(NAME, format_args!("not understood: {}", unknown.join("; ")));
        }
        Ok(Found { looked: 0, .. }) => list.ok(NAME, "no encrypted disks"),
        Ok(Found { looked, .. }) => {
            list.ok(
                NAME,
                format_args!("none of {looked} encrypted disks is bound to the firmware"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::check::Verdict;
    use crate::wire::finding::Acceptance;

    fn told(found: io::Result<Found>, accepted: u64) -> (Verdict, String) {
        let mut list = Checklist::new(Acceptance::from_bits(accepted));
        tell(&mut list, found);
        let check = &list.checks()[0];
        (check.verdict, check.detail.clone())
    }

    #[test]
    fn sealed_disks_are_in_the_way_until_they_are_accepted() {
        let found = || Found {
            looked: 2,
            sealed: vec!["/dev/vda3: clevis tpm2, PCR 0".into()],
            unknown: vec!["/dev/vdb: its LUKS header is damaged".into()],
        };
        let both = "/dev/vda3: clevis tpm2, PCR 0; /dev/vdb: its LUKS header is damaged".to_owned();
        assert_eq!(told(Ok(found()), 0), (Verdict::NotOk, both.clone()));
        assert_eq!(told(Ok(found()), u64::MAX), (Verdict::Accepted, both));
        let unknown = Found { sealed: vec![], ..found() };
        assert_eq!(told(Ok(unknown), 0).0, Verdict::Unknown);
        assert_eq!(told(Err(io::Error::other("no helper")), 0).0, Verdict::Unknown);
        assert_eq!(told(Ok(Found::default()), 0), (Verdict::Ok, "no encrypted disks".into()));
    }
}
