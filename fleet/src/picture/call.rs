//! Dead hosts that call for help.

use crate::model::Call;

/// Returns how many dead hosts call.
pub fn calling(hosts: usize) -> String {
    match hosts {
        1 => "1 dead host calls for help".to_owned(),
        hosts => format!("{hosts} dead hosts call for help"),
    }
}

/// Returns what the host found of its firmware.
pub fn found(call: &Call) -> String {
    let finding = if call.finding.is_empty() { "not known yet" } else { &call.finding };
    if call.why.is_empty() { finding.to_owned() } else { format!("{finding}: {}", call.why) }
}

/// Returns what is done about it.
pub fn does(call: &Call) -> String {
    let Call { stage, done, total, version, last, .. } = call;
    let of = if *total > 0 { format!(" {done} of {total}") } else { String::new() };
    let with = if version.is_empty() { String::new() } else { format!(", {version}") };
    let last = if last.is_empty() { String::new() } else { format!(", last try: {last}") };
    format!("{stage}{of}{with}{last}")
}

/// Returns what an operator does about it, empty where that is nothing, and what to type.
pub fn to_do(call: &Call) -> (&'static str, Option<String>) {
    match call.held.as_str() {
        _ if call.conflict => {
            ("Several machines call with its key: give each a key of its own.", None)
        }
        _ if call.parked => (
            "It is left alone, as it failed or came back too often: see why at its console or BMC, \
             mend it, then have it tried again on the machine of the worker:",
            Some("systemctl restart 'firmcast-fleet-work@*'".to_owned()),
        ),
        "held" => (
            "Nothing is for it: its label rescue says so, or no release is for its board and new \
             enough. Add one:",
            Some("firmcast-fleet release add BUNDLE".to_owned()),
        ),
        "no-bundle" => (
            "Its bundle is fetched, or the host refuses it; if it stays so, see the journal of the \
             worker.",
            None,
        ),
        _ => ("", None),
    }
}
