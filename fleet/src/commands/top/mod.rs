//! `firmcast-fleet top`: what happens, on the whole screen of a terminal.

mod reader;
mod screen;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use firmcast_fleet::top::desk::{Desk, Place as Shown, Wish};
use firmcast_fleet::top::paint::Paint;
use firmcast_fleet::top::view::draw;

use super::{Place, now};
use reader::{Reader, Told};
use screen::{Pressed, Screen, Signals};

/// How long keys are waited for at a time: the least time between two drawings of what was read.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// After how long the screen is drawn again though nothing was read: times go on.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Begin with this rollout instead of all of them
    #[arg(value_name = "ROLLOUT")]
    rollout: Option<String>,
}

impl TopArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        ensure!(
            is_drawn_on(),
            "top draws on a terminal, and this is none that can be drawn on: firmcast-fleet \
             rollout show NAME and firmcast-fleet events --follow tell the same in lines"
        );
        let reader = Reader::start(place.store()?)?;
        let shown = self.rollout.map_or(Shown::Rollouts, Shown::Rollout);
        reader.ask(Wish::Read(shown.clone()));
        let (signals, mut screen) = (Signals::take()?, Screen::enter()?);
        let mut top = Top { desk: Desk::new(shown), reader, paint: paint() };
        let ended = top.run(&mut screen, &signals);
        // Before a message is written.
        drop(screen);
        ended.map(|()| ExitCode::SUCCESS)
    }
}

/// A dumb terminal cannot go back to a line that it has shown.
fn is_drawn_on() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_dumb
}

/// Which colours the terminal has, by <https://no-color.org> and the variable COLORTERM.
fn paint() -> Paint {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return Paint::Plain;
    }
    match std::env::var("COLORTERM").as_deref() {
        Ok("truecolor" | "24bit") => Paint::Full,
        _ => Paint::Palette,
    }
}

struct Top {
    desk: Desk,
    reader: Reader,
    paint: Paint,
}

impl Top {
    fn run(&mut self, screen: &mut Screen, signals: &Signals) -> anyhow::Result<()> {
        let (mut is_due, mut drawn_at) = (true, Instant::now());
        while !signals.ask_to_end() {
            if signals.ask_to_stop() {
                screen.leave_while_stopped()?;
                is_due = true;
            }
            is_due |= self.listen()?;
            if is_due || drawn_at.elapsed() >= CLOCK_INTERVAL {
                screen.draw(|frame| draw(frame, &self.desk, now(), self.paint))?;
                (is_due, drawn_at) = (false, Instant::now());
            }
            let (columns, height) = screen.size()?;
            for pressed in screen::pressed(DRAW_INTERVAL)? {
                is_due = true;
                match pressed {
                    Pressed::Key(key) => match self.desk.press(key, columns, height) {
                        Some(Wish::Quit) => return Ok(()),
                        Some(wish) => self.reader.ask(wish),
                        None => {}
                    },
                    Pressed::End => return Ok(()),
                    Pressed::Stop => screen.leave_while_stopped()?,
                    Pressed::Resized => {}
                }
            }
        }
        Ok(())
    }

    /// Takes what was read, and says whether there was anything.
    fn listen(&mut self) -> anyhow::Result<bool> {
        let mut has_heard = false;
        loop {
            match self.reader.told.try_recv() {
                Ok(Told::Picture(place, picture, at)) => self.desk.take(&place, picture, at),
                Ok(Told::Trouble(why)) => self.desk.lose_store(why, now()),
                Ok(Told::Done(words)) => self.desk.tell(words),
                Err(TryRecvError::Empty) => return Ok(has_heard),
                Err(TryRecvError::Disconnected) => bail!("the store is not read any more"),
            }
            has_heard = true;
        }
    }
}
