//! Standard error: a thread of its own writes it, so that a reader who stops reading stops neither
//! hosts nor signals.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::SigSet;

use super::printer::{Piece, Printer, Weight};

/// How long what was told may still take to be read, after the operator wants the program to end.
const FAREWELL: Duration = Duration::from_secs(1);

static PRINTER: OnceLock<Printer> = OnceLock::new();

static WANTS_END: AtomicBool = AtomicBool::new(false);

/// Tells the operator a warning or an error.
pub(crate) fn tell(message: impl Display) {
    let printer = PRINTER.get_or_init(|| Printer::start(write));
    printer.print(Piece::Line(format!("firmcast: {message}")), Weight::Result);
}

/// Takes note that the operator wants the program to end, whoever reads.
pub(crate) fn wants_end() {
    WANTS_END.store(true, Ordering::Relaxed);
}

/// Waits until all that was told is read, at the program's end. Signals end the wait.
pub(crate) fn wait() {
    let Some(printer) = PRINTER.get() else { return };
    if printer.wait(FAREWELL) || WANTS_END.load(Ordering::Relaxed) {
        return;
    }
    // Nobody takes signals from a queue any more.
    let _ = SigSet::all().thread_unblock();
    while !printer.wait(FAREWELL) {}
}

fn write(piece: Piece) {
    if let Piece::Line(line) = piece {
        let _ = writeln!(io::stderr(), "{line}");
    }
}
