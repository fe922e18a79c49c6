//! A chip whose operations are timed, so that the engine's own share of a job can be told.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use firmcast::flash::{EraseBlock, Flash, Geometry};

/// What one kind of operation took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) calls: u64,
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// Passes every operation on to `chip` and notes what it took.
#[derive(Debug)]
pub(super) struct Timed<F> {
    chip: F,
    pub(super) read: Taken,
    pub(super) erase: Taken,
    pub(super) write: Taken,
    /// Questions about locks and bad blocks, and unlocks.
    pub(super) status: Taken,
}

impl<F: Flash> Timed<F> {
    pub(super) fn new(chip: F) -> Self {
        let none = Taken::default();
        Self { chip, read: none, erase: none, write: none, status: none }
    }

    /// Returns the time that the device took in all.
    pub(super) fn device_time(&self) -> Duration {
        self.read.time + self.erase.time + self.write.time + self.status.time
    }
}

impl Taken {
    fn add<T>(&mut self, bytes: u64, operation: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = operation();
        self.time += started.elapsed();
        self.calls += 1;
        self.bytes += bytes;
        result
    }
}

/// As the members of a JSON object: `"ms":..,"calls":..,"bytes":..`.
impl fmt::Display for Taken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time_ms = milliseconds(self.time);
        write!(out, "{{\"ms\":{time_ms},\"calls\":{},\"bytes\":{}}}", self.calls, self.bytes)
    }
}

/// Milliseconds with their fraction.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl<F: Flash> Flash for Timed<F> {
    fn geometry(&self) -> &Geometry {
        self.chip.geometry()
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length_bytes = buffer.len() as u64;
        self.read.add(length_bytes, || self.chip.read(offset_bytes, buffer))
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        self.erase.add(u64::from(block.length_bytes()), || self.chip.erase(block))
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        self.write.add(data.len() as u64, || self.chip.write(offset_bytes, data))
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        self.status.add(0, || self.chip.is_locked(block))
    }

    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.status.add(0, || self.chip.unlock(offset_bytes, length_bytes))
    }

    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.status.add(0, || self.chip.protect(offset_bytes, length_bytes))
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        self.status.add(0, || self.chip.is_bad(block))
    }
}
