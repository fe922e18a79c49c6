//! A map of the chip as a picture: regions and volumes, what an update does with them, what
//! differs, what is free, where the processor begins, what the host may not read.
//!
//! The chip goes from top to bottom, cut wherever a region or a rule begins or ends. A row is
//! higher the more bytes it has, but by their logarithm, so that 4 KiB beside 16 MiB are still
//! readable. The picture is SVG 1.1 of `rect`, `text` and `title`, on a ground of its own, and
//! refers to nothing outside.

mod rows;
mod svg;

use std::ops::Range;

use firmcast::image::layout::{boot_offset, host_access};
use firmcast::image::tree::{Node, NodeKind};

use super::subject::{Rule, Subject};
use rows::{BAR_CELLS, Row};
use svg::{Anchor, Svg};

/// Maximum number of boxes for regions and volumes; what is beyond is left out, and the picture
/// says so.
const BOXES_MAX: usize = 400;

const WIDTH: usize = 900;
const MARGIN: usize = 16;
const ADDRESS_RIGHT: usize = 104;
const BOX_LEFT: usize = 112;
const BOX_RIGHT: usize = 384;
const BOX_STEP: usize = 12;
const RULE_LEFT: usize = 392;
const RULE_RIGHT: usize = 472;
const BAR_LEFT: usize = 482;
const NOTE_LEFT: usize = 714;
const LINE: usize = 16;
/// Deepest box that is moved to the right.
const DEPTH_MAX: usize = 10;

const GROUND: &str = "#ffffff";
const INK: &str = "#1b1f24";
const FAINT: &str = "#6a737d";
const BOXES: [&str; 2] = ["#f1f4f7", "#e2e8ee"];
const USED: &str = "#55708a";
const FREE: &str = "#e9edf1";
const DIFFERS: &str = "#d1242f";
const CLOSED: &str = "#4a4a4a";
const BOOT: &str = "#8a4b08";
/// Each action with its colour.
const ACTIONS: [(&str, &str, &str); 4] = [
    ("preserve", "#7fc79a", "stays as it is on the chip"),
    ("volatile", "#8fb8f0", "stays, and the firmware writes it"),
    ("reset", "#f2c063", "is erased"),
    ("replace", "#cfa6dd", "is replaced, and the firmware writes it"),
];

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// What the map is of.
    pub subject: &'a Subject<'a>,
    /// What it is called.
    pub title: &'a str,
    /// What it is compared with, and what that is called.
    pub other: Option<(&'a Subject<'a>, &'a str)>,
}

/// A region or volume.
#[derive(Clone, Debug)]
struct Boxed {
    range: Range<u64>,
    depth: usize,
    label: String,
    title: String,
}

/// Returns the picture as SVG.
pub fn draw(picture: &Picture) -> String {
    let image = picture.subject.image;
    let mut boxes = Vec::new();
    collect(&picture.subject.tree.nodes, 0, &mut boxes);
    let is_cut = boxes.len() > BOXES_MAX;
    boxes.truncate(BOXES_MAX);
    let rules = picture.subject.rules.as_deref().unwrap_or_default();
    let closed = host_access(image).unwrap_or_default().no_read;
    let boot = boot_of(picture.subject);
    let other = picture.other.map(|(other, _)| other.image);
    let top = 5 * LINE + 2 * LINE * usize::from(is_cut) + 44;
    let rows = rows::rows(image, other, &boxes, rules, &closed, boot, top);
    let bottom = rows.last().map_or(top, |row| row.top + row.height);
    let mut svg = Svg::new(WIDTH, bottom + 28, GROUND, INK);
    head(&mut svg, picture, is_cut);
    for boxed in &boxes {
        draw_box(&mut svg, boxed, &rows);
    }
    for rule in rules {
        draw_rule(&mut svg, rule, &rows);
    }
    for row in &rows {
        draw_row(&mut svg, row, picture.other.is_some());
    }
    svg.text(ADDRESS_RIGHT, bottom + 12, Anchor::End, FAINT, &format!("{:#x}", image.len()));
    svg.finish()
}

