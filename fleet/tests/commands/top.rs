//! `firmcast-fleet top` as a process on a pseudo terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Desk;

/// The program on a terminal of 80 columns and 24 lines.
struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads until nobody has the terminal any more.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// How long something is waited for.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn start(mut command: Command, name: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let side = || Stdio::from(pair.slave.try_clone().unwrap());
        command.env("TERM", name).stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let keys = File::from(pair.master);
        let (mut master, shown) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keys, shown, reader }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        self.wait_for_number(1, words);
    }

    /// Waits until words were shown for the second time, the third, and so on.
    #[track_caller]
    fn wait_for_number(&self, number: usize, words: &str) {
        self.wait(&format!("{words:?} for the {number}. time"), || {
            self.shown().matches(words).count() >= number
        });
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Self::PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "{what} is not in {:?}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The state of the process, as proc(5) has it.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.chars().next().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + Self::PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                panic!("it does not end: {:?}", self.shown());
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.wait("the last that it shows", || self.reader.is_finished());
        let shown = self.shown();
        // The screen that was there before, and the cursor.
        let is_back = |word| !shown.contains("\u{1b}[?1049h") || shown.contains(word);
        assert!(is_back("\u{1b}[?1049l") && is_back("\u{1b}[?25h"), "{shown:?}");
        (status, shown)
    }
}

#[test]
fn top_draws_on_a_terminal_pauses_when_told_twice_and_gives_the_terminal_back() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    desk.says(&["rollout", "start", "winter"]);
    let mut command = desk.command(&["top"]);
    command.env("NO_COLOR", "1");
    let mut top = Terminal::start(command, "xterm-256color");
    top.wait_for("scheduled");
    top.press("\r");
    top.wait_for("SCHEDULED");
    top.press("p");
    top.wait_for("y or n");
    assert_eq!(desk.state(), "scheduled");
    top.press("y");
    top.wait_for("PAUSED");
    assert_eq!(desk.state(), "paused");
    // What others do is seen, too.
    desk.says(&["rollout", "abort", "winter"]);
    top.wait_for("ERROR");
    top.press("\x1b");
    top.press("q");
    let (status, shown) = top.end();
    assert!(status.success(), "{shown:?}");
    assert!(!shown.contains("\u{1b}[38;"), "a colour: {shown:?}");

    let mut command = desk.command(&["top", "winter"]);
    command.env_remove("NO_COLOR");
    let top = Terminal::start(command, "xterm-256color");
    top.wait_for("ERROR");
    top.signal(Signal::SIGTERM);
    let (status, shown) = top.end();
    assert!(status.success() && shown.contains("\u{1b}[38;"), "{shown:?}");

    let (status, shown) = Terminal::start(desk.command(&["top"]), "dumb").end();
    assert_eq!(status.code(), Some(1));
    assert!(shown.contains("rollout show NAME"), "{shown:?}");
    assert!(desk.refuses(&["top"]).contains("events --follow"));
}

#[test]
fn top_stops_as_programs_do_and_says_that_the_store_is_away_until_it_is_back() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    let mut command = desk.command(&["top"]);
    command.env("NO_COLOR", "1");
    let mut top = Terminal::start(command, "xterm-256color");
    top.wait_for("ready");
    top.signal(Signal::SIGTSTP);
    top.wait_for("\u{1b}[?1049l");
    top.wait("a stopped process", || top.state() == 'T');
    desk.says(&["rollout", "start", "winter"]);
    assert!(!top.shown().contains("scheduled"), "it is stopped");
    top.signal(Signal::SIGCONT);
    top.wait_for_number(2, "\u{1b}[?1049h");
    top.wait_for("scheduled");

    // Its tables are taken from it, and given back.
    let path = desk.directory.path().join("state/fleet.sqlite");
    let store = rusqlite::Connection::open(path).unwrap();
    store.busy_timeout(Terminal::PATIENCE).unwrap();
    store.execute("ALTER TABLE rollouts RENAME TO away", []).unwrap();
    top.wait_for("since");
    top.press("\r");
    store.execute("ALTER TABLE away RENAME TO rollouts", []).unwrap();
    desk.says(&["rollout", "pause", "winter"]);
    top.wait_for("PAUSED");
    top.press("q");
    let (status, shown) = top.end();
    assert!(status.success(), "{shown:?}");
}
