//! What the program says. A reader that goes away ends nothing.

use std::io::Write as _;

/// Writes `text` and a line end to the standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes what a person should know, though the output may go elsewhere.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "firmcast-fleet: {text}");
}

/// Writes why the program failed.
pub(crate) fn complain(error: &anyhow::Error) {
    remark(&format!("{error:#}"));
}

/// Returns text of others as it may be shown: what could change a terminal is escaped.
pub(crate) fn shown(text: &str) -> String {
    firmcast_fleet::picture::words::shown(text)
}

/// Returns rows as columns, each as wide as its widest cell, with two blanks between them.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