/// The manifest says where the processor begins; of an image alone, the image.
fn boot_of(subject: &Subject) -> Option<u64> {
    let stated = subject.fields.iter().find(|(name, _)| *name == "boot_offset_bytes");
    let found = boot_offset(subject.image);
    stated
        .and_then(|(_, value)| value.as_u64())
        .or_else(|| found.by.is_known().then_some(found.offset_bytes))
}

/// Adds the regions, and the volumes that lie in no file.
fn collect(nodes: &[Node], depth: usize, boxes: &mut Vec<Boxed>) {
    for node in nodes {
        let label = match node.kind {
            NodeKind::Region(_) => node.name.clone().unwrap_or_default(),
            NodeKind::Volume => {
                let guid = node.guid.map(|guid| guid.to_string()).unwrap_or_default();
                format!("volume {}", guid.get(..8).unwrap_or("with a damaged header"))
            }
            _ => continue,
        };
        let Node { offset_bytes, length_bytes, .. } = *node;
        let title = format!(
            "{} {}: {length_bytes:#x} bytes at {offset_bytes:#x}",
            super::listing::label(node),
            node.detail.as_ref().map(|detail| format!("({detail})")).unwrap_or_default(),
        );
        boxes.push(Boxed { range: offset_bytes..offset_bytes + length_bytes, depth, label, title });
        if node.kind != NodeKind::Volume {
            collect(&node.children, depth + 1, boxes);
        }
    }
}

fn head(svg: &mut Svg, picture: &Picture, is_cut: bool) {
    let mut y = MARGIN + 4;
    svg.title_text(MARGIN, y, picture.title);
    y += LINE + 4;
    let size = picture.subject.image.len();
    let about = match picture.other {
        Some((_, name)) => format!("{size:#x} bytes; what differs from {name} is red"),
        None => format!("{size:#x} bytes"),
    };
    svg.text(MARGIN, y, Anchor::Start, FAINT, &about);
    y += LINE + 4;
    let mut x = MARGIN;
    let mut entry = |svg: &mut Svg, colour: &str, words: &str, x_step: usize| {
        if x + x_step > WIDTH {
            (x, y) = (MARGIN, y + LINE + 4);
        }
        svg.rect((x, y - 6), (12, 12), colour, Some(FAINT), words);
        svg.text(x + 18, y, Anchor::Start, INK, words);
        x += x_step;
    };
    if picture.subject.rules.is_some() {
        entry(svg, GROUND, "no rule: gets the image", 40 + 7 * 23);
        for (action, colour, meaning) in ACTIONS {
            let words = format!("{action}: {meaning}");
            let step = 40 + 7 * words.len();
            entry(svg, colour, &words, step);
        }
    }
    entry(svg, USED, "used", 80);
    entry(svg, FREE, "free (erased)", 130);
    if picture.other.is_some() {
        entry(svg, DIFFERS, "differs", 90);
    }
    entry(svg, BOOT, "boot block", 110);
    entry(svg, CLOSED, "closed to the host", 170);
    if is_cut {
        let words = format!("only the first {BOXES_MAX} regions and volumes are shown");
        svg.text(MARGIN, y + LINE + 4, Anchor::Start, DIFFERS, &words);
    }
}

/// Returns where a range is drawn: from the top of its first row to the end of its last one.
fn span(range: &Range<u64>, rows: &[Row]) -> Option<(usize, usize)> {
    let mut inside =
        rows.iter().filter(|row| range.start <= row.range.start && row.range.end <= range.end);
    let (first, last) = (inside.clone().next()?, inside.next_back()?);
    Some((first.top, last.top + last.height))
}

