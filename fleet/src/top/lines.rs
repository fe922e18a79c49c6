//! The grid of a rollout in lines of the screen.

use super::paint::width;
use crate::picture::grid::{Cell, Grid};

/// Maximum number of columns of the names of site and rack.
const LABEL_MAX: usize = 20;

/// A line of hosts of one rack.
pub(super) struct GridLine<'a> {
    /// Site and rack; empty where the line before has the same.
    pub(super) label: String,
    /// The place of the first cell among all.
    pub(super) first: usize,
    pub(super) cells: &'a [Cell<'a>],
}

/// Returns a grid in lines, each of one rack.
pub(super) fn lines<'a>(grid: &'a Grid<'a>, columns: usize) -> Vec<GridLine<'a>> {
    let room = columns.saturating_sub(label_columns(grid, columns) + 1).max(1);
    let (mut lines, mut first) = (Vec::new(), 0);
    for site in &grid.sites {
        for rack in &site.racks {
            for (index, cells) in rack.cells.chunks(room).enumerate() {
                let label = match index {
                    0 if rack.name.is_empty() => site.name.to_owned(),
                    0 => format!("{} {}", site.name, rack.name),
                    _ => String::new(),
                };
                lines.push(GridLine { label, first, cells });
                first += cells.len();
            }
        }
    }
    lines
}

/// Returns how many columns the names of site and rack take.
pub(super) fn label_columns(grid: &Grid<'_>, columns: usize) -> usize {
    let racks = grid.sites.iter().flat_map(|site| {
        let rack = site.racks.iter().map(|rack| width(rack.name)).max().unwrap_or_default();
        [width(site.name) + 1 + rack]
    });
    racks.max().unwrap_or_default().min(LABEL_MAX).min(columns / 2)
}
