//! The terminal: taken over, and given back however the program ends.

use std::io::{Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::Context as _;
use firmcast_fleet::top::desk::Key;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

/// Maximum number of keys that are taken between two drawings.
const KEYS_MAX: usize = 1000;

/// What other programs ask for.
pub(super) struct Signals {
    end: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn take() -> anyhow::Result<Self> {
        let signals = Self { end: Arc::default(), stop: Arc::default() };
        let flags = [SIGTERM, SIGINT, SIGHUP].map(|signal| (signal, &signals.end));
        for (signal, flag) in flags.into_iter().chain([(SIGTSTP, &signals.stop)]) {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot take signals")?;
        }
        Ok(signals)
    }

    /// The program is to end.
    pub(super) fn ask_to_end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// The program is to stop until it is told to go on; said once.
    pub(super) fn ask_to_stop(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }
}

/// The whole screen of the terminal. Dropped, it is as it was before.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn enter() -> anyhow::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                told(panic);
            }));
        });
        Ok(Self { terminal: take_over()? })
    }

    pub(super) fn draw(&mut self, draws: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        self.terminal.draw(draws).context("cannot draw on the terminal")?;
        Ok(())
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> anyhow::Result<(u16, u16)> {
        let size = self.terminal.size().context("cannot tell the size of the terminal")?;
        Ok((size.width, size.height))
    }

    /// Gives the terminal back, stops the process as SIGTSTP does, and takes the terminal again
    /// when it goes on.
    pub(super) fn leave_while_stopped(&mut self) -> anyhow::Result<()> {
        give_back();
        emulate_default_handler(SIGTSTP).context("cannot stop")?;
        self.terminal = take_over()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Begins with an empty screen: nothing is asked of the terminal, which might not answer.
fn take_over() -> anyhow::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode().context("cannot read single keys from the terminal")?;
    let entered = execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All), Hide);
    let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
    terminal.inspect_err(|_| give_back()).context("cannot draw on the terminal")
}

/// Nothing is left to do where this fails: the terminal is gone.
fn give_back() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// What a person did.
pub(super) enum Pressed {
    Key(Key),
    /// Ctrl-C.
    End,
    /// Ctrl-Z.
    Stop,
    Resized,
}

/// Waits for keys, and returns all that there are.
pub(super) fn pressed(wait: Duration) -> anyhow::Result<Vec<Pressed>> {
    let cannot = "cannot read from the terminal";
    let mut all = Vec::new();
    let mut wait = wait;
    while all.len() < KEYS_MAX && event::poll(wait).context(cannot)? {
        match event::read().context(cannot)? {
            Event::Key(key) if key.kind != KeyEventKind::Release => all.extend(known(key)),
            Event::Resize(..) => all.push(Pressed::Resized),
            _ => {}
        }
        wait = Duration::ZERO;
    }
    Ok(all)
}

fn known(key: KeyEvent) -> Option<Pressed> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Pressed::End),
            KeyCode::Char('z') => Some(Pressed::Stop),
            _ => None,
        };
    }
    let key = match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace => Key::Escape,
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    };
    Some(Pressed::Key(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;
    use std::process::{Command, Stdio};
    use std::thread;

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::tcgetattr;

    use super::*;

    const NAME: &str = "commands::top::screen::tests::a_panic_gives_the_terminal_back_and_is_told";
    /// Says to a process of this test that it is the one that panics.
    const PANICS: &str = "FIRMCAST_TEST_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::enter().unwrap();
            screen.draw(|_| panic!("on purpose")).unwrap();
        }
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pair.slave).unwrap();
        let side = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(PANICS, "1");
        command.stdin(side()).stdout(side()).stderr(side());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut master = std::fs::File::from(pair.master.try_clone().unwrap());
        let shown = thread::spawn(move || {
            let mut shown = Vec::new();
            // Ends with an error when nobody has the other side any more.
            let _ = master.read_to_end(&mut shown);
            String::from_utf8_lossy(&shown).into_owned()
        });
        assert!(!child.wait().unwrap().success());
        let after = tcgetattr(&pair.slave).unwrap();
        assert_eq!(after, before, "lines are read and shown as before");
        drop(pair);
        let shown = shown.join().unwrap();
        let entered = shown.find("\u{1b}[?1049h").expect("the whole screen");
        let (_, left) = shown[entered..].split_once("\u{1b}[?1049l").expect("given back");
        assert!(left.contains("\u{1b}[?25h"), "the cursor is back: {shown:?}");
        assert!(left.contains("on purpose"), "told where it is read: {shown:?}");
    }
}
