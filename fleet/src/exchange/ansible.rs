//! Ansible's inventories. Read is what `ansible-inventory --list` writes, or an inventory in the
//! form of [`write`], which Ansible reads as YAML. Ansible's own parsers deal with everything else.
//!
//! | variable of a host | what it is |
//! | --- | --- |
//! | `firmcast_key` | its public key; hosts without it are passed over, unless known |
//! | `firmcast_addresses` | a list of addresses; else `ansible_host`, if that is an address |
//! | `firmcast_port` | of `ansible_host`; 9847 without |
//! | `firmcast_vendor`, `_product`, `_version`, `_agent`, `_security` | as in a table |
//! | `firmcast_labels` | labels with their values |
//! | `site`, `rack`, `power`, `role` | labels, where `firmcast_labels` has none of that name |

use std::collections::BTreeMap;

use firmcast::wire::DEFAULT_PORT;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::entry::{Entry, address, key};
use super::{List, PROBLEMS_MAX, Problem};
use crate::model::{Host, POWER, RACK, ROLE, SITE};

/// Variables of this program begin so.
const OURS: &str = "firmcast_";

/// What Ansible puts around text that it must not evaluate: since 2.19 around all that a plugin
/// found.
const UNSAFE: &str = "__ansible_unsafe";

/// Either form of an inventory.
#[derive(Deserialize)]
struct Inventory {
    #[serde(default)]
    _meta: Meta,
    #[serde(default)]
    all: Group,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    hostvars: BTreeMap<String, Map<String, Value>>,
}

#[derive(Default, Deserialize)]
struct Group {
    /// A map with the hosts' variables in an inventory, a list of names in the list.
    #[serde(default)]
    hosts: Value,
}

/// Returns what an inventory says.
pub(super) fn read(text: &str) -> Result<List, Vec<Problem>> {
    let inventory: Inventory = serde_json::from_str(text).map_err(|error| {
        let advice = "give what `ansible-inventory --list` writes";
        vec![Problem::new(format!("line {}", error.line()), format!("{error}; {advice}"))]
    })?;
    let mut hosts = inventory._meta.hostvars;
    if let Value::Object(listed) = inventory.all.hosts {
        for (name, variables) in listed {
            let Value::Object(variables) = variables else { continue };
            hosts.entry(name).or_default().extend(variables);
        }
    }
    let (mut list, mut problems) = (List::default(), Vec::new());
    for (name, variables) in hosts {
        if !variables.keys().any(|variable| variable.starts_with(OURS)) {
            list.passed_over.push(name);
            continue;
        }
        match entry(&name, &variables) {
            Ok(entry) => list.entries.push(entry),
            Err(wrong) => problems.push(Problem::new(&name, wrong)),
        }
        if problems.len() == PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() { Ok(list) } else { Err(problems) }
}

fn entry(name: &str, variables: &Map<String, Value>) -> Result<Entry, String> {
    let ours = |what: &str| variables.get(&format!("{OURS}{what}"));
    let text = |what: &str| ours(what).map(|value| words(what, value)).transpose();
    let security = text("security")?.filter(|text| !text.is_empty());
    Ok(Entry {
        name: name.to_owned(),
        key: text("key")?.map(|text| key(&text)).transpose()?,
        addresses: addresses(variables)?,
        vendor: text("vendor")?,
        product: text("product")?,
        bios_version: text("version")?,
        agent_version: text("agent")?,
        security_version_floor: security.map_or(Ok(0), |text| {
            text.parse().map_err(|_| format!("{text:?} is no security version"))
        })?,
        labels: labels(variables)?,
    })
}

fn addresses(variables: &Map<String, Value>) -> Result<Option<Vec<std::net::SocketAddr>>, String> {
    if let Some(listed) = variables.get("firmcast_addresses") {
        let Value::Array(listed) = listed else {
            return Err("firmcast_addresses is no list: write [\"192.0.2.7\"]".into());
        };
        let one = |value: &Value| address(&words("addresses", value)?, DEFAULT_PORT);
        return listed.iter().map(one).collect::<Result<_, _>>().map(Some);
    }
    let port = match variables.get("firmcast_port") {
        Some(port) => words("port", port)?.parse().map_err(|_| format!("{port} is no port"))?,
        None => DEFAULT_PORT,
    };
    let Some(host) = variables.get("ansible_host") else { return Ok(None) };
    let told = |problem| format!("{problem}; or set firmcast_addresses");
    Ok(Some(vec![address(&words("ansible_host", host)?, port).map_err(told)?]))
}

fn labels(variables: &Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for label in [SITE, RACK, POWER, ROLE] {
        if let Some(value) = variables.get(label) {
            labels.insert(label.to_owned(), words(label, value)?);
        }
    }
    match variables.get("firmcast_labels") {
        None => {}
        Some(Value::Object(listed)) => {
            for (label, value) in listed {
                labels.insert(label.clone(), words(label, value)?);
            }
        }
        Some(_) => return Err("firmcast_labels is no map of names to values".into()),
    }
    Ok(labels)
}

/// A value as text: people write numbers without quotes.
fn words(what: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Object(marked) if marked.get(UNSAFE).is_some_and(Value::is_string) => {
            words(what, &marked[UNSAFE])
        }
        _ => Err(format!("{what} is neither text nor a number")),
    }
}

/// Returns an inventory with `hosts` in the group `all`.
pub(super) fn write(hosts: &[Host]) -> String {
    let variables = |host: &Host| {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        let mut variables = json!({
            "firmcast_key": host.key,
            "firmcast_addresses": addresses,
            "firmcast_vendor": host.vendor,
            "firmcast_product": host.product,
            "firmcast_version": host.bios_version,
            "firmcast_agent": host.agent_version,
            "firmcast_security": host.security_version_floor,
            "firmcast_labels": host.labels,
        });
        if let Some(first) = host.addresses.first() {
            variables["ansible_host"] = json!(first.ip().to_string());
        }
        (host.name.clone(), variables)
    };
    let hosts: Map<String, Value> = hosts.iter().map(variables).collect();
    let inventory = json!({ "all": { "hosts": hosts } });
    format!("{inventory:#}\n")
}
