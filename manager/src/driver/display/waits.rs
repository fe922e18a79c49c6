//! What a campaign waits for, in words.

use firmcast_manager::campaign::{Host, Stage};

/// So many hosts are named; of more their number is said.
const NAMED_MAX: usize = 3;

/// Returns what is waited for: of the hosts under way, those that have the longest way to go.
pub(super) fn text(hosts: &[Host]) -> String {
    let under_way = || hosts.iter().filter(|host| host.outcome().is_none());
    let Some(stage) = under_way().map(Host::stage).min() else {
        return "waits for nothing: all hosts have ended".to_owned();
    };
    let names: Vec<&str> = under_way()
        .filter(|host| host.stage() == stage)
        .map(|host| host.target().name.as_str())
        .collect();
    let who = match names.len() {
        count if count > NAMED_MAX => format!("{count} hosts"),
        _ => names.join(", "),
    };
    match stage {
        Stage::Connect => format!("waits for the agents of {who} to answer"),
        Stage::Recall => format!("waits for {who} to come home from an earlier campaign"),
        Stage::Manifest | Stage::RecoveryManifest | Stage::ConfirmManifest => {
            format!("waits for {who} to take the manifest")
        }
        Stage::Foresee => format!("waits for {who} to foresee the update"),
        Stage::Begin => format!("waits for {who} to check whether they can be updated"),
        Stage::Reach => format!("waits for {who} to boot into the recovery environment"),
        Stage::Enlist => format!("waits for {who} to take part"),
        Stage::Join => format!("waits for {who} to join the stream"),
        Stage::Transfer => format!("waits for {who} to have the whole image"),
        Stage::Escrow => format!("waits for the backups of {who}"),
        Stage::Commit => format!("waits for {who} to begin to write"),
        Stage::Flash => {
            format!("waits for {who} to write and verify the flash: leave the power on")
        }
        Stage::Release => format!("waits for {who} to reboot"),
        Stage::Reboot => format!("waits for {who} to come back after the boot"),
        Stage::Measure => format!("waits for {who} to compare the flash with the image"),
        Stage::Ended => format!("waits for {who} to end"),
    }
}
