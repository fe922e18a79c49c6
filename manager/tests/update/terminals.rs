//! What an update shows on a real terminal.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};

use crate::lab::{Manager, Server, quick};
use crate::stuck_pipe;

/// Begins whatever moves the cursor or changes a colour.
const ESCAPE: char = '\u{1b}';

/// Runs `command` on a terminal of 80 columns and returns what it writes there.
fn on_terminal(command: &mut Command, terminal: &str) -> String {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None).unwrap();
    let side = || Stdio::from(pair.slave.try_clone().unwrap());
    command.env("TERM", terminal).stdin(side()).stdout(side()).stderr(side());
    let mut child = command.spawn().unwrap();
    // Or the terminal would never be closed on its other side, which ends the reading.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(pair.slave);
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = File::from(pair.master);
    // EIO says that nobody is on the other side any more.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(stuck_pipe::wait(&mut child).code(), Some(0));
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn colours_and_a_table_are_for_terminals_that_have_them_and_people_who_want_them() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    let shown = |terminal, no_colour: bool| {
        let mut command = manager.update_command(&["--all"]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        on_terminal(&mut command, terminal)
    };
    // "m" ends what sets a colour; the table's other sequences move the cursor or clear a line.
    let has_colours = |shown: &str| {
        let mut sequences = shown.split(ESCAPE).skip(1);
        sequences.any(|rest| {
            let end = rest.find(|letter: char| letter.is_ascii_alphabetic());
            end.is_some_and(|end| rest[end..].starts_with('m') && end > 2)
        })
    };
    let coloured = shown("xterm-256color", false);
    assert!(has_colours(&coloured) && coloured.contains("waits for host-0 "), "{coloured:?}");
    assert!(coloured.contains("1 host after "), "{coloured:?}");
    let plain = shown("xterm-256color", true);
    assert!(plain.contains(ESCAPE) && plain.contains("waits for host-0 "), "{plain:?}");
    assert!(!has_colours(&plain), "{plain:?}");
    let dumb = shown("dumb", false);
    assert!(!dumb.contains(ESCAPE) && dumb.contains("host-0: confirmed"), "{dumb:?}");
}
