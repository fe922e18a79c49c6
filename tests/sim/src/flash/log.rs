//! What a trial did, for a person who looks into a seed.

use std::fmt::Arguments;

/// The trial that runs, and its lines when somebody looks.
#[derive(Debug)]
pub(crate) struct Log {
    trial: String,
    lines: Vec<String>,
    verbose: bool,
}

impl Log {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { trial: String::new(), lines: Vec::new(), verbose }
    }

    /// A trial begins; the lines of the one before are forgotten.
    pub(crate) fn begin(&mut self, trial: String) {
        self.lines.clear();
        self.trial = trial;
    }

    pub(crate) fn line(&mut self, line: Arguments<'_>) {
        if self.verbose {
            self.lines.push(line.to_string());
        }
    }

    pub(crate) fn trial(&self) -> &str {
        &self.trial
    }
}

/// Prints the trial that failed, or the last one, when somebody looks; a panic of the code under
/// test ends here, too.
impl Drop for Log {
    fn drop(&mut self) {
        if self.verbose || std::thread::panicking() {
            println!("{}", self.trial);
            self.lines.iter().for_each(|line| println!("{line}"));
        }
    }
}
