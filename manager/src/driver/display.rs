//! What people and programs see: a live table on a terminal, plain lines elsewhere, or JSON.

mod paces;
mod rows;
mod table;
mod waits;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use firmcast::time::Time;
use firmcast_manager::campaign::Campaign;
use firmcast_manager::clock;
use firmcast_manager::news::{self, Entry, Kind, News};
use firmcast_manager::rescue::{Line, Note};

use super::printer::{Piece, Printer, Weight};
use table::{Painter, Table};

/// How long what was told may still take to be read, after the operator wants the program to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often an operator who wants the program to end is listened to, while what was told is not
/// read.
const LISTEN_INTERVAL: Duration = Duration::from_millis(50);

/// Where news go.
pub(crate) struct Display {
    form: Form,
    printer: Printer,
}

enum Form {
    /// One JSON object per line.
    Json,
    /// One line for people per event.
    Plain,
    /// The same without progress: a log runs for months.
    Log,
    /// A table that is drawn again and again, with what must not be missed above it.
    Table(Table),
}

impl Display {
    /// Returns the display that fits one campaign.
    pub(crate) fn for_campaign(json: bool, kind: Kind) -> Self {
        // A dumb terminal cannot go back to a line that it has shown.
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_drawn_on = io::stdout().is_terminal() && !is_dumb;
        let form = match json {
            true => Form::Json,
            false if is_drawn_on => Form::Table(Table::new(kind)),
            false => Form::Plain,
        };
        Self::new(form)
    }

    /// Returns the display of a service.
    pub(crate) fn for_service(json: bool) -> Self {
        Self::new(if json { Form::Json } else { Form::Log })
    }

    fn new(form: Form) -> Self {
        let printer = match &form {
            Form::Table(_) => {
                let mut painter = Painter::new();
                Printer::start(move |piece| painter.paint(piece))
            }
            Form::Json | Form::Plain | Form::Log => Printer::start(print_lines),
        };
        Self { form, printer }
    }

    /// Tells one thing.
    pub(crate) fn tell(&mut self, note: &Note, time: SystemTime) {
        if let Some(lines) = self.printer.take_dropped() {
            let message = format!(
                "{lines} lines were left out, as nobody read them; firmcast history has the results"
            );
            let line = Line::Campaign(News::Warning { message });
            self.put(&Note { campaign: note.campaign, line }, time);
        }
        self.put(note, time);
    }

    fn put(&mut self, note: &Note, time: SystemTime) {
        let is_progress = matches!(note.line, Line::Campaign(News::Progress { .. }));
        let line = match &self.form {
            Form::Json => Some(note.to_json(time)),
            Form::Log if is_progress => None,
            Form::Plain | Form::Log => to_text(note, time),
            Form::Table(table) => match &note.line {
                Line::Campaign(news) if table.must_outlast_it(news) => to_text(note, time),
                _ => None,
            },
        };
        let weight = if is_progress { Weight::Progress } else { Weight::Result };
        if let Some(line) = line {
            self.printer.print(Piece::Line(line), weight);
        }
    }

    /// Draws the table anew.
    pub(crate) fn refresh(&mut self, now: Time, campaign: &Campaign) {
        if let Form::Table(table) = &mut self.form {
            self.printer.print(table.picture(now, campaign), Weight::Progress);
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&mut self, campaign: &Campaign) {
        if let Form::Table(table) = &self.form {
            self.printer.print(table.last_picture(campaign), Weight::Result);
        }
    }

    /// Waits until all that was told is read, or `wants_end` says that nobody will.
    pub(crate) fn wait(&self, mut wants_end: impl FnMut() -> bool) {
        while !self.printer.wait(LISTEN_INTERVAL) {
            if wants_end() {
                self.printer.wait(FAREWELL);
                return;
            }
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
fn print_lines(piece: Piece) {
    let lines = match piece {
        Piece::Line(line) => vec![line],
        Piece::Picture(lines) | Piece::LastPicture(lines) => lines,
    };
    let mut stdout = io::stdout().lock();
    for line in lines {
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}
