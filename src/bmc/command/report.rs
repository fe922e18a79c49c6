//! What `firmcastd bmc show` says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{BmcError, Contents, Visited};
use crate::bmc::fru::{Area, AreaState, Fru, FruRecord};
use crate::bmc::system_info;
use crate::manager_url::ManagerUrl;

type SystemInfo = (u8, Result<Vec<u8>, BmcError>);

/// Returns the report as text for people, or as one JSON object.
pub(super) fn of(
    devices: &[Visited<Contents>],
    system_info: &[SystemInfo],
    as_json: bool,
) -> String {
    let managers = managers(devices, system_info);
    if as_json {
        let devices: Vec<Value> = devices.iter().map(device_json).collect();
        let parameters: Vec<Value> = system_info.iter().map(parameter_json).collect();
        let report =
            json!({ "managers": managers, "fru_devices": devices, "system_info": parameters });
        return format!("{report:#}\n");
    }
    let mut text = String::new();
    for device in devices {
        device_text(&mut text, device);
    }
    for (parameter, result) in system_info {
        let name = parameter_name(*parameter);
        // Writing to a String cannot fail.
        let _ = match result {
            Ok(url) => writeln!(text, "{name}: {}", printable(url)),
            Err(error) => writeln!(text, "{name}: {}", error.in_full()),
        };
    }
    match managers.as_slice() {
        [] => text += "manager: none\n",
        managers => managers.iter().for_each(|url| text += &format!("manager: {url}\n")),
    }
    text
}

fn managers(devices: &[Visited<Contents>], system_info: &[SystemInfo]) -> Vec<String> {
    let in_fru =
        devices.iter().filter_map(|(_, result)| result.as_ref().ok()).flat_map(|contents| {
            Fru::parse(&contents.bytes).map(|fru| fru.manager_urls()).unwrap_or_default()
        });
    let in_system_info = system_info
        .iter()
        .filter_map(|(_, result)| system_info::manager_url(result.as_ref().ok()?));
    let mut managers: Vec<ManagerUrl> = Vec::new();
    for url in in_fru.chain(in_system_info) {
        if !managers.contains(&url) {
            managers.push(url);
        }
    }
    managers.iter().map(ManagerUrl::to_string).collect()
}

fn device_text(text: &mut String, (number, result): &Visited<Contents>) {
    let contents = match result {
        Ok(contents) => contents,
        Err(error) => {
            *text += &format!("FRU device {number}: {}\n", error.in_full());
            return;
        }
    };
    *text += &format!("FRU device {number}: {} bytes\n", contents.bytes.len());
    let fru = match Fru::parse(&contents.bytes) {
        Ok(fru) => fru,
        Err(error) => {
            *text += &format!("  {error}\n");
            return;
        }
    };
    for Area { kind, offset_bytes, size_bytes, state } in &fru.areas {
        let kind = kind.to_string();
        *text += &format!(
            "  {kind:<12} {offset_bytes:#06x}, {size_bytes} bytes, {}\n",
            state_text(state)
        );
    }
    for record in fru.records.iter().flatten() {
        let (offset, kind, size) = (record.offset_bytes, record.kind, record.data.len());
        *text += &format!("    record     {offset:#06x}, type {kind:#04x}, {size} bytes of data");
        if !record.is_intact() {
            *text += ", wrong checksum";
        }
        if let Some(url) = record.url() {
            *text += &format!(", System Management URL {}", printable(url));
        }
        *text += "\n";
    }
}

fn state_text(state: &AreaState) -> &str {
    match state {
        AreaState::Intact => "intact",
        AreaState::Unchecked => "without a checksum",
        AreaState::Damaged(problem) => problem,
    }
}

fn device_json((number, result): &Visited<Contents>) -> Value {
    let contents = match result {
        Ok(contents) => contents,
        Err(error) => return json!({ "device": number, "error": error.in_full() }),
    };
    let size_bytes = contents.bytes.len();
    match Fru::parse(&contents.bytes) {
        Err(error) => {
            json!({ "device": number, "size_bytes": size_bytes, "error": error.to_string() })
        }
        Ok(fru) => json!({
            "device": number,
            "size_bytes": size_bytes,
            "areas": fru.areas.iter().map(area_json).collect::<Vec<_>>(),
            "records": fru.records.iter().flatten().map(record_json).collect::<Vec<_>>(),
        }),
    }
}

fn area_json(area: &Area) -> Value {
    json!({
        "kind": area.kind.to_string(),
        "offset_bytes": area.offset_bytes,
        "size_bytes": area.size_bytes,
        "state": state_text(&area.state),
    })
}

fn record_json(record: &FruRecord<'_>) -> Value {
    json!({
        "offset_bytes": record.offset_bytes,
        "type": record.kind,
        "data_size_bytes": record.data.len(),
        "is_intact": record.is_intact(),
        "url": record.url().map(printable),
    })
}

fn parameter_json((parameter, result): &SystemInfo) -> Value {
    match result {
        Ok(url) => json!({ "parameter": parameter, "text": printable(url) }),
        Err(error) => json!({ "parameter": parameter, "error": error.in_full() }),
    }
}

fn parameter_name(parameter: u8) -> String {
    let what = if parameter == 6 { "BMC URL" } else { "OS or hypervisor URL" };
    format!("system info {parameter} ({what})")
}

/// Text from outside, fit for a terminal.
fn printable(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}
