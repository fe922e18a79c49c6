//! Where an operator works: a folder with a release key, in which the program runs.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        let made = desk.run(&["key", "new", "--role", "release", "--out", "release.key"]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast"));
        command.args(args).current_dir(self.dir.path()).output().unwrap()
    }
}
