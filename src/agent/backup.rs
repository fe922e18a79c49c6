//! `firmcastd backup`: what the chip holds in a file, and beside it what else an update depends on,
//! so that bundles can be tried elsewhere (`firmcast bundle try`).

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::local_machine::LocalMachine;
use super::state::StateError;
use crate::durable::{NewFile, PRIVATE};
use crate::flash::{ContentsError, DumpFacts, Flash as _, read_contents};
use crate::image::left_out;
use crate::mtd::{Access, Chip, MtdError};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The chip could not be opened.
    #[error(transparent)]
    Open(#[from] MtdError),
    /// The chip could not be read.
    #[error(transparent)]
    Read(#[from] ContentsError),
    /// The floor could not be read, without which a trial would be too hopeful.
    #[error(transparent)]
    State(#[from] StateError),
    /// The facts could not be written as JSON.
    #[error("what is known of this machine cannot be written")]
    Facts(#[from] serde_json::Error),
    /// A file is there already.
    #[error("{0} exists already and is not overwritten: choose another name or move it away")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl LocalMachine {
    /// Writes what the chip holds to the new file `output`, readable by its owner alone, and the
    /// facts beside it. Returns what there is to say.
    ///
    /// # Errors
    /// [`BackupError`]; what was written before stays.
    pub fn back_up(&self, output: &Path) -> Result<String, BackupError> {
        let facts_path = DumpFacts::file_of(output);
        for path in [output, &facts_path] {
            if path.symlink_metadata().is_ok() {
                return Err(BackupError::Exists(path.into()));
            }
        }
        let good = self.state.known_good().ok().flatten();
        let mut flash = Chip::open(&self.flash(), Access::ReadOnly)?;
        let contents = read_contents(&mut flash, &left_out(good.as_ref()))?;
        let floor = self.security_version_floor()?;
        let size_bytes = contents.bytes().len() as u64;
        let board = self.board(size_bytes, self.host_key().ok().as_ref(), floor);
        let facts = DumpFacts::of(&board, flash.geometry(), contents.closed());
        let json = serde_json::to_vec_pretty(&facts)?;
        create(output, contents.bytes())?;
        create(&facts_path, &json)?;
        let mut text = format!(
            "{}: {size_bytes:#x} bytes; {}: its machine\n",
            output.display(),
            facts_path.display()
        );
        if !contents.closed().is_empty() {
            let closed = contents.closed();
            let _ = writeln!(text, "without {closed}, which this host may not read (FFh there)");
        }
        Ok(text)
    }
}

fn create(path: &Path, contents: &[u8]) -> Result<(), BackupError> {
    let file = NewFile::begin(path, PRIVATE);
    file.and_then(|file| file.create(contents)).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(path.into()),
        _ => BackupError::Write { path: path.into(), source },
    })
}
