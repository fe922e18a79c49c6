//! Lists of hosts as other programs write them, and as those read them again. Pure: text in, text
//! out.
//!
//! | file | what it has |
//! | --- | --- |
//! | [`entry`] | what a list says of a host, and how that changes what is known of it |
//! | `manager.rs` | the inventory of `firmcast` |
//! | `csv.rs` | a table with a header |
//! | `ansible.rs` | what `ansible-inventory --list` writes, and an inventory that Ansible reads |

mod ansible;
mod csv;
pub mod entry;
mod manager;

use std::collections::BTreeSet;

use thiserror::Error;

use self::entry::Entry;
use crate::model::Host;

/// Maximum size of a list that is read, in bytes.
pub const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// So many problems of one list are told; of the others their number.
pub const PROBLEMS_MAX: usize = 20;

/// A form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `inventory.json` of `firmcast`. Only read.
    Manager,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
    /// JSON of `ansible-inventory --list`, or an inventory in YAML that is JSON, too.
    Ansible,
}

/// What is wrong at one place of a list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct Problem {
    /// The line, or the host.
    pub place: String,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

impl Problem {
    fn new(place: impl ToString, problem: impl ToString) -> Self {
        Self { place: place.to_string(), problem: problem.to_string() }
    }
}

/// What a list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Of each host that can be told by a key or is known already.
    pub entries: Vec<Entry>,
    /// Names of hosts of which the list says nothing that belongs here.
    pub passed_over: Vec<String>,
}

/// Returns what `text` says.
///
/// # Errors
/// All that is wrong with it. Then nothing of it should be taken.
pub fn read(text: &str, format: Format) -> Result<List, Vec<Problem>> {
    let list = match format {
        Format::Manager => manager::read(text),
        Format::Csv => csv::read(text),
        Format::Ansible => ansible::read(text),
    }?;
    let mut seen = BTreeSet::new();
    let names = list.entries.iter().map(|entry| entry.name.as_str());
    let twice = names.filter(|name| !seen.insert(*name));
    let problems: Vec<_> = twice.map(|name| Problem::new(name, "is there twice")).collect();
    if problems.is_empty() { Ok(list) } else { Err(problems) }
}

/// Returns the list of `hosts`; `None` for a form that is only read.
pub fn write(hosts: &[Host], format: Format) -> Option<String> {
    match format {
        Format::Manager => None,
        Format::Csv => Some(csv::write(hosts)),
        Format::Ansible => Some(ansible::write(hosts)),
    }
}

/// Guesses the form of a list.
pub fn guess(text: &str) -> Format {
    if !text.trim_start().starts_with('{') {
        return Format::Csv;
    }
    match manager::read(text) {
        Ok(_) => Format::Manager,
        Err(_) => Format::Ansible,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use firmcast::keys::HostPublicKey;

    use super::*;
    use crate::rollout::samples::host;

    fn key(number: u8) -> String {
        HostPublicKey::from_exchange([number; 32]).unwrap().to_string()
    }

    fn onto(list: List, known: &[Host]) -> Vec<Host> {
        let known = |name: &str| known.iter().find(|host| host.name == name).cloned();
        let updated = |entry: Entry| {
            let known = known(&entry.name);
            entry.onto(known).unwrap()
        };
        list.entries.into_iter().map(updated).collect()
    }

    /// Hosts with labels of any text, also such as look like fields or formulas.
    fn hosts() -> impl Strategy<Value = Vec<Host>> {
        let label = prop_oneof![
            Just("rack".to_owned()),
            Just("name".to_owned()),
            Just("label:x".to_owned()),
            "\\PC{1,8}",
        ];
        let labels = prop::collection::btree_map(label, "[^\\x00]{1,8}", 0..4);
        prop::collection::vec(labels, 1..6).prop_map(|all| {
            let named = |(index, labels)| {
                let host = host(&format!("h{index},\"<b>\n"), "berlin", "r1", "a");
                Host { key: key(index as u8 + 9), labels, ..host }
            };
            all.into_iter().enumerate().map(named).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(hosts in hosts()) {
            for format in [Format::Csv, Format::Ansible] {
                let text = write(&hosts, format).unwrap();
                prop_assert_eq!(guess(&text), format);
                let list = read(&text, format).unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
                prop_assert_eq!(&onto(list.clone(), &[]), &hosts);
                // And changes nothing of what is known.
                prop_assert_eq!(&onto(list, &hosts), &hosts);
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}|[\\[{}\\]:,\"a-c0-9\n]{0,80}") {
            for format in [Format::Manager, Format::Csv, Format::Ansible] {
                let _ = read(&text, format);
            }
        }
    }

    /// As ansible-core 2.19 lists what a plugin found.
    #[test]
    fn text_that_ansible_does_not_evaluate_is_text() {
        fn mark(value: &mut serde_json::Value) {
            match value {
                serde_json::Value::Array(values) => values.iter_mut().for_each(mark),
                serde_json::Value::Object(values) => values.values_mut().for_each(mark),
                serde_json::Value::String(_) => {
                    *value = serde_json::json!({ "__ansible_unsafe": value });
                }
                _ => {}
            }
        }
        let host = Host { key: key(9), ..host("h1", "berlin", "r1", "{{ a }}") };
        let text = write(std::slice::from_ref(&host), Format::Ansible).unwrap();
        let mut inventory = serde_json::from_str(&text).unwrap();
        mark(&mut inventory);
        assert_eq!(onto(read(&inventory.to_string(), Format::Ansible).unwrap(), &[]), [host]);
    }

    #[test]
    fn a_host_that_is_there_twice_is_a_problem() {
        let text = format!("name,key,addresses\na,{0},127.0.0.1\na,{0},127.0.0.2\n", key(9));
        let wrong = read(&text, Format::Csv).unwrap_err();
        assert_eq!(wrong, [Problem::new("a", "is there twice")]);
    }
}
