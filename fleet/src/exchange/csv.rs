//! A table with a header: `name`, and any of the fields below. Every other column is a label, and
//! so is `label:NAME` for a label that is called as a field. An empty cell leaves a field as it is,
//! and takes a label away.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord, Writer};

use super::entry::{Entry, addresses, key};
use super::{List, PROBLEMS_MAX, Problem};
use crate::model::Host;

/// Columns that are no labels.
const FIELDS: [&str; 8] =
    ["name", "key", "addresses", "vendor", "product", "version", "agent", "security"];

/// Stands before the name of a label.
const LABEL: &str = "label:";

/// Returns what a table says.
pub(super) fn read(text: &str) -> Result<List, Vec<Problem>> {
    let mut reader = ReaderBuilder::new().from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![Problem::new("line 1", error)]),
    };
    check_header(&header).map_err(|problem| vec![Problem::new("line 1", problem)])?;
    let (mut list, mut problems) = (List::default(), Vec::new());
    for row in reader.into_records() {
        let entry = match row {
            Ok(row) => {
                let line = row.position().map_or(0, csv::Position::line);
                entry(&header, &row).map_err(|wrong| Problem::new(format!("line {line}"), wrong))
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                Err(Problem::new(format!("line {line}"), error))
            }
        };
        match entry {
            Ok(entry) => list.entries.push(entry),
            Err(problem) => problems.push(problem),
        }
        if problems.len() == PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() { Ok(list) } else { Err(problems) }
}

fn check_header(header: &StringRecord) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match header.iter().find(|column| !seen.insert(*column)) {
        Some(twice) => return Err(format!("the column {twice:?} is there twice")),
        None if !seen.contains("name") => {
            let wanted = FIELDS.join(",");
            return Err(format!("there is no column \"name\": begin the table with {wanted}"));
        }
        None => {}
    }
    match header.iter().any(str::is_empty) {
        true => Err("a column has no name: give it the name of a label".into()),
        false => Ok(()),
    }
}

fn entry(header: &StringRecord, row: &StringRecord) -> Result<Entry, String> {
    let mut entry = Entry::default();
    for (column, cell) in header.iter().zip(row) {
        let text = || Some(cell.to_owned());
        match column {
            "name" => entry.name = cell.to_owned(),
            name if !FIELDS.contains(&name) => {
                let label = name.strip_prefix(LABEL).unwrap_or(name);
                entry.labels.insert(label.to_owned(), cell.to_owned());
            }
            _ if cell.is_empty() => {}
            "key" => entry.key = Some(key(cell)?),
            "addresses" => entry.addresses = Some(addresses(cell)?),
            "vendor" => entry.vendor = text(),
            "product" => entry.product = text(),
            "version" => entry.bios_version = text(),
            "agent" => entry.agent_version = text(),
            _ => {
                entry.security_version_floor =
                    cell.parse().map_err(|_| format!("{cell:?} is no security version"))?;
            }
        }
    }
    match entry.name.is_empty() {
        true => Err("the host has no name".into()),
        false => Ok(entry),
    }
}

/// Returns the table of `hosts`, with a column for each label that some host has.
pub(super) fn write(hosts: &[Host]) -> String {
    let labels: BTreeSet<&str> =
        hosts.iter().flat_map(|host| host.labels.keys().map(String::as_str)).collect();
    let column =
        |label: &&str| match FIELDS.contains(label) || label.is_empty() || label.starts_with(LABEL)
        {
            true => format!("{LABEL}{label}"),
            false => (*label).to_owned(),
        };
    let header = FIELDS.iter().map(ToString::to_string).chain(labels.iter().map(column));
    let mut table = Writer::from_writer(Vec::new());
    // Writing into memory does not fail, and all rows have the header's length.
    let _ = table.write_record(header);
    for host in hosts {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        let fields = [
            host.name.clone(),
            host.key.clone(),
            addresses.join(" "),
            host.vendor.clone(),
            host.product.clone(),
            host.bios_version.clone(),
            host.agent_version.clone(),
            host.security_version_floor.to_string(),
        ];
        let values = labels.iter().map(|label| host.label(label).to_owned());
        let _ = table.write_record(fields.into_iter().chain(values));
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
