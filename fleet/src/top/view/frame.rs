//! The first and last lines, and what is between them.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{help, overview, rollout};
use crate::model::Stamp;
use crate::picture::words::{distance, when};
use crate::top::desk::{Desk, Picture, Place};
use crate::top::host;
use crate::top::paint::{CHOSEN, Paint, STRONG, column, wrapped};

/// Draws all of the screen.
pub fn draw(frame: &mut Frame<'_>, desk: &Desk, now: Stamp, paint: Paint) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let columns = usize::from(area.width);
    let head = Line::styled(column(&head(desk, now), columns), CHOSEN);
    let foot = foot(desk, now, columns);
    let body_height = usize::from(area.height).saturating_sub(1 + foot.len());
    let body = body(desk, now, paint, columns, body_height);
    let buffer = frame.buffer_mut();
    put(buffer, area, 0, &[head]);
    put(buffer, area, 1, &body[..body.len().min(body_height)]);
    put(buffer, area, usize::from(area.height).saturating_sub(foot.len()), &foot);
}

/// Puts lines on the screen, from a row on, as far as they fit.
fn put(buffer: &mut Buffer, area: Rect, first: usize, lines: &[Line<'_>]) {
    let rows = (area.top()..area.bottom()).skip(first);
    for (row, line) in rows.zip(lines) {
        buffer.set_line(area.left(), row, line, area.width);
    }
}

fn head(desk: &Desk, now: Stamp) -> String {
    let place = match desk.place() {
        Place::Rollouts => "rollouts".to_owned(),
        Place::Rollout(name) => format!("rollout {name}"),
        Place::Host(name) => format!("host {name}"),
    };
    let clock = when(now, now);
    format!(" firmcast-fleet top: {place}   {}", clock.trim_end_matches(", now"))
}

fn body(
    desk: &Desk,
    now: Stamp,
    paint: Paint,
    columns: usize,
    height: usize,
) -> Vec<Line<'static>> {
    if desk.is_help() {
        return help::sheet(paint, columns);
    }
    let words = match desk.picture() {
        Some(Picture::Rollouts(lines, calling)) => {
            return overview::sheet((lines, *calling), desk.cursor(), now, (columns, height));
        }
        Some(Picture::Rollout(seen)) => {
            return rollout::sheet(seen, desk.cursor(), paint, (columns, height));
        }
        Some(Picture::Host(picture, events)) => {
            let sheet = host::sheet(picture, events, columns);
            let last = sheet.len().saturating_sub(height);
            return sheet.into_iter().skip(desk.cursor().min(last)).collect();
        }
        Some(Picture::Missing) => "there is nothing of this name in the store; Esc goes back",
        None => "reads the store ...",
    };
    wrapped(words, columns, 0).into_iter().map(Line::from).collect()
}

/// The last lines: that the store is away, and what may be typed.
fn foot(desk: &Desk, now: Stamp, columns: usize) -> Vec<Line<'static>> {
    let mut foot = Vec::new();
    if let Some((why, since)) = desk.trouble() {
        let last = desk
            .read_at()
            .map_or(String::new(), |at| format!(", what is shown was read {}", distance(at, now)));
        let words = format!("the store is away, since {}{last}: {why}", when(*since, now));
        foot.push(Line::styled(column(&words, columns), STRONG));
    }
    let keys = match desk.place() {
        Place::Rollouts => "arrows move  Enter opens  ? help  q quits",
        Place::Rollout(_) => {
            "arrows move  Enter host  n next trouble  p pause  r resume  Esc back  ? help  q quits"
        }
        Place::Host(_) => "arrows scroll  Enter its rollout  Esc back  ? help  q quits",
    };
    let line = match desk.asked() {
        Some(deed) => {
            let words = format!("{} rollout {}? y or n", deed.word(), deed.name);
            Line::styled(column(&words, columns), STRONG)
        }
        None if !desk.told().is_empty() => Line::styled(column(desk.told(), columns), STRONG),
        None => Line::styled(column(keys, columns), CHOSEN),
    };
    foot.push(line);
    foot
}
