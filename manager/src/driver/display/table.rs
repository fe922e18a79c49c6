//! The live table on the screen; crate indicatif draws it, `rows` makes its lines.

use std::io::{self, Write as _};

use console::{Style, Term};
use firmcast::time::Time;
use firmcast_manager::campaign::Campaign;
use firmcast_manager::news::{Kind, News};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::paces::Paces;
use super::rows::{self, Line, Screen, Tone};
use crate::driver::printer::Piece;

/// Room on a screen whose size is not known.
const SCREEN_DEFAULT: Screen = Screen { height: 24, width: 80 };

/// What the table shows.
pub(crate) struct Table {
    kind: Kind,
    paces: Paces,
    /// When it was drawn last.
    drawn_at: Time,
}

impl Table {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, paces: Paces::default(), drawn_at: Time::ZERO }
    }

    /// Returns whether news must stay on the screen when the table goes on.
    pub(super) fn must_outlast_it(&self, news: &News) -> bool {
        match news {
            News::Started { .. } | News::Warning { .. } | News::Finished { .. } => true,
            News::Result(result) => {
                !result.confirmed || result.shortfall().or(result.left_to_do()).is_some()
            }
            _ => false,
        }
    }

    pub(super) fn picture(&mut self, now: Time, campaign: &Campaign) -> Piece {
        self.paces.follow(now, campaign.hosts());
        self.drawn_at = now;
        Piece::Picture(coloured(&rows::table(self.kind, now, campaign, &self.paces, screen())))
    }

    /// Returns the last state; after a dry run or a drill with all figures of all hosts.
    pub(super) fn last_picture(&self, campaign: &Campaign) -> Piece {
        let mut screen = screen();
        if matches!(self.kind, Kind::DryRun | Kind::Drill | Kind::Look) {
            screen.height = usize::MAX;
        }
        let lines = rows::table(self.kind, self.drawn_at, campaign, &self.paces, screen);
        Piece::LastPicture(coloured(&lines))
    }
}

/// The lines in colour where the terminal has colours and `NO_COLOR` is not set: crate console
/// looks at both. No colour says what the words do not, for those who cannot tell them apart.
fn coloured(lines: &[Line]) -> Vec<String> {
    let paint = |line: &Line| {
        let style = match line.tone {
            Tone::Plain => return line.text.clone(),
            Tone::Well => Style::new().green(),
            Tone::Ill => Style::new().yellow().bold(),
            Tone::Waiting => Style::new().dim(),
            Tone::Busy => Style::new().cyan(),
        };
        style.apply_to(&line.text).to_string()
    };
    lines.iter().map(paint).collect()
}

/// The table as it stands on the screen. A screen that went away must not stop a campaign.
pub(super) struct Painter {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Painter {
    pub(super) fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { bars, lines: Vec::new() }
    }

    pub(super) fn paint(&mut self, piece: Piece) {
        match piece {
            Piece::Line(line) => {
                let _ = self.bars.println(rows::fold("", &line, screen().width).join("\n"));
            }
            Piece::Picture(text) => self.show(&text),
            Piece::LastPicture(text) => self.finish(&text),
        }
    }

    fn finish(&mut self, text: &[String]) {
        self.show(&[]);
        for line in &self.lines {
            line.finish_and_clear();
        }
        let mut stdout = io::stdout().lock();
        for line in text {
            let _ = writeln!(stdout, "{line}");
        }
    }

    fn show(&mut self, text: &[String]) {
        while self.lines.len() < text.len() {
            self.lines.push(blank_line(&self.bars));
        }
        for (index, line) in self.lines.iter().enumerate() {
            line.set_message(text.get(index).cloned().unwrap_or_default());
        }
    }
}

fn screen() -> Screen {
    match Term::stdout().size_checked() {
        // The cursor's line and one of the shell's are not ours.
        Some((height, width)) if height > 6 && width > 20 => {
            Screen { height: usize::from(height) - 2, width: width.into() }
        }
        _ => SCREEN_DEFAULT,
    }
}

fn blank_line(bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::no_length());
    bar.with_style(
        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