fn draw_box(svg: &mut Svg, boxed: &Boxed, rows: &[Row]) {
    let Some((top, bottom)) = span(&boxed.range, rows) else { return };
    // Boxes that begin together have their names one below the other.
    let first = rows.iter().find(|row| row.range.start == boxed.range.start);
    let line = first.map_or(0, |row| row.line_of(boxed.depth));
    let x = BOX_LEFT + boxed.depth.min(DEPTH_MAX) * BOX_STEP;
    let top = top + line * LINE;
    let height = bottom.saturating_sub(top + 1).max(1);
    let colour = BOXES[boxed.depth % BOXES.len()];
    svg.rect((x, top), (BOX_RIGHT - x, height), colour, Some(FAINT), &boxed.title);
    svg.text(x + 5, top + 9, Anchor::Start, INK, &boxed.label);
}

fn draw_rule(svg: &mut Svg, rule: &Rule, rows: &[Row]) {
    let Rule { name, action, offset_bytes, length_bytes } = rule;
    let Some((top, bottom)) = span(&(*offset_bytes..offset_bytes + length_bytes), rows) else {
        return;
    };
    let colour = ACTIONS.iter().find(|(known, ..)| known == action).map_or(FREE, |known| known.1);
    let title = format!("{action} {name}: {length_bytes:#x} bytes at {offset_bytes:#x}");
    let size = (RULE_RIGHT - RULE_LEFT, bottom - top - 1);
    svg.rect((RULE_LEFT, top), size, colour, Some(FAINT), &title);
    svg.text(RULE_LEFT + 5, top + 9, Anchor::Start, INK, action);
}

fn draw_row(svg: &mut Svg, row: &Row, is_compared: bool) {
    let Row { range, top, height, .. } = row;
    let (start, length) = (range.start, range.end - range.start);
    svg.text(ADDRESS_RIGHT, top + 9, Anchor::End, FAINT, &format!("{start:#x}"));
    let strip = if is_compared { 5 } else { 0 };
    let bar = height - 5 - strip;
    let cell = (NOTE_LEFT - 12 - BAR_LEFT) / BAR_CELLS;
    let (free, differing) = (row.free_bytes, row.differing_bytes);
    let title = format!("{length:#x} bytes at {start:#x}, {free:#x} of them free");
    svg.rect((BAR_LEFT, top + 1), (cell * BAR_CELLS, bar), FREE, None, &title);
    for (cells, level) in rows::runs(&row.used) {
        let used = (bar * level).div_ceil(rows::LEVELS);
        let place = (BAR_LEFT + cell * cells.start, top + 1 + bar - used);
        svg.rect(place, (cell * cells.len(), used), USED, None, "");
    }
    for (cells, _) in rows::runs(&row.differs).filter(|(_, differs)| *differs) {
        let place = (BAR_LEFT + cell * cells.start, top + 1 + bar);
        svg.rect(place, (cell * cells.len(), strip), DIFFERS, None, "");
    }
    let marker = (BAR_LEFT - 7, top + 1);
    if row.is_closed {
        svg.rect(marker, (4, height - 4), CLOSED, None, "closed to the host");
    }
    let mut y = top + 9;
    let mut note = |colour: &str, words: &str| {
        svg.text(NOTE_LEFT, y, Anchor::Start, colour, words);
        y += LINE;
    };
    note(INK, &format!("{}, {} % free", rows::size_text(length), rows::percent(free, length)));
    if differing > 0 {
        note(DIFFERS, &format!("{differing:#x} bytes differ"));
    }
    if let Some(boot) = row.boot {
        note(BOOT, &format!("boots at {boot:#x}"));
    }
    if row.is_closed {
        note(CLOSED, "closed to the host");
    }
    if let Some(boot) = row.boot {
        let place = (boot - start) as usize * BAR_CELLS / (length as usize).max(1);
        let x = BAR_LEFT + cell * place;
        svg.rect((x, top + 1), (cell, bar), BOOT, None, "the processor begins here");
    }
}
