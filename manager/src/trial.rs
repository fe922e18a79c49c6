//! Trying a bundle on a chip whose contents are in a file, as a host would find it: the host's own
//! plan, made on a simulated chip. Nothing is sent to anybody.

use std::path::{Path, PathBuf};

use firmcast::flash::{DumpError, DumpFacts, PlanReport, refusal_json};
use firmcast::image::validity::validate_contents;
use firmcast::image::{Board, ByteRanges, Contents, VerifiedImage};
use firmcast::reason::{Reason, Refusal};
use serde_json::Value;

/// Largest board file, in bytes.
pub const BOARD_FILE_MAX: usize = 64 << 10;

/// A machine whose chip is tried on: what it knows of itself, and of its chip.
#[derive(Clone, Debug)]
pub struct Machine {
    facts: DumpFacts,
    /// Whether vendor, product, version, floor and key are known.
    is_known: bool,
}

/// What an update would come to.
#[derive(Clone, Debug)]
pub struct Trial(Result<PlanReport, Refusal>);

/// Why a board file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Not a board file.
    #[error("it is no board file as firmcastd backup writes it")]
    Json(#[from] serde_json::Error),
    /// A board file of another chip.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

impl Machine {
    /// Returns a machine of which only the chip's contents are known.
    pub fn unknown() -> Self {
        Self { facts: DumpFacts::default(), is_known: false }
    }

    /// Returns the board file that `firmcastd backup` writes beside a dump.
    pub fn file_of(dump: &Path) -> PathBuf {
        DumpFacts::file_of(dump)
    }

    /// Returns the machine that a board file describes.
    ///
    /// # Errors
    /// [`MachineError::Json`].
    pub fn parse(json: &[u8]) -> Result<Self, MachineError> {
        Ok(Self { facts: serde_json::from_slice(json)?, is_known: true })
    }

    /// Returns a host that gave its backup, as the manager knows it.
    pub fn known(board: &Board, closed: ByteRanges) -> Self {
        let facts = DumpFacts {
            vendor: board.vendor.clone(),
            product: board.product.clone(),
            bios_version: board.bios_version.clone(),
            security_version_floor: board.security_version_floor,
            host: board.host.map(|host| host.to_string()),
            closed,
            ..DumpFacts::default()
        };
        Self { facts, is_known: true }
    }

    /// Returns whether the sizes of the chip's eraseblocks are known.
    pub fn knows_eraseblocks(&self) -> bool {
        !self.facts.eraseblocks.is_empty()
    }

    /// Returns whether it is known which machine it is.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Tries the image on a chip that holds `dump`.
    ///
    /// # Errors
    /// [`MachineError::Dump`].
    pub fn try_on(&self, image: &VerifiedImage, dump: Vec<u8>) -> Result<Trial, MachineError> {
        let size_bytes = dump.len() as u64;
        if self.is_known
            && let Err(refusal) = self.facts.board(size_bytes)?.admit(image.manifest())
        {
            return Ok(Trial(Err(refusal)));
        }
        let mut chip = self.facts.chip(dump)?;
        let doubt = |contents: &Contents| validate_contents(contents).doubt();
        let device = "in the file".to_owned();
        Ok(Trial(PlanReport::new(image, &mut chip, device, doubt)))
    }
}

impl Trial {
    /// Returns why the update would be refused, if it would.
    pub fn refusal(&self) -> Option<(Reason, &str)> {
        self.0.as_ref().err().map(|refusal| (refusal.reason, refusal.detail.as_str()))
    }

    /// Returns what `firmcastd plan --json` prints on such a host.
    pub fn to_json(&self) -> Value {
        match &self.0 {
            Ok(report) => report.to_json(),
            Err(refusal) => refusal_json(refusal),
        }
    }

    /// Returns what `firmcastd plan` prints on such a host.
    pub fn to_text(&self) -> String {
        match &self.0 {
            Ok(report) => report.to_string(),
            Err(refusal) => {
                format!("An update would be refused: {refusal}\n-> {}\n", refusal.reason.advice())
            }
        }
    }
}
