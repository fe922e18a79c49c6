//! What goes to standard output while hosts wait: a thread of its own writes it, so that a reader
//! who stops reading (`less`, Ctrl-S, a full pipe) stops nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::SigSet;

/// Progress is dropped when more than this waits to be written.
const PROGRESS_QUEUE_BYTES_MAX: usize = 64 * 1024;

/// Everything is dropped when more than this waits: more than the results of a campaign with as
/// many hosts as there may be. The records have them too.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What stands on standard output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line that stays.
    Line(String),
    /// A picture of all hosts, in place of the one before.
    Picture(Vec<String>),
    /// The last picture, which stays.
    LastPicture(Vec<String>),
}

/// Whether a piece may be left out when nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Progress,
    Result,
}

/// The queue, and the thread behind it.
pub(crate) struct Printer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    size_bytes: usize,
    dropped: u64,
    /// The thread has something that it took.
    is_writing: bool,
}

impl Printer {
    /// Starts the thread, in which `write` writes one piece after the other.
    pub(crate) fn start(write: impl FnMut(Piece) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let behind = shared.clone();
        thread::spawn(move || {
            // Signals are the main thread's.
            let _ = SigSet::all().thread_block();
            behind.write_on(write);
        });
        Self { shared }
    }

    /// Has a piece written, in its turn; false when it is dropped, as too much waits already.
    pub(crate) fn print(&self, piece: Piece, weight: Weight) -> bool {
        let is_kept = self.shared.lock().push(piece, weight);
        self.shared.changed.notify_all();
        is_kept
    }

    /// How many lines were dropped since the last call, once there is room to tell it.
    pub(crate) fn take_dropped(&self) -> Option<u64> {
        let mut queue = self.shared.lock();
        let has_room = queue.size_bytes <= PROGRESS_QUEUE_BYTES_MAX && queue.dropped > 0;
        has_room.then(|| std::mem::take(&mut queue.dropped))
    }

    /// Waits until everything is written, at most for `patience`. True when it is.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let queue = self.shared.lock();
        let waits = |queue: &mut Queue| queue.is_writing || !queue.pieces.is_empty();
        let waited = self.shared.changed.wait_timeout_while(queue, patience, waits);
        let (_queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_on(&self, mut write: impl FnMut(Piece)) {
        loop {
            let idle = |queue: &mut Queue| queue.pieces.is_empty();
            let queue = self.changed.wait_while(self.lock(), idle);
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            let Some(piece) = queue.pop() else { continue };
            queue.is_writing = true;
            drop(queue);
            write(piece);
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

impl Queue {
    fn push(&mut self, piece: Piece, weight: Weight) -> bool {
        if matches!(piece, Piece::Picture(_)) {
            // Only the newest picture is worth drawing.
            let is_other = |waiting: &Piece| !matches!(waiting, Piece::Picture(_));
            self.pieces.retain(is_other);
            self.size_bytes = self.pieces.iter().map(Piece::size_bytes).sum();
        }
        let max = match weight {
            Weight::Progress => PROGRESS_QUEUE_BYTES_MAX,
            Weight::Result => QUEUE_BYTES_MAX,
        };
        if self.size_bytes + piece.size_bytes() > max && !self.pieces.is_empty() {
            self.dropped += u64::from(matches!(piece, Piece::Line(_)));
            return false;
        }
        self.size_bytes += piece.size_bytes();
        self.pieces.push_back(piece);
        true
    }

    fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.size_bytes -= piece.size_bytes();
        Some(piece)
    }
}

impl Piece {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Picture(lines) | Self::LastPicture(lines) => lines.iter().map(String::len).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_reader_that_stops_gets_every_result_and_less_progress() {
        let (to_reader, reader) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let printer = Printer::start(move |piece| {
            gate.recv().unwrap();
            to_reader.send(piece).unwrap();
        });
        let progress = "p".repeat(1024);
        for nth in 0..200 {
            printer.print(Piece::Line(format!("result {nth}")), Weight::Result);
            printer.print(Piece::Line(progress.clone()), Weight::Progress);
            printer.print(Piece::Picture(vec![format!("picture {nth}")]), Weight::Progress);
        }
        assert!(!printer.wait(Duration::ZERO), "nobody reads");
        assert_eq!(printer.take_dropped(), None, "there is no room to tell it");
        drop(std::iter::repeat_with(|| go_on.send(())).take(1000).collect::<Vec<_>>());
        assert!(printer.wait(Duration::from_secs(60)));
        let got: Vec<Piece> = reader.try_iter().collect();
        let count = |of: &dyn Fn(&Piece) -> bool| got.iter().filter(|piece| of(piece)).count();
        let results = count(&|piece| matches!(piece, Piece::Line(l) if l.starts_with("result")));
        let told = count(&|piece| matches!(piece, Piece::Line(l) if *l == progress));
        assert_eq!(results, 200);
        assert!((1..=64).contains(&told), "{told}");
        assert_eq!(printer.take_dropped(), Some(200 - told as u64));
        assert!(count(&|piece| matches!(piece, Piece::Picture(_))) <= 2);
    }

    #[test]
    fn what_waits_has_a_limit_whatever_it_is() {
        let mut queue = Queue::default();
        let line = || Piece::Line("r".repeat(1024 * 1024));
        let kept = (0..100).filter(|_| queue.push(line(), Weight::Result)).count();
        assert_eq!((kept, queue.dropped), (64, 36));
        // What is larger than all room is written where nothing else waits.
        let huge = || Piece::Line("r".repeat(QUEUE_BYTES_MAX + 1));
        assert!(!queue.push(huge(), Weight::Result));
        assert!(Queue::default().push(huge(), Weight::Result));
    }
}
