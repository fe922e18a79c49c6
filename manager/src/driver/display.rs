//! What people and programs see: a live table on a terminal, plain lines elsewhere, or JSON.

mod paces;
mod rows;
mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::SystemTime;

use firmcast::time::Time;
use firmcast_manager::campaign::Campaign;
use firmcast_manager::clock;
use firmcast_manager::news::{self, Entry, Kind, News};
use firmcast_manager::rescue::{Line, Note};

use table::Table;

/// Where news go.
pub(crate) enum Display {
    /// One JSON object per line.
    Json,
    /// One line for people per event.
    Plain,
    /// The same without progress: a log runs for months.
    Log,
    /// A table that is drawn again and again, with what must not be missed above it.
    Table(Box<Table>),
}

impl Display {
    /// Returns the display that fits one campaign.
    pub(crate) fn for_campaign(json: bool, kind: Kind) -> Self {
        if json {
            Self::Json
        } else if io::stdout().is_terminal() {
            Self::Table(Box::new(Table::new(kind)))
        } else {
            Self::Plain
        }
    }

    /// Returns the display of a service.
    pub(crate) fn for_service(json: bool) -> Self {
        if json { Self::Json } else { Self::Log }
    }

    /// Tells one thing.
    pub(crate) fn tell(&mut self, note: &Note, time: SystemTime) {
        match self {
            Self::Json => print_line(&note.to_json(time)),
            Self::Log if matches!(note.line, Line::Campaign(News::Progress { .. })) => {}
            Self::Plain | Self::Log => {
                if let Some(line) = to_text(note, time) {
                    print_line(&line);
                }
            }
            Self::Table(table) => {
                if let Line::Campaign(news) = &note.line
                    && table.must_outlast_it(news)
                    && let Some(line) = to_text(note, time)
                {
                    table.print_above(&line);
                }
            }
        }
    }

    /// Draws the table anew.
    pub(crate) fn refresh(&mut self, now: Time, campaign: &Campaign) {
        if let Self::Table(table) = self {
            table.draw(now, campaign);
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&mut self, campaign: &Campaign) {
        if let Self::Table(table) = self {
            table.finish(campaign);
        }
    }
}

fn to_text(note: &Note, time: SystemTime) -> Option<String> {
    let time = clock::rfc3339(time);
    match &note.line {
        Line::Service(event) => Some(format!("{time} {}", event.to_text())),
        Line::Campaign(news) => {
            let campaign = note.campaign.map(news::campaign_text).unwrap_or_default();
            Entry { time, campaign, news: news.clone() }.to_text()
        }
    }
}

/// A reader that went away must not stop a campaign.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
