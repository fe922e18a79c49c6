//! One rollout: what happens next, waves, limits, and its hosts.

use std::cmp::Reverse;

use ratatui::text::{Line, Span};

use crate::model::WaveState;
use crate::picture::budget::Bar;
use crate::picture::grid::Grid;
use crate::picture::host::means;
use crate::picture::mark::Mark;
use crate::picture::rollout::RolloutPicture;
use crate::picture::seen::Seen;
use crate::picture::wave::WavePicture;
use crate::picture::words::{distance, word};
use crate::top::lines::{GridLine, label_columns, lines};
use crate::top::paint::{CHOSEN, Paint, STRONG, bar, column, wrapped};

/// Maximum number of lines of what happens next.
const NEXT_MAX: usize = 6;
/// Maximum number of waves that are shown.
const WAVES_MAX: usize = 4;
/// Maximum number of limits that are shown.
const BUDGETS_MAX: usize = 4;
/// Columns of a bar.
const BAR_COLUMNS: usize = 10;

pub(super) fn sheet(
    seen: &Seen,
    cursor: usize,
    paint: Paint,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    // Times of the reading: with an old picture nobody becomes silent.
    let (picture, grid) = (RolloutPicture::new(seen, seen.at), Grid::new(seen, seen.at));
    let part = |lines: usize, max: usize| (height / lines).clamp(1, max);
    let mut sheet = headline(&picture, seen, columns);
    sheet.extend(next(&picture, columns).into_iter().take(part(4, NEXT_MAX)));
    sheet.extend(waves(&picture, columns, part(6, WAVES_MAX)));
    sheet.extend(budgets(&picture, columns, part(6, BUDGETS_MAX)));
    sheet.extend(tally(&grid, paint, columns));
    let about = about(seen, &grid, cursor, columns);
    let room = height.saturating_sub(sheet.len() + usize::from(about.is_some()));
    sheet.extend(cells(&grid, cursor, paint, (columns, room)));
    sheet.extend(about);
    sheet
}

fn headline(picture: &RolloutPicture, seen: &Seen, columns: usize) -> Vec<Line<'static>> {
    let headline = &picture.headline;
    let percent = headline.progress.percent();
    let permille = u32::try_from(percent * 10).unwrap_or(1000);
    let first = format!(
        "{}  version {}, by {} {}",
        word(headline.state).to_uppercase(),
        headline.version,
        headline.created_by,
        distance(headline.created_at, seen.at)
    );
    let second = format!("{} {percent:3} %  {}", bar(permille, 20), headline.progress.words());
    vec![Line::styled(column(&first, columns), STRONG), Line::from(column(&second, columns))]
}

fn next(picture: &RolloutPicture, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for next in &picture.next {
        let words = wrapped(&format!("> {}", next.words), columns, 2);
        lines.extend(words.into_iter().map(Line::from));
        if let Some(command) = &next.command {
            let typed = wrapped(&format!("  $ {command}"), columns, 4);
            lines.extend(typed.into_iter().map(|line| Line::styled(line, STRONG)));
        }
    }
    lines
}

/// The waves around the first one that is not over.
fn waves(picture: &RolloutPicture, columns: usize, most: usize) -> Vec<Line<'static>> {
    let waves = &picture.waves;
    let current = waves.iter().position(|wave| wave.state != WaveState::Finished);
    let current = current.unwrap_or(waves.len());
    let first = current.saturating_sub(1).min(waves.len().saturating_sub(most));
    let line = |wave: &WavePicture| {
        let percent = wave.progress.percent();
        let permille = u32::try_from(percent * 10).unwrap_or(1000);
        let text = format!(
            "wave {} {} {} {percent:3} %  {}",
            column(&wave.name, 14),
            column(&word(wave.state), 16),
            bar(permille, BAR_COLUMNS),
            wave.progress.words()
        );
        Line::from(column(&text, columns))
    };
    waves.iter().skip(first).take(most).map(line).collect()
}

/// Where limits are nearest to being reached.
fn budgets(picture: &RolloutPicture, columns: usize, most: usize) -> Vec<Line<'static>> {
    let bars = picture.budgets.iter().flat_map(|budget| &budget.bars);
    let mut bars: Vec<_> = bars.collect();
    bars.sort_by_key(|bar| Reverse(bar.filled_permille()));
    let line = |budget: &Bar| {
        let filled = bar(budget.filled_permille(), BAR_COLUMNS);
        let text = format!("{filled} {}: {}", budget.domain, budget.words);
        let text = column(&text, columns);
        if budget.is_full() { Line::styled(text, STRONG) } else { Line::from(text) }
    };
    bars.into_iter().take(most).map(line).collect()
}

/// How many hosts have which mark: the legend, and a bar of all hosts.
fn tally(grid: &Grid<'_>, paint: Paint, columns: usize) -> Vec<Line<'static>> {
    let mut spans = vec![Span::styled("hosts", STRONG)];
    for (mark, count) in grid.tally.iter() {
        spans.push(Span::styled(format!("  {}", mark.letter()), paint.mark(mark)));
        spans.push(Span::raw(format!(" {count} {}", mark.class())));
    }
    let strip = grid.tally.strip(columns);
    let cell = |mark: Mark| Span::styled(mark.letter().to_string(), paint.mark(mark));
    let mut lines = vec![Line::from(spans)];
    // A few hosts are seen as they are.
    if grid.tally.total() as usize > columns {
        lines.push(Line::from(strip.into_iter().map(cell).collect::<Vec<_>>()));
    }
    lines
}

/// The lines around the host that is chosen.
fn cells(
    grid: &Grid<'_>,
    cursor: usize,
    paint: Paint,
    (columns, room): (usize, usize),
) -> Vec<Line<'static>> {
    let lines = lines(grid, columns);
    let label_columns = label_columns(grid, columns);
    let current = lines.partition_point(|line| line.first <= cursor).saturating_sub(1);
    let first = current.saturating_sub(room / 2).min(lines.len().saturating_sub(room));
    let shown = lines.iter().skip(first).take(room);
    let line = |line: &GridLine<'_>| {
        let mut spans = vec![Span::raw(format!("{} ", column(&line.label, label_columns)))];
        spans.extend(line.cells.iter().enumerate().map(|(index, cell)| {
            let style = paint.mark(cell.mark);
            let is_chosen = line.first + index == cursor;
            let style = if is_chosen { style.patch(CHOSEN) } else { style };
            Span::styled(cell.mark.letter().to_string(), style)
        }));
        Line::from(spans)
    };
    shown.map(line).collect()
}

/// What is said of the host that is chosen.
fn about(seen: &Seen, grid: &Grid<'_>, cursor: usize, columns: usize) -> Option<Line<'static>> {
    let cell = grid.cells().nth(cursor)?;
    let attempt = seen.attempts.iter().find(|attempt| attempt.host == cell.host)?;
    let more = match (attempt.reason.as_deref(), attempt.stage.as_deref()) {
        (Some(reason), _) => format!(": {}", means(reason)),
        (None, Some(stage)) => format!(": {stage}"),
        (None, None) => String::new(),
    };
    let text = format!("{} {}{more}", cell.host, cell.mark.words());
    Some(Line::styled(column(&text, columns), STRONG))
}
