//! All rollouts.

use ratatui::text::Line;

use crate::model::Stamp;
use crate::picture::call;
use crate::picture::overview::Headline;
use crate::picture::words::{distance, word};
use crate::top::paint::{CHOSEN, STRONG, bar, column, wrapped};

/// Lines below the list, about the rollout that is chosen.
const ABOUT_MAX: usize = 3;

pub(super) fn sheet(
    (lines, calling): (&[Headline], usize),
    cursor: usize,
    now: Stamp,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    let Some(chosen) = lines.get(cursor.min(lines.len().saturating_sub(1))) else {
        let words = "there is no rollout yet: firmcast-fleet rollout create makes one from a file";
        let words = wrapped(words, columns, 0).into_iter();
        return words.chain(calls(calling, columns)).map(Line::from).collect();
    };
    let mut about = calls(calling, columns);
    if !chosen.reason.is_empty() {
        let reason = wrapped(&format!("{}: {}", chosen.name, chosen.reason), columns, 2);
        about.extend(reason.into_iter().take(ABOUT_MAX));
    }
    let head = format!(
        "{} {} {} {:19} {}",
        column("NAME", 18),
        column("STATE", 9),
        column("VERSION", 9),
        "DONE",
        column("HOSTS", 20)
    );
    let mut sheet = vec![Line::styled(column(&head, columns), STRONG)];
    let room = height.saturating_sub(1 + about.len()).max(1);
    let first = cursor.saturating_sub(room - 1);
    for (index, line) in lines.iter().enumerate().skip(first).take(room) {
        let text = column(&row(line, now), columns);
        let is_chosen = index == cursor;
        sheet.push(if is_chosen { Line::styled(text, CHOSEN) } else { Line::from(text) });
    }
    sheet.extend(about.into_iter().map(Line::from));
    sheet
}

/// What is said of dead hosts, if there are some.
fn calls(calling: usize, columns: usize) -> Vec<String> {
    match calling {
        0 => Vec::new(),
        _ => {
            let words = format!("{}: firmcast-fleet calls", call::calling(calling));
            wrapped(&words, columns, 0)
        }
    }
}

fn row(line: &Headline, now: Stamp) -> String {
    let percent = line.progress.percent();
    let permille = u32::try_from(percent * 10).unwrap_or(1000);
    format!(
        "{} {} {} {} {percent:3} % {}; by {}, {}",
        column(&line.name, 18),
        column(&word(line.state), 9),
        column(&line.version, 9),
        bar(permille, 11),
        line.progress.words(),
        line.created_by,
        distance(line.created_at, now)
    )
}
