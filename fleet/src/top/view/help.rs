//! The keys, and what the letters of hosts mean.

use ratatui::text::{Line, Span};

use crate::picture::mark::Mark;
use crate::top::paint::{Paint, column, wrapped};

/// Keys, and what they do.
const KEYS: [(&str, &str); 8] = [
    ("arrows, h j k l", "move; PageUp, PageDown, Home and End, too"),
    ("Enter", "opens the rollout or the host that is chosen"),
    ("Esc", "goes back"),
    ("n", "goes to the next host that needs a person"),
    ("p", "pauses a rollout, when you have said y: no further host begins"),
    ("r", "resumes it, when you have said y: hosts begin, limits count failures anew"),
    ("q", "quits"),
    ("any key", "ends this help"),
];

/// Columns of the keys.
const KEY_COLUMNS: usize = 17;

pub(super) fn sheet(paint: Paint, columns: usize) -> Vec<Line<'static>> {
    let mut sheet = Vec::new();
    for mark in Mark::ALL {
        let letter = Span::styled(format!("  {} ", mark.letter()), paint.mark(mark));
        sheet.push(Line::from(vec![letter, Span::raw(mark.words())]));
    }
    for (key, does) in KEYS {
        let line = format!("  {}{does}", column(key, KEY_COLUMNS));
        sheet.extend(wrapped(&line, columns, KEY_COLUMNS + 2).into_iter().map(Line::from));
    }
    let more = "abort, approve and retry are commands: firmcast-fleet rollout --help";
    sheet.extend(wrapped(more, columns, 0).into_iter().map(Line::from));
    sheet
}
