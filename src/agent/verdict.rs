//! `firmcastd validate`: the verdict on a file or on the live chip, as the recovery environment
//! finds it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::image::validity::{Evidence, Verdict, validate};
use crate::image::{ByteRanges, IMAGE_MAX, KnownGood, assess, left_out};
use crate::mtd::{ChipReadError, read_chip};

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum VerdictError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Image {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any image.
    #[error("{path} is larger than {IMAGE_MAX:#x} bytes: is it a firmware image?")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The chip could not be read.
    #[error(transparent)]
    Chip(#[from] ChipReadError),
}

/// The verdict on a file.
///
/// # Errors
/// [`VerdictError`].
pub fn of_file(path: &Path) -> Result<Verdict, VerdictError> {
    Ok(validate(&read_file(path)?))
}

/// What a file holds.
///
/// # Errors
/// [`VerdictError::Image`], [`VerdictError::TooLarge`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, VerdictError> {
    let failed = |source| VerdictError::Image { path: path.into(), source };
    let mut image = Vec::new();
    let limit = IMAGE_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut image)).map_err(failed)?;
    match image.len() > IMAGE_MAX {
        true => Err(VerdictError::TooLarge { path: path.into() }),
        false => Ok(image),
    }
}

/// The verdict on the chip, by the record of good firmware if there is one; and what of it the host
/// may not read, which the verdict is not about.
///
/// # Errors
/// [`VerdictError::Chip`].
pub fn of_chip(
    device: &str,
    good: Option<&KnownGood>,
    bios_version: &str,
) -> Result<(Verdict, ByteRanges), VerdictError> {
    let contents = read_chip(device, &left_out(good))?;
    Ok((assess(&contents, good, bios_version), contents.closed().clone()))
}

/// The verdict as one JSON object; `closed` is what it is not about.
pub fn to_json(verdict: &Verdict, closed: &ByteRanges) -> serde_json::Value {
    let mut object = verdict_json(verdict);
    let range = |range: &std::ops::Range<u64>| {
        let length_bytes = range.end - range.start;
        json!({ "offset_bytes": range.start, "length_bytes": length_bytes })
    };
    object["closed"] = closed.iter().map(range).collect();
    object
}

fn verdict_json(verdict: &Verdict) -> serde_json::Value {
    match verdict {
        Verdict::Valid { by } => {
            let share = by.iter().find_map(|evidence| match evidence {
                Evidence::Share(share) => Some(share.percent()),
                _ => None,
            });
            let by: Vec<String> = by.iter().map(ToString::to_string).collect();
            json!({ "verdict": "valid", "by": by, "looked_at_percent": share })
        }
        Verdict::Doubtful { offset_bytes, why } => {
            json!({ "verdict": "doubtful", "offset_bytes": offset_bytes, "why": why })
        }
        Verdict::Invalid { offset_bytes, why } => {
            json!({ "verdict": "invalid", "offset_bytes": offset_bytes, "why": why })
        }
        Verdict::Unknown { why } => json!({ "verdict": "unknown", "why": why }),
    }
}
