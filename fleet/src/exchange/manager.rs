//! The inventory of `firmcast`: names, keys, addresses, boards and floors; no labels.

use firmcast_manager::store::inventory::{Entry as Known, Inventory};

use super::entry::Entry;
use super::{List, Problem};

/// Returns what an `inventory.json` says.
pub(super) fn read(text: &str) -> Result<List, Vec<Problem>> {
    let inventory: Inventory = serde_json::from_str(text)
        .map_err(|error| vec![Problem::new(format!("line {}", error.line()), error)])?;
    let entry = |host: &Known| Entry {
        name: host.name.clone(),
        key: Some(host.key.to_string()),
        addresses: Some(vec![host.address]),
        vendor: Some(host.vendor.clone()),
        product: Some(host.product.clone()),
        security_version_floor: host.security_version_floor,
        ..Entry::default()
    };
    Ok(List { entries: inventory.hosts().iter().map(entry).collect(), passed_over: Vec::new() })
}
